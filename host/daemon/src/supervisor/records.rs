//! The records of runs in the cluster: which host has a run, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use paperclip_contract::types::{ApiError, CancelRequest, CancelSource};
use paperclip_engine::adoption::RecoveryData;
use paperclip_engine::record::{Level, Record, SequencedRecord};
use paperclip_engine::run_record::{self, Claimed, Ended, RecordState, RunFacts, RunRecord, Tenure};
use paperclip_engine::time::Timestamp;
use paperclip_kubernetes::validation::is_dns_label;
use paperclip_prepare::PreparedRun;
use paperclip_shell::{Cluster, Control};
use serde_json::{Map, Value};

use super::Supervisor;
use super::feed::Feed;
use super::handle::{RunHandle, RunInfo, State};
use crate::refusal::{Kind, Refusal};

/// Where the record of a run is.
#[derive(Debug, Clone)]
pub(crate) struct RecordKey {
    pub(super) cluster: Cluster,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Empty if it is not known.
    pub(super) uid: String,
}

impl RecordKey {
    fn of(cluster: &Cluster, record: &RunRecord) -> RecordKey {
        let RunRecord { namespace, name, uid, .. } = record.clone();
        RecordKey { cluster: cluster.clone(), namespace, name, uid }
    }

    /// Returns where the record of a run is that ended here before this process started.
    pub(super) fn of_past(info: &RunInfo, cluster: &Cluster) -> RecordKey {
        RecordKey {
            cluster: cluster.clone(),
            namespace: info.namespace.clone(),
            name: run_record::record_name(&info.run_id),
            uid: String::new(),
        }
    }
}

/// A host that lives and has a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) run_id: String,
    pub(crate) host: String,
    /// The namespace of the Lease that says so.
    pub(crate) namespace: String,
    /// Where other replicas reach it.
    pub(crate) address: Option<String>,
}

impl Elsewhere {
    /// Refuses a request that only the other host can answer.
    pub(crate) fn refusal(&self) -> Refusal {
        let Elsewhere { run_id, host, address, .. } = self;
        let message = match address {
            Some(address) => format!("run {run_id} is driven by host {host} at {address}"),
            None => format!("run {run_id} is driven by host {host}, which has no address for other replicas"),
        };
        Refusal::new(
            Kind::DrivenElsewhere,
            message,
            "ask that host, or give every replica advertise_url and peer_key_file, with which it passes requests on",
        )
    }
}

/// Where a run is.
#[derive(Debug)]
pub(crate) enum Found<T> {
    Here(T),
    Elsewhere(Elsewhere),
}

impl<T> Found<T> {
    pub(super) fn map<U>(self, of: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Found::Here(here) => Found::Here(of(here)),
            Found::Elsewhere(elsewhere) => Found::Elsewhere(elsewhere),
        }
    }
}

/// What became of the claim of a run.
#[derive(Debug)]
pub(super) enum Claiming {
    /// This process has it. Without a record where its namespace cannot exist or its grant does not allow it: the run will be refused.
    Held {
        record: Option<Box<RunRecord>>,
        takes_over: bool,
    },
    Elsewhere(Elsewhere),
    Ended(Arc<RunHandle>),
    /// It is the earlier run of this id that this one continues.
    Continues(String),
}

/// What the record of a run says.
#[derive(Debug)]
enum Recalled {
    Found(Found<Arc<RunHandle>>),
    /// The run continues the one of this id.
    Continues(String),
}

/// What happens to the record of a run that leaves this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordFate {
    /// It is as it should be: the engine has written the result, or the run continues.
    Kept,
    /// It gets the result.
    Ended,
    /// The run has not started, and may be started by whoever is asked.
    Deleted,
}

impl Supervisor {
    /// Claims a run that this process is about to accept or to drive.
    ///
    /// # Errors
    /// The API does not say who has the run.
    pub(super) async fn claim_run(
        &self,
        run: &RunHandle,
        prepared: &PreparedRun,
        cluster: &Cluster,
        tenure: Tenure,
    ) -> Result<Claiming, Refusal> {
        let info = &run.info;
        let grant = self.host().config.grant(&info.adapter_type, &info.company_id);
        if !is_dns_label(&info.namespace) || !grant.has_namespace(&info.namespace) {
            return Ok(Claiming::Held { record: None, takes_over: false });
        }
        let record = match &prepared.record {
            Some(known) => RunRecord::clone(known),
            None => new_record(run, prepared).await,
        };
        let claimed = cluster.run_records().claim(record, tenure).await;
        let claimed = claimed.map_err(|error| unclaimed(info, &error))?;
        Ok(match claimed {
            Claimed::Held { record, earlier } => {
                run.set_record(RecordKey::of(cluster, &record));
                if let Some(reason) = record.cancel_requested.clone().filter(|_| tenure != Tenure::Folder) {
                    let reason = Some(reason).filter(|reason| !reason.is_empty());
                    let request = CancelRequest { source: CancelSource::Operator, reason };
                    // It has not been driven yet: nothing else has filled the channel.
                    let _ = run.control.try_send(Control::Cancel(request, None));
                }
                let state = RecordState::Claimed { recovery: None };
                let record = Some(Box::new(RunRecord { state, ..record }));
                Claiming::Held { record, takes_over: earlier.is_some() }
            }
            Claimed::Elsewhere { record, owner } => Claiming::Elsewhere(Elsewhere {
                run_id: record.run_id,
                host: owner.host,
                namespace: owner.namespace,
                address: owner.address,
            }),
            Claimed::Ended { record, end } => Claiming::Ended(self.recalled(cluster, &record, end)),
            Claimed::Continues { run_id } => Claiming::Continues(run_id),
        })
    }

    /// Returns a run that this process knows, or whose record says where it is or what came of it.
    ///
    /// # Errors
    /// No run has the id, or it is not known whether one has.
    pub(crate) async fn find(&self, run_id: &str) -> Result<Found<Arc<RunHandle>>, Refusal> {
        let known = self.get(run_id).await;
        if let Ok(run) = &known
            && run.state() != State::Detached
        {
            return Ok(Found::Here(Arc::clone(run)));
        }
        match self.recall(run_id).await? {
            Some(Recalled::Found(found)) => Ok(found),
            Some(Recalled::Continues(earlier)) => self.find_continued(&earlier, run_id).await,
            None => known.map(Found::Here),
        }
    }

    /// Returns the earlier run that a run continues, by what the record of the later one says.
    ///
    /// # Errors
    /// As [`Supervisor::find`].
    pub(super) async fn find_continued(
        &self,
        earlier: &str,
        by: &str,
    ) -> Result<Found<Arc<RunHandle>>, Refusal> {
        let known = self.get(earlier).await;
        let found = match &known {
            Ok(run) if run.state() != State::Detached => Found::Here(Arc::clone(run)),
            Ok(_) | Err(_) => match self.recall(earlier).await? {
                Some(Recalled::Found(found)) => found,
                // A record names the first run, which continues none.
                Some(Recalled::Continues(_)) | None => Found::Here(known?),
            },
        };
        if let Found::Here(run) = &found {
            self.runs().claim(&run.info.run_id, by).await?;
        }
        Ok(found)
    }

    /// Makes a run known to other hosts by the id of a later one that continues it, too.
    pub(super) async fn note_continuing(&self, run: &RunHandle, by: &str) {
        let Some(RecordKey { cluster, namespace, .. }) = run.record() else { return };
        let noted = cluster.run_records().note_continuing(&namespace, &run.info.run_id, by).await;
        if let Err(error) = noted {
            let run_id = by;
            tracing::warn!(run_id, error = error.message, "other hosts do not know which run it continues");
        }
    }

    /// Reads what the record of a run says; none if it has none, or no host has the run.
    async fn recall(&self, run_id: &str) -> Result<Option<Recalled>, Refusal> {
        for (cluster, namespace) in self.namespaces() {
            let records = cluster.run_records();
            let unread = |error: ApiError| {
                let message =
                    format!("run {run_id}: its record in {namespace} cannot be read: {}", error.message);
                Refusal::new(
                    Kind::NotReady,
                    message,
                    "try again; the host needs the right to get ConfigMaps there",
                )
            };
            let Some(record) = records.get(&namespace, run_id).await.map_err(unread)? else { continue };
            if let RecordState::Continues(earlier) = record.state {
                return Ok(Some(Recalled::Continues(earlier.run_id)));
            }
            if let Some(end) = record.end().cloned() {
                let run = self.keep_recalled(&cluster, &record, end).await;
                return Ok(Some(Recalled::Found(Found::Here(run))));
            }
            if cluster.hosts().is_own(&record.instance) {
                continue;
            }
            if let Some(owner) = records.owner(&namespace, &record.instance).await.map_err(unread)? {
                let elsewhere = Elsewhere {
                    run_id: run_id.to_owned(),
                    host: owner.host,
                    namespace,
                    address: owner.address,
                };
                return Ok(Some(Recalled::Found(Found::Elsewhere(elsewhere))));
            }
            let has_no_job = cluster.watches().has_no_job_of(&namespace, run_id).await;
            if !has_no_job && !cluster.hosts().is_left_alone(&namespace, run_id) {
                return Err(undriven(run_id, &record.host));
            }
        }
        Ok(None)
    }

    /// Keeps a run that ended on another host, so that its result can be read.
    async fn keep_recalled(&self, cluster: &Cluster, record: &RunRecord, end: Ended) -> Arc<RunHandle> {
        let run = self.recalled(cluster, record, end);
        self.runs().enter_ended(Arc::clone(&run)).await;
        tracing::info!(run_id = record.run_id, "the result of this run was kept in the cluster");
        // It may have been read twice at once.
        self.get(&record.run_id).await.unwrap_or(run)
    }

    fn recalled(&self, cluster: &Cluster, record: &RunRecord, end: Ended) -> Arc<RunHandle> {
        let RunFacts { adapter_type, agent_id, company_id, plugin_version, plugin_digest } =
            record.facts.clone();
        let info = RunInfo {
            run_id: record.run_id.clone(),
            adapter_type,
            agent_id,
            company_id,
            namespace: record.namespace.clone(),
            plugin_version,
            plugin_digest,
            adopted: false,
        };
        let Ended { at, state, result, omitted } = end;
        let (run, _) = self.handle_of(info, Feed::recalled(), system_time(record.accepted_at));
        let mut notes = vec![(
            Level::Info,
            "This run ended on a host whose journal is not here: its result was kept, its output was not"
                .to_owned(),
        )];
        if !omitted.is_empty() {
            let text = format!("The result was too long to be kept whole; left out: {}", omitted.join(", "));
            notes.push((Level::Warning, text));
        }
        let notes = notes.into_iter().map(|(level, text)| Record::Status { level, text });
        for record in notes.chain([Record::Result(result.clone())]) {
            let record = SequencedRecord { seq: run.feed.next_seq(), record };
            if let Err(error) = run.feed.push(&record) {
                tracing::error!(%error, "a record cannot be shown");
            }
        }
        run.feed.close();
        run.set_record(RecordKey::of(cluster, record));
        run.admit();
        run.end(State::parse(&state).unwrap_or(State::Failed), Some(result), system_time(at));
        run
    }

    /// Makes the record of a run say what became of it here.
    pub(super) async fn settle_record(
        &self,
        cluster: &Cluster,
        record: RunRecord,
        fate: RecordFate,
        state: State,
        result: Option<&Map<String, Value>>,
    ) {
        let records = cluster.run_records();
        let settled = match fate {
            RecordFate::Kept => return,
            RecordFate::Deleted => records.delete(&record.namespace, &record.name, &record.uid).await,
            RecordFate::Ended => {
                let name = record.name.clone();
                let ended = record.ended(now(), state.name(), result.cloned().unwrap_or_default());
                let updated = records.end(ended).await;
                updated.map_err(|error| ApiError {
                    message: format!("ConfigMap {name}: {}", error.message),
                    ..error
                })
            }
        };
        if let Err(error) = settled {
            tracing::warn!(error = error.message, "the record of the run does not say how it ended");
        }
    }

    /// Notes in the record of a run that its end is requested. The run records the same in its journal, which may be lost with this host.
    pub(super) async fn note_cancel(&self, run: &RunHandle, reason: Option<String>) {
        let Some(RecordKey { cluster, namespace, name, uid }) = run.record() else { return };
        if run.state().is_over() {
            return;
        }
        let records = cluster.run_records();
        let noted = records.note_cancel(&namespace, &name, &uid, &reason.unwrap_or_default()).await;
        if let Err(error) = noted {
            let run_id = &run.info.run_id;
            tracing::warn!(run_id, error = error.message, "the cancellation is on this host's disk only");
        }
    }

    /// Deletes the record of a run whose result is taken.
    pub(super) async fn delete_record(&self, run: &RunHandle) -> Result<(), Refusal> {
        let Some(RecordKey { cluster, namespace, name, uid }) = run.record() else { return Ok(()) };
        cluster.run_records().delete(&namespace, &name, &uid).await.map_err(|error| {
            let message = format!("ConfigMap {name} in {namespace} is not deleted: {}", error.message);
            Refusal::new(
                Kind::NotReady,
                message,
                "try again; the host needs the right to delete ConfigMaps there",
            )
        })
    }

    /// Deletes records of ended runs that are no longer needed, in each namespace where this host adopts runs.
    pub(super) async fn collect_records(&self) {
        for (cluster, namespace) in self.namespaces() {
            if let Err(error) = self.collect_in(&cluster, &namespace).await {
                let hint = "allow this host to list and delete ConfigMaps there";
                tracing::warn!(
                    namespace,
                    error = error.message,
                    hint,
                    "records of ended runs are not collected"
                );
            }
        }
    }

    async fn collect_in(&self, cluster: &Cluster, namespace: &str) -> Result<(), ApiError> {
        let records = cluster.run_records();
        let found = records.list(namespace).await?;
        let retention = self.host().config.retention.results();
        let mut deleted = 0;
        for record in run_record::collect(&found, now(), retention) {
            records.delete(namespace, &record.name, &record.uid).await?;
            deleted += 1;
        }
        let mut lives = BTreeMap::new();
        for record in run_record::aged_claims(&found, now()) {
            if !lives.contains_key(&record.instance) {
                let owner = records.owner(namespace, &record.instance).await?;
                lives.insert(record.instance.clone(), owner.is_some());
            }
            if lives.get(&record.instance) == Some(&false) {
                records.delete(namespace, &record.name, &record.uid).await?;
                deleted += 1;
            }
        }
        if deleted > 0 {
            tracing::info!(namespace, deleted, "removed records of runs");
        }
        Ok(())
    }

    /// Returns the namespaces whose runs this host looks for, each with its cluster.
    fn namespaces(&self) -> impl Iterator<Item = (Cluster, String)> + use<> {
        self.places().into_iter().map(|place| (place.cluster, place.namespace))
    }
}

/// Refuses a request for a run whose host does not live and which no other has adopted yet.
fn undriven(run_id: &str, host: &str) -> Refusal {
    Refusal::new(
        Kind::NotReady,
        format!("run {run_id} has no host: {host} has left it, and none has adopted it yet"),
        "try again in some seconds",
    )
}

/// Returns the record of a run as this host would create it.
pub(super) async fn new_record(run: &RunHandle, prepared: &PreparedRun) -> RunRecord {
    let RunInfo { adapter_type, agent_id, company_id, plugin_version, plugin_digest, namespace, .. } =
        run.info.clone();
    let facts = RunFacts { adapter_type, agent_id, company_id, plugin_version, plugin_digest };
    let accepted_at = timestamp(run.accepted_at());
    let record = RunRecord::new(namespace, &prepared.request, facts, accepted_at);
    let text = RecoveryData::text_of(&prepared.request, &prepared.redactor);
    // A context may have megabytes.
    let recovery = tokio::task::spawn_blocking(move || run_record::pack(&text)).await.ok().flatten();
    RunRecord { state: RecordState::Claimed { recovery }, ..record }
}

fn unclaimed(info: &RunInfo, error: &ApiError) -> Refusal {
    let RunInfo { run_id, namespace, .. } = info;
    let message = format!("run {run_id}: who has it cannot be recorded in {namespace}: {}", error.message);
    match error.status {
        Some(403) => Refusal::new(
            Kind::NotReady,
            message,
            "allow this host to create, get and patch ConfigMaps in that namespace, or raise its quota",
        ),
        Some(404) => Refusal::new(
            Kind::BadRequest,
            message,
            "create that namespace, or name another one in the agent's config",
        ),
        Some(422) => {
            Refusal::new(Kind::NotReady, message, "do what the message says, and start the run again")
        }
        Some(_) | None => {
            Refusal::new(Kind::NotReady, message, "start it again when the Kubernetes API answers")
        }
    }
}

/// Returns the time by the wall clock.
pub(super) fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

fn timestamp(at: SystemTime) -> Timestamp {
    Timestamp::EPOCH + at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(at.as_millis())
}
