//! The names and labels that identify a run's objects.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::agent_type::AgentType;
use crate::config::ConcurrencyScope;
use crate::javascript::trim;
use crate::kubernetes::label::sanitized;
use crate::refusal::{AGENT_ID_INVALID, Refusal};
use crate::request::{Attempt, Request, text};

pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const COMPONENT: &str = "app.kubernetes.io/component";
pub const AGENT_ID: &str = "paperclip.io/agent-id";
pub const ADAPTER_TYPE: &str = "paperclip.io/adapter-type";
pub const RUN_ID: &str = "paperclip.io/run-id";
pub const COMPANY_ID: &str = "paperclip.io/company-id";
pub const TASK_ID: &str = "paperclip.io/task-id";
pub const SESSION_ID: &str = "paperclip.io/session-id";
pub const ATTEMPT: &str = "paperclip.io/attempt";

const SLUG_MAX_BYTES: usize = 16;
const HASH_HEX_DIGITS: usize = 6;
/// 64 bits: no two agents of a cluster share a guard by chance.
const GUARD_HASH_HEX_DIGITS: usize = 16;

/// A run's ids as label values. An id without any character that is legal in a label is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunLabels {
    pub agent_id: String,
    pub adapter_type: String,
    pub run_id: Option<String>,
    pub company_id: Option<String>,
    pub task_id: Option<String>,
    /// The session that this attempt resumes.
    pub session_id: Option<String>,
    pub attempt: u32,
}

impl RunLabels {
    /// Reads the ids of an attempt.
    ///
    /// # Errors
    /// The agent's id cannot be a label: its Jobs could not be selected.
    pub fn of(request: &Request, attempt: Attempt, agent_type: &dyn AgentType) -> Result<RunLabels, Refusal> {
        let agent_id = sanitized(&request.agent.id).ok_or_else(|| Refusal {
            code: AGENT_ID_INVALID.into(),
            field: "agent.id".into(),
            message: format!(
                "Agent ID \"{}\" cannot be sanitized to a valid Kubernetes label",
                request.agent.id
            ),
        })?;
        let session = request.runtime.session().filter(|_| !attempt.is_session_fresh);
        Ok(RunLabels {
            agent_id,
            adapter_type: sanitized(agent_type.adapter_type()).unwrap_or_default(),
            run_id: sanitized(&request.run_id),
            company_id: sanitized(&request.agent.company_id),
            task_id: task_id(request).and_then(sanitized),
            session_id: session.and_then(sanitized),
            attempt: attempt.number,
        })
    }

    /// Returns all labels, in the order in which they are shown.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let mut entries = vec![
            (MANAGED_BY, "paperclip".to_owned()),
            (COMPONENT, "agent-job".to_owned()),
            (AGENT_ID, self.agent_id.clone()),
            (ADAPTER_TYPE, self.adapter_type.clone()),
        ];
        let optional = [
            (RUN_ID, &self.run_id),
            (COMPANY_ID, &self.company_id),
            (TASK_ID, &self.task_id),
            (SESSION_ID, &self.session_id),
        ];
        entries.extend(optional.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))));
        if self.attempt > 1 {
            entries.push((ATTEMPT, self.attempt.to_string()));
        }
        entries
    }

    /// Returns the labels that all Jobs of this agent have, and no other Job.
    pub fn guard_selector(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([(AGENT_ID, self.agent_id.clone()), (ADAPTER_TYPE, self.adapter_type.clone())])
    }

    /// Returns the key of the guard that runs of this scope share; the host names a Lease by it. A run that excludes no other has one of its own, by which hosts agree
    /// which of them drives it.
    pub fn guard_key(&self, scope: ConcurrencyScope, run_id: &str) -> String {
        let (prefix, part) = match scope {
            ConcurrencyScope::Agent => ("paperclip-agent", ""),
            ConcurrencyScope::Task => ("paperclip-agent", self.task_id.as_deref().unwrap_or("")),
            ConcurrencyScope::None => ("paperclip-run", run_id),
        };
        let whole = format!("{}:{}:{part}", self.adapter_type, self.agent_id);
        format!("{prefix}-{}", &hex_digest(&whole)[..GUARD_HASH_HEX_DIGITS])
    }
}

/// Returns the id of the task that the agent works on, else of the issue.
pub fn task_id(request: &Request) -> Option<&str> {
    ["taskId", "issueId"]
        .into_iter()
        .filter_map(|key| text(&request.context, key))
        .map(trim)
        .find(|id| !id.is_empty())
}

/// Returns `<prefix>-<agent>-<run>-<6 hex digits>`, and `-2` after it for a second attempt.
pub fn job_name(prefix: &str, request: &Request, attempt: Attempt) -> String {
    let hash = hex_digest(&format!("{}:{}", request.agent.id, request.run_id));
    let name = format!(
        "{prefix}-{}-{}-{}",
        slug(&request.agent.id),
        slug(&request.run_id),
        &hash[..HASH_HEX_DIGITS]
    );
    if attempt.number > 1 { format!("{name}-{}", attempt.number) } else { name }
}

/// Returns the SHA-256 of a text in hexadecimal digits.
pub fn hex_digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn slug(id: &str) -> String {
    // By characters: `str::to_lowercase` has 4 KiB of code for the Greek sigma.
    let kept: String = id
        .chars()
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')
        .take(SLUG_MAX_BYTES)
        .collect();
    kept.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::name;
    use proptest::prelude::*;
    use serde_json::json;

    fn request(agent: &str, run: &str) -> Request {
        let mut request = Request { run_id: run.into(), ..Request::default() };
        request.agent.id = agent.into();
        request
    }

    #[test]
    fn job_names_have_prefix_agent_run_and_hash() {
        let name_of = |agent, run, attempt| job_name("ac", &request(agent, run), attempt);
        assert_eq!(
            name_of(
                "7d1d7b9c-4a8e-4f0e-9f27-1b2c3d4e5f60",
                "0b7c2f6e-1111-4222-8333-444455556666",
                Attempt::FIRST
            ),
            "ac-7d1d7b9c-4a8e-4f-0b7c2f6e-1111-42-a16acb"
        );
        assert!(name_of("Agent_One", "RUN 1", Attempt::FIRST).starts_with("ac-agentone-run1-"));
        assert!(name_of("abcdefghijklmno-p", "r", Attempt::FIRST).starts_with("ac-abcdefghijklmno-r-"));
        assert!(name_of("a", "b", Attempt::WITH_FRESH_SESSION).ends_with("-2"));
    }

    #[test]
    fn the_issue_replaces_a_blank_task() {
        let mut request = request("a", "r");
        for (context, expected) in [
            (json!({"taskId": "t", "issueId": "i"}), Some("t")),
            (json!({"taskId": "", "issueId": "i"}), Some("i")),
            (json!({"taskId": "  ", "issueId": " i "}), Some("i")),
            (json!({"taskId": 3}), None),
        ] {
            request.context = context.as_object().cloned().unwrap();
            assert_eq!(task_id(&request), expected, "{context}");
        }
    }

    proptest! {
        #[test]
        fn any_ids_make_a_name_that_kubernetes_accepts(agent in ".{0,80}", run in "[a-zA-Z0-9_.-]{0,80}") {
            for attempt in [Attempt::FIRST, Attempt::WITH_FRESH_SESSION] {
                prop_assert_eq!(name::dns_label(&job_name("ac", &request(&agent, &run), attempt)), Ok(()));
            }
        }
    }
}
