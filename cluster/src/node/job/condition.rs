//! The conditions in a Job's status.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Suspended,
    FailureTarget,
    SuccessCriteriaMet,
    Failed,
    Complete,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Suspended => "Suspended",
            Kind::FailureTarget => "FailureTarget",
            Kind::SuccessCriteriaMet => "SuccessCriteriaMet",
            Kind::Failed => "Failed",
            Kind::Complete => "Complete",
        }
    }
}

/// How a Job ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    CompletionsReached,
    BackoffLimitExceeded,
    DeadlineExceeded,
}

impl Verdict {
    /// The verdict that the status already contains.
    pub(super) fn standing(status: &JobStatus) -> Option<Verdict> {
        let conditions = status.conditions.as_deref().unwrap_or_default();
        conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
            match (condition.type_.as_str(), condition.reason.as_deref()) {
                ("SuccessCriteriaMet", _) => Some(Verdict::CompletionsReached),
                ("FailureTarget", Some("DeadlineExceeded")) => Some(Verdict::DeadlineExceeded),
                ("FailureTarget", _) => Some(Verdict::BackoffLimitExceeded),
                _ => None,
            }
        })
    }

    /// The condition while Pods may still run.
    pub(super) const fn target(self) -> Kind {
        match self {
            Verdict::CompletionsReached => Kind::SuccessCriteriaMet,
            Verdict::BackoffLimitExceeded | Verdict::DeadlineExceeded => Kind::FailureTarget,
        }
    }

    /// The condition when none does.
    pub(super) const fn conclusion(self) -> Kind {
        match self {
            Verdict::CompletionsReached => Kind::Complete,
            Verdict::BackoffLimitExceeded | Verdict::DeadlineExceeded => Kind::Failed,
        }
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Verdict::CompletionsReached => "CompletionsReached",
            Verdict::BackoffLimitExceeded => "BackoffLimitExceeded",
            Verdict::DeadlineExceeded => "DeadlineExceeded",
        }
    }

    pub(super) const fn message(self) -> &'static str {
        match self {
            Verdict::CompletionsReached => "Reached expected number of succeeded pods",
            Verdict::BackoffLimitExceeded => "Job has reached the specified backoff limit",
            Verdict::DeadlineExceeded => "Job was active longer than specified deadline",
        }
    }
}

pub(super) fn is_true(status: &JobStatus, kind: Kind) -> bool {
    find(status, kind).is_some_and(|condition| condition.status == "True")
}

/// When a finished Job finished.
pub(super) fn finish_time(status: &JobStatus) -> Option<Timestamp> {
    let ended = [Kind::Complete, Kind::Failed];
    let condition = ended.into_iter().find_map(|kind| find(status, kind).filter(|c| c.status == "True"))?;
    condition.last_transition_time.as_ref().map(|time| time.0)
}

/// Sets a condition; `false` if it was already so.
pub(super) fn set(
    status: &mut JobStatus,
    kind: Kind,
    value: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let value = if value { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let standing = conditions.iter().position(|condition| condition.type_ == kind.name());
    if standing.is_some_and(|at| conditions[at].status == value) {
        return false;
    }
    let condition = JobCondition {
        type_: kind.name().to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match standing {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    true
}

fn find(status: &JobStatus, kind: Kind) -> Option<&JobCondition> {
    status.conditions.as_deref().unwrap_or_default().iter().find(|c| c.type_ == kind.name())
}
