//! `run`: one run, from the context to its result.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use paperclip_contract::types::{CancelRequest, CancelSource};
use paperclip_diagnostic::{Diagnose as _, Diagnostic};
use paperclip_engine::journal::Entry;
use paperclip_engine::policy::Policy;
use paperclip_engine::record::{Level, RecordSequencer, SequencedRecord};
use paperclip_engine::{Closing, Run, RunSpec, SegmentLimits};
use paperclip_guest::{Plugin, Tools};
use paperclip_shell::journal::{self, Header, History, RunFolder};
use paperclip_shell::{Cluster, Control, Journal, NdjsonSink, Outcome, PaperclipApi, RunPorts, Sink, drive};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::access;
use crate::args::{JournalMode, Output, RunArgs};
use crate::beginning::{self, POLL_INTERVAL};
use crate::config::{Config, NamedCluster};
use crate::documents::{self, Intake};
use crate::exit::{Exit, usage};
use crate::plugins;
use crate::pretty::PrettySink;
use crate::state;

pub(crate) async fn run(mut args: RunArgs) -> anyhow::Result<Exit> {
    let config = Config::for_run(&mut args)?;
    let context = documents::read_context(&args.context)?;
    let self_pod = args.context.self_pod.as_deref().map(documents::read_self_pod).transpose()?;
    let runtime = plugins::runtime()?;
    let asked = documents::adapter_type(&context, args.plugin.adapter.as_deref())?;
    let plugin = plugins::get(&runtime, args.plugin.plugins.as_deref(), &asked)?;
    // Refused before a cluster is even looked for: what is wrong with the context is wrong everywhere.
    let intake = documents::take(&context, &args.context, &config, &plugin, self_pod.as_ref(), None)?;
    let run_id = intake.request.run_id;
    let journal_mode = args.journal.unwrap_or(config.journal);

    let state = state::folder(args.state.clone());
    let folder = run_folder(journal_mode, state.as_deref(), &run_id)?;
    let plugin = match (state.as_deref(), folder.as_ref().and_then(RunFolder::header)) {
        (Some(state), Some(header)) => {
            beginning::pinned(&runtime, state, header, Some(plugin)).map_err(usage)?
        }
        (_, _) => plugin,
    };
    let history = folder.as_ref().map(RunFolder::history).unwrap_or_default();
    // A run that goes on stays what it was.
    let header = folder.as_ref().and_then(RunFolder::header).cloned();
    let header = header.unwrap_or_else(|| beginning::header(&plugin, &run_id, &args.unmasked_env, None));
    if folder.as_ref().is_some_and(RunFolder::is_closed) {
        let from = args.from;
        return match args.output {
            Output::Ndjson => {
                replay_records(&history, From { sink: NdjsonSink::new(tokio::io::stdout()), from }).await
            }
            Output::Pretty => {
                replay_records(&history, From { sink: PrettySink::new(Tools::new(plugin)), from }).await
            }
        };
    }

    let volumes = state.as_deref().map(|state| state.join("local-cluster"));
    let named = context["config"]["kubeconfig"].as_str().and_then(|name| config.clusters.get(name.trim()));
    let access = named.map_or(args.access.clone(), NamedCluster::access);
    let connected = access::connect(&access, volumes.as_deref()).await?;
    let self_pod = match self_pod {
        Some(pod) => Some(pod),
        None => {
            let own_files: Vec<_> =
                args.access.kubeconfig.iter().cloned().chain(config.own_files()).collect();
            access::own_pod(&connected.cluster, &own_files).await?
        }
    };
    let namespace = connected.cluster.default_namespace().to_owned();
    let intake =
        documents::take(&context, &args.context, &config, &plugin, self_pod.as_ref(), Some(&namespace))?;

    let paperclip =
        documents::api_url(&args.context, self_pod.as_ref()).map(|url| PaperclipApi::new(&url)).transpose();
    let seat = Seat {
        journal: begin_journal(journal_mode, &config, state.as_deref(), folder, &plugin, &header)?,
        notes: if history.is_empty() { opening(&connected.place, &plugin, &intake) } else { Vec::new() },
        history,
        paperclip: paperclip.map_err(usage)?,
        cluster: connected.cluster.clone(),
        run_id: run_id.clone(),
        from: args.from,
    };
    let spec = RunSpec {
        redactor: beginning::redactor(&intake.request, &intake.secrets, &header.unmasked_env)?,
        host_id: state::host_id(state.as_deref()),
        seed: beginning::seed(&run_id),
        plugin: beginning::identity(&plugin),
        policy: Policy::new(config.grant(plugin.adapter_type()), &intake.request),
        poll_interval: POLL_INTERVAL,
        segments: SegmentLimits::default(),
        adopts: header.adopted.map(|adopted| adopted.job),
        request: intake.request,
    };
    let run = Run::new(spec, plugin.instantiate()?);
    let outcome = match args.output {
        Output::Ndjson => seat.drive(run, intake.secrets, NdjsonSink::new(tokio::io::stdout())).await?,
        Output::Pretty => seat.drive(run, intake.secrets, PrettySink::new(Tools::new(plugin))).await?,
    };
    if let Some(local) = connected.local {
        local.shutdown().await;
    }
    if let Some(failure) = outcome.failure {
        crate::pretty::show_error(&failure.diagnostic());
    }
    Ok(outcome.closing.into())
}

/// Shows a run that has ended once more.
async fn replay_records<S: Sink>(history: &History, mut sink: S) -> anyhow::Result<Exit> {
    let mut sequencer = RecordSequencer::default();
    let mut exit = Exit::Failed;
    let mut entries = history.read();
    while let Some(entry) = entries.recv().await {
        let (_, entry) = entry?;
        if let Entry::End { ending, .. } = &entry {
            exit = Closing::Ended(*ending).into();
        }
        for told in sequencer.entry(entry) {
            sink.take(told).await?;
        }
    }
    sink.flush().await?;
    Ok(exit)
}

/// What whoever watches is told first.
fn opening(place: &str, plugin: &Plugin, intake: &Intake) -> Vec<(Level, String)> {
    let (adapter_type, version, digest) = (plugin.adapter_type(), plugin.version(), plugin.digest());
    let mut notes = vec![
        (Level::Info, format!("Agents run on the {place}")),
        (Level::Info, format!("Plugin {adapter_type} {version} (sha256:{digest:.12})")),
    ];
    notes.extend(intake.warnings.iter().map(|text| (Level::Warning, text.clone())));
    notes
}

// ---------------------------------------------------------------------- the journal

fn run_folder(mode: JournalMode, state: Option<&Path>, run_id: &str) -> anyhow::Result<Option<RunFolder>> {
    match (state, mode) {
        (Some(state), mode) => beginning::open_folder(state, run_id, mode).map_err(usage),
        (None, JournalMode::BestEffort) => Ok(None),
        (None, JournalMode::Required) => Err(usage(
            Diagnostic::new("no_state_folder", "no folder for the journal: there is no home folder")
                .with_hint("name one with --state"),
        )),
    }
}

fn begin_journal(
    mode: JournalMode,
    config: &Config,
    state: Option<&Path>,
    folder: Option<RunFolder>,
    plugin: &Plugin,
    header: &Header,
) -> anyhow::Result<Journal> {
    let (Some(state), Some(folder)) = (state, folder) else { return Ok(Journal::none()) };
    if let Err(cause) = journal::prune(state, config.retention.limits(), SystemTime::now()) {
        tracing::warn!(state = %state.display(), %cause, "old journals are not removed");
    }
    beginning::begin_journal(state, folder, plugin, header, mode).map_err(usage)
}

// ---------------------------------------------------------------------- the drive

/// Where a run is driven from.
struct Seat {
    run_id: String,
    cluster: Cluster,
    paperclip: Option<PaperclipApi>,
    journal: Journal,
    history: History,
    notes: Vec<(Level, String)>,
    from: u64,
}

impl Seat {
    async fn drive<S: Sink>(
        self,
        run: Run<paperclip_guest::Instance>,
        secrets: paperclip_engine::intake::Secrets,
        sink: S,
    ) -> anyhow::Result<Outcome> {
        let Seat { run_id, cluster, paperclip, journal, history, notes, from } = self;
        let sink = From { sink, from };
        let observer = Arc::new(());
        let ports = RunPorts { run_id, cluster, secrets, paperclip, journal, history, notes, sink, observer };
        Ok(drive(run, ports, control()?).await)
    }
}

/// Shows the records from a number on.
struct From<S> {
    sink: S,
    from: u64,
}

impl<S: Sink> Sink for From<S> {
    async fn take(&mut self, told: SequencedRecord) -> io::Result<()> {
        if told.seq < self.from { Ok(()) } else { self.sink.take(told).await }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.sink.flush().await
    }
}

/// Ctrl-C cancels the run; SIGTERM leaves it to the cluster.
fn control() -> anyhow::Result<mpsc::Receiver<Control>> {
    let (sender, receiver) = mpsc::channel(4);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            let control = tokio::select! {
                _ = interrupt.recv() => {
                    let reason = Some("Ctrl-C".to_owned());
                    Control::Cancel(CancelRequest { source: CancelSource::Operator, reason }, None)
                }
                _ = terminate.recv() => Control::Stop,
            };
            if sender.send(control).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
