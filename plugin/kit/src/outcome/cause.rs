//! Why the cluster ended a pod, read from the reasons that Kubernetes gives.

use serde::{Deserialize, Serialize};

/// What ended the pod or its container, if it was not the agent itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InfraCause {
    /// The kernel killed the container: its memory limit was reached.
    OomKilled,
    /// The kubelet or the eviction API removed the pod.
    Evicted,
    /// A pod of higher priority needed the node's resources.
    Preempted,
    /// Somebody suspended the Job while it ran, for example a queue such as Kueue.
    Suspended,
    /// The node stopped answering or was removed.
    NodeLost,
    /// The node was being shut down.
    NodeShutdown,
    /// The Job's or the pod's `activeDeadlineSeconds` passed.
    Deadline,
    /// Somebody deleted the pod or the Job.
    Deleted,
}

impl InfraCause {
    /// The name in `resultJson.termination.cause`.
    pub const fn as_str(self) -> &'static str {
        match self {
            InfraCause::OomKilled => "oom_killed",
            InfraCause::Evicted => "evicted",
            InfraCause::Preempted => "preempted",
            InfraCause::Suspended => "suspended",
            InfraCause::NodeLost => "node_lost",
            InfraCause::NodeShutdown => "node_shutdown",
            InfraCause::Deadline => "deadline",
            InfraCause::Deleted => "deleted",
        }
    }

    /// Whether the Job's own state brought it about, which may also change after the container has ended.
    pub const fn is_of_the_job(self) -> bool {
        match self {
            InfraCause::Suspended | InfraCause::Deadline | InfraCause::Deleted => true,
            InfraCause::OomKilled
            | InfraCause::Evicted
            | InfraCause::Preempted
            | InfraCause::NodeLost
            | InfraCause::NodeShutdown => false,
        }
    }

    /// Reads `pod.status.reason`, the reason of its `DisruptionTarget` condition, or the `reason` of a container's
    /// terminated state. `None` for a reason that does not name one of these causes.
    ///
    /// `TerminationByKubelet` covers pressure, shutdown and critical preemption alike; the pod's own reason says
    /// which, so ask with that first.
    pub fn from_reason(reason: &str) -> Option<InfraCause> {
        match reason {
            "OOMKilled" => Some(InfraCause::OomKilled),
            "Evicted" | "EvictionByEvictionAPI" | "TerminationByKubelet" => Some(InfraCause::Evicted),
            "Preempting" | "Preempted" | "PreemptionByScheduler" => Some(InfraCause::Preempted),
            "NodeLost" | "DeletionByTaintManager" | "DeletionByPodGC" => Some(InfraCause::NodeLost),
            "NodeShutdown" | "Terminated" => Some(InfraCause::NodeShutdown),
            "DeadlineExceeded" => Some(InfraCause::Deadline),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_json_and_in_text() {
        for cause in [
            InfraCause::OomKilled,
            InfraCause::Evicted,
            InfraCause::Preempted,
            InfraCause::Suspended,
            InfraCause::NodeLost,
            InfraCause::NodeShutdown,
            InfraCause::Deadline,
            InfraCause::Deleted,
        ] {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
        }
    }

    #[test]
    fn an_ordinary_exit_has_no_cause() {
        assert_eq!(InfraCause::from_reason("Error"), None);
        assert_eq!(InfraCause::from_reason("Completed"), None);
    }

    #[test]
    fn reads_the_reasons_of_kubernetes() {
        for (reason, cause) in [
            ("OOMKilled", InfraCause::OomKilled),
            ("Evicted", InfraCause::Evicted),
            ("EvictionByEvictionAPI", InfraCause::Evicted),
            ("TerminationByKubelet", InfraCause::Evicted),
            ("Preempting", InfraCause::Preempted),
            ("PreemptionByScheduler", InfraCause::Preempted),
            ("NodeLost", InfraCause::NodeLost),
            ("DeletionByTaintManager", InfraCause::NodeLost),
            ("DeletionByPodGC", InfraCause::NodeLost),
            ("NodeShutdown", InfraCause::NodeShutdown),
            ("Terminated", InfraCause::NodeShutdown),
            ("DeadlineExceeded", InfraCause::Deadline),
        ] {
            assert_eq!(InfraCause::from_reason(reason), Some(cause), "{reason}");
        }
    }

    #[test]
    fn only_the_state_of_the_job_may_change_after_its_container_ended() {
        for cause in [InfraCause::Suspended, InfraCause::Deadline, InfraCause::Deleted] {
            assert!(cause.is_of_the_job());
        }
        for cause in [InfraCause::OomKilled, InfraCause::Evicted, InfraCause::NodeLost] {
            assert!(!cause.is_of_the_job());
        }
    }
}
