//! What is known at the end of a run, apart from what its agent printed.

use serde::{Deserialize, Serialize};

use super::bounds::quoted;
use super::cause::InfraCause;
use super::session::Workspace;

/// Everything a judgement rests on beside the agent's output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// The operator or the server cancelled the run.
    pub is_cancelled: bool,
    /// The run's own clock (`timeoutSec`) ran out.
    pub is_timed_out: bool,
    pub job: JobOutcome,
    /// The agent's container as its `terminated` state tells it, if that was seen.
    pub container: Option<Termination>,
    pub pod: PodEnd,
    /// The agent's log could not be read to its end: of what it printed last, nothing may be known.
    pub is_log_unread: bool,
    /// For the message about a Job that somebody deleted.
    pub deletion: DeletionTrace,
    /// Now, in milliseconds since 1970. Without it a reset told as a time of day has no date.
    pub at_ms: Option<i64>,
    pub run: RunFacts,
}

impl Evidence {
    /// The agent's exit code, if it could be seen.
    pub fn exit_code(&self) -> Option<i32> {
        self.container.as_ref().and_then(|container| container.exit_code)
    }

    /// What the infrastructure did to the pod, as the pod or its container tells it.
    pub fn cause(&self) -> Option<InfraCause> {
        let reason = self.container.as_ref().and_then(|container| container.reason.as_deref());
        let told = reason.and_then(InfraCause::from_reason);
        let inferred = match self.job {
            JobOutcome::DeadlineExceeded => Some(InfraCause::Deadline),
            JobOutcome::Gone => Some(InfraCause::Deleted),
            JobOutcome::Unknown | JobOutcome::Complete | JobOutcome::Failed => None,
        };
        self.pod.cause.or(told).or(inferred)
    }

    /// ` [pod: …]`, or nothing if there is nothing to tell.
    pub fn pod_suffix(&self) -> String {
        let mut parts = self.container.as_ref().map(Termination::suffix_parts).unwrap_or_default();
        parts.extend(self.circumstances());
        if parts.is_empty() { String::new() } else { format!(" [pod: {}]", parts.join(", ")) }
    }

    /// Why an output stopped short: the container's end, or what is known in its place.
    pub fn describe_truncation(&self) -> String {
        let Some(container) = &self.container else { return self.describe_unseen_end() };
        let mut parts = container.truncation_parts();
        parts.extend(self.circumstances());
        parts.join(", ")
    }

    fn describe_unseen_end(&self) -> String {
        let pod = &self.pod;
        let text = if pod.is_missing {
            "pod is gone — Job pod was removed (eviction, preemption, or external delete) before exit could be read"
                .to_owned()
        } else if pod.was_looked_up {
            let state =
                pod.phase.as_ref().map_or("pod present".to_owned(), |phase| format!("pod phase={phase}"));
            format!(
                "container terminated state not yet observable ({state}) — kubelet status update did not land \
                 within retry window; exit cause unknown"
            )
        } else {
            "pod state unavailable — exit cause unknown".to_owned()
        };
        let parts = std::iter::once(text).chain(self.circumstances());
        parts.collect::<Vec<_>>().join(", ")
    }

    /// What an end is told with, whatever is known of it.
    fn circumstances(&self) -> impl Iterator<Item = String> {
        self.cause_part().into_iter().chain(self.unread_part())
    }

    /// That the log was not read, where nothing else says why.
    fn unread_part(&self) -> Option<String> {
        let is_explained = self.pod.is_missing || self.cause().is_some();
        (self.is_log_unread && !is_explained)
            .then(|| "the agent's log could not be read to its end".to_owned())
    }

    /// The cause, where the container's own reason does not name it already.
    fn cause_part(&self) -> Option<String> {
        let cause = self.pod.cause?;
        let reason = self.container.as_ref().and_then(|container| container.reason.as_deref());
        if reason.and_then(InfraCause::from_reason) == Some(cause) {
            return None;
        }
        let detail = self.pod.cause_message.as_deref().map(|text| quoted(text, TOLD_MESSAGE_CHARS));
        Some(match detail.filter(|text| !text.is_empty()) {
            Some(detail) => format!("cause={} ({detail})", cause.as_str()),
            None => format!("cause={}", cause.as_str()),
        })
    }
}

/// How the Job ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    /// No terminal condition was seen, for example because the container's end came first.
    #[default]
    Unknown,
    Complete,
    Failed,
    /// Failed with the reason `DeadlineExceeded`.
    DeadlineExceeded,
    /// Deleted, and not by this run.
    Gone,
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

/// How much of a termination message a line of text quotes, in characters.
const TOLD_MESSAGE_CHARS: usize = 200;
/// The exit codes of a process that a signal ended.
const EXIT_SIGKILL: i32 = 128 + 9;
const EXIT_SIGTERM: i32 = 128 + 15;
const SIGKILL_TEXT: &str = "SIGKILL (commonly OOMKilled)";

impl Termination {
    fn told_reason(&self) -> Option<String> {
        self.reason.as_deref().filter(|reason| !reason.is_empty()).map(|reason| format!("reason={reason}"))
    }

    fn told_message(&self) -> Option<String> {
        let text = quoted(self.message.as_deref().unwrap_or_default(), TOLD_MESSAGE_CHARS);
        (!text.is_empty()).then(|| format!("message={text}"))
    }

    fn suffix_parts(&self) -> Vec<String> {
        let signal = self.signal.map(|signal| format!("signal={signal}"));
        let killed = (self.exit_code == Some(EXIT_SIGKILL)).then(|| SIGKILL_TEXT.to_owned());
        [self.told_reason(), self.told_message(), signal, killed].into_iter().flatten().collect()
    }

    fn truncation_parts(&self) -> Vec<String> {
        let code = self.exit_code.map_or("no exit code".to_owned(), |code| format!("exit code {code}"));
        let name = match self.exit_code {
            Some(EXIT_SIGKILL) => Some(SIGKILL_TEXT.to_owned()),
            Some(EXIT_SIGTERM) => Some("SIGTERM".to_owned()),
            Some(_) | None => None,
        };
        let signal = self.signal.map(|signal| format!("signal {signal}"));
        [Some(code), name, signal, self.told_reason(), self.told_message()].into_iter().flatten().collect()
    }
}

/// The pod as it was last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodEnd {
    pub phase: Option<String>,
    /// A look-up found no pod.
    pub is_missing: bool,
    /// Whether a look-up was answered at all.
    pub was_looked_up: bool,
    pub cause: Option<InfraCause>,
    /// `pod.status.message`, for example which resource the node ran out of.
    pub cause_message: Option<String>,
}

/// What was seen of a Job before it vanished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeletionTrace {
    /// How the deletion was noticed: `job-watch-deleted`, `job-read-404`, ...
    pub detected_via: Option<String>,
    pub job: Option<String>,
    pub namespace: Option<String>,
    /// Whole seconds from the pod's running until the deletion was noticed.
    pub pod_running_sec: Option<u64>,
    /// How often the Job's state was seen before, by watch or read.
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
    /// The facts in brackets, beginning with `detected_via=`. `stdout_bytes` are bytes of UTF-8.
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
        let told = self.last_job_conditions.iter().map(|condition| match &condition.reason {
            Some(reason) => format!("{}={}({reason})", condition.kind, condition.status),
            None => format!("{}={}", condition.kind, condition.status),
        });
        format!("[{}]", told.collect::<Vec<_>>().join(","))
    }
}

/// What the run's configuration and context say about its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunFacts {
    /// `config.timeoutSec`; 0 is no timeout.
    pub timeout_sec: f64,
    /// `config.model`, where the agent did not name one.
    pub model: Option<String>,
    /// The agent's provider is AWS Bedrock.
    pub is_bedrock: bool,
    /// The session of the task before this run.
    pub previous_session_id: Option<String>,
    /// The session this attempt was told to resume.
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
            is_bedrock: false,
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
    fn a_well_known_exit_code_is_named() {
        assert_eq!(
            ended(137, "OOMKilled").describe_truncation(),
            "exit code 137, SIGKILL (commonly OOMKilled), reason=OOMKilled"
        );
        assert_eq!(ended(143, "Error").describe_truncation(), "exit code 143, SIGTERM, reason=Error");
        assert_eq!(ended(1, "Error").describe_truncation(), "exit code 1, reason=Error");
    }

    #[test]
    fn a_signal_stands_between_code_and_reason() {
        let mut evidence = ended(143, "Error");
        evidence.container.as_mut().unwrap().signal = Some(15);
        assert_eq!(evidence.describe_truncation(), "exit code 143, SIGTERM, signal 15, reason=Error");
        assert_eq!(evidence.pod_suffix(), " [pod: reason=Error, signal=15]");
    }

    #[test]
    fn an_end_that_was_not_seen_is_described_by_the_pod() {
        let mut evidence = Evidence::default();
        assert_eq!(evidence.describe_truncation(), "pod state unavailable — exit cause unknown");
        evidence.pod.was_looked_up = true;
        assert!(
            evidence
                .describe_truncation()
                .starts_with("container terminated state not yet observable (pod present) — ")
        );
        evidence.pod.phase = Some("Running".to_owned());
        assert!(evidence.describe_truncation().contains("(pod phase=Running)"));
        evidence.pod.is_missing = true;
        assert!(evidence.describe_truncation().starts_with("pod is gone — "));
        assert_eq!(evidence.pod_suffix(), "");
    }

    #[test]
    fn a_cause_is_told_once() {
        let mut evidence = ended(137, "OOMKilled");
        evidence.pod.cause = Some(InfraCause::OomKilled);
        assert_eq!(evidence.pod_suffix(), " [pod: reason=OOMKilled, SIGKILL (commonly OOMKilled)]");
        assert_eq!(evidence.cause(), Some(InfraCause::OomKilled));
        evidence.pod.cause = Some(InfraCause::Evicted);
        evidence.pod.cause_message = Some("The node was low on resource: memory.".to_owned());
        assert!(evidence.pod_suffix().ends_with(", cause=evicted (The node was low on resource: memory.)]"));
        assert_eq!(evidence.cause(), Some(InfraCause::Evicted));
    }

    #[test]
    fn a_cause_without_a_container_is_told_too() {
        let mut evidence = Evidence::default();
        evidence.pod.cause = Some(InfraCause::NodeLost);
        assert_eq!(evidence.pod_suffix(), " [pod: cause=node_lost]");
        assert!(evidence.describe_truncation().ends_with(", cause=node_lost"));
    }

    #[test]
    fn an_unread_log_is_told_where_nothing_else_explains_it() {
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
    fn a_termination_message_is_told_and_a_long_one_is_cut() {
        let mut evidence = ended(1, "Error");
        evidence.container.as_mut().unwrap().message = Some("no\nspace".to_owned());
        assert_eq!(evidence.pod_suffix(), " [pod: reason=Error, message=no space]");
        evidence.container.as_mut().unwrap().message = Some("m".repeat(5000));
        assert!(evidence.pod_suffix().len() < 300);
    }

    #[test]
    fn a_deletion_is_described_by_what_was_seen() {
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
