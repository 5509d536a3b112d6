//! Why the infrastructure ended a pod, read from the words Kubernetes uses for it.

use serde::{Deserialize, Serialize};

/// What ended the pod or its container, if it was not the agent itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InfraCause {
    /// The kernel killed the container: its memory limit was reached.
    OomKilled,
    /// The kubelet or the eviction API removed the pod.
    Evicted,
    /// A pod of higher priority took the place.
    Preempted,
    /// The node stopped answering or is gone.
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
            InfraCause::NodeLost => "node_lost",
            InfraCause::NodeShutdown => "node_shutdown",
            InfraCause::Deadline => "deadline",
            InfraCause::Deleted => "deleted",
        }
    }

    /// Whether a run that had not begun its work may simply be started again: the cluster took the pod away,
    /// neither a person nor a clock did.
    pub const fn may_be_retried(self) -> bool {
        match self {
            InfraCause::OomKilled
            | InfraCause::Evicted
            | InfraCause::Preempted
            | InfraCause::NodeLost
            | InfraCause::NodeShutdown => true,
            InfraCause::Deadline | InfraCause::Deleted => false,
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
    fn what_the_cluster_did_may_be_retried_and_what_a_clock_or_a_person_did_may_not() {
        for (reason, cause, may_be_retried) in [
            ("OOMKilled", InfraCause::OomKilled, true),
            ("Evicted", InfraCause::Evicted, true),
            ("EvictionByEvictionAPI", InfraCause::Evicted, true),
            ("TerminationByKubelet", InfraCause::Evicted, true),
            ("Preempting", InfraCause::Preempted, true),
            ("PreemptionByScheduler", InfraCause::Preempted, true),
            ("NodeLost", InfraCause::NodeLost, true),
            ("DeletionByTaintManager", InfraCause::NodeLost, true),
            ("DeletionByPodGC", InfraCause::NodeLost, true),
            ("NodeShutdown", InfraCause::NodeShutdown, true),
            ("Terminated", InfraCause::NodeShutdown, true),
            ("DeadlineExceeded", InfraCause::Deadline, false),
        ] {
            assert_eq!(InfraCause::from_reason(reason), Some(cause), "{reason}");
            assert_eq!(cause.may_be_retried(), may_be_retried, "{reason}");
        }
        assert!(!InfraCause::Deleted.may_be_retried());
    }
}
