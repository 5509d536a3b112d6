//! Taking a run on and driving it to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use paperclip_contract::types::Request;
use paperclip_diagnostic::{Diagnose as _, Diagnostic};
use paperclip_engine::intake::Secrets;
use paperclip_engine::policy::Policy;
use paperclip_engine::record::{Level, Record, SequencedRecord};
use paperclip_engine::redact::Redactor;
use paperclip_engine::{Closing, Run, RunSpec, SegmentLimits, result};
use paperclip_guest::Plugin;
use paperclip_shell::journal::{self, Adopted, Header, History, RunFolder};
use paperclip_shell::{Cluster, Control, Journal, JournalError, Outcome, RunPorts, drive};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use super::admission::{Place, Verdict};
use super::entry::{About, Entry, State};
use super::feed::{Feed, FeedSink};
use super::metrics::{OutcomeLabels, PluginLabels};
use super::observed::Observed;
use super::observer::RunObserver;
use super::refusal::{Kind, Refusal};
use super::resume::Brought;
use super::{Supervisor, intake, memory};
use crate::beginning::{self, POLL_INTERVAL};
use crate::traces::SpanKind;

/// Shorter waits for a place are none.
const LEAST_QUEUED: Duration = Duration::from_millis(100);
/// Wishes that a run has not heard yet.
const CONTROLS: usize = 8;

/// All that a run begins, or goes on, with.
pub(super) struct Beginning {
    pub(super) entry: Arc<Entry>,
    pub(super) controls: mpsc::Receiver<Control>,
    pub(super) plugin: Arc<Plugin>,
    pub(super) cluster: Cluster,
    pub(super) request: Request,
    pub(super) secrets: Secrets,
    pub(super) redactor: Redactor,
    pub(super) notes: Vec<(Level, String)>,
    /// The run's folder, where it was opened already.
    pub(super) folder: Option<RunFolder>,
    /// Variables whose values it shows.
    pub(super) unmasked_env: Vec<String>,
    /// What it is taken up with, if another host began it.
    pub(super) adopted: Option<Adopted>,
    /// Where its secrets come from, if the cluster has not all of them.
    pub(super) awaits: Option<oneshot::Receiver<Brought>>,
}

impl Supervisor {
    /// Takes a run on; the same run again is the same run.
    pub(crate) fn start(&self, adapter: Option<&str>, context: &Value) -> Result<Arc<Entry>, Refusal> {
        let around = self.around();
        let adapter_type =
            adapter.or_else(|| paperclip_engine::intake::adapter_type(context)).ok_or_else(|| {
                intake::bad_context(Diagnostic::new("bad_context", "agent.adapterType is missing"))
            })?;
        if let Some(entry) = self.bring_secrets(context)? {
            return Ok(entry);
        }
        let known = context["runId"].as_str().and_then(|run_id| self.get(run_id).ok());
        if let Some(entry) = known.filter(|entry| entry.state() != State::Detached) {
            return Ok(entry);
        }
        self.not_stopping()?;
        if context["runId"].as_str().is_some_and(|run_id| journal::run_folder(&around.state, run_id).exists())
        {
            self.not_resuming()?;
        }
        let plugin =
            self.catalogue().get(adapter_type).map_err(|error| Refusal::of(Kind::NoPlugin, &error))?;
        let taken = intake::take(context, &plugin, around)?;
        let cluster = intake::cluster(around, &context["config"])?.clone();
        self.has_memory()?;
        let about = about(&taken.request, intake::namespace(around, &taken.request), &plugin);
        let mut notes = vec![
            (Level::Info, format!("Agents run on the {}", around.place)),
            (
                Level::Info,
                format!(
                    "Plugin {} {} (sha256:{:.12})",
                    about.adapter_type, about.plugin_version, about.plugin_digest
                ),
            ),
        ];
        notes.extend(taken.warnings.into_iter().map(|text| (Level::Warning, text)));
        let (sender, controls) = mpsc::channel(CONTROLS);
        let entry = Arc::new(Entry::new(about, Feed::new(), State::Queued, sender, SystemTime::now()));
        if let Some(same) = self.enter(&entry, &context["config"])? {
            return Ok(same);
        }
        let beginning = Box::new(Beginning {
            entry: Arc::clone(&entry),
            controls,
            plugin,
            cluster,
            request: taken.request,
            secrets: taken.secrets,
            redactor: taken.redactor,
            notes,
            folder: None,
            unmasked_env: around.config.unmasked_env.clone(),
            adopted: None,
            awaits: None,
        });
        self.spawn(self.clone().host(beginning));
        Ok(entry)
    }

    /// Puts a run among the others: under way, or in the queue. Tells the run that is there already, if it is the same one.
    fn enter(&self, entry: &Arc<Entry>, config: &Value) -> Result<Option<Arc<Entry>>, Refusal> {
        let run_id = &entry.about.run_id;
        let mut runs = self.shared.runs();
        // One that was let go is taken up again.
        if let Some(same) = runs.get(run_id).filter(|same| same.state() != State::Detached) {
            return Ok(Some(Arc::clone(same)));
        }
        let may_not_wait = config["whenBusy"] == "fail"
            && !matches!(config["concurrencyScope"].as_str(), Some("task" | "none"));
        let holder = runs.values().find(|other| {
            may_not_wait
                && !other.state().is_over()
                && other.about.agent_id == entry.about.agent_id
                && other.about.adapter_type == entry.about.adapter_type
        });
        if let Some(holder) = holder {
            return Err(Refusal::new(
                Kind::AgentBusy,
                format!("agent {} is held by run {}", entry.about.agent_id, holder.about.run_id),
                "start it again when that run has ended, or set whenBusy to wait",
            ));
        }
        let place =
            Place { namespace: entry.about.namespace.clone(), company: entry.about.company_id.clone() };
        match self.shared.admission().ask(run_id, place) {
            Verdict::Admitted => entry.admit(),
            Verdict::Queued(position) => tracing::info!(run_id, position, "run waits"),
            Verdict::Full => {
                return Err(Refusal::new(
                    Kind::QueueFull,
                    format!("{} runs wait already", self.around().config.limits.queued_runs),
                    "start it again later, or raise limits.queued_runs",
                ));
            }
        }
        runs.insert(run_id.clone(), Arc::clone(entry));
        Ok(None)
    }

    fn has_memory(&self) -> Result<(), Refusal> {
        let used = self.shared.memory_limit_bytes.zip(memory::resident_bytes());
        match used {
            Some((limit, used)) if used > limit => Err(Refusal::new(
                Kind::MemoryPressure,
                format!("this host uses {} MiB, new runs begin below {} MiB", used >> 20, limit >> 20),
                "start it again when others have ended, or give the host more memory",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// A run from its place in the queue to its end.
    pub(super) async fn host(self, mut beginning: Box<Beginning>) {
        if let Some(awaited) = beginning.awaits.take() {
            self.wait_for_secrets(&mut beginning, awaited).await;
        }
        let entry = Arc::clone(&beginning.entry);
        let about = &entry.about;
        let span = tracing::info_span!(
            "host",
            run_id = about.run_id,
            agent_id = about.agent_id,
            adapter = about.adapter_type,
            job = tracing::field::Empty
        );
        let metrics = Arc::clone(self.metrics());
        let observer = Arc::new(RunObserver::new(Arc::clone(&entry), metrics, self.around().traces.clone()));
        let begun_at = SystemTime::now();
        let driven = async {
            if let Some(left) = wait(&entry, &mut beginning.controls).await {
                return left;
            }
            if begun_at.elapsed().unwrap_or_default() >= LEAST_QUEUED {
                observer.trace(SpanKind::Queued, begun_at, None);
            }
            tracing::info!(plugin = about.plugin_digest, "run begins");
            self.drive(beginning, Arc::clone(&observer)).await
        };
        let (state, result) = driven.instrument(span.clone()).await;
        entry.end(state, result.clone(), SystemTime::now());
        entry.feed.close();
        self.shared.leave(&about.run_id);
        let code = result.as_ref().and_then(|result| result["errorCode"].as_str()).unwrap_or_default();
        let _entered = span.enter();
        tracing::info!(state = state.name(), code, "run ends");
        self.count(about, state, code);
        let failure = Some(code.to_owned()).filter(|code| !code.is_empty());
        observer.trace(SpanKind::Driven, begun_at, failure.clone());
        if state != State::Detached {
            observer.trace(SpanKind::Run, entry.accepted_at(), failure);
        }
    }

    /// Drives a run until it leaves this process.
    async fn drive(
        &self,
        beginning: Box<Beginning>,
        observer: Arc<RunObserver>,
    ) -> (State, Option<Map<String, Value>>) {
        let entry = Arc::clone(&beginning.entry);
        let driven = match self.driven(*beginning, observer) {
            Ok(driven) => driven,
            Err((code, message)) => return never_began(&entry, code, &message),
        };
        let Outcome { closing, result, failure } = driven.await;
        if let Some(failure) = failure {
            tracing::error!(failure = %failure.diagnostic(), "run is detached");
        }
        let state = match closing {
            Closing::Ended(ending) => ending.into(),
            Closing::Refused => State::Refused,
            Closing::Detached => State::Detached,
        };
        (state, result)
    }

    /// The drive of a run, to be awaited; or why it cannot begin, as errorCode and message.
    fn driven(
        &self,
        beginning: Beginning,
        observer: Arc<RunObserver>,
    ) -> Result<impl Future<Output = Outcome> + Send + use<>, (&'static str, String)> {
        let Beginning {
            entry,
            controls,
            plugin,
            cluster,
            request,
            secrets,
            redactor,
            notes,
            folder,
            unmasked_env,
            adopted,
            ..
        } = beginning;
        let around = self.around();
        let run_id = &entry.about.run_id;
        let header = beginning::header(&plugin, run_id, &unmasked_env, adopted);
        let (journal, history, header) = self
            .open_journal(folder, &entry, &plugin, header)
            .map_err(|error| ("journal_unavailable", error.diagnostic().to_string()))?;
        let instance = plugin.instantiate().map_err(|fault| (result::PLUGIN_FAILED, fault.to_string()))?;
        let spec = RunSpec {
            policy: Policy::new(around.config.grant(&entry.about.adapter_type), &request),
            redactor,
            host_id: around.host_id.clone(),
            seed: beginning::seed(&entry.about.run_id),
            plugin: beginning::identity(&plugin),
            poll_interval: POLL_INTERVAL,
            segments: SegmentLimits::default(),
            adopts: header.adopted.map(|adopted| adopted.job),
            request,
        };
        let run = Run::new(spec, Observed::new(instance, Arc::clone(&observer)));
        let looks = Arc::clone(&observer);
        let observe = move |told: &SequencedRecord| looks.record(told);
        let sink = FeedSink { feed: Arc::clone(&entry.feed), observe };
        let notes = if history.is_empty() { notes } else { Vec::new() };
        let paperclip = around.paperclip.clone();
        let run_id = entry.about.run_id.clone();
        let ports = RunPorts { run_id, cluster, secrets, paperclip, journal, history, notes, sink, observer };
        Ok(drive(run, ports, controls))
    }

    /// The run's journal, what is in it, and what it says the run is: a run that has one begun stays what it was.
    fn open_journal(
        &self,
        folder: Option<RunFolder>,
        entry: &Entry,
        plugin: &Plugin,
        header: Header,
    ) -> Result<(Journal, History, Header), JournalError> {
        let around = self.around();
        let (mode, run_id) = (around.config.journal, &entry.about.run_id);
        let folder = match folder {
            Some(folder) => Some(folder),
            None => beginning::open_folder(&around.state, run_id, mode)?,
        };
        let Some(folder) = folder else { return Ok((Journal::none(), History::default(), header)) };
        let (path, history) = (folder.path().to_owned(), folder.history());
        let header = folder.header().cloned().unwrap_or(header);
        let journal = beginning::begin_journal(&around.state, folder, plugin, &header, mode)?;
        if journal.folder().is_some() {
            entry.feed.set_journal(path);
        }
        Ok((journal, history, header))
    }

    fn count(&self, about: &About, state: State, code: &str) {
        let metrics = self.metrics();
        let adapter = about.adapter_type.clone();
        let labels = OutcomeLabels { adapter: adapter.clone(), outcome: state.name(), code: code.to_owned() };
        metrics.ended.get_or_create(&labels).inc();
        if code != result::PLUGIN_FAILED {
            return;
        }
        let labels = PluginLabels {
            adapter,
            version: about.plugin_version.clone(),
            digest: about.plugin_digest.clone(),
        };
        metrics.traps.get_or_create(&labels).inc();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if let Some(fallback) = self.catalogue().note_trap(&about.plugin_digest, now_ms) {
            let quarantined = fallback.quarantined;
            tracing::error!(
                adapter = quarantined.adapter_type,
                reason = quarantined.reason,
                to = fallback.to,
                "plugin put under quarantine"
            );
            self.note_plugins();
        }
    }

    /// Marks a run of an earlier process as under way.
    pub(super) fn enter_resumed(&self, entry: &Arc<Entry>) {
        let place =
            Place { namespace: entry.about.namespace.clone(), company: entry.about.company_id.clone() };
        self.shared.admission().enter(&entry.about.run_id, place);
        entry.admit();
    }

    pub(super) fn resumed_one(&self) {
        self.shared.resuming.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn controls() -> (mpsc::Sender<Control>, mpsc::Receiver<Control>) {
    mpsc::channel(CONTROLS)
}

pub(super) fn about(request: &Request, namespace: String, plugin: &Plugin) -> About {
    About {
        run_id: request.run_id.clone(),
        adapter_type: plugin.adapter_type().to_owned(),
        agent_id: request.agent.id.clone(),
        company_id: request.agent.company_id.clone(),
        namespace,
        plugin_version: plugin.version().to_owned(),
        plugin_digest: plugin.digest().to_owned(),
        adopted: false,
    }
}

/// Waits for a place. A run that is not wanted any more leaves the queue, with nothing begun.
async fn wait(
    entry: &Entry,
    controls: &mut mpsc::Receiver<Control>,
) -> Option<(State, Option<Map<String, Value>>)> {
    let control = tokio::select! {
        biased;
        () = entry.admitted() => return None,
        control = controls.recv() => control,
    };
    match control {
        Some(Control::Cancel(..)) => {
            let (_, result) = never_began(entry, "cancelled", "Run cancelled");
            Some((State::Cancelled, result))
        }
        Some(Control::Stop) | None => Some(never_began(
            entry,
            "host_stopping",
            "This host stopped before the run began; start it again",
        )),
    }
}

/// The end of a run of which nothing was begun: the server may start it again by itself.
fn never_began(entry: &Entry, code: &str, message: &str) -> (State, Option<Map<String, Value>>) {
    let result = result::undone(code, message);
    let told = SequencedRecord { seq: entry.feed.next_seq(), record: Record::Result(result.clone()) };
    if let Err(error) = entry.feed.push(&told) {
        tracing::error!(%error, "the result cannot be shown");
    }
    (State::Failed, Some(result))
}
