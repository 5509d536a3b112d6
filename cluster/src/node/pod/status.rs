//! A Pod's status as the kubelet reports it, pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::container::{Container, End, Role, State};
use crate::node::{NODE_IP, POD_IP};

/// What is not visible in the containers alone.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) start_time: Timestamp,
    /// Its volumes are there, and so is its network.
    pub(super) is_prepared: bool,
    /// Why it ended, if not by its containers.
    pub(super) ending: Option<Ending>,
    /// No container of it runs, and none will start.
    pub(super) is_over: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Ending {
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

/// The status now. Conditions of `old` that are not the kubelet's stay, as do the times of those that stand.
pub(super) fn status(
    pod: &Pod,
    containers: &[Container],
    facts: &Facts,
    old: Option<&PodStatus>,
    now: Timestamp,
) -> PodStatus {
    let phase = phase(containers, facts);
    let (inits, mains): (Vec<&Container>, Vec<&Container>) =
        containers.iter().partition(|container| container.role != Role::Main);
    let waiting_reason = if inits.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let statuses = |containers: &[&Container]| -> Vec<ContainerStatus> {
        containers.iter().map(|container| container_status(container, pod, waiting_reason)).collect()
    };
    let mut main_statuses = statuses(&mains);
    main_statuses.sort_by(|a, b| a.name.cmp(&b.name));
    let address = facts.is_prepared.then(|| POD_IP.to_owned());
    PodStatus {
        phase: Some(phase.to_owned()),
        conditions: Some(conditions(containers, facts, phase, old, now)),
        container_statuses: Some(main_statuses),
        init_container_statuses: (!inits.is_empty()).then(|| statuses(&inits)),
        host_ip: Some(NODE_IP.to_owned()),
        host_ips: Some(vec![HostIP { ip: NODE_IP.to_owned() }]),
        pod_ips: address.clone().map(|ip| vec![PodIP { ip }]),
        pod_ip: address,
        start_time: Some(Time(facts.start_time)),
        qos_class: old.and_then(|old| old.qos_class.clone()),
        reason: facts.ending.as_ref().map(|ending| ending.reason.to_owned()),
        message: facts.ending.as_ref().map(|ending| ending.message.to_owned()),
        ..PodStatus::default()
    }
}

fn phase(containers: &[Container], facts: &Facts) -> &'static str {
    let mut mains = containers.iter().filter(|container| container.role == Role::Main);
    let has_init_failed =
        containers.iter().any(|container| container.role == Role::Init && !container.has_succeeded());
    if facts.is_over {
        let is_success = facts.ending.is_none() && !has_init_failed && mains.all(Container::has_succeeded);
        return if is_success { "Succeeded" } else { "Failed" };
    }
    if mains.any(|container| container.attempts > 0) { "Running" } else { "Pending" }
}

fn container_status(container: &Container, pod: &Pod, waiting_reason: &str) -> ContainerStatus {
    let waiting = |reason: &str, message: Option<String>| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    };
    let terminated =
        |end: &End| ContainerState { terminated: Some(terminated(end)), ..ContainerState::default() };
    let latest = container.latest.as_ref().map(terminated);
    let (state, last_state) = match &container.state {
        State::Waiting => (waiting(waiting_reason, None), latest),
        State::Blocked { reason, message } => (waiting(reason, Some(message.clone())), latest),
        State::BackOff { wait, .. } => {
            let (name, namespace, uid) = identity(pod);
            let message = format!(
                "back-off {}s restarting failed container={} pod={name}_{namespace}({uid})",
                wait.as_secs(),
                container.spec.name
            );
            (waiting("CrashLoopBackOff", Some(message)), latest)
        }
        State::Running(running) => {
            let running = ContainerStateRunning { started_at: Some(Time(running.started_at)) };
            (ContainerState { running: Some(running), ..ContainerState::default() }, latest)
        }
        State::Ended => (
            latest.unwrap_or_else(|| waiting(waiting_reason, None)),
            container.before.as_ref().map(terminated),
        ),
    };
    let image = container.spec.image.clone().unwrap_or_default();
    ContainerStatus {
        name: container.spec.name.clone(),
        image_id: image.clone(),
        image,
        container_id: container.id.clone(),
        ready: is_ready(container),
        started: Some(container.is_running()),
        restart_count: i32::try_from(container.restarts()).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

fn terminated(end: &End) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: end.exit_code,
        reason: Some(end.reason.to_owned()),
        message: end.message.clone(),
        started_at: Some(Time(end.started_at)),
        finished_at: Some(Time(end.finished_at)),
        container_id: end.id.clone(),
        ..ContainerStateTerminated::default()
    }
}

/// Probes are not run: a container that runs is ready.
fn is_ready(container: &Container) -> bool {
    match container.role {
        Role::Init => container.has_succeeded(),
        Role::Sidecar | Role::Main => container.is_running(),
    }
}

fn conditions(
    containers: &[Container],
    facts: &Facts,
    phase: &str,
    old: Option<&PodStatus>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let over = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ => None,
    };
    let names = |matches: &dyn Fn(&Container) -> bool| -> Vec<&str> {
        containers.iter().filter(|c| matches(c)).map(|c| c.spec.name.as_str()).collect()
    };
    let incomplete = names(&|c| match c.role {
        Role::Init => !c.has_succeeded(),
        Role::Sidecar => c.attempts == 0,
        Role::Main => false,
    });
    let unready = names(&|c| c.role != Role::Init && !is_ready(c));
    let complaint = |prefix: &str, names: &[&str]| format!("{prefix}: [{}]", names.join(" "));
    let initialized = if incomplete.is_empty() || over == Some("PodCompleted") {
        Finding { value: true, reason: over.filter(|reason| *reason == "PodCompleted"), message: None }
    } else {
        let message = complaint("containers with incomplete status", &incomplete);
        Finding { value: false, reason: Some("ContainersNotInitialized"), message: Some(message) }
    };
    let ready = match over {
        Some(reason) => Finding { value: false, reason: Some(reason), message: None },
        None if unready.is_empty() => Finding { value: true, reason: None, message: None },
        None => {
            let message = complaint("containers with unready status", &unready);
            Finding { value: false, reason: Some("ContainersNotReady"), message: Some(message) }
        }
    };
    let is_prepared = facts.is_prepared && !facts.is_over;
    let found = [
        ("PodReadyToStartContainers", Finding { value: is_prepared, reason: None, message: None }),
        ("Initialized", initialized),
        ("Ready", ready.clone()),
        ("ContainersReady", ready),
        ("PodScheduled", Finding { value: true, reason: None, message: None }),
    ];
    let standing = old.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let foreign = standing.iter().filter(|condition| found.iter().all(|(kind, _)| *kind != condition.type_));
    let own = found.iter().map(|(kind, finding)| finding.condition(kind, standing, now));
    own.chain(foreign.cloned()).collect()
}

#[derive(Clone)]
struct Finding {
    value: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    fn condition(&self, kind: &str, standing: &[PodCondition], now: Timestamp) -> PodCondition {
        let value = if self.value { "True" } else { "False" };
        let unchanged = standing.iter().find(|old| old.type_ == kind && old.status == value);
        PodCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: self.reason.map(str::to_owned),
            message: self.message.clone(),
            last_transition_time: unchanged
                .and_then(|old| old.last_transition_time.clone())
                .or(Some(Time(now))),
            ..PodCondition::default()
        }
    }
}

fn identity(pod: &Pod) -> (&str, &str, &str) {
    let metadata = &pod.metadata;
    (
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.uid.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests;
