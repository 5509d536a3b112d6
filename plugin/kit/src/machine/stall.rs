//! Why a pod does not start: the cause, whether it may recover, and how long to wait for that.

use serde::{Deserialize, Serialize};

use crate::bindings::exports::paperclip::agent::types::{
    ContainerRole, ContainerState, ContainerStatus, ContainerWaiting, PodPhase, PodSnapshot,
};
use crate::config::Settings;

/// What keeps a pod from running its agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum StallKind {
    /// The Job has no pod yet: a quota, an admission webhook, or a slow controller.
    NoPod,
    /// Queued by another controller: a suspended Job, a scheduling gate.
    Queued,
    /// No node fits it.
    Unschedulable,
    /// An image cannot be pulled.
    Image,
    /// A container cannot be created: a Secret, a key or a mount is missing.
    Create,
    /// A container crashes repeatedly.
    CrashLoop,
    /// On its node, nothing reported yet: volumes are being mounted, images pulled.
    Starting,
    /// It will never start.
    Fatal,
}

/// A stall as the last snapshot shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stall {
    pub(crate) kind: StallKind,
    /// The cause, as the final error message has it.
    pub(crate) detail: String,
}

/// Returns how long a kind of stall may last before the run fails, in ms; 0 does not wait.
pub(crate) fn grace_ms(kind: StallKind, settings: &Settings) -> u64 {
    let seconds = match kind {
        StallKind::NoPod => settings.quota_grace_sec,
        StallKind::Unschedulable => settings.schedule_grace_sec,
        StallKind::Queued => settings.queue_timeout_sec,
        StallKind::Image => settings.image_grace_sec,
        StallKind::Create | StallKind::CrashLoop | StallKind::Starting => settings.mount_grace_sec,
        StallKind::Fatal => 0,
    };
    u64::from(seconds) * 1_000
}

/// Returns why this pod, whose agent has not started, does not start.
pub(crate) fn of_pod(pod: &PodSnapshot) -> Stall {
    pod.containers
        .iter()
        .find_map(of_container)
        .or_else(|| of_phase(pod))
        .or_else(|| of_scheduling(pod))
        .unwrap_or_else(|| starting(pod))
}

fn of_container(container: &ContainerStatus) -> Option<Stall> {
    let name = &container.name;
    let is_init = match container.role {
        ContainerRole::Init => true,
        ContainerRole::Sidecar | ContainerRole::Main => false,
    };
    match &container.state {
        ContainerState::Waiting(waiting) => of_waiting(name, is_init, waiting),
        ContainerState::Terminated(ended) if is_init && ended.exit_code != 0 => {
            let reason = ended.reason.as_deref().unwrap_or("no reason");
            let mut detail =
                format!("Init container \"{name}\" failed with exit code {}: {reason}", ended.exit_code);
            if let Some(message) = ended.message.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
                detail.push_str(": ");
                detail.push_str(message);
            }
            Some(Stall { kind: StallKind::Fatal, detail })
        }
        ContainerState::Terminated(_) | ContainerState::Running(_) | ContainerState::Unknown => None,
    }
}

fn of_waiting(name: &str, is_init: bool, waiting: &ContainerWaiting) -> Option<Stall> {
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref().filter(|text| !text.is_empty()).unwrap_or(reason);
    let (kind, detail) = match reason {
        "InvalidImageName" => (StallKind::Fatal, format!("Image name of \"{name}\" is not valid: {message}")),
        "ErrImageNeverPull" => (
            StallKind::Fatal,
            format!("Image of \"{name}\" is not on the node and its pull policy is Never: {message}"),
        ),
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => {
            let what = if is_init {
                format!("Init container \"{name}\" image pull failed")
            } else {
                format!("Image pull failed for \"{name}\"")
            };
            (StallKind::Image, format!("{what}: {message}"))
        }
        "CrashLoopBackOff" => {
            let what = if is_init { "Init container" } else { "Container" };
            (StallKind::CrashLoop, format!("{what} \"{name}\" crash loop: {message}"))
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "StartError"
        | "PreCreateHookError"
        | "PreStartHookError"
        | "PostStartHookError" => {
            (StallKind::Create, format!("Container \"{name}\" can't be created ({reason}): {message}"))
        }
        _ => return None,
    };
    Some(Stall { kind, detail })
}

fn of_phase(pod: &PodSnapshot) -> Option<Stall> {
    match pod.phase {
        PodPhase::Failed => {
            let why = pod.message.as_deref().or(pod.reason.as_deref()).unwrap_or("no reason");
            let detail = format!("Pod {} reached phase=Failed: {why}", pod.pod.name);
            Some(Stall { kind: StallKind::Fatal, detail })
        }
        PodPhase::Pending | PodPhase::Running | PodPhase::Succeeded | PodPhase::Unknown => None,
    }
}

fn of_scheduling(pod: &PodSnapshot) -> Option<Stall> {
    if pod.is_gated {
        let detail = format!("Pod {} is held back by a scheduling gate", pod.pod.name);
        return Some(Stall { kind: StallKind::Queued, detail });
    }
    let scheduled = pod.conditions.iter().find(|condition| condition.kind == "PodScheduled")?;
    if scheduled.is_true || scheduled.reason.as_deref() != Some("Unschedulable") {
        return None;
    }
    let message = scheduled.message.as_deref().filter(|text| !text.is_empty());
    let detail = format!("Pod unschedulable: {}", message.unwrap_or("insufficient resources"));
    Some(Stall { kind: StallKind::Unschedulable, detail })
}

fn starting(pod: &PodSnapshot) -> Stall {
    let place = pod
        .node
        .as_deref()
        .map_or("is not on a node yet".to_owned(), |node| format!("is starting on node {node}"));
    Stall { kind: StallKind::Starting, detail: format!("Pod {} {place}", pod.pod.name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::testing::{condition, container, pod};

    fn waiting(reason: &str, message: &str) -> ContainerState {
        ContainerState::Waiting(ContainerWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
        })
    }

    fn stall(role: ContainerRole, state: ContainerState) -> (StallKind, String) {
        let stall = of_pod(&pod(PodPhase::Pending, vec![container("c", role, state)]));
        (stall.kind, stall.detail)
    }

    #[test]
    fn rule_23_fatal_stalls_are_distinguished_from_recoverable_ones() {
        use ContainerRole::{Init, Main};
        for (role, state, kind, detail) in [
            (
                Main,
                waiting("InvalidImageName", "bad"),
                StallKind::Fatal,
                "Image name of \"c\" is not valid: bad",
            ),
            (
                Main,
                waiting("ImagePullBackOff", "Back-off"),
                StallKind::Image,
                "Image pull failed for \"c\": Back-off",
            ),
            (
                Init,
                waiting("ErrImagePull", "no"),
                StallKind::Image,
                "Init container \"c\" image pull failed: no",
            ),
            (Main, waiting("CrashLoopBackOff", "x"), StallKind::CrashLoop, "Container \"c\" crash loop: x"),
            (
                Main,
                waiting("CreateContainerConfigError", "secret \"s\" not found"),
                StallKind::Create,
                "Container \"c\" can't be created (CreateContainerConfigError): secret \"s\" not found",
            ),
            (Main, waiting("ContainerCreating", ""), StallKind::Starting, "Pod pod is not on a node yet"),
        ] {
            assert_eq!(stall(role, state), (kind, detail.to_owned()));
        }
    }

    #[test]
    fn an_unschedulable_pod_and_a_gated_pod_are_stalls_and_not_failures() {
        let mut pod = pod(PodPhase::Pending, Vec::new());
        pod.conditions = vec![condition("PodScheduled", false, Some("Unschedulable"), Some("0/3 nodes"))];
        assert_eq!(of_pod(&pod).detail, "Pod unschedulable: 0/3 nodes");
        pod.is_gated = true;
        assert_eq!(of_pod(&pod).kind, StallKind::Queued);
    }
}
