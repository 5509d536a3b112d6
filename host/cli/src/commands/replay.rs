//! `replay`: replays a recorded run with a plugin.

use std::path::Path;
use std::sync::Arc;

use paperclip_contract::types::{Command, Event};
use paperclip_diagnostic::Diagnostic;
use paperclip_engine::comparison::{Comparison, Difference};
use paperclip_guest::{Plugin, Runtime, Source};
use paperclip_shell::journal::{self, Header, History};

use paperclip_prepare::plugins::BuiltinPlugins;

use crate::args::ReplayArgs;
use crate::exit::{CommandError, Exit, usage};
use crate::plugins;
use crate::pretty::style::{ERROR, WARNING};

/// Longest JSON of a command or event that is shown, in characters.
const SHOWN_CHARS: usize = 400;

pub(crate) fn replay(args: &ReplayArgs, builtins: BuiltinPlugins) -> Result<Exit, CommandError> {
    let history = History::open(&args.journal).map_err(|_error| {
        usage(
            Diagnostic::new("journal_not_found", format!("journal {}: not found", args.journal.display()))
                .with_hint("name a run's folder below <state>/runs, or one journal-NNNNNN.ndjson of it"),
        )
    })?;
    let folder = if args.journal.is_dir() { Some(args.journal.as_path()) } else { args.journal.parent() };
    let header = folder.and_then(journal::header);
    let runtime = plugins::runtime()?;
    let plugin = match &args.plugin {
        Some(file) => Plugin::load_file(&runtime, file).map_err(usage)?,
        None => recorded_plugin(&runtime, builtins, folder, header.as_ref())?,
    };
    let (steps, lines, differences) = compare(&plugin, &history)?;
    let run =
        header.map_or_else(|| args.journal.display().to_string(), |header| format!("run {}", header.run_id));
    let by = format!("{} {} (sha256:{:.12})", plugin.adapter_type(), plugin.version(), plugin.digest());
    println!("{run}: {steps} steps with {lines} lines of output, replayed by {by}");
    for difference in &differences {
        show(difference);
    }
    match differences.last() {
        None => {
            println!("identical: every decision is the recorded one");
            Ok(Exit::Succeeded)
        }
        Some(last) if last.is_decisive => {
            println!(
                "stopped at step {}: what follows in the journal is not a consequence of this decision",
                last.seq
            );
            Ok(Exit::Failed)
        }
        Some(_) => {
            println!("{} steps show something else, and decide the same", differences.len());
            Ok(Exit::Failed)
        }
    }
}

/// Replays a run in a fresh instance, up to the first step at which the plugin decides differently. Returns the steps, the lines of output
/// and what differs.
///
/// # Errors
/// The journal cannot be read, or there is no instance.
pub(super) fn compare(
    plugin: &Arc<Plugin>,
    history: &History,
) -> Result<(u64, u64, Vec<Difference>), CommandError> {
    let mut comparison = Comparison::new(plugin.instantiate()?);
    for entry in history.entries() {
        let (_, entry) = entry.map_err(usage)?;
        if !comparison.entry(entry) {
            break;
        }
    }
    Ok(comparison.finish())
}

/// Returns the plugin that the run was started with: kept beside its journal, or built in.
fn recorded_plugin(
    runtime: &Runtime,
    builtins: BuiltinPlugins,
    folder: Option<&Path>,
    header: Option<&Header>,
) -> Result<Arc<Plugin>, CommandError> {
    let (Some(folder), Some(header)) = (folder, header) else {
        return Err(usage(
            Diagnostic::new(
                "plugin_unknown",
                "the journal has no header.json beside it that names its plugin",
            )
            .with_hint("name a plugin with --plugin"),
        ));
    };
    let kept = folder
        .parent()
        .and_then(Path::parent)
        .map(|state| journal::kept_plugin(state, &header.plugin_digest));
    if let Some(kept) = kept.filter(|kept| kept.is_file()) {
        return Plugin::load_file(runtime, &kept).map_err(usage);
    }
    for (name, bytes) in builtins {
        let plugin = Plugin::load(runtime, Source::Builtin((*name).to_owned()), bytes).map_err(usage)?;
        if plugin.digest() == header.plugin_digest {
            return Ok(plugin);
        }
    }
    let Header { adapter_type, plugin_version, plugin_digest, .. } = header;
    Err(usage(
        Diagnostic::new(
            "plugin_not_kept",
            format!(
                "plugin {adapter_type} {plugin_version} (sha256:{plugin_digest:.12}), with which the run started, is no longer kept"
            ),
        )
        .with_hint("name a plugin with --plugin"),
    ))
}

fn show(difference: &Difference) {
    let Difference { seq, at, events, recorded, given, failure, .. } = difference;
    anstream::println!("{WARNING}step {seq} at {} ms{WARNING:#}", at.as_millis());
    for event in events {
        println!("    {}", shortened(&event_text(event)));
    }
    for command in recorded {
        anstream::println!("  {ERROR}- {}{ERROR:#}", shortened(&command_text(command)));
    }
    for command in given {
        println!("  + {}", shortened(&command_text(command)));
    }
    if let Some(failure) = failure {
        println!("  + {failure}");
    }
}

fn event_text(event: &Event) -> String {
    serde_json::to_string(event).unwrap_or_default()
}

fn command_text(command: &Command) -> String {
    serde_json::to_string(command).unwrap_or_default()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}
