//! Runs that other hosts have left behind: their Jobs exist in the cluster, and no host drives them.
//!
//! The [ownership protocol](paperclip_engine::ownership) finds them and takes their guards. What it asks for is here: a run whose journal is
//! in the state folder is resumed, another one is started again with what the cluster knows of it: its plugin finds the Job and reads its
//! log from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use paperclip_contract::types::ContainerState;
use paperclip_control_lines as control_lines;
use paperclip_engine::adoption::{self, RecoveryData, RecoveryRecord};
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::intake::Secrets;
use paperclip_engine::ownership::{JobView, Obstacle, Prepared};
use paperclip_engine::policy::Pattern;
use paperclip_engine::run_record::{self, RecordState, RunRecord, Tenure};
use paperclip_engine::time::Timestamp;
use paperclip_prepare::{Target, paperclip_pod};
use paperclip_shell::hosts::{AdoptionRequest, Adoptions};
use paperclip_shell::journal::Adopted;
use paperclip_shell::{Cluster, calls};

use super::Supervisor;
use super::candidate::{Candidate, START_AGAIN, SkipReason};
use super::feed::Feed;
use super::handle::{RunInfo, State};
use super::records::now;
use super::resume::{self, Resumable};
use super::start::PendingRun;
use crate::refusal::Kind;

/// How long this process is not ready at most because Jobs and Leases cannot be listed.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

/// Where Jobs are adopted.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The cluster's name in a config's `kubeconfig`; none is the default cluster.
    name: Option<String>,
    pub(super) cluster: Cluster,
    pub(super) namespace: String,
}

/// Runs that are ready to be driven, by the UID of their Job.
type PreparedRuns = Arc<Mutex<BTreeMap<String, Box<PendingRun>>>>;

impl Supervisor {
    /// Adopts the runs that other hosts leave behind, from now on. This process is not ready before it has tried those that exist.
    pub(crate) async fn adopt(&self) {
        for place in self.places() {
            self.runs().resume_started(1).await;
            let adoptions = place.cluster.hosts().adopt(&place.cluster, &place.namespace);
            let supervisor = self.clone();
            // It holds nothing that must be released: a stopping process does not wait for it.
            tokio::spawn(async move { supervisor.adopt_in(place, adoptions).await });
        }
    }

    /// Returns the namespaces where this host adopts runs.
    pub(super) fn places(&self) -> Vec<Place> {
        let config = &self.host().config;
        let of_file = self.host().paperclip_pod.as_ref().and_then(paperclip_pod::namespace);
        let of_pod = config.paperclip_pod.namespace.as_deref().or(of_file);
        let granted = config.grants.values().flat_map(|grant| &grant.namespaces);
        let granted = granted.map(Pattern::as_str).filter(|text| !text.contains('*'));
        let of_companies = config.companies.values().filter_map(|company| company.namespace.as_deref());
        let shared: Vec<&str> =
            config.namespace.as_deref().into_iter().chain(granted).chain(of_companies).collect();
        let mut places = Vec::new();
        for (name, cluster) in self.clusters().all() {
            let default = config.namespace.is_none().then(|| cluster.default_namespace());
            let of_pod = of_pod.filter(|_| name.is_none());
            let namespaces: BTreeSet<&str> = shared.iter().copied().chain(default).chain(of_pod).collect();
            places.extend(namespaces.into_iter().map(|namespace| Place {
                name: name.map(str::to_owned),
                cluster: cluster.clone(),
                namespace: namespace.to_owned(),
            }));
        }
        places
    }

    async fn adopt_in(self, place: Place, mut adoptions: Adoptions) {
        let place = Arc::new(place);
        let prepared = PreparedRuns::default();
        let mut settle = std::pin::pin!(tokio::time::sleep(SETTLE_DEADLINE));
        let mut is_settled = false;
        loop {
            let request = tokio::select! {
                request = adoptions.next() => request,
                () = &mut settle, if !is_settled => {
                    let namespace = &place.namespace;
                    let hint = "allow this host to list and watch Jobs and Leases there";
                    tracing::warn!(namespace, hint, "Jobs without a host are not found: they cannot be listed");
                    Some(AdoptionRequest::Settled)
                }
            };
            match request {
                None => break,
                Some(AdoptionRequest::Settled) => {
                    if !std::mem::replace(&mut is_settled, true) {
                        self.runs().resume_ended().await;
                    }
                }
                Some(AdoptionRequest::Prepare { job, run_id }) => {
                    let (supervisor, place, prepared) =
                        (self.clone(), Arc::clone(&place), Arc::clone(&prepared));
                    let answers = adoptions.answers();
                    tokio::spawn(async move {
                        let job_uid = job.job.uid.clone();
                        let outcome = supervisor.prepare_adoption(&place, &job, &run_id).await;
                        let outcome = outcome.map(|(pending, how)| {
                            lock(&prepared).insert(job_uid.clone(), pending);
                            how
                        });
                        answers.prepared(job_uid, outcome);
                    });
                }
                Some(AdoptionRequest::Drive { job_uid }) => {
                    let pending = lock(&prepared).remove(&job_uid);
                    if let Some(pending) = pending {
                        self.drive_adopted(pending, &place.namespace).await;
                    }
                }
                Some(AdoptionRequest::Discard { job_uid }) => drop(lock(&prepared).remove(&job_uid)),
                Some(AdoptionRequest::Report { job, why, hint }) => {
                    let (name, namespace) = (&job.job.name, &job.job.namespace);
                    tracing::warn!(run = job.run, job = name, namespace, why, hint, "Job is left alone");
                }
            }
        }
        if !is_settled {
            self.runs().resume_ended().await;
        }
    }

    async fn drive_adopted(&self, mut pending: Box<PendingRun>, namespace: &str) {
        let run_id = pending.run.info.run_id.clone();
        let supplier = pending.supplier.take();
        // Else it was started here meanwhile, or this process stops: then its guard is free with the Lease of this host.
        if let Ok(true) = self.runs().enter_running(&pending.run, supplier).await {
            self.note_entered(&run_id);
            let job = pending.prepared.adopted.as_ref().map(|adopted| adopted.job.name.as_str());
            tracing::info!(run_id, job, namespace, "run is adopted");
            self.spawn(self.clone().host_run(pending));
        }
    }

    /// Finds out how the run of a Job can be driven, from its journal if that is here.
    async fn prepare_adoption(
        &self,
        place: &Place,
        job: &JobView,
        run_id: &str,
    ) -> Result<(Box<PendingRun>, Prepared), Obstacle> {
        match self.get(run_id).await.map(|run| run.state()) {
            Ok(State::Detached) | Err(_) => {}
            Ok(state) if state.is_over() => {
                return Err(obstacle("its run has ended on this host", "delete the Job"));
            }
            Ok(_) => return Err(soon("its run is being started on this host")),
        }
        if self.runs().check_running().await.is_err() {
            return Err(soon("this host stops"));
        }
        if let Some(folder) = self.run_folder(run_id) {
            return match self.prepare_resume(&folder).await {
                Ok(Resumable::Ready(pending)) => Ok((pending, Prepared::FromJournal)),
                Ok(Resumable::Locked { holder }) => {
                    Err(soon(format!("process {holder} has its folder {} locked", folder.display())))
                }
                Ok(Resumable::Ended(_)) => {
                    Err(obstacle("its journal on this host says that it has ended", "delete the Job"))
                }
                Ok(Resumable::Nothing) => Err(obstacle(
                    format!("its folder {} has no journal", folder.display()),
                    "remove the folder",
                )),
                Err(error) => Err(obstacle(
                    format!("its journal {} cannot be used: {error:#}", folder.display()),
                    "move the folder away: then the run is adopted without it",
                )),
            };
        }
        let pending = self.prepare_from_cluster(place, job, run_id).await;
        pending.map(|pending| (pending, Prepared::FromCluster)).map_err(|SkipReason { why, hint }| Obstacle {
            why,
            hint,
            is_short: false,
        })
    }

    async fn prepare_from_cluster(
        &self,
        place: &Place,
        job: &JobView,
        run_id: &str,
    ) -> Result<Box<PendingRun>, SkipReason> {
        let api: Api<Job> = Api::namespaced(place.cluster.client().clone(), &place.namespace);
        let found = api.get_opt(&job.job.name).await.map_err(|error| {
            SkipReason::new(format!("it cannot be read: {error}"), "allow this host to get Jobs there")
        })?;
        if let Some(format) = found.as_ref().and_then(unreadable_output) {
            let why =
                format!("its output has control lines of a format that this host does not read: {format}");
            return Err(SkipReason::new(why, "a host of a newer version adopts it"));
        }
        let candidate = found.as_ref().and_then(Candidate::of).filter(|found| found.job.uid == job.job.uid);
        let candidate = candidate.ok_or_else(|| SkipReason::new("it was deleted", START_AGAIN))?;
        let record = self.read_run_record(place, &candidate, run_id).await?;
        let of_secret = read_recovery_record(&place.cluster, &candidate).await?;
        let (of_secret, secrets) = of_secret.ok_or_else(|| candidate.without_record())?;
        if candidate.is_suspended {
            return Err(SkipReason::new("its agent has not started", START_AGAIN));
        }
        let data = record.as_ref().and_then(recovery_data).or(of_secret.data);
        let mut data = data.ok_or_else(|| candidate.without_data())?;
        let timeout = match &record {
            Some(record) => shorten_timeout(&place.cluster, &candidate, record, &mut data).await,
            None => None,
        };
        let adopted = Adopted { job: candidate.job.clone(), secret: of_secret.secret };
        let mut pending = self.pending(&candidate, place, run_id, (data, adopted), &secrets).await?;
        if let Some((timeout_s, remaining_s)) = timeout {
            let passed_s = timeout_s - remaining_s;
            let note =
                format!("Of timeoutSec {timeout_s} s, {passed_s} s have passed: {remaining_s} s remain");
            pending.prepared.warnings.push(note);
        }
        pending.prepared.record = record
            .map(|record| Box::new(RunRecord { state: RecordState::Claimed { recovery: None }, ..record }));
        Ok(pending)
    }

    /// Reads the record of a run that is to be adopted; none if an earlier version accepted the run. The Job of a run that has ended is
    /// deleted: its host did not come to it.
    async fn read_run_record(
        &self,
        place: &Place,
        candidate: &Candidate,
        run_id: &str,
    ) -> Result<Option<RunRecord>, SkipReason> {
        let record = place.cluster.run_records().get(&place.namespace, run_id).await.map_err(|error| {
            let why = format!("the record of its run cannot be read: {}", error.message);
            SkipReason::new(why, "allow this host to get ConfigMaps there")
        })?;
        if record.as_ref().is_none_or(|record| record.end().is_none()) {
            return Ok(record);
        }
        let delete = ApiCall::DeleteJob { job: candidate.job.clone(), epoch: None };
        let deleted = calls::call(&place.cluster, &Secrets::default(), delete).await;
        let why = match deleted {
            Ok(_) => "its run has ended, and it is being deleted".to_owned(),
            Err(error) => format!("its run has ended, and it cannot be deleted: {}", error.message),
        };
        Err(SkipReason::new(why, "delete the Job if it remains"))
    }

    async fn pending(
        &self,
        candidate: &Candidate,
        place: &Place,
        run_id: &str,
        (data, adopted): (RecoveryData, Adopted),
        secrets: &Secrets,
    ) -> Result<Box<PendingRun>, SkipReason> {
        let plugin = self
            .plugin(data.adapter_type(), Kind::NoPlugin)
            .await
            .map_err(|error| SkipReason::new(error.message, "give this host that plugin and restart it"))?;
        let context = candidate.context(data, run_id, secrets, place.name.as_deref());
        // Its Job exists, with everything that the agent inherits.
        let target = Target { namespace: Some(&place.namespace), needs_api_url: false, starts: false };
        let prepared = self.host().prepare(&context, None, &plugin, target);
        let mut prepared = prepared
            .map_err(|error| SkipReason::new(format!("its run cannot be adopted: {error}"), START_AGAIN))?;
        // What it warns about was said when the run started.
        prepared.warnings.clear();
        prepared.adopted = Some(adopted);
        let info = RunInfo::of(&prepared.request, candidate.job.namespace.clone(), &plugin, true);
        let (run, controls) = self.handle_of(info, Feed::new().later(true), SystemTime::now());
        Ok(Box::new(PendingRun {
            run,
            controls,
            prepared,
            cluster: place.cluster.clone(),
            folder: None,
            resupply: None,
            supplier: None,
            memory: None,
            tenure: Some(Tenure::Guard),
            end: None,
            next_seq: 0,
        }))
    }
}

/// Returns the annotation of a Job whose output this version would misread: it would take control lines for lines of the agent.
fn unreadable_output(job: &Job) -> Option<&str> {
    let annotation = job.metadata.annotations.as_ref()?.get(control_lines::ANNOTATION)?;
    (!control_lines::is_readable(annotation)).then_some(annotation)
}

/// Takes the time for which the agent has run off its timeout. Returns the timeout before and after, in seconds.
async fn shorten_timeout(
    cluster: &Cluster,
    candidate: &Candidate,
    record: &RunRecord,
    data: &mut RecoveryData,
) -> Option<(u64, u64)> {
    let list = ApiCall::ListPods { job: candidate.job.clone() };
    let pods = match calls::call(cluster, &Secrets::default(), list).await {
        Ok(ApiReply::Pods(pods)) => pods,
        Ok(_) => return None,
        Err(error) => {
            let job = &candidate.job.name;
            tracing::warn!(job, error = error.message, "its timeout starts again: its pods cannot be listed");
            return None;
        }
    };
    let containers = pods.iter().flat_map(|pod| &pod.containers);
    let agents = containers.filter(|container| container.name == candidate.container);
    let started_ms = agents.filter_map(|container| match container.state {
        ContainerState::Running(started_ms) => started_ms,
        ContainerState::Unknown | ContainerState::Waiting(_) | ContainerState::Terminated(_) => None,
    });
    let started_at = Timestamp::from_millis(started_ms.min()?);
    data.shorten_timeout(adoption::elapsed(now(), started_at, record.accepted_at))
}

/// Returns the recovery data in the record of a run.
fn recovery_data(record: &RunRecord) -> Option<RecoveryData> {
    let RecordState::Claimed { recovery: Some(packed) } = &record.state else { return None };
    RecoveryData::parse(&run_record::unpack(packed)?).ok()
}

fn obstacle(why: impl Into<String>, hint: &str) -> Obstacle {
    Obstacle { why: why.into(), hint: hint.to_owned(), is_short: false }
}

/// An obstacle that is expected to vanish by itself.
fn soon(why: impl Into<String>) -> Obstacle {
    let hint = "wait: it is tried again until the other process ends";
    Obstacle { why: why.into(), hint: hint.to_owned(), is_short: true }
}

/// Reads the recovery record of a Job's run, and the values that its Secret has.
async fn read_recovery_record(
    cluster: &Cluster,
    candidate: &Candidate,
) -> Result<Option<(RecoveryRecord, Secrets)>, SkipReason> {
    let api: Api<Secret> = Api::namespaced(cluster.client().clone(), &candidate.job.namespace);
    for name in &candidate.secrets {
        let found = api.get_opt(name).await.map_err(|error| {
            SkipReason::new(
                format!("Secret {name} cannot be read: {error}"),
                "allow this host to get Secrets there",
            )
        })?;
        let Some(secret) = found else { continue };
        if let Some(record) = candidate.recovery_record(&secret) {
            let record = record?;
            let values = resume::values(&secret, &record.secret.entries);
            return Ok(Some((record, Secrets::of(values))));
        }
    }
    Ok(None)
}

/// Ignores poison: a panic while the lock was held leaves a run unprepared at worst.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
