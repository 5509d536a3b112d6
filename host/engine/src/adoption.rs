//! Adopts a run that another host started and whose journal is not available: a Secret that the run's Job owns contains a
//! [`RecoveryRecord`], and the Lease of its guard names the host that drives it.

use paperclip_contract::types::{AcquireGuard, NewSecret, Request, SecretEntry, SecretSource};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::intake::Secrets;
use crate::lease;
use crate::ledger::without_prompt;

/// The entry of a run's Secret that contains its [`RecoveryRecord`].
pub const RECOVERY_KEY: &str = "paperclip-run.json";
/// A longer record is left out: only a host that has the run's journal can then resume the run.
const RECORD_MAX_BYTES: usize = 128 << 10;
/// A Secret with a longer prompt gets no record: Kubernetes accepts 1 MiB, and variables may be half of that.
const PROMPT_MAX_BYTES: usize = 256 << 10;

/// What a host needs to adopt a run without its journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryRecord {
    agent: Value,
    runtime: Value,
    /// The agent's config, without the secrets in its `env`.
    pub config: Map<String, Value>,
    context: Value,
    /// Name of the Lease by which runs of the agent exclude one another.
    pub lease: String,
    /// The Secret that contains this record, with the source of each value.
    pub secret: NewSecret,
}

impl RecoveryRecord {
    fn new(request: &Request, guard: &AcquireGuard, secret: &NewSecret) -> RecoveryRecord {
        let parse = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
        let mut config = parse(&request.config_json);
        let env = request.config_env.iter().map(|entry| (entry.name.clone(), json!(entry.value)));
        config.insert("env".to_owned(), Value::Object(env.collect()));
        let agent = &request.agent;
        // The values that are masked are those of the first host, whatever this one would mask.
        let masked = request.masked_env.iter().map(|name| (name.clone(), json!({"type": "secret_ref"})));
        let masked: Map<String, Value> = masked.collect();
        let named = without_prompt(secret);
        let secret = named.unwrap_or_else(|| NewSecret { entries: Vec::new(), ..secret.clone() });
        RecoveryRecord {
            agent: json!({
                "id": agent.id, "companyId": agent.company_id, "name": agent.name, "adapterType": agent.adapter_type,
                "adapterConfig": {"env": masked},
            }),
            runtime: Value::Object(parse(&request.runtime_json)),
            config,
            context: Value::Object(parse(&request.context_json)),
            lease: lease::lease_name(&guard.key),
            secret,
        }
    }

    /// Parses the text of a record.
    ///
    /// # Errors
    /// The text is not a record.
    pub fn parse(text: &str) -> Result<RecoveryRecord, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Returns the agent type whose plugin drives the run.
    pub fn adapter_type(&self) -> &str {
        self.agent["adapterType"].as_str().unwrap_or_default()
    }

    /// Returns the execution context as Paperclip would send it again, for the run that has the Job now.
    pub fn into_context(self, run_id: &str, secrets: &Secrets) -> Value {
        let RecoveryRecord { agent, runtime, mut config, context, .. } = self;
        if let Some(env) = config.get_mut("env").and_then(Value::as_object_mut) {
            for (name, value) in env {
                if let Some(secret) = secrets.resolve(&SecretSource::ConfigEnv(name.clone())) {
                    *value = json!(secret);
                }
            }
        }
        json!({
            "runId": run_id,
            "agent": agent,
            "runtime": runtime,
            "config": config,
            "context": context,
            "authToken": secrets.auth_token(),
        })
    }
}

/// Adds the run's recovery record to its Secret if the prompt and the record are small enough. A run without a guard gets none: no Lease would show
/// whether a host still drives it.
pub(crate) fn with_recovery_record(
    secret: NewSecret,
    request: &Request,
    guard: Option<&AcquireGuard>,
) -> NewSecret {
    let prompt_bytes: usize = secret.entries.iter().map(|entry| prompt_bytes(&entry.source)).sum();
    let Some(guard) = guard.filter(|_| prompt_bytes <= PROMPT_MAX_BYTES) else { return secret };
    let text = serde_json::to_string(&RecoveryRecord::new(request, guard, &secret)).unwrap_or_default();
    if text.is_empty() || text.len() > RECORD_MAX_BYTES {
        return secret;
    }
    let mut secret = secret;
    // The record has no secrets. A prompt's text is written unchanged, and so is this.
    secret.entries.push(SecretEntry { key: RECOVERY_KEY.to_owned(), source: SecretSource::Prompt(text) });
    secret
}

fn prompt_bytes(source: &SecretSource) -> usize {
    match source {
        SecretSource::Prompt(text) => text.len(),
        SecretSource::AuthToken
        | SecretSource::ConfigEnv(_)
        | SecretSource::PaperclipPodEnv(_)
        | SecretSource::Json(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use paperclip_contract::types::ObjectRef;

    use super::*;
    use crate::intake::{self, IntakeFacts};

    fn context() -> Value {
        json!({
            "runId": "r", "authToken": "the-token",
            "agent": {"id": "a", "companyId": "c", "name": "Nova", "adapterType": "t"},
            "runtime": {"sessionId": "s"},
            "config": {"timeoutSec": 60, "env": {"KEY": "the-key", "SEEN": "seen", "DROPPED": "x"}},
            "context": {"taskId": "T-1"},
        })
    }

    fn secret(prompt: &str) -> NewSecret {
        let entry = |key: &str, source| SecretEntry { key: key.to_owned(), source };
        NewSecret {
            namespace: "n".into(),
            name: "j-run".into(),
            labels: Vec::new(),
            owner: ObjectRef { namespace: "n".into(), name: "j".into(), uid: "u".into() },
            entries: vec![
                entry("PAPERCLIP_API_KEY", SecretSource::AuthToken),
                entry("KEY", SecretSource::ConfigEnv("KEY".to_owned())),
                entry("prompt.txt", SecretSource::Prompt(prompt.to_owned())),
            ],
        }
    }

    fn guard() -> AcquireGuard {
        AcquireGuard { key: "k".into(), namespace: "n".into(), wait_ms: 5 }
    }

    fn request() -> (Request, Secrets) {
        let revealed = ["SEEN".to_owned()];
        let facts = IntakeFacts { revealed_env: &revealed, ..IntakeFacts::bare(None) };
        intake::split(&context(), "t", facts).expect("a good context")
    }

    #[test]
    fn a_record_restores_the_context_with_the_values_of_its_secret() {
        let (mut request, secrets) = request();
        request.masked_env = vec!["KEY".to_owned()];
        let kept = with_recovery_record(secret("the prompt"), &request, Some(&guard()));
        let last = kept.entries.last().expect("it has entries");
        let SecretSource::Prompt(text) = &last.source else { panic!("{last:?}") };
        assert_eq!(last.key, RECOVERY_KEY);
        assert!(!text.contains("the-token") && !text.contains("the-key") && !text.contains("the prompt"));

        let record = RecoveryRecord::parse(text).expect("its own text");
        assert_eq!(record.lease, lease::lease_name("k"));
        let read = record.secret.entries.iter().filter_map(|entry| {
            secrets.resolve(&entry.source).map(|value| (entry.source.clone(), value.into_owned()))
        });
        let read = Secrets::of(read);
        let mut expected = context();
        expected["runId"] = json!("r2");
        expected["agent"]["adapterConfig"] = json!({"env": {"KEY": {"type": "secret_ref"}}});
        // The Secret does not have it, because the pod was not given it.
        expected["config"]["env"]["DROPPED"] = Value::Null;
        assert_eq!(record.into_context("r2", &read), expected);
    }

    #[test]
    fn adds_no_record_without_a_guard_or_beyond_a_size_limit() {
        let (request, _) = request();
        let long = secret(&"x".repeat(PROMPT_MAX_BYTES + 1));
        assert_eq!(with_recovery_record(long.clone(), &request, Some(&guard())), long);
        assert_eq!(with_recovery_record(secret("p"), &request, None), secret("p"));
        let verbose =
            Request { context_json: json!({"x": "x".repeat(RECORD_MAX_BYTES)}).to_string(), ..request };
        assert_eq!(with_recovery_record(secret("p"), &verbose, Some(&guard())), secret("p"));
    }
}
