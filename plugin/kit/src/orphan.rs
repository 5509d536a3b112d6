//! Classifies orphans: unfinished Jobs of the same agent whose run has no host any more.

use std::collections::BTreeMap;

use crate::manifest::labels::{SESSION_ID, TASK_ID};

/// What an orphan's labels mean for this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// Its task and session are this run's: it is adopted.
    Reattach,
    /// Its task or this run's is unknown.
    BlockTaskUnknown,
    BlockTaskMismatch,
    BlockSessionMismatch,
}

impl Orphan {
    /// Returns the `errorCode` of a run that it blocks.
    pub fn error_code(self) -> Option<&'static str> {
        match self {
            Orphan::Reattach => None,
            Orphan::BlockTaskUnknown => Some("k8s_orphan_task_unknown"),
            Orphan::BlockTaskMismatch => Some("k8s_concurrent_run_blocked"),
            Orphan::BlockSessionMismatch => Some("k8s_orphan_session_mismatch"),
        }
    }

    /// Returns the error message of a run that this Job blocks.
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

/// Classifies a Job by its labels. `task` and `session` are this run's, as label values.
///
/// A Job is adopted only if both tasks are known and equal; two known sessions must be equal, too.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use paperclip_kit::orphan::{Orphan, classify};
///
/// let labels = BTreeMap::from([("paperclip.io/task-id".to_owned(), "T-1".to_owned())]);
/// assert_eq!(classify(&labels, Some("T-1"), None), Orphan::Reattach);
/// assert_eq!(classify(&labels, Some("T-2"), None), Orphan::BlockTaskMismatch);
/// ```
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
    fn classifies_every_pair_of_labels() {
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
