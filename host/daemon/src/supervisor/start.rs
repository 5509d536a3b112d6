//! Starting a run and driving it to its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use paperclip_contract::types::Request;
use paperclip_diagnostic::Diagnose as _;
use paperclip_engine::record::{Record, SequencedRecord};
use paperclip_engine::run_record::Tenure;
use paperclip_engine::{Closing, result};
use paperclip_guest::Plugin;
use paperclip_prepare::{
    HostContext, PreparedRun, RunConnections, StartError, StartOptions, StartedRun, Supplied, adapter_type,
};
use paperclip_shell::journal::{self, RunFolder};
use paperclip_shell::{Cluster, Control, Outcome, drive};
use paperclip_traces::SpanKind;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;

use super::Supervisor;
use super::feed::{Feed, FeedSink};
use super::handle::{RunHandle, RunInfo, State, rfc3339};
use super::observed::Observed;
use super::observer::RunObserver;
use super::past::PastEnd;
use super::records::{Claiming, Found, RecordFate, new_record};
use super::runs::{Claimed, Entered, ResuppliedSecrets};
use crate::memory::{self, Reserved};
use crate::refusal::{Kind, Refusal};

/// Waits for admission that are shorter are not traced.
const MIN_TRACED_WAIT: Duration = Duration::from_millis(100);
/// Control requests that may wait for a run.
const QUEUED_CONTROLS: usize = 8;

/// A request to start a run.
#[derive(Debug)]
pub(crate) struct StartRequest {
    /// The agent type, if it is not that of the context.
    pub(crate) adapter: Option<String>,
    pub(crate) context: Value,
    pub(crate) supplied: Supplied,
    /// The earlier run that this one continues.
    pub(crate) resumes: Option<String>,
    /// The client requests cancellations itself; Paperclip's API is not polled for them.
    pub(crate) pushes_cancel: bool,
    /// What its start may use.
    pub(crate) memory: Reserved,
}

/// A run that was started, or that exists.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) run_id: String,
    /// The earlier run whose records and result it has.
    pub(crate) follows: Option<String>,
}

/// A run that this process is about to drive.
#[derive(Debug)]
pub(super) struct PendingRun {
    pub(super) run: Arc<RunHandle>,
    pub(super) controls: mpsc::Receiver<Control>,
    pub(super) prepared: PreparedRun,
    pub(super) cluster: Cluster,
    /// The run's folder, if it is open already.
    pub(super) folder: Option<RunFolder>,
    /// Where its secrets come from, if the cluster does not have all of them.
    pub(super) resupply: Option<oneshot::Receiver<ResuppliedSecrets>>,
    /// Where a repeated start sends them.
    pub(super) supplier: Option<oneshot::Sender<ResuppliedSecrets>>,
    /// What its start needs, until its plugin has started.
    pub(super) memory: Reserved,
    /// What this process has of the run, if it did not accept it: then its record is still to be claimed.
    pub(super) tenure: Option<Tenure>,
    /// How the run ended, if it is resumed after its end.
    pub(super) end: Option<PastEnd>,
    /// The number after the last record in its journal.
    pub(super) next_seq: u64,
}

/// How a run left this process.
#[derive(Debug)]
struct Left {
    state: State,
    result: Option<Map<String, Value>>,
    /// What happens to its record.
    fate: RecordFate,
}

impl Supervisor {
    /// Starts a run, or returns the one that exists with its id, here or on another host, or the earlier one that it continues.
    ///
    /// # Errors
    /// The context is refused, no plugin is usable, or this process takes no further run.
    pub(crate) async fn start(&self, start: StartRequest) -> Result<Found<Started>, Refusal> {
        let StartRequest { adapter, context, supplied, resumes, pushes_cancel, memory } = start;
        let mut context = supplied.merge(context).map_err(|error| Refusal::of(Kind::BadRequest, &error))?;
        let files = supplied.files().map_err(|error| Refusal::of(Kind::BadRequest, &error))?;
        let run_id = context["runId"].as_str().unwrap_or_default().to_owned();
        let _starting = self.shared.starting.lock(&run_id).await;
        if let Some(run) = self.existing(&run_id, &context).await? {
            return Ok(Found::Here(Started::of(&run_id, &run)));
        }
        let mut warnings = Vec::new();
        if let Some(earlier) = resumes {
            // Its result may be kept although its host is lost.
            if let Ok(Found::Elsewhere(elsewhere)) = self.find(&earlier).await {
                return Ok(Found::Elsewhere(elsewhere));
            }
            match self.claim(&earlier, &context).await? {
                Claimed::Follows(run) => {
                    tracing::info!(run_id, follows = run.info.run_id, "run continues an earlier one");
                    self.note_continuing(&run, &run_id).await;
                    if self.runs().awaits_secrets(&run.info.run_id).await? {
                        self.resupply(&run.info.run_id, &context).await?;
                    }
                    return Ok(Found::Here(Started::of(&run_id, &run)));
                }
                Claimed::Spent(run) => resume_session(&mut context, run.result().as_ref()),
                Claimed::Unknown => {
                    warnings
                        .push(format!("Run {earlier} is not known to this host: this run starts without it"));
                }
            }
        }
        let options = StartOptions { files, pushes_cancel };
        let run = self.start_new(adapter.as_deref(), &context, options, warnings, memory).await?;
        Ok(run.map(|run| Started::of(&run.info.run_id, &run)))
    }

    /// Gives what an earlier run has to the run of a context.
    async fn claim(&self, earlier: &str, context: &Value) -> Result<Claimed, Refusal> {
        let run_id = context["runId"].as_str().unwrap_or_default();
        if run_id.is_empty() || run_id == earlier {
            return Ok(Claimed::Unknown);
        }
        if let Ok(run) = self.get(earlier).await
            && context["agent"]["id"] != run.info.agent_id.as_str()
        {
            let message = format!("resumes: run {earlier} is of agent {}", run.info.agent_id);
            return Err(Refusal::new(Kind::BadRequest, message, "name a run of the same agent, or none"));
        }
        let claimed = self.runs().claim(earlier, run_id).await?;
        if let Claimed::Follows(run) = &claimed {
            self.keep_taken(run).await?;
        }
        Ok(claimed)
    }

    async fn start_new(
        &self,
        adapter: Option<&str>,
        context: &Value,
        options: StartOptions,
        warnings: Vec<String>,
        memory: Reserved,
    ) -> Result<Found<Arc<RunHandle>>, Refusal> {
        let adapter_type = adapter_type(context, adapter).map_err(Refusal::bad_context)?;
        let run_id = context["runId"].as_str().unwrap_or_default();
        let plugin = self.plugin_of(run_id, adapter_type, None).await?;
        let mut prepared = self.prepare(context, options, &plugin).await?;
        prepared.warnings.extend(warnings);
        let cluster = self.clusters().select(&context["config"])?.clone();
        self.check_memory()?;
        self.check_storage().await?;
        let (run, controls) = self.handle(&prepared.request, &plugin, false);
        match self.runs().enter(&run, is_exclusive(&context["config"])).await? {
            Entered::Existing(same) => return Ok(Found::Here(same)),
            Entered::New => {}
        }
        let other = match self.claim_run(&run, &prepared, &cluster, Tenure::None).await {
            Ok(Claiming::Held { record, takes_over }) => {
                (prepared.record, prepared.takes_over) = (record, takes_over);
                let pending = PendingRun {
                    run: Arc::clone(&run),
                    controls,
                    prepared,
                    cluster,
                    folder: None,
                    resupply: None,
                    supplier: None,
                    memory,
                    tenure: None,
                    end: None,
                    next_seq: 0,
                };
                self.note_entered(&run.info.run_id);
                self.spawn(self.clone().host_run(Box::new(pending)));
                return Ok(Found::Here(run));
            }
            Ok(Claiming::Ended(ended)) => Ok(Found::Here(ended)),
            Ok(Claiming::Elsewhere(elsewhere)) => Ok(Found::Elsewhere(elsewhere)),
            Ok(Claiming::Continues(earlier)) => {
                self.runs().withdraw(&run).await;
                return self.find_continued(&earlier, &run.info.run_id).await;
            }
            Err(refusal) => Err(refusal),
        };
        self.runs().withdraw(&run).await;
        if let Ok(Found::Here(ended)) = &other {
            self.runs().enter_ended(Arc::clone(ended)).await;
        }
        other
    }

    /// Returns the run of this id that need not be started: one that is known, or that waits for its secrets and now has them.
    async fn existing(&self, run_id: &str, context: &Value) -> Result<Option<Arc<RunHandle>>, Refusal> {
        if self.runs().awaits_secrets(run_id).await? {
            return self.resupply(run_id, context).await.map(Some);
        }
        match self.get(run_id).await {
            Ok(run) if run.state() != State::Detached => return Ok(Some(run)),
            Ok(_) | Err(_) => {}
        }
        self.runs().check_running().await?;
        if self.run_folder(run_id).is_some() {
            self.runs().check_resumed().await?;
        }
        Ok(None)
    }

    /// Returns the plugin of a run: the one of this digest if it is loaded, else the one that the run was started with if it has a
    /// journal, else the one in use.
    pub(super) async fn plugin_of(
        &self,
        run_id: &str,
        adapter_type: &str,
        digest: Option<&str>,
    ) -> Result<Arc<Plugin>, Refusal> {
        if let Some(digest) = digest.map(str::to_owned) {
            let known = self.with_catalogue(move |catalogue| catalogue.by_digest(&digest)).await?;
            if let Some(plugin) = known {
                return Ok(plugin);
            }
        }
        let header = self.run_folder(run_id).and_then(|folder| journal::header(&folder));
        let (Some(header), Some(state)) = (header, self.host().state.clone()) else {
            return self.plugin(adapter_type, Kind::NoPlugin).await;
        };
        self.pinned_plugin(state, header).await
    }

    /// Splits and checks an execution context.
    ///
    /// # Errors
    /// A field of the context is missing or wrong, or Paperclip's pod cannot be read.
    pub(super) async fn prepare(
        &self,
        context: &Value,
        options: StartOptions,
        plugin: &Arc<Plugin>,
    ) -> Result<PreparedRun, Refusal> {
        let target = self.clusters().target(&context["config"])?;
        let pod = self.find_paperclip_pod(context).await?;
        self.host().prepare_with(context, pod, plugin, target, options).map_err(Refusal::bad_context)
    }

    /// Returns the pod that the agent of a run inherits from. Paperclip is in the default cluster, wherever the agent runs.
    ///
    /// # Errors
    /// The pod that is named does not exist or cannot be read.
    pub(crate) async fn find_paperclip_pod(&self, context: &Value) -> Result<Option<Value>, Refusal> {
        let pod = self.host().find_paperclip_pod(&self.clusters().default, context).await;
        pod.map_err(|error| {
            let kind = if error.is_transient() { Kind::NotReady } else { Kind::BadRequest };
            Refusal::of(kind, &error)
        })
    }

    /// Returns the folder of a run's journal, if it exists.
    pub(super) fn run_folder(&self, run_id: &str) -> Option<std::path::PathBuf> {
        let folder = journal::run_folder(self.host().state.as_deref()?, run_id);
        folder.exists().then_some(folder)
    }

    /// Returns a handle for a run, and the receiver of its control requests.
    pub(super) fn handle(
        &self,
        request: &Request,
        plugin: &Plugin,
        is_adopted: bool,
    ) -> (Arc<RunHandle>, mpsc::Receiver<Control>) {
        let info = RunInfo::of(request, HostContext::namespace_of(request), plugin, is_adopted);
        self.handle_of(info, Feed::new(), SystemTime::now())
    }

    pub(super) fn handle_of(
        &self,
        info: RunInfo,
        feed: Feed,
        accepted_at: SystemTime,
    ) -> (Arc<RunHandle>, mpsc::Receiver<Control>) {
        let (control, controls) = mpsc::channel(QUEUED_CONTROLS);
        (Arc::new(RunHandle::new(info, feed, control, accepted_at)), controls)
    }

    fn check_memory(&self) -> Result<(), Refusal> {
        let used = self.shared.memory_limit_bytes.zip(memory::resident_bytes());
        match used {
            Some((limit, used)) if used > limit => Err(Refusal::new(
                Kind::MemoryPressure,
                format!("this host uses {} MiB, new runs start below {} MiB", used >> 20, limit >> 20),
                "start it again when others have ended, or give the host more memory",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes a run from its place in the queue to its end.
    pub(super) async fn host_run(self, mut pending: Box<PendingRun>) {
        if let Some(resupply) = pending.resupply.take() {
            self.wait_for_secrets(&mut pending, resupply).await;
        }
        let run = Arc::clone(&pending.run);
        let info = &run.info;
        let span = tracing::info_span!(
            "host",
            run_id = info.run_id,
            agent_id = info.agent_id,
            adapter = info.adapter_type,
            job = tracing::field::Empty
        );
        let metrics = Arc::clone(self.metrics());
        let traces = self.shared.resources.traces.clone();
        let observer = Arc::new(RunObserver::new(Arc::clone(&run), metrics, traces));
        let hosted_at = SystemTime::now();
        let cluster = pending.cluster.clone();
        let mut record = None;
        let driven = async {
            let left = {
                let mut admission = std::pin::pin!(wait_for_admission(&run, &mut pending.controls));
                match tokio::time::timeout(MIN_TRACED_WAIT, &mut admission).await {
                    Ok(left) => left,
                    Err(_) => {
                        // Others may start while it waits.
                        pending.memory = None;
                        admission.await
                    }
                }
            };
            if let Some(left) = left {
                record = pending.prepared.record.take();
                return left;
            }
            if hosted_at.elapsed().unwrap_or_default() >= MIN_TRACED_WAIT {
                observer.trace(SpanKind::Queued, hosted_at, None);
            }
            if let Some(left) = self.claim_driven(&mut pending).await {
                return left;
            }
            record.clone_from(&pending.prepared.record);
            tracing::info!(plugin = info.plugin_digest, "run starts");
            self.drive(pending, Arc::clone(&observer)).await
        };
        let Left { state, result, fate } = driven.instrument(span.clone()).await;
        if let Some(record) = record {
            self.settle_record(&cluster, *record, fate, state, result.as_ref()).await;
        }
        run.end(state, result.clone(), SystemTime::now());
        run.feed.close();
        self.runs().leave(&info.run_id).await;
        self.note_left(&info.run_id);
        let code = result.as_ref().and_then(|result| result["errorCode"].as_str()).unwrap_or_default();
        let _entered = span.enter();
        tracing::info!(state = state.name(), code, "run ends");
        self.count_ended(info, state, code);
        let failure = Some(code.to_owned()).filter(|code| !code.is_empty());
        observer.trace(SpanKind::Driven, hosted_at, failure.clone());
        if state != State::Detached {
            observer.trace(SpanKind::Run, run.accepted_at(), failure);
        }
    }

    /// Drives a run until it leaves this process.
    async fn drive(&self, pending: Box<PendingRun>, observer: Arc<RunObserver>) -> Left {
        let run = Arc::clone(&pending.run);
        let driven = match self.driven(*pending, observer) {
            Ok(driven) => driven,
            Err(error) => {
                let code = match &error {
                    StartError::Journal(_) | StartError::Masking(_) => "journal_unavailable",
                    StartError::Plugin(_) => result::PLUGIN_FAILED,
                };
                return not_started(&run, code, &error.diagnostic().to_string());
            }
        };
        let Outcome { closing, result, failure } = driven.await;
        if let Some(failure) = failure {
            tracing::error!(failure = %failure, hint = failure.hint().as_deref(), "run is detached");
        }
        let state = match closing {
            Closing::Ended(ending) => ending.into(),
            Closing::Refused => State::Refused,
            Closing::Detached | Closing::Moved => State::Detached,
        };
        let fate = match closing {
            Closing::Refused => RecordFate::Ended,
            Closing::Ended(_) | Closing::Detached | Closing::Moved => RecordFate::Kept,
        };
        Left { state, result, fate }
    }

    /// Claims a run that another process accepted. Returns how the run leaves this process if it has ended on another host.
    async fn claim_driven(&self, pending: &mut PendingRun) -> Option<Left> {
        let tenure = pending.tenure.take()?;
        let run = Arc::clone(&pending.run);
        match self.claim_run(&run, &pending.prepared, &pending.cluster, tenure).await {
            // Its guard or its folder is here.
            Ok(Claiming::Held { record, takes_over: _ }) => {
                let end = pending.end.take();
                pending.prepared.record = match (record, end) {
                    (Some(record), Some(end)) => Some(Box::new(end.write_to(*record))),
                    (record, _) => record,
                };
            }
            // Its Job is left to be deleted.
            Ok(Claiming::Ended(_)) if pending.end.is_some() => pending.prepared.record = None,
            Ok(Claiming::Ended(ended)) => {
                let result = ended.result().unwrap_or_default();
                show_record(&run, pending.next_seq, Record::Result(result.clone()));
                return Some(Left { state: ended.state(), result: Some(result), fate: RecordFate::Kept });
            }
            // The guard of the run says the same, and the run moves there.
            Ok(Claiming::Elsewhere(_) | Claiming::Continues(_)) => pending.prepared.record = None,
            // It is driven all the same, and its result is written over whatever the record says by then.
            Err(refusal) => {
                tracing::warn!(error = %refusal, hint = refusal.hint, "the record of the run names another host");
                let record = match pending.prepared.record.take() {
                    Some(known) => *known,
                    None => new_record(&run, &pending.prepared).await,
                };
                let record = match pending.end.take() {
                    Some(end) => end.write_to(record),
                    None => record,
                };
                pending.prepared.record = Some(Box::new(record));
            }
        }
        None
    }

    /// Returns the drive of a run, to be awaited.
    fn driven(
        &self,
        pending: PendingRun,
        observer: Arc<RunObserver>,
    ) -> Result<impl Future<Output = Outcome> + Send + use<>, StartError> {
        let PendingRun { run, controls, prepared, cluster, folder, memory, .. } = pending;
        let prepared = PreparedRun { generation: Some(run.feed.generation().to_owned()), ..prepared };
        let opened = prepared.open_journal(self.host(), folder)?;
        if let Some(folder) = opened.journal_folder() {
            run.feed.set_journal(folder.to_owned());
        }
        let records = Arc::clone(&observer);
        let observe = move |record: &SequencedRecord| records.record(record);
        let ports = RunConnections {
            cluster,
            place: self.clusters().place.clone(),
            sink: FeedSink { feed: Arc::clone(&run.feed), observe },
            observer: Arc::clone(&observer) as _,
        };
        let wrap = |instance| Observed::new(instance, observer, memory);
        let StartedRun { run, ports } = opened.start(self.host(), ports, wrap)?;
        Ok(drive(run, ports, controls))
    }
}

impl Started {
    fn of(run_id: &str, run: &RunHandle) -> Started {
        let follows = (run.info.run_id != run_id).then(|| run.info.run_id.clone());
        Started { run_id: run_id.to_owned(), follows }
    }
}

/// Lets a run resume the session of an earlier one, unless the context names a session or the earlier run has left none.
fn resume_session(context: &mut Value, result: Option<&Map<String, Value>>) {
    let Some(result) = result.filter(|result| result.get("clearSession") != Some(&Value::Bool(true))) else {
        return;
    };
    let runtime = &context["runtime"];
    if !runtime["sessionId"].is_null() || !runtime["sessionParams"].is_null() {
        return;
    }
    if !(runtime.is_null() || runtime.is_object()) {
        return;
    }
    for field in ["sessionId", "sessionParams", "sessionDisplayId"] {
        if let Some(value) = result.get(field) {
            context["runtime"][field] = value.clone();
        }
    }
}

/// Whether a run does not wait for another run of its agent.
fn is_exclusive(config: &Value) -> bool {
    config["whenBusy"] == "fail" && !matches!(config["concurrencyScope"].as_str(), Some("task" | "none"))
}

/// Waits until a run is admitted. A run that is cancelled or stopped before leaves the queue without having started.
async fn wait_for_admission(run: &RunHandle, controls: &mut mpsc::Receiver<Control>) -> Option<Left> {
    let control = tokio::select! {
        biased;
        () = run.admitted() => return None,
        control = controls.recv() => control,
    };
    match control {
        Some(Control::Cancel(..)) => {
            let left = show_result(run, result::cancelled(&rfc3339(SystemTime::now())));
            Some(Left { state: State::Cancelled, ..left })
        }
        // Another host may start it.
        Some(Control::Stop) | None => {
            let message = "This host stopped before the run started; start it again";
            Some(Left { fate: RecordFate::Deleted, ..not_started(run, "host_stopping", message) })
        }
    }
}

/// Ends a run that has not started, so that the server may start it again by itself.
fn not_started(run: &RunHandle, code: &str, message: &str) -> Left {
    show_result(run, result::undone(code, message))
}

/// Shows the result of a run that has not started to its followers.
fn show_result(run: &RunHandle, result: Map<String, Value>) -> Left {
    show_record(run, run.feed.next_seq(), Record::Result(result.clone()));
    Left { state: State::Failed, result: Some(result), fate: RecordFate::Ended }
}

fn show_record(run: &RunHandle, seq: u64, record: Record) {
    if let Err(error) = run.feed.push(&SequencedRecord { seq, record }) {
        tracing::error!(%error, "the result cannot be shown");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_session_of_an_earlier_run_is_resumed_unless_the_server_names_one() {
        let result = json!({"sessionId": "s1", "sessionParams": {"sessionId": "s1"}, "sessionDisplayId": "s1", "summary": "x"});
        let resumed = |runtime: Value, result: &Value| {
            let mut context = json!({"runtime": runtime});
            resume_session(&mut context, result.as_object());
            context["runtime"].clone()
        };
        let session =
            json!({"sessionId": "s1", "sessionParams": {"sessionId": "s1"}, "sessionDisplayId": "s1"});
        assert_eq!(resumed(json!(null), &result), session);
        assert_eq!(resumed(json!({"sessionId": null, "taskKey": "t"}), &result)["sessionId"], "s1");
        let named = json!({"sessionId": "s2"});
        assert_eq!(resumed(named.clone(), &result), named);
        let cleared = json!({"sessionId": "s1", "clearSession": true});
        assert_eq!(resumed(json!({}), &cleared), json!({}));
    }
}
