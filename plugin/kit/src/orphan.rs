//! What becomes of a live Job of the same agent that another run has left behind.

use std::collections::BTreeMap;

use crate::manifest::labels::{SESSION_ID, TASK_ID};

/// What the labels of a left-behind Job mean for this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// It does what this run was asked to do: go on with it.
    Reattach,
    /// Whether it does cannot be told.
    BlockTaskUnknown,
    BlockTaskMismatch,
    BlockSessionMismatch,
}

impl Orphan {
    /// The `errorCode` of a run that is blocked by it.
    pub fn error_code(self) -> Option<&'static str> {
        match self {
            Orphan::Reattach => None,
            Orphan::BlockTaskUnknown => Some("k8s_orphan_task_unknown"),
            Orphan::BlockTaskMismatch => Some("k8s_concurrent_run_blocked"),
            Orphan::BlockSessionMismatch => Some("k8s_orphan_session_mismatch"),
        }
    }

    /// What a run that is blocked by this Job says of it.
    pub fn error_message(self, job_name: &str) -> Option<String> {
        let what = match self {
            Orphan::Reattach => return None,
            Orphan::BlockTaskUnknown => "has unknown task context",
            Orphan::BlockTaskMismatch => "is running a different task",
            Orphan::BlockSessionMismatch => "has a mismatched session",
        };
        Some(format!("Concurrent run blocked: orphaned Job {job_name} {what}"))
    }
}

/// Judges a Job by its labels. `task` and `session` are this run's, as label values.
///
/// Only a known and equal task lets a Job be adopted, and then only two known sessions can tell it from this run's.
pub fn classify(job_labels: &BTreeMap<String, String>, task: Option<&str>, session: Option<&str>) -> Orphan {
    let of_job = |key: &str| job_labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let (Some(job_task), Some(task)) = (of_job(TASK_ID), task) else { return Orphan::BlockTaskUnknown };
    if job_task != task {
        return Orphan::BlockTaskMismatch;
    }
    match (of_job(SESSION_ID), session) {
        (Some(job_session), Some(session)) if job_session != session => Orphan::BlockSessionMismatch,
        _ => Orphan::Reattach,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_labels() {
        use Orphan::{BlockSessionMismatch, BlockTaskMismatch, BlockTaskUnknown, Reattach};
        let labels = |task: Option<&str>, session: Option<&str>| -> BTreeMap<String, String> {
            [(TASK_ID, task), (SESSION_ID, session)]
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
                .collect()
        };
        for (job, task, session, expected) in [
            (labels(None, None), Some("t"), None, BlockTaskUnknown),
            (labels(Some("t"), None), None, None, BlockTaskUnknown),
            (labels(Some(""), None), Some("t"), None, BlockTaskUnknown),
            (labels(Some("t"), Some("s")), Some("u"), Some("s"), BlockTaskMismatch),
            (labels(Some("t"), Some("s")), Some("t"), Some("r"), BlockSessionMismatch),
            (labels(Some("t"), Some("s")), Some("t"), Some("s"), Reattach),
            (labels(Some("t"), None), Some("t"), Some("s"), Reattach),
            (labels(Some("t"), Some("s")), Some("t"), None, Reattach),
        ] {
            let orphan = classify(&job, task, session);
            assert_eq!(orphan, expected, "{job:?} {task:?} {session:?}");
            assert_eq!(orphan.error_code().is_some(), orphan.error_message("j").is_some());
        }
    }
}
