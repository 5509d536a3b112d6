//! Runs whose journal is not here: their Jobs stand in the cluster, and nobody drives them any more.
//!
//! Such a run goes on as if it was started again: its plugin finds the Job and reads its log from the beginning. What the run was asked to
//! do stands in the Job's own Secret. Whoever puts its name into the run's Lease has it, so that of two hosts one takes it up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
use paperclip_engine::record::Level;
use paperclip_engine::time::Timestamp;
use paperclip_shell::journal::{self, Adopted};
use paperclip_shell::{Cluster, calls};

use super::adoptable::{Candidate, Left, START_AGAIN};
use super::begin::{Beginning, about, controls};
use super::entry::{Entry, State};
use super::feed::Feed;
use super::{Supervisor, intake, resume};

/// What all Jobs of agents carry.
const SELECTOR: &str = "app.kubernetes.io/managed-by=paperclip,app.kubernetes.io/component=agent-job";
/// Jobs of one answer.
const PAGE: u32 = 100;
/// Jobs that are looked at at a time.
const LOOKS: usize = 16;
/// How long after a Lease has expired it is looked at again: clocks differ.
const SLACK: Duration = Duration::from_secs(1);
/// How long to wait before a list that had no answer is asked for again.
const LIST_RETRY: Duration = Duration::from_secs(5);

/// Where Jobs are looked for.
#[derive(Debug, Clone)]
struct Place {
    /// As configs name it in `kubeconfig`; none is the host's own.
    name: Option<String>,
    cluster: Cluster,
    namespace: String,
}

/// What a look at a Job came to.
enum Found {
    Run(Box<Beginning>),
    /// Another host drives it, at least until then.
    Driven {
        until: Timestamp,
    },
    /// It is no business of this host.
    Nothing,
}

impl Supervisor {
    /// Takes up what other hosts have left behind, each in a task of its own.
    pub(crate) fn adopt(&self) {
        for place in self.places() {
            self.shared.resuming.fetch_add(1, Ordering::Relaxed);
            let supervisor = self.clone();
            // Nothing that it holds has to be handed over: the process does not wait for it when it stops.
            tokio::spawn(async move {
                supervisor.adopt_in(&place).await;
                supervisor.resumed_one();
            });
        }
    }

    fn places(&self) -> Vec<Place> {
        let around = self.around();
        let own_pod = around.own_pod.as_ref().and_then(|pod| pod["metadata"]["namespace"].as_str());
        let granted = around.config.grants.values().flat_map(|grant| &grant.namespaces);
        let granted = granted.map(Pattern::as_str).filter(|text| !text.contains('*'));
        let shared: Vec<&str> = around.config.namespace.as_deref().into_iter().chain(granted).collect();
        let own = std::iter::once((None, &around.cluster, own_pod));
        let named = around.clusters.iter().map(|(name, cluster)| (Some(name.clone()), cluster, None));
        let mut places = Vec::new();
        for (name, cluster, own_pod) in own.chain(named) {
            let default = around.config.namespace.is_none().then(|| cluster.default_namespace());
            let namespaces: BTreeSet<&str> = shared.iter().copied().chain(default).chain(own_pod).collect();
            places.extend(namespaces.into_iter().map(|namespace| Place {
                name: name.clone(),
                cluster: cluster.clone(),
                namespace: namespace.to_owned(),
            }));
        }
        places
    }

    async fn adopt_in(&self, place: &Place) {
        let candidates = match self.candidates(place).await {
            Ok(candidates) => candidates,
            Err(error) => {
                let namespace = &place.namespace;
                tracing::warn!(namespace, %error, "Jobs without a host are not looked for; allow this host to list Jobs there");
                return;
            }
        };
        let looks = candidates.into_iter().map(|candidate| self.look(place, candidate));
        futures::stream::iter(looks).buffer_unordered(LOOKS).collect::<()>().await;
    }

    /// # Errors
    /// The API refuses to tell. While it does not answer it is asked again.
    async fn candidates(&self, place: &Place) -> Result<Vec<Candidate>, kube::Error> {
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

    /// Looks at a Job, and takes its run up if nobody drives it.
    async fn look(&self, place: &Place, candidate: Candidate) {
        let Some(until) = self.look_once(place, &candidate).await else { return };
        let (supervisor, place) = (self.clone(), place.clone());
        // A host that has just died is told from one that lives by its Lease alone.
        tokio::spawn(async move {
            let left = until.since(now()) + SLACK;
            tokio::time::sleep(left).await;
            if supervisor.look_once(&place, &candidate).await.is_some() {
                tracing::debug!(job = candidate.job.name, "its run is driven by another host");
            }
        });
    }

    /// Tells until when another host drives the run at least, if one does.
    async fn look_once(&self, place: &Place, candidate: &Candidate) -> Option<Timestamp> {
        let (job, namespace) = (&candidate.job.name, &candidate.job.namespace);
        match self.examine(place, candidate).await {
            Ok(Found::Run(beginning)) => {
                tracing::info!(run_id = beginning.entry.about.run_id, job, namespace, "run is adopted");
                self.spawn(self.clone().host(beginning));
                None
            }
            Ok(Found::Driven { until }) => Some(until),
            Ok(Found::Nothing) => None,
            Err(Left { why, hint }) => {
                tracing::warn!(run = candidate.run, job, namespace, why, hint, "Job is left alone");
                None
            }
        }
    }

    async fn examine(&self, place: &Place, candidate: &Candidate) -> Result<Found, Left> {
        // An ended run that was to leave its Job standing is no news.
        let unless_finished = |left: Left| if candidate.is_finished { Ok(Found::Nothing) } else { Err(left) };
        let Some((brief, secrets)) = read_recovery_record(&place.cluster, candidate).await? else {
            return unless_finished(candidate.briefless());
        };
        let Some(lease) = read_lease(&place.cluster, &candidate.job.namespace, &brief).await? else {
            return unless_finished(Left::new("no Lease tells whose its run is", START_AGAIN));
        };
        let run_id = lease.holder.clone();
        // Another run of the agent that waits for the Job's end, or is about to adopt it.
        let is_others = !is_label_of(&candidate.run, &run_id);
        if is_others || self.knows(&run_id) || self.shared.is_stopping.load(Ordering::SeqCst) {
            return Ok(Found::Nothing);
        }
        let taken = match adoption::turn(now(), lease, &self.around().host_id) {
            Turn::Own(taken) => taken,
            Turn::Other { until } => return Ok(Found::Driven { until }),
        };
        if candidate.is_suspended {
            return Err(Left::new("its agent has not begun", START_AGAIN));
        }
        let beginning = self.beginning(candidate, place, &run_id, brief, &secrets)?;
        match calls::call(&place.cluster, &Secrets::default(), ApiCall::UpdateLease(taken)).await {
            Ok(_) => {}
            // Another host was quicker.
            Err(error) if matches!(error.status, Some(404 | 409)) => return Ok(Found::Nothing),
            Err(error) => {
                return Err(Left::new(format!("its Lease cannot be taken: {}", error.message), START_AGAIN));
            }
        }
        let mut runs = self.shared.runs();
        if runs.contains_key(&run_id) {
            return Ok(Found::Nothing);
        }
        runs.insert(run_id, Arc::clone(&beginning.entry));
        drop(runs);
        self.enter_resumed(&beginning.entry);
        Ok(Found::Run(beginning))
    }

    fn knows(&self, run_id: &str) -> bool {
        self.shared.runs().contains_key(run_id) || journal::run_folder(&self.around().state, run_id).exists()
    }

    fn beginning(
        &self,
        candidate: &Candidate,
        place: &Place,
        run_id: &str,
        brief: RecoveryRecord,
        secrets: &Secrets,
    ) -> Result<Box<Beginning>, Left> {
        let around = self.around();
        let plugin = self
            .catalogue()
            .get(brief.adapter_type())
            .map_err(|error| Left::new(error.to_string(), "give this host that plugin and restart it"))?;
        let adopted = Adopted { job: candidate.job.clone(), secret: brief.secret.clone() };
        let context = candidate.context(brief, run_id, secrets, place.name.as_deref());
        let taken = intake::take(&context, &plugin, around).map_err(|refusal| {
            Left::new(format!("its run cannot be taken up: {}", refusal.message), START_AGAIN)
        })?;
        let (sender, controls) = controls();
        let mut about = about(&taken.request, candidate.job.namespace.clone(), &plugin);
        about.adopted = true;
        let entry = Arc::new(Entry::new(about, Feed::new(), State::Queued, sender, SystemTime::now()));
        let note = format!(
            "Taken up from Job {} in {}: the host that began this run is gone, and its journal is not here",
            candidate.job.name, candidate.job.namespace
        );
        Ok(Box::new(Beginning {
            entry,
            controls,
            plugin,
            cluster: place.cluster.clone(),
            request: taken.request,
            secrets: taken.secrets,
            redactor: taken.redactor,
            notes: vec![(Level::Info, note)],
            folder: None,
            unmasked_env: around.config.unmasked_env.clone(),
            adopted: Some(adopted),
            awaits: None,
        }))
    }
}

/// What the run was asked to do, and the values that its Secret has.
async fn read_recovery_record(
    cluster: &Cluster,
    candidate: &Candidate,
) -> Result<Option<(RecoveryRecord, Secrets)>, Left> {
    let api: Api<Secret> = Api::namespaced(cluster.client().clone(), &candidate.job.namespace);
    for name in &candidate.secrets {
        let found = api.get_opt(name).await.map_err(|error| {
            Left::new(
                format!("Secret {name} cannot be read: {error}"),
                "allow this host to get Secrets there, and restart it",
            )
        })?;
        let Some(secret) = found else { continue };
        if let Some(brief) = candidate.brief(&secret) {
            let brief = brief?;
            let values = resume::values(&secret, &brief.secret.entries);
            return Ok(Some((brief, Secrets::of(values))));
        }
    }
    Ok(None)
}

async fn read_lease(
    cluster: &Cluster,
    namespace: &str,
    brief: &RecoveryRecord,
) -> Result<Option<Lease>, Left> {
    let get = ApiCall::GetLease { namespace: namespace.to_owned(), name: brief.lease.clone() };
    match calls::call(cluster, &Secrets::default(), get).await {
        Ok(ApiReply::Lease(lease)) => Ok(lease),
        Ok(_) => Ok(None),
        Err(error) => Err(Left::new(
            format!("Lease {} cannot be read: {}", brief.lease, error.message),
            "allow this host to get Leases there, and restart it",
        )),
    }
}

fn now() -> Timestamp {
    Timestamp::EPOCH + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
