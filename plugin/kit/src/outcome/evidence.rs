//! What is known at the end of a run, apart from what its agent printed.

use serde::{Deserialize, Serialize};

use super::bounds::quoted;
use super::cause::InfraCause;
use super::result::Billing;
use super::session::Workspace;

/// Everything a judgement rests on beside the agent's output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// The operator or the server cancelled the run.
    pub is_cancelled: bool,
    /// The run's own clock (`timeoutSec`) ran out.
    pub is_timed_out: bool,
    /// The Job was stopped because its agent reported its end and then kept running.
    pub is_stopped_after_report: bool,
    /// The run was stopped because its agent type saw that the agent would not end by itself, and why.
    pub stopped_for: Option<String>,
    /// The run was stopped because its agent printed nothing for this many seconds (`quietTimeoutSec`).
    pub quiet_sec: Option<u64>,
    pub job: JobOutcome,
    /// The `terminated` state of the agent's container, if it was observed.
    pub container: Option<Termination>,
    /// The agent's container never started.
    pub has_never_started: bool,
    pub pod: PodEnd,
    /// The agent's log could not be read to its end, so its last output may be unknown.
    pub is_log_unread: bool,
    /// For the message about a Job that somebody deleted.
    pub deletion: DeletionTrace,
    /// Now, in milliseconds since 1970. Without it a reset given as a time of day has no date.
    pub at_ms: Option<i64>,
    pub run: RunFacts,
}

/// What the deletion of a Job by somebody else means, and what to do.
pub const DELETED_BY_OTHERS: &str =
    "somebody else deleted the Job or its pod, such as by `kubectl delete`; start the run again";

impl Evidence {
    /// Returns the agent's exit code, if it was observed and is not made up by the kubelet.
    pub fn exit_code(&self) -> Option<i32> {
        self.container.as_ref().and_then(Termination::known_exit_code)
    }

    /// Whether the agent's container exited with 0. A container that was out of memory did not, whatever its code.
    pub fn has_exited_with_0(&self) -> bool {
        self.exit_code() == Some(0) && !self.container.as_ref().is_some_and(Termination::is_out_of_memory)
    }

    /// The code with which the agent's container failed by itself: not 0, not a signal's, and not ours.
    pub fn own_failure(&self) -> Option<i32> {
        let code = self.container.as_ref()?.own_exit_code().filter(|code| *code != 0)?;
        let is_stopped_by_run = self.is_cancelled || self.is_timed_out || self.is_stopped_after_report;
        (!is_stopped_by_run && self.job != JobOutcome::DeadlineExceeded).then_some(code)
    }

    /// Whether the run's time or its Job's deadline passed before its container ended.
    pub fn has_timed_out(&self) -> bool {
        self.is_timed_out || self.job == JobOutcome::DeadlineExceeded && !self.has_ended_by_itself()
    }

    /// Whether the agent is known not to run any more.
    pub fn is_agent_end_observed(&self) -> bool {
        self.container.is_some() || self.has_never_started
    }

    fn has_ended_by_itself(&self) -> bool {
        self.container.as_ref().is_some_and(|container| container.own_exit_code().is_some())
    }

    /// Returns what the cluster did to the agent's container: the first cause that explains the container's end.
    ///
    /// A Job that was deleted, suspended or expired after its container had ended by itself is not a cause.
    pub fn cause(&self) -> Option<InfraCause> {
        let reason = self.container.as_ref().and_then(|container| container.reason.as_deref());
        let of_container = reason.and_then(InfraCause::from_reason);
        let of_job = match self.job {
            JobOutcome::DeadlineExceeded => Some(InfraCause::Deadline),
            JobOutcome::Deleted => Some(InfraCause::Deleted),
            JobOutcome::Unknown | JobOutcome::Complete | JobOutcome::Failed => None,
        };
        let explains_end = |cause: &InfraCause| !cause.is_of_the_job() || !self.has_ended_by_itself();
        of_container.or(self.pod.cause.filter(explains_end)).or(of_job.filter(explains_end))
    }

    /// Returns ` [pod: …]` with the container's end and what the cluster did to it, or nothing if there is nothing to say.
    pub fn pod_suffix(&self) -> String {
        let container = self.container.as_ref();
        let is_explained = self.cause().is_some_and(|cause| cause != InfraCause::Deleted);
        let is_ordinary = container.is_some_and(Termination::is_ordinary_success);
        let mut parts = match container {
            Some(container) if !is_ordinary => container.suffix_parts(is_explained),
            Some(_) | None => Vec::new(),
        };
        parts.extend(self.cause_part());
        parts.extend(self.unread_part());
        if parts.is_empty() { String::new() } else { format!(" [pod: {}]", parts.join(", ")) }
    }

    /// Describes an end of the container that was not observed, or returns `None` if it was.
    pub fn describe_unobserved_end(&self) -> Option<String> {
        if self.container.is_some() {
            return None;
        }
        let pod = &self.pod;
        Some(if pod.is_missing {
            "pod is gone — Job pod was removed (eviction, preemption, or external delete) before exit could be read"
                .to_owned()
        } else if pod.was_read {
            let state =
                pod.phase.as_ref().map_or("pod present".to_owned(), |phase| format!("pod phase={phase}"));
            format!(
                "container terminated state not yet observable ({state}) — kubelet status update did not land \
                 within retry window; exit cause unknown"
            )
        } else {
            "pod state unavailable — exit cause unknown".to_owned()
        })
    }

    /// That the log was not read, where nothing else says why.
    fn unread_part(&self) -> Option<String> {
        let is_explained = self.pod.is_missing || self.cause().is_some();
        (self.is_log_unread && !is_explained)
            .then(|| "the agent's log could not be read to its end".to_owned())
    }

    fn cause_part(&self) -> Option<String> {
        let cause = self.cause()?;
        let detail = self.pod.cause_message.as_deref().filter(|_| self.pod.cause == Some(cause));
        let detail = detail.map(|text| quoted(text, QUOTED_MESSAGE_CHARS)).filter(|text| !text.is_empty());
        Some(match detail {
            Some(detail) => format!("cause={} ({detail})", cause.as_str()),
            None if cause == InfraCause::Deleted => format!("cause=deleted: {DELETED_BY_OTHERS}"),
            None => format!("cause={}", cause.as_str()),
        })
    }
}

/// How the Job ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    /// No terminal condition was observed, for example because the container's end came first.
    #[default]
    Unknown,
    Complete,
    Failed,
    /// Failed with the reason `DeadlineExceeded`.
    DeadlineExceeded,
    /// Deleted, and not by this run.
    #[serde(rename = "gone")]
    Deleted,
}

/// A container's `terminated` state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Termination {
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub signal: Option<i32>,
}

/// How much of a termination message is quoted, in characters.
const QUOTED_MESSAGE_CHARS: usize = 200;
const EXIT_SIGKILL: i32 = 128 + 9;
/// The exit codes of processes that a signal ended.
const SIGNAL_EXITS: std::ops::RangeInclusive<i32> = 129..=159;
/// The kubelet lost the container and made the exit code 137 up.
const STATUS_UNKNOWN: &str = "ContainerStatusUnknown";
const OUT_OF_MEMORY: &str = "OOMKilled";
/// What the container runtime says of any exit, so that it explains none.
const GENERIC_REASON: &str = "Error";

impl Termination {
    fn has_reason(&self, reason: &str) -> bool {
        self.reason.as_deref() == Some(reason)
    }

    fn is_out_of_memory(&self) -> bool {
        self.has_reason(OUT_OF_MEMORY)
    }

    /// Returns the exit code, unless the kubelet made it up.
    pub fn known_exit_code(&self) -> Option<i32> {
        self.exit_code.filter(|_| !self.has_reason(STATUS_UNKNOWN))
    }

    /// Whether a signal ended the container.
    pub fn is_signalled(&self) -> bool {
        self.signal.is_some_and(|signal| signal != 0)
            || self.known_exit_code().is_some_and(|code| SIGNAL_EXITS.contains(&code))
    }

    /// The exit code of a container that ended by itself: no signal ended it, and it was not out of memory.
    fn own_exit_code(&self) -> Option<i32> {
        self.known_exit_code().filter(|_| !self.is_signalled() && !self.is_out_of_memory())
    }

    /// Exit code 0, and nothing else to say.
    fn is_ordinary_success(&self) -> bool {
        let has_message = self.message.as_deref().is_some_and(|message| !message.trim().is_empty());
        self.own_exit_code() == Some(0) && !has_message
    }

    /// Describes the exit code, with the name of the signal that it reports. `is_explained`: what ended the container is
    /// known, so SIGKILL needs no guess.
    pub fn describe_exit(&self, is_explained: bool) -> String {
        let Some(code) = self.known_exit_code() else { return "exit code unknown".to_owned() };
        let Some(name) = signal_name(code) else { return format!("exit code {code}") };
        let is_reason_known =
            self.reason.as_deref().is_some_and(|reason| !reason.is_empty() && reason != GENERIC_REASON);
        let guess = match code {
            EXIT_SIGKILL if !is_explained && !is_reason_known => " (commonly OOMKilled)",
            _ => "",
        };
        format!("exit code {code}, {name}{guess}")
    }

    fn suffix_parts(&self, is_explained: bool) -> Vec<String> {
        let reason = self.reason.as_deref().filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| format!("reason={reason}"));
        let message = quoted(self.message.as_deref().unwrap_or_default(), QUOTED_MESSAGE_CHARS);
        let message = (!message.is_empty()).then(|| format!("message={message}"));
        let signal = self.signal.filter(|signal| *signal != 0).map(|signal| format!("signal={signal}"));
        let exit = Some(self.describe_exit(is_explained));
        [exit, reason, message, signal].into_iter().flatten().collect()
    }
}

/// Returns the name of the signal that an exit code reports, if it is one that ends agents.
fn signal_name(code: i32) -> Option<&'static str> {
    Some(match code - 128 {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// The last observed state of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodEnd {
    pub phase: Option<String>,
    /// A read found no pod.
    pub is_missing: bool,
    /// Whether a read was answered at all.
    pub was_read: bool,
    pub cause: Option<InfraCause>,
    /// `pod.status.message`, for example which resource the node ran out of.
    pub cause_message: Option<String>,
}

/// What was observed of a Job before it vanished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletionTrace {
    /// How the deletion was noticed: `job-watch-deleted`, `job-read-404`, ...
    pub detected_via: Option<String>,
    pub job: Option<String>,
    pub namespace: Option<String>,
    /// Whole seconds from the pod's running until the deletion was noticed.
    pub pod_running_sec: Option<u64>,
    /// How often the Job's state was observed before, by watch or read.
    pub job_observations: Option<u32>,
    pub last_job_conditions: Vec<JobCondition>,
}

/// A condition of a Job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobCondition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: Option<String>,
}

impl DeletionTrace {
    /// Returns the facts in brackets, the first of them `detected_via=`. `stdout_bytes` are bytes of UTF-8.
    pub fn describe(&self, stdout_bytes: u64, stdout_nonempty_lines: u64) -> String {
        const UNKNOWN: &str = "unknown";
        let seconds = self.pod_running_sec.map_or(UNKNOWN.to_owned(), |seconds| format!("{seconds}s"));
        let observed = self.job_observations.map_or(UNKNOWN.to_owned(), |count| count.to_string());
        format!(
            "[detected_via={}, job={}, ns={}, elapsed_since_pod_running={seconds}, completion_polls={observed}, \
             last_job_conditions={}, stdout_bytes={stdout_bytes}, stdout_nonempty_lines={stdout_nonempty_lines}]",
            self.detected_via.as_deref().unwrap_or(UNKNOWN),
            self.job.as_deref().unwrap_or(UNKNOWN),
            self.namespace.as_deref().unwrap_or(UNKNOWN),
            self.describe_conditions(),
        )
    }

    fn describe_conditions(&self) -> String {
        if self.last_job_conditions.is_empty() {
            return "none_observed".to_owned();
        }
        let conditions = self.last_job_conditions.iter().map(|condition| match &condition.reason {
            Some(reason) => format!("{}={}({reason})", condition.kind, condition.status),
            None => format!("{}={}", condition.kind, condition.status),
        });
        format!("[{}]", conditions.collect::<Vec<_>>().join(","))
    }
}

/// What the run's configuration and context say about its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunFacts {
    /// `config.timeoutSec`; 0 is no timeout.
    pub timeout_sec: f64,
    /// `config.model`.
    pub model: Option<String>,
    pub billing: Billing,
    /// The session of the task before this run.
    pub previous_session_id: Option<String>,
    /// The session that this attempt resumes.
    pub resumed_session_id: Option<String>,
    pub workspace: Workspace,
    /// `config.retryFreshSession`.
    pub may_retry_fresh_session: bool,
    /// This attempt is the retry with a fresh session.
    pub is_fresh_retry: bool,
}

impl Default for RunFacts {
    fn default() -> RunFacts {
        RunFacts {
            timeout_sec: 0.0,
            model: None,
            billing: Billing::default(),
            previous_session_id: None,
            resumed_session_id: None,
            workspace: Workspace::default(),
            may_retry_fresh_session: true,
            is_fresh_retry: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit_code: i32, reason: &str) -> Evidence {
        Evidence {
            container: Some(Termination {
                exit_code: Some(exit_code),
                reason: Some(reason.to_owned()),
                ..Termination::default()
            }),
            ..Evidence::default()
        }
    }

    #[test]
    fn names_the_signal_of_an_exit_code() {
        for (code, reason, expected) in [
            (137, "OOMKilled", " [pod: exit code 137, SIGKILL, reason=OOMKilled, cause=oom_killed]"),
            (137, "Error", " [pod: exit code 137, SIGKILL (commonly OOMKilled), reason=Error]"),
            (137, "", " [pod: exit code 137, SIGKILL (commonly OOMKilled)]"),
            (137, "ContainerStatusUnknown", " [pod: exit code unknown, reason=ContainerStatusUnknown]"),
            (143, "Error", " [pod: exit code 143, SIGTERM, reason=Error]"),
            (129, "Error", " [pod: exit code 129, SIGHUP, reason=Error]"),
            (159, "Error", " [pod: exit code 159, reason=Error]"),
            (1, "Error", " [pod: exit code 1, reason=Error]"),
            (0, "Completed", ""),
            (0, "OOMKilled", " [pod: exit code 0, reason=OOMKilled, cause=oom_killed]"),
        ] {
            assert_eq!(ended(code, reason).pod_suffix(), expected);
        }
        let mut evidence = ended(143, "Error");
        evidence.container.as_mut().unwrap().signal = Some(15);
        assert_eq!(evidence.pod_suffix(), " [pod: exit code 143, SIGTERM, reason=Error, signal=15]");
    }

    #[test]
    fn distinguishes_own_exits_from_signals_and_made_up_codes() {
        for (code, reason, own, known) in [
            (0, "Completed", Some(0), Some(0)),
            (1, "Error", Some(1), Some(1)),
            (128, "Error", Some(128), Some(128)),
            (129, "Error", None, Some(129)),
            (159, "Error", None, Some(159)),
            (160, "Error", Some(160), Some(160)),
            (1, "OOMKilled", None, Some(1)),
            (137, "ContainerStatusUnknown", None, None),
        ] {
            let evidence = ended(code, reason);
            assert_eq!(evidence.container.as_ref().unwrap().own_exit_code(), own, "{code} {reason}");
            assert_eq!(evidence.exit_code(), known, "{code} {reason}");
        }
        let mut signalled = ended(1, "Error");
        signalled.container.as_mut().unwrap().signal = Some(9);
        assert_eq!(signalled.own_failure(), None);
        signalled.container.as_mut().unwrap().signal = Some(0);
        assert_eq!(signalled.own_failure(), Some(1));
        assert!(ended(0, "Completed").has_exited_with_0() && !ended(0, "OOMKilled").has_exited_with_0());
    }

    #[test]
    fn a_failure_is_not_the_containers_own_if_the_run_stopped_it() {
        assert_eq!(ended(1, "Error").own_failure(), Some(1));
        assert_eq!(ended(0, "Completed").own_failure(), None);
        for change in [
            (|evidence| evidence.is_cancelled = true) as fn(&mut Evidence),
            |evidence| evidence.is_timed_out = true,
            |evidence| evidence.is_stopped_after_report = true,
            |evidence| evidence.job = JobOutcome::DeadlineExceeded,
        ] {
            let mut evidence = ended(1, "Error");
            change(&mut evidence);
            assert_eq!(evidence.own_failure(), None);
        }
    }

    #[test]
    fn a_job_that_expired_after_its_container_ended_did_not_time_out() {
        let expired = |mut evidence: Evidence| {
            evidence.job = JobOutcome::DeadlineExceeded;
            (evidence.has_timed_out(), evidence.cause())
        };
        assert_eq!(expired(Evidence::default()), (true, Some(InfraCause::Deadline)));
        assert_eq!(expired(ended(143, "Error")), (true, Some(InfraCause::Deadline)));
        assert_eq!(expired(ended(1, "Error")), (false, None));
        assert!(Evidence { is_timed_out: true, ..ended(1, "Error") }.has_timed_out());
    }

    #[test]
    fn describes_an_unobserved_end_by_the_pod() {
        let mut evidence = Evidence::default();
        let described = |evidence: &Evidence| evidence.describe_unobserved_end().unwrap();
        assert_eq!(described(&evidence), "pod state unavailable — exit cause unknown");
        evidence.pod.was_read = true;
        assert!(
            described(&evidence)
                .starts_with("container terminated state not yet observable (pod present) — ")
        );
        evidence.pod.phase = Some("Running".to_owned());
        assert!(described(&evidence).contains("(pod phase=Running)"));
        evidence.pod.is_missing = true;
        assert!(described(&evidence).starts_with("pod is gone — "));
        assert_eq!(evidence.pod_suffix(), "");
        assert_eq!(ended(1, "Error").describe_unobserved_end(), None);
    }

    #[test]
    fn the_first_cause_that_explains_the_containers_end_counts() {
        let mut evidence = ended(137, "OOMKilled");
        evidence.pod.cause = Some(InfraCause::Evicted);
        assert_eq!(evidence.cause(), Some(InfraCause::OomKilled));
        let mut evidence = ended(137, "Error");
        evidence.pod.cause = Some(InfraCause::Evicted);
        evidence.pod.cause_message = Some("The node was low on resource: memory.".to_owned());
        assert_eq!(
            evidence.pod_suffix(),
            " [pod: exit code 137, SIGKILL, reason=Error, cause=evicted (The node was low on resource: memory.)]"
        );
        for cause in [InfraCause::Deleted, InfraCause::Suspended, InfraCause::Deadline] {
            let mut evidence = ended(1, "Error");
            evidence.pod.cause = Some(cause);
            assert_eq!(evidence.cause(), None, "{cause:?}");
            evidence.container.as_mut().unwrap().exit_code = Some(143);
            assert_eq!(evidence.cause(), Some(cause));
        }
        let deleted = Evidence { job: JobOutcome::Deleted, ..Evidence::default() };
        assert_eq!(deleted.cause(), Some(InfraCause::Deleted));
    }

    #[test]
    fn a_cause_without_a_container_is_named() {
        let mut evidence = Evidence::default();
        evidence.pod.cause = Some(InfraCause::NodeLost);
        assert_eq!(evidence.pod_suffix(), " [pod: cause=node_lost]");
    }

    #[test]
    fn an_unread_log_is_named_where_nothing_else_explains_it() {
        let mut evidence = ended(1, "Error");
        evidence.is_log_unread = true;
        let unread = ", the agent's log could not be read to its end]";
        assert!(evidence.pod_suffix().ends_with(unread));
        evidence.pod.is_missing = true;
        assert!(!evidence.pod_suffix().ends_with(unread));
        evidence.pod = PodEnd { cause: Some(InfraCause::Evicted), ..PodEnd::default() };
        assert!(!evidence.pod_suffix().ends_with(unread));
    }

    #[test]
    fn quotes_a_termination_message_and_cuts_a_long_one() {
        let mut evidence = ended(1, "Error");
        evidence.container.as_mut().unwrap().message = Some("no\nspace".to_owned());
        assert_eq!(evidence.pod_suffix(), " [pod: exit code 1, reason=Error, message=no space]");
        evidence.container.as_mut().unwrap().message = Some("m".repeat(5000));
        assert!(evidence.pod_suffix().len() < 300);
    }

    #[test]
    fn describes_a_deletion_by_what_was_observed() {
        let trace = DeletionTrace {
            detected_via: Some("job-watch-deleted".to_owned()),
            job: Some("ac-a-b-c".to_owned()),
            namespace: Some("agents".to_owned()),
            pod_running_sec: Some(42),
            job_observations: Some(7),
            last_job_conditions: vec![JobCondition {
                kind: "Suspended".to_owned(),
                status: "False".to_owned(),
                reason: Some("JobResumed".to_owned()),
            }],
        };
        assert_eq!(
            trace.describe(12, 3),
            "[detected_via=job-watch-deleted, job=ac-a-b-c, ns=agents, elapsed_since_pod_running=42s, \
             completion_polls=7, last_job_conditions=[Suspended=False(JobResumed)], stdout_bytes=12, \
             stdout_nonempty_lines=3]"
        );
        assert!(DeletionTrace::default().describe(0, 0).contains("last_job_conditions=none_observed"));
    }
}
