//! `plugins dev`: an author's loop. Each new version of a file is verified, judges the recorded cases and replays recorded runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use paperclip_daemon::Watched;
use paperclip_diagnostic::Diagnostic;
use paperclip_guest::{Plugin, Runtime, Tools};
use paperclip_shell::journal::{self, History};

use super::plugin_test::Report;
use super::push::put;
use super::replay::compare;
use crate::args::{CasesArgs, DaemonArgs};
use crate::exit::{CommandError, Exit, usage};
use crate::plugins::runtime;
use crate::pretty::style::{DIM, ERROR, SUCCESS};

/// `target` is a daemon that gets each good version, with the file of its admin token.
pub(crate) async fn dev(
    args: &CasesArgs,
    journals: Option<&Path>,
    target: Option<(&Path, &DaemonArgs)>,
) -> Result<Exit, CommandError> {
    let runtime = runtime()?;
    let folder = args.plugin.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut watched = Watched::open(folder).map_err(|error| {
        let problem = Diagnostic::new("plugin_unreadable", format!("{}: {error}", folder.display()));
        usage(problem.with_hint("name the file that the build writes, in a folder that exists"))
    })?;
    let mut last = None;
    loop {
        match std::fs::read(&args.plugin) {
            Ok(bytes) if last.as_ref() != Some(&bytes) => {
                let start = Instant::now();
                let good = check(&runtime, args, journals);
                if let (Some(plugin), Some((token_file, daemon))) = (good, target)
                    && let Err(error) = put(&plugin, token_file, daemon).await
                {
                    anstream::println!("{ERROR}{}{ERROR:#}", error.diagnostic.message);
                }
                anstream::println!("{DIM}done in {:.2} s{DIM:#}", start.elapsed().as_secs_f64());
                last = Some(bytes);
            }
            Ok(_) => {}
            Err(error) => anstream::println!("{ERROR}{}: {error}{ERROR:#}", args.plugin.display()),
        }
        anstream::println!("{DIM}waits for a change of {}; Ctrl-C ends it{DIM:#}", args.plugin.display());
        tokio::select! {
            changed = watched.changed() => if !changed {
                let removed = Diagnostic::new("plugin_unreadable", format!("{} was removed", folder.display()));
                return Err(usage(removed.with_hint("start again when the folder is there")));
            },
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Succeeded),
        }
    }
}

/// Verifies the file as it is now, and shows what it does to cases and recorded runs. Returns the plugin if it judges all cases as expected.
fn check(runtime: &Runtime, args: &CasesArgs, journals: Option<&Path>) -> Option<Arc<Plugin>> {
    let plugin = match Plugin::load_file(runtime, &args.plugin) {
        Ok(plugin) => plugin,
        Err(error) => {
            anstream::println!("{ERROR}rejected{ERROR:#}     {error}");
            return None;
        }
    };
    println!("{} {} (sha256:{:.12})", plugin.adapter_type(), plugin.version(), plugin.digest());
    let is_good = match paperclip_cases::read(&args.fixtures) {
        Ok(cases) => {
            let report = Report::of(&Tools::new(Arc::clone(&plugin)), &cases);
            report.show();
            report.is_good()
        }
        Err(error) => {
            anstream::println!("{ERROR}{error}{ERROR:#}");
            false
        }
    };
    for run in journals.map(runs).unwrap_or_default() {
        replay(&plugin, &run);
    }
    is_good.then_some(plugin)
}

/// Returns the folders of runs in a folder, or the folder itself if it is one.
fn runs(folder: &Path) -> Vec<PathBuf> {
    if journal::header(folder).is_some() {
        return vec![folder.to_owned()];
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut runs: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    runs.retain(|run| run.is_dir());
    runs.sort();
    runs
}

/// Replays a recorded run of the plugin's agent type.
fn replay(plugin: &Arc<Plugin>, folder: &Path) {
    let Some(header) = journal::header(folder) else { return };
    if header.adapter_type != plugin.adapter_type() {
        return;
    }
    let compared = History::open(folder)
        .map_err(|error| error.to_string())
        .and_then(|history| compare(plugin, &history).map_err(|error| error.diagnostic.message));
    match compared {
        Ok((steps, _, differences)) if differences.is_empty() => {
            anstream::println!("{SUCCESS}identical{SUCCESS:#}    run {}, {steps} steps", header.run_id);
        }
        Ok((_, _, differences)) => {
            let first = differences.first().map_or(0, |difference| difference.seq);
            anstream::println!("{ERROR}different{ERROR:#}    run {}, from step {first}", header.run_id);
            anstream::println!(
                "               {DIM}hint: paperclip-host replay {} --plugin FILE shows it{DIM:#}",
                folder.display()
            );
        }
        Err(why) => anstream::println!("{ERROR}failed{ERROR:#}       run {}: {why}", header.run_id),
    }
}
