//! Finished evidence as one JSON document: the input of `paperclip-host classify`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::cause::InfraCause;
use super::evidence::{Evidence, JobOutcome, PodEnd, RunFacts, Termination};
use crate::manifest::termination;

/// `{"config":{},"stdout":"...","job":{"outcome":"failed"},"container":null,"pod":{"phase":"Running","missing":false}}`
///
/// `outcome` is one of `complete`, `failed`, `deadline_exceeded`, `gone`. A container is
/// `{"exitCode","reason","message","signal"}`. Optional: `atMs` (when, in milliseconds since 1970), `cancelled`, `timedOut`,
/// `stoppedAfterReport`, `stoppedFor`, `quietSec`, `previousSessionId`, and in `pod` `reason` and `message` as in a pod's status.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EvidenceDocument {
    pub config: Map<String, Value>,
    pub stdout: String,
    stderr: Option<String>,
    job: Option<JobDocument>,
    container: Option<Termination>,
    pod: Option<PodDocument>,
    at_ms: Option<i64>,
    cancelled: bool,
    timed_out: bool,
    stopped_after_report: bool,
    stopped_for: Option<String>,
    quiet_sec: Option<u64>,
    previous_session_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JobDocument {
    outcome: JobOutcome,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodDocument {
    phase: Option<String>,
    missing: bool,
    reason: Option<String>,
    message: Option<String>,
}

impl EvidenceDocument {
    /// Parses a document.
    ///
    /// # Errors
    /// What is wrong with the document, and where.
    pub fn parse(json: &str) -> Result<EvidenceDocument, String> {
        serde_json::from_str(json).map_err(|error| {
            format!("evidence: {error}; expected {{\"config\", \"stdout\", \"job\": {{\"outcome\"}}, \"container\", \"pod\"}}")
        })
    }

    /// Returns the tail of the agent's standard error, else of the container's termination message, where a run has it.
    pub fn stderr(&self) -> &str {
        if let Some(stderr) = &self.stderr {
            return stderr;
        }
        let message = self.container.as_ref().and_then(|container| container.message.as_deref());
        termination::split(message.unwrap_or_default()).1.unwrap_or_default()
    }

    /// Converts the document to evidence. `run` is what its `config` says about the agent type, `at_ms` the time of the
    /// judgement, in milliseconds since 1970, where the document has none.
    pub fn evidence(&self, at_ms: i64, run: RunFacts) -> Evidence {
        let pod = self.pod.as_ref().map_or_else(PodEnd::default, |pod| PodEnd {
            phase: pod.phase.clone(),
            is_missing: pod.missing,
            was_read: true,
            cause: pod.reason.as_deref().and_then(InfraCause::from_reason),
            cause_message: pod.message.clone(),
        });
        Evidence {
            is_cancelled: self.cancelled,
            is_timed_out: self.timed_out,
            is_stopped_after_report: self.stopped_after_report,
            stopped_for: self.stopped_for.clone(),
            quiet_sec: self.quiet_sec,
            job: self.job.as_ref().map_or(JobOutcome::Unknown, |job| job.outcome),
            container: self.container.clone().map(without_stderr),
            pod,
            at_ms: Some(self.at_ms.unwrap_or(at_ms)),
            run: RunFacts { previous_session_id: self.previous_session_id.clone(), ..run },
            ..Evidence::default()
        }
    }
}

fn without_stderr(mut container: Termination) -> Termination {
    container.message = container.message.map(|message| termination::split(&message).0.trim().to_owned());
    container.message = container.message.filter(|message| !message.is_empty());
    container
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_becomes_evidence() {
        let document = EvidenceDocument::parse(
            r#"{"config":{"model":"m"},"stdout":"x","job":{"outcome":"gone"},"container":null,
                "pod":{"phase":"Failed","missing":false,"reason":"Evicted","message":"low on memory"}}"#,
        )
        .unwrap();
        let evidence = document.evidence(7, RunFacts::default());
        assert_eq!(evidence.at_ms, Some(7));
        assert_eq!(evidence.job, JobOutcome::Deleted);
        assert_eq!(evidence.exit_code(), None);
        assert_eq!(evidence.cause(), Some(InfraCause::Evicted));
        assert!(evidence.pod.was_read);
    }

    #[test]
    fn a_document_names_how_the_run_was_stopped_and_its_previous_session() {
        let document = EvidenceDocument::parse(
            r#"{"cancelled":true,"timedOut":true,"stoppedAfterReport":true,"quietSec":5,"atMs":3,"previousSessionId":"s",
                "pod":{"missing":true}}"#,
        )
        .unwrap();
        let run = RunFacts { timeout_sec: 9.0, ..RunFacts::default() };
        assert_eq!(
            document.evidence(7, run.clone()),
            Evidence {
                is_cancelled: true,
                is_timed_out: true,
                is_stopped_after_report: true,
                quiet_sec: Some(5),
                at_ms: Some(3),
                pod: PodEnd { is_missing: true, was_read: true, ..PodEnd::default() },
                run: RunFacts { previous_session_id: Some("s".to_owned()), ..run },
                ..Evidence::default()
            }
        );
    }

    #[test]
    fn separates_standard_error_from_the_termination_message() {
        let message = format!("own words\n{}\nboom\n", termination::MARKER);
        let json = serde_json::json!({"container": {"exitCode": 1, "message": message}});
        let document = EvidenceDocument::parse(&json.to_string()).unwrap();
        assert_eq!(document.stderr(), "boom\n");
        let container = document.evidence(0, RunFacts::default()).container.unwrap();
        assert_eq!(container.message.as_deref(), Some("own words"));
    }

    #[test]
    fn refuses_what_is_not_evidence_and_names_the_place() {
        let error = EvidenceDocument::parse(r#"{"job":{"outcome":"lost"}}"#).unwrap_err();
        assert!(error.contains("unknown variant `lost`"), "{error}");
    }
}
