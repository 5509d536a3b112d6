//! Runs one Pod from its binding to its end. The decisions are made in `plan`; this carries them out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde::Deserialize as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Context;
use super::binding::{Binding, bind};
use super::container::{Container, End, Role, State};
use super::dependencies::Dependencies;
use super::plan::{Action, Cause, Stop, plan};
use super::status::{Ending, Facts, status};
use crate::error::ApiError;
use crate::node::events::{Component, Event, Severity};
use crate::node::objects::{Objects, decode};
use crate::node::process::Group;
use crate::node::volumes::PodVolumes;
use crate::node::{NODE_NAME, claims};
use crate::resource::Resource;
use crate::store::{Key, Object, is_deleting, meta};

/// The default grace period of a Pod.
const DEFAULT_GRACE_SECONDS: i64 = 30;
/// The grace period of containers when the node shuts down.
const NODE_DOWN_GRACE: Duration = Duration::from_secs(2);

/// The Pod as the store last had it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) object: Arc<Object>,
    pub(super) is_deleted: bool,
    pub(super) is_node_down: bool,
}

/// What a worker waits for.
enum Wakeup {
    Pod,
    Ended(usize, End),
    Dependency,
    Timer,
}

pub(super) struct Worker {
    pub(super) context: Context,
    pub(super) key: Key,
    pub(super) pod: Pod,
    pub(super) objects: Objects,
    pub(super) seen: watch::Receiver<Seen>,
    pub(super) containers: Vec<Container>,
    pub(super) groups: HashMap<usize, Group>,
    /// The ends of containers, by their index.
    pub(super) end_sender: mpsc::Sender<(usize, End)>,
    pub(super) end_receiver: mpsc::Receiver<(usize, End)>,
    pub(super) volumes: Option<PodVolumes>,
    pub(super) dependencies: Option<Dependencies>,
    pub(super) last_complaint: Option<String>,
    pub(super) stop: Option<Stop>,
    pub(super) facts: Facts,
}

impl Worker {
    /// `None` if the object is no Pod, which the API does not let in.
    pub(super) fn new(context: Context, seen: watch::Receiver<Seen>) -> Option<Worker> {
        let object = seen.borrow().object.clone();
        let pod: Pod = decode(&object)?;
        let key = Key::of(Resource::Pods, &object);
        let facts = Facts { start_time: Timestamp::now(), is_prepared: false, ending: None, is_over: false };
        let (end_sender, end_receiver) = mpsc::channel(1);
        Some(Worker {
            objects: Objects::new(context.store.clone(), &key.namespace),
            containers: Container::all(&pod),
            groups: HashMap::new(),
            end_sender,
            end_receiver,
            volumes: None,
            dependencies: None,
            last_complaint: None,
            stop: None,
            facts,
            context,
            key,
            pod,
            seen,
        })
    }

    /// Ends when no container of the Pod runs any more.
    pub(super) async fn run(mut self) {
        if self.become_bound().await && self.become_mounted().await {
            self.run_containers().await;
        }
        self.finish();
    }

    /// `false` if it never will be.
    async fn become_bound(&mut self) -> bool {
        loop {
            let Ok(binding) = bind(&self.context.store, &self.key, self.uid()) else { return false };
            match binding {
                Binding::Bound { pod, is_new } => {
                    if is_new {
                        let message = format!(
                            "Successfully assigned {}/{} to {NODE_NAME}",
                            self.key.namespace, self.key.name
                        );
                        self.record(Event {
                            component: Component::Scheduler,
                            severity: Severity::Normal,
                            reason: "Scheduled",
                            message,
                            field_path: None,
                        });
                    }
                    self.pod = decode(&pod).unwrap_or_else(|| self.pod.clone());
                    self.facts.start_time = Timestamp::now();
                    self.read_pod();
                    self.write_status();
                    return true;
                }
                Binding::Elsewhere => return false,
                Binding::Held => {
                    let is_changed = self.seen.changed().await.is_ok();
                    let seen = self.seen.borrow_and_update();
                    if !is_changed || seen.is_deleted || seen.is_node_down {
                        return false;
                    }
                }
            }
        }
    }

    /// `false` if the Pod is to end before its volumes are there.
    async fn become_mounted(&mut self) -> bool {
        loop {
            if self.stop.is_some() {
                return false;
            }
            self.dependencies = Some(Dependencies::from_now(&self.context.store, &self.key.namespace));
            match self.mount() {
                Ok(volumes) => {
                    self.volumes = Some(volumes);
                    self.facts.is_prepared = true;
                    return true;
                }
                Err(complaint) => {
                    self.complain("FailedMount", complaint, None);
                    self.wait(true, None).await;
                }
            }
        }
    }

    fn mount(&self) -> Result<PodVolumes, String> {
        let declared = self.pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        for claim in declared.iter().filter_map(|volume| volume.persistent_volume_claim.as_ref()) {
            claims::ensure(&self.context.store, &self.key.namespace, &claim.claim_name)
                .map_err(|error| error.to_string())?;
        }
        PodVolumes::mount(&self.pod, &self.context.folders, &self.objects).map_err(|error| error.to_string())
    }

    async fn run_containers(&mut self) {
        loop {
            let next = plan(&self.containers, self.stop, Instant::now());
            if next.actions.is_empty() {
                self.write_status();
                let is_blocked = self.containers.iter().any(|c| matches!(c.state, State::Blocked { .. }));
                self.wait(is_blocked, next.wake).await;
            }
            for action in next.actions {
                match action {
                    Action::Start(index) => self.start(index),
                    Action::Terminate(index) => self.terminate(index),
                    Action::Kill(index) => self.kill(index),
                    Action::Close => self.end_by(Cause::MainsEnded, self.own_grace()),
                    Action::Finish => return,
                }
            }
        }
    }

    /// Waits for whatever comes first, and takes note of it.
    async fn wait(&mut self, on_dependencies: bool, wake: Option<Instant>) {
        let deadline = self.deadline().filter(|_| self.stop.is_none());
        let timer = wake.into_iter().chain(deadline).min();
        let dependencies = self.dependencies.as_mut().filter(|_| on_dependencies);
        let wakeup = tokio::select! {
            changed = self.seen.changed() => {
                // The sender is dropped only with the whole node.
                if changed.is_err() { std::future::pending().await }
                Wakeup::Pod
            }
            Some((index, end)) = self.end_receiver.recv() => Wakeup::Ended(index, end),
            () = changed(dependencies) => Wakeup::Dependency,
            () = until(timer) => Wakeup::Timer,
        };
        match wakeup {
            Wakeup::Pod => self.read_pod(),
            Wakeup::Ended(index, end) => self.has_ended(index, end),
            Wakeup::Dependency => {
                for container in &mut self.containers {
                    if matches!(container.state, State::Blocked { .. }) {
                        container.state = State::Waiting;
                    }
                }
            }
            Wakeup::Timer => {
                if self.stop.is_none() && self.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                    self.facts.ending = Some(Ending {
                        reason: "DeadlineExceeded",
                        message: "Pod was active on the node longer than the specified deadline",
                    });
                    self.end_by(Cause::DeadlineExceeded, self.own_grace());
                }
            }
        }
    }

    fn read_pod(&mut self) {
        let seen = self.seen.borrow_and_update().clone();
        if seen.is_node_down {
            self.end_by(Cause::NodeDown, self.own_grace().min(NODE_DOWN_GRACE));
        } else if seen.is_deleted {
            self.end_by(Cause::Deleted, Duration::ZERO);
        } else if is_deleting(&seen.object) {
            let grace = seen.object["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or_default();
            self.end_by(Cause::Deleted, Duration::from_secs(grace));
        }
    }

    /// A standing stop may come sooner, never later.
    fn end_by(&mut self, cause: Cause, grace: Duration) {
        let by = Instant::now() + grace;
        self.stop = Some(match self.stop {
            Some(standing) => {
                let cause = if cause == Cause::NodeDown { cause } else { standing.cause };
                Stop { cause, by: standing.by.min(by) }
            }
            None => Stop { cause, by },
        });
    }

    fn own_grace(&self) -> Duration {
        let configured = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        let seconds = configured.unwrap_or(DEFAULT_GRACE_SECONDS);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(1))
    }

    fn deadline(&self) -> Option<Instant> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let ran = Timestamp::now().duration_since(self.facts.start_time);
        let left = jiff::SignedDuration::from_secs(seconds) - ran;
        Some(Instant::now() + Duration::try_from(left).unwrap_or_default())
    }

    /// Writes how the Pod ended, removes its volumes, and deletes the object if it is under deletion.
    fn finish(mut self) {
        if self.stop.is_some_and(|stop| stop.cause == Cause::NodeDown) {
            return self.remove_volumes();
        }
        for container in &mut self.containers {
            settle(container, self.stop);
        }
        self.facts.is_over = true;
        self.remove_volumes();
        // Never bound: no worker here owns it.
        if self.facts.is_prepared || self.stop.is_some() {
            let stored = self.write_status();
            if stored.is_some_and(|pod| is_deleting(&pod)) {
                let _already_deleted = self.context.store.remove(&self.key, self.uid());
            }
        }
    }

    fn remove_volumes(&self) {
        if let Some(volumes) = &self.volumes {
            volumes.remove();
        }
    }

    fn write_status(&self) -> Option<Arc<Object>> {
        let write = |stored: &mut Object| {
            if meta(stored, "uid") != self.uid() {
                return Err(ApiError::not_found(&self.key));
            }
            let old = PodStatus::deserialize(&stored["status"]).ok();
            let new = status(&self.pod, &self.containers, &self.facts, old.as_ref(), Timestamp::now());
            stored["status"] = serde_json::to_value(new).map_err(ApiError::internal)?;
            Ok(())
        };
        self.context
            .store
            .update(&self.key, write)
            .inspect_err(
                |error| tracing::debug!(%error, pod = %self.key.name, "a pod's status was not written"),
            )
            .ok()
    }

    pub(super) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }
}

/// The final state of a container that does not run when its Pod has ended.
fn settle(container: &mut Container, stop: Option<Stop>) {
    match container.state {
        State::BackOff { .. } => container.state = State::Ended,
        State::Waiting | State::Blocked { .. } => {
            let is_cut_off = stop.is_some_and(|stop| stop.cause != Cause::MainsEnded);
            if is_cut_off && container.role == Role::Main {
                let now = Timestamp::now();
                container.before = container.latest.replace(End {
                    exit_code: 137,
                    reason: "ContainerStatusUnknown",
                    message: Some(
                        "The container could not be located when the pod was terminated".to_owned(),
                    ),
                    started_at: Timestamp::UNIX_EPOCH,
                    finished_at: now,
                    id: None,
                });
                container.state = State::Ended;
            }
        }
        State::Running(_) | State::Ended => {}
    }
}

async fn changed(dependencies: Option<&mut Dependencies>) {
    match dependencies {
        Some(dependencies) => dependencies.changed().await,
        None => std::future::pending().await,
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
