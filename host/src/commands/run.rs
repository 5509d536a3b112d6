//! `run`: one run, from the context to its result.

use paperclip_contract::types::{CancelRequest, CancelSource};
use paperclip_engine::record::{Level, Record};
use paperclip_engine::redact::Redactor;
use paperclip_engine::{PluginIdentity, Run, RunSpec};
use paperclip_guest::Tools;
use paperclip_shell::{Cluster, Control, Journal, NdjsonSink, Outcome, PaperclipApi, Ports, Sink, drive};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::access;
use crate::args::{JournalMode, Output, RunArgs};
use crate::documents::{self, Intake};
use crate::exit::{Exit, usage};
use crate::plugins;
use crate::pretty::PrettySink;
use crate::state;

/// Interval of the cancel poll, in ms.
const POLL_INTERVAL_MS: u64 = 15_000;

pub(crate) async fn run(args: RunArgs) -> anyhow::Result<Exit> {
    let context = documents::read_context(&args.context)?;
    let adapter_type = documents::adapter_type(&context, args.plugin.adapter.as_deref())?;
    let self_pod = args.context.self_pod.as_deref().map(documents::read_self_pod).transpose()?;
    let runtime = plugins::runtime()?;
    let plugin = plugins::get(&runtime, args.plugin.plugins.as_deref(), &adapter_type)?;
    // Refused before a cluster is even looked for: what is wrong with the context is wrong everywhere.
    documents::take(&context, &args.context, &plugin, self_pod.as_ref(), None)?;

    let state = state::folder(args.state.clone());
    let volumes = state.as_deref().map(|state| state.join("local-cluster"));
    let connected = access::connect(&args.access, volumes.as_deref()).await?;
    let self_pod = match self_pod {
        Some(pod) => Some(pod),
        None => access::own_pod(&connected.cluster).await?,
    };
    let namespace = connected.cluster.default_namespace().to_owned();
    let intake = documents::take(&context, &args.context, &plugin, self_pod.as_ref(), Some(&namespace))?;

    let mut opening = vec![
        status(Level::Info, format!("Agents run on the {}", connected.place)),
        status(
            Level::Info,
            format!("Plugin {} {} (sha256:{:.12})", plugin.adapter_type(), plugin.version(), plugin.digest()),
        ),
    ];
    opening.extend(intake.warnings.iter().map(|text| status(Level::Warning, text.clone())));

    let spec = RunSpec {
        redactor: redactor(&intake)?,
        host_id: state::host_id(state.as_deref()),
        seed: seed(&intake.request.run_id),
        plugin: PluginIdentity {
            adapter_type: plugin.adapter_type().to_owned(),
            version: plugin.version().to_owned(),
            digest: plugin.digest().to_owned(),
        },
        poll_interval_ms: POLL_INTERVAL_MS,
        request: intake.request,
    };
    let run_id = spec.request.run_id.clone();
    let paperclip =
        documents::api_url(&args.context, self_pod.as_ref()).map(|url| PaperclipApi::new(&url)).transpose();
    let seat = Seat {
        journal: journal(&args, state.as_deref(), &run_id)?,
        paperclip: paperclip.map_err(usage)?,
        cluster: connected.cluster.clone(),
        secrets: intake.secrets,
        run_id,
    };
    let instance = plugin.instantiate()?;
    let run = Run::new(spec, instance);
    let outcome = match args.output {
        Output::Ndjson => seat.drive(run, NdjsonSink::new(tokio::io::stdout()), opening).await?,
        Output::Pretty => seat.drive(run, PrettySink::new(Tools::new(plugin)), opening).await?,
    };
    if let Some(local) = connected.local {
        local.shutdown().await;
    }
    if let Some(failure) = outcome.failure {
        anstream::eprintln!("{}error:{} {failure}", crate::pretty::style::ERROR, anstyle::Reset);
    }
    Ok(outcome.closing.into())
}

fn status(level: Level, text: String) -> Record {
    Record::Status { level, text }
}

/// Where a run is driven from.
struct Seat {
    run_id: String,
    cluster: Cluster,
    secrets: paperclip_engine::intake::Secrets,
    paperclip: Option<PaperclipApi>,
    journal: Journal,
}

impl Seat {
    async fn drive<S: Sink>(
        self,
        run: Run<paperclip_guest::Instance>,
        mut sink: S,
        opening: Vec<Record>,
    ) -> anyhow::Result<Outcome> {
        for record in opening {
            sink.take(record).await?;
        }
        sink.flush().await?;
        let Seat { run_id, cluster, secrets, paperclip, journal } = self;
        let ports = Ports { run_id, cluster, secrets, paperclip, journal, sink };
        Ok(drive(run, ports, control()?).await)
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
                    Control::Cancel(CancelRequest { source: CancelSource::Operator, reason })
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

/// Masks all secrets but those that the plugin was shown: they are no secrets.
fn redactor(intake: &Intake) -> anyhow::Result<Redactor> {
    let shown = |name: &str| {
        intake.request.config_env.iter().any(|entry| entry.name == name && entry.value.is_some())
    };
    Ok(Redactor::new(intake.secrets.named().filter(|(name, _)| !shown(name)))?)
}

fn journal(args: &RunArgs, state: Option<&std::path::Path>, run_id: &str) -> anyhow::Result<Journal> {
    match (args.journal, state) {
        (JournalMode::Required, Some(state)) => Journal::required(state, run_id).map_err(usage),
        (JournalMode::BestEffort, Some(state)) => Journal::best_effort(state, run_id).map_err(usage),
        (JournalMode::BestEffort, None) => Ok(Journal::none()),
        (JournalMode::Required, None) => {
            Err(usage("no folder for the journal: there is no home folder; name one with --state"))
        }
    }
}

/// The seed of a run's jitter: runs that fail together should not come back together.
fn seed(run_id: &str) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(run_id)
}
