//! `run`: one run, from its context to its result.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use paperclip_contract::types::{CancelRequest, CancelSource};
use paperclip_diagnostic::Diagnose as _;
use paperclip_engine::Closing;
use paperclip_engine::journal::Entry;
use paperclip_engine::record::{RecordSequencer, SequencedRecord};
use paperclip_guest::{Plugin, Tools};
use paperclip_prepare::access::{ClusterChoice, ConnectedCluster, Fallback};
use paperclip_prepare::config::{Config, JournalMode, NamedCluster};
use paperclip_prepare::plugins::BuiltinPlugins;
use paperclip_prepare::{
    HostContext, OpenedRun, PrepareError, PreparedRun, RunConnections, StartError, StartedRun, Target,
    adapter_type, documents, open_folder, paperclip_pod, pinned_plugin, state,
};
use paperclip_shell::hosts::HostSetup;
use paperclip_shell::journal::{self, History, RunFolder};
use paperclip_shell::{Control, NdjsonSink, Outcome, Sink, drive};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::args::{Output, RunArgs};
use crate::exit::{CommandError, Exit, failed, usage};
use crate::plugins;
use crate::pretty::{PrettySink, show_error};

pub(crate) async fn run(args: RunArgs, builtins: BuiltinPlugins) -> Result<Exit, CommandError> {
    let config = args.configuration().map_err(usage)?;
    let context = documents::read_context(&args.context.context).map_err(usage)?;
    let pod = config.self_pod.as_deref().map(paperclip_pod::read).transpose().map_err(usage)?;
    let runtime = plugins::runtime()?;
    let named = adapter_type(&context, args.plugin.adapter.as_deref()).map_err(usage)?;
    let plugin = plugins::get(&runtime, builtins, config.plugins.as_deref(), named)?;
    let state = state::folder(config.state.clone());
    if state.is_none() && config.journal == JournalMode::Required {
        return Err(usage(state::no_folder()));
    }
    let host = HostContext { paperclip_pod: pod, ..HostContext::new(config, state) };
    let prepare = |pod: Option<Value>, plugin: &Arc<Plugin>, target: Target<'_>| {
        let prepared = host.prepare(&context, pod, plugin, target);
        prepared.map_err(|error| refused(&error, &args.context.context))
    };

    // What is wrong with the context is wrong on each cluster: it is reported before one is connected.
    let anywhere = Target { namespace: None, needs_api_url: false, starts: false };
    let run_id = prepare(host.paperclip_pod.clone(), &plugin, anywhere)?.request.run_id;
    let folder = open_folder(&host, &run_id).map_err(usage)?;
    let plugin = match (&host.state, folder.as_ref().and_then(RunFolder::header)) {
        (Some(state), Some(header)) => pinned_plugin(&runtime, state, header, Some(plugin)).map_err(usage)?,
        (_, _) => plugin,
    };
    if let Some(folder) = folder.as_ref().filter(|folder| folder.is_closed()) {
        return show_again(&folder.history(), &args, plugin).await;
    }

    let connected = connect(&host, &context).await?;
    let pod = find_paperclip_pod(&host, &connected, &context).await?;
    let target = Target {
        namespace: Some(connected.cluster.default_namespace()),
        needs_api_url: !connected.is_local(),
        starts: true,
    };
    let prepared = prepare(pod, &plugin, target)?;
    let outcome = drive_to_end(&host, &connected, prepared, folder, &args, plugin).await?;
    connected.shutdown().await;
    if let Some(failure) = outcome.failure {
        show_error(&failure.diagnostic());
    }
    Ok(outcome.closing.into())
}

fn refused(error: &PrepareError, context: &Path) -> CommandError {
    let diagnostic = error.diagnostic().on(format_args!("context {}", context.display()));
    match error {
        PrepareError::Context(_)
        | PrepareError::Supplied(_)
        | PrepareError::Variables(_)
        | PrepareError::Skills(_)
        | PrepareError::NoApiUrl
        | PrepareError::ApiUrl(_) => usage(diagnostic),
        PrepareError::Masking(_) | PrepareError::Plugin(_) | PrepareError::Snapshot(_) => failed(diagnostic),
    }
}

/// Connects to the cluster that the run's config names, else to the chosen one, else to the one that is found.
async fn connect(host: &HostContext, context: &Value) -> Result<ConnectedCluster, CommandError> {
    let choice = named_cluster(host, context).unwrap_or_else(|| host.config.cluster.clone());
    let volumes = host.state.as_deref().map(state::local_cluster_folder);
    choice.connect(Fallback::Local, volumes.as_deref()).await.map_err(usage)
}

/// Returns the further cluster that the run's config names.
fn named_cluster(host: &HostContext, context: &Value) -> Option<ClusterChoice> {
    let name = context["config"]["kubeconfig"].as_str()?;
    host.config.clusters.get(name.trim()).map(NamedCluster::choice)
}

/// Returns the pod that the agent inherits from. Paperclip is in the chosen cluster, also if the agent runs in a further one.
async fn find_paperclip_pod(
    host: &HostContext,
    connected: &ConnectedCluster,
    context: &Value,
) -> Result<Option<Value>, CommandError> {
    let is_elsewhere = host.paperclip_pod.is_none() && named_cluster(host, context).is_some();
    let of_paperclip = match is_elsewhere && paperclip_pod::is_named(&host.config, context) {
        true => Some(host.config.cluster.open(Fallback::Refuse, None).await.map_err(usage)?),
        false => None,
    };
    let cluster = &of_paperclip.as_ref().unwrap_or(connected).cluster;
    host.find_paperclip_pod(cluster, context).await.map_err(failed)
}

async fn drive_to_end(
    host: &HostContext,
    connected: &ConnectedCluster,
    prepared: PreparedRun,
    folder: Option<RunFolder>,
    args: &RunArgs,
    plugin: Arc<Plugin>,
) -> Result<Outcome, CommandError> {
    if let Some(state) = &host.state {
        prune_journals(state, &host.config);
    }
    let opened = prepared.open_journal(host, folder).map_err(not_started)?;
    let run = Runnable { host, connected, opened, from: args.from };
    match args.output {
        Output::Ndjson => run.drive(NdjsonSink::new(tokio::io::stdout())).await,
        Output::Pretty => run.drive(PrettySink::new(Tools::new(plugin))).await,
    }
}

fn not_started(error: StartError) -> CommandError {
    match error {
        StartError::Journal(_) => usage(error),
        StartError::Masking(_) | StartError::Plugin(_) => failed(error),
    }
}

fn prune_journals(state: &Path, config: &Config) {
    if let Err(cause) = journal::prune(state, config.retention.limits(), SystemTime::now()) {
        tracing::warn!(state = %state.display(), %cause, "old journals are not removed");
    }
}

/// A run that needs only the sink for its records.
struct Runnable<'a> {
    host: &'a HostContext,
    connected: &'a ConnectedCluster,
    opened: OpenedRun,
    from: u64,
}

impl Runnable<'_> {
    async fn drive<S: Sink>(self, sink: S) -> Result<Outcome, CommandError> {
        let ports = RunConnections {
            cluster: self.connected.cluster.clone(),
            place: self.connected.place.clone(),
            sink: From { sink, from: self.from },
            observer: Arc::new(()),
        };
        let hosts = self.connected.cluster.hosts();
        hosts.set_up(HostSetup {
            host: self.host.host_id.clone(),
            address: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let started = self.opened.start(self.host, ports, std::convert::identity);
        let StartedRun { run, ports } = started.map_err(not_started)?;
        let outcome = drive(run, ports, control()?).await;
        hosts.stop().await;
        Ok(outcome)
    }
}

/// Shows the records of a run that has ended again.
async fn show_again(history: &History, args: &RunArgs, plugin: Arc<Plugin>) -> Result<Exit, CommandError> {
    let from = args.from;
    match args.output {
        Output::Ndjson => {
            replay_records(history, From { sink: NdjsonSink::new(tokio::io::stdout()), from }).await
        }
        Output::Pretty => {
            replay_records(history, From { sink: PrettySink::new(Tools::new(plugin)), from }).await
        }
    }
}

async fn replay_records<S: Sink>(history: &History, mut sink: S) -> Result<Exit, CommandError> {
    let mut sequencer = RecordSequencer::default();
    let mut exit = Exit::Failed;
    let mut entries = history.read();
    while let Some(entry) = entries.recv().await {
        let (_, entry) = entry?;
        if let Entry::End { ending, .. } = &entry {
            exit = Closing::Ended(*ending).into();
        }
        for record in sequencer.entry(entry) {
            sink.take(record).await?;
        }
    }
    sink.flush().await?;
    Ok(exit)
}

/// Passes on the records from a number on.
struct From<S> {
    sink: S,
    from: u64,
}

impl<S: Sink> Sink for From<S> {
    async fn take(&mut self, record: SequencedRecord) -> io::Result<()> {
        if record.seq < self.from { Ok(()) } else { self.sink.take(record).await }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.sink.flush().await
    }
}

/// Translates signals: Ctrl-C cancels the run, SIGTERM detaches from it.
fn control() -> io::Result<mpsc::Receiver<Control>> {
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
