//! Runs whose journal is not here: their Jobs exist in the cluster, and no host drives them.
//!
//! Such a run is started again: its plugin finds the Job and reads its log from the start. The Job's own Secret holds the recovery
//! record, which says what the run was asked to do. The host that writes its name into the run's Lease has the run, so that of two hosts
//! one adopts it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use paperclip_engine::adoption::{self, RecoveryRecord, Turn};
use paperclip_engine::api::{ApiCall, ApiReply, Lease};
use paperclip_engine::intake::Secrets;
use paperclip_engine::policy::{Pattern, is_label_of};
use paperclip_engine::time::Timestamp;
use paperclip_prepare::{Target, paperclip_pod};
use paperclip_shell::journal::Adopted;
use paperclip_shell::{Cluster, calls};

use super::Supervisor;
use super::candidate::{Candidate, START_AGAIN, SkipReason};
use super::feed::Feed;
use super::handle::RunInfo;
use super::resume;
use super::start::PendingRun;

/// The labels of all Jobs of agents.
const SELECTOR: &str = "app.kubernetes.io/managed-by=paperclip,app.kubernetes.io/component=agent-job";
/// Jobs of one answer.
const PAGE: u32 = 100;
/// Jobs that are examined at a time.
const CONCURRENCY: usize = 16;
/// How long after a Lease has expired it is read again: clocks differ.
const SLACK: Duration = Duration::from_secs(1);
/// How long to wait before a list without an answer is requested again.
const LIST_RETRY: Duration = Duration::from_secs(5);

/// Where Jobs are searched.
#[derive(Debug, Clone)]
struct Place {
    /// The cluster's name in a config's `kubeconfig`; none is the default cluster.
    name: Option<String>,
    cluster: Cluster,
    namespace: String,
}

/// What was found out about a Job.
enum Found {
    Run(Box<PendingRun>),
    /// Another host drives its run, at least until then.
    Driven {
        until: Timestamp,
    },
    /// Its run is not for this host.
    NotOurs,
}

impl Supervisor {
    /// Adopts the runs that other hosts have left behind, each in a task of its own.
    pub(crate) async fn adopt(&self) {
        for place in self.places() {
            self.runs().resume_started(1).await;
            let supervisor = self.clone();
            // It holds nothing that must be released: a stopping process does not wait for it.
            tokio::spawn(async move {
                supervisor.adopt_in(&place).await;
                supervisor.runs().resume_ended().await;
            });
        }
    }

    fn places(&self) -> Vec<Place> {
        let config = &self.host().config;
        let of_file = self.host().paperclip_pod.as_ref().and_then(paperclip_pod::namespace);
        let of_pod = config.paperclip_pod.namespace.as_deref().or(of_file);
        let granted = config.grants.values().flat_map(|grant| &grant.namespaces);
        let granted = granted.map(Pattern::as_str).filter(|text| !text.contains('*'));
        let shared: Vec<&str> = config.namespace.as_deref().into_iter().chain(granted).collect();
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

    async fn adopt_in(&self, place: &Place) {
        let candidates = match candidates(place).await {
            Ok(candidates) => candidates,
            Err(error) => {
                let namespace = &place.namespace;
                let hint = "allow this host to list Jobs there";
                tracing::warn!(namespace, %error, hint, "Jobs without a host are not searched");
                return;
            }
        };
        let examined = candidates.into_iter().map(|candidate| self.adopt_or_retry(place, candidate));
        futures::stream::iter(examined).buffer_unordered(CONCURRENCY).collect::<()>().await;
    }

    /// Adopts the run of a Job if no host drives it. If one seems to, the Lease is read again when it has expired: only that
    /// distinguishes a host that has just died from one that lives.
    async fn adopt_or_retry(&self, place: &Place, candidate: Candidate) {
        let Some(until) = self.adopt_once(place, &candidate).await else { return };
        let (supervisor, place) = (self.clone(), place.clone());
        tokio::spawn(async move {
            let remaining = until.since(now()) + SLACK;
            tokio::time::sleep(remaining).await;
            if supervisor.adopt_once(&place, &candidate).await.is_some() {
                tracing::debug!(job = candidate.job.name, "its run is driven by another host");
            }
        });
    }

    /// Returns until when another host drives the run at least, if one does.
    async fn adopt_once(&self, place: &Place, candidate: &Candidate) -> Option<Timestamp> {
        let (job, namespace) = (&candidate.job.name, &candidate.job.namespace);
        match self.examine(place, candidate).await {
            Ok(Found::Run(pending)) => {
                tracing::info!(run_id = pending.run.info.run_id, job, namespace, "run is adopted");
                self.spawn(self.clone().host_run(pending));
                None
            }
            Ok(Found::Driven { until }) => Some(until),
            Ok(Found::NotOurs) => None,
            Err(SkipReason { why, hint }) => {
                tracing::warn!(run = candidate.run, job, namespace, why, hint, "Job is left alone");
                None
            }
        }
    }

    async fn examine(&self, place: &Place, candidate: &Candidate) -> Result<Found, SkipReason> {
        // The Job of an ended run may be kept on purpose.
        let unless_finished =
            |reason: SkipReason| if candidate.is_finished { Ok(Found::NotOurs) } else { Err(reason) };
        let Some((record, secrets)) = read_recovery_record(&place.cluster, candidate).await? else {
            return unless_finished(candidate.without_record());
        };
        let Some(lease) = read_lease(&place.cluster, &candidate.job.namespace, &record).await? else {
            return unless_finished(SkipReason::new("no Lease says which host has its run", START_AGAIN));
        };
        let run_id = lease.holder.clone();
        // Another run of the agent waits for the Job's end, or is about to adopt it.
        let is_others = !is_label_of(&candidate.run, &run_id);
        if is_others || self.knows(&run_id).await {
            return Ok(Found::NotOurs);
        }
        let taken = match adoption::turn(now(), lease, &self.host().host_id) {
            Turn::Own(taken) => taken,
            Turn::Other { until } => return Ok(Found::Driven { until }),
        };
        if candidate.is_suspended {
            return Err(SkipReason::new("its agent has not started", START_AGAIN));
        }
        let pending = self.pending(candidate, place, &run_id, record, &secrets)?;
        match calls::call(&place.cluster, &Secrets::default(), ApiCall::UpdateLease(taken)).await {
            Ok(_) => {}
            // Another host was faster.
            Err(error) if matches!(error.status, Some(404 | 409)) => return Ok(Found::NotOurs),
            Err(error) => {
                let why = format!("its Lease cannot be taken: {}", error.message);
                return Err(SkipReason::new(why, START_AGAIN));
            }
        }
        match self.runs().enter_running(&pending.run, None).await {
            Ok(true) => Ok(Found::Run(pending)),
            Ok(false) | Err(_) => Ok(Found::NotOurs),
        }
    }

    /// Whether a run needs no adoption: this host has it, or it stops.
    async fn knows(&self, run_id: &str) -> bool {
        let runs = self.runs();
        self.run_folder(run_id).is_some()
            || runs.contains(run_id).await.unwrap_or(true)
            || runs.check_running().await.is_err()
    }

    fn pending(
        &self,
        candidate: &Candidate,
        place: &Place,
        run_id: &str,
        record: RecoveryRecord,
        secrets: &Secrets,
    ) -> Result<Box<PendingRun>, SkipReason> {
        let plugin = self.catalogue().get(record.adapter_type()).map_err(|error| {
            SkipReason::new(error.to_string(), "give this host that plugin and restart it")
        })?;
        let adopted = Adopted { job: candidate.job.clone(), secret: record.secret.clone() };
        let context = candidate.context(record, run_id, secrets, place.name.as_deref());
        // Its Job exists, with everything that the agent inherits.
        let target = Target { namespace: Some(&place.namespace), needs_api_url: false, starts: false };
        let prepared = self.host().prepare(&context, None, &plugin, target);
        let mut prepared = prepared
            .map_err(|error| SkipReason::new(format!("its run cannot be adopted: {error}"), START_AGAIN))?;
        // What it warns about was said when the run started.
        prepared.warnings.clear();
        prepared.adopted = Some(adopted);
        let info = RunInfo::of(&prepared.request, candidate.job.namespace.clone(), &plugin, true);
        let (run, controls) = self.handle_of(info, Feed::new(), SystemTime::now());
        let cluster = place.cluster.clone();
        Ok(Box::new(PendingRun { run, controls, prepared, cluster, folder: None, resupply: None }))
    }
}

/// Lists the Jobs that may be adopted. While the API does not answer, it is asked again.
///
/// # Errors
/// The API refuses the list.
async fn candidates(place: &Place) -> Result<Vec<Candidate>, kube::Error> {
    let api: Api<Job> = Api::namespaced(place.cluster.client().clone(), &place.namespace);
    let mut candidates = Vec::new();
    let mut params = ListParams::default().labels(SELECTOR).limit(PAGE);
    loop {
        match api.list(&params).await {
            Ok(list) => {
                candidates.extend(list.items.iter().filter_map(Candidate::of));
                match list.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params = params.continue_token(&token),
                    None => return Ok(candidates),
                }
            }
            Err(kube::Error::Api(refused)) if (400..500).contains(&refused.code) => {
                return Err(kube::Error::Api(refused));
            }
            Err(error) => {
                tracing::debug!(namespace = place.namespace, %error, "Jobs are not listed yet");
                tokio::time::sleep(LIST_RETRY).await;
            }
        }
    }
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
                "allow this host to get Secrets there, and restart it",
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

async fn read_lease(
    cluster: &Cluster,
    namespace: &str,
    record: &RecoveryRecord,
) -> Result<Option<Lease>, SkipReason> {
    let get = ApiCall::GetLease { namespace: namespace.to_owned(), name: record.lease.clone() };
    match calls::call(cluster, &Secrets::default(), get).await {
        Ok(ApiReply::Lease(lease)) => Ok(lease),
        Ok(_) => Ok(None),
        Err(error) => Err(SkipReason::new(
            format!("Lease {} cannot be read: {}", record.lease, error.message),
            "allow this host to get Leases there, and restart it",
        )),
    }
}

fn now() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
