//! Adopts a run that another host started and whose journal is not available. What the run was asked to do is in its
//! [record](crate::run_record); the Secret that the run's Job owns has a [`RecoveryRecord`], which says what each of its values is, and, for
//! hosts of an earlier version, the former again. The Lease of the run's guard names the host that drives it.

use std::time::Duration;

use paperclip_contract::types::{AcquireGuard, NewSecret, Request, SecretEntry, SecretSource};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::intake::Secrets;
use crate::lease;
use crate::ledger::without_prompt;
use crate::redact::Redactor;
use crate::result::mask_value;
use crate::time::Timestamp;

/// The entry of a run's Secret that contains its [`RecoveryRecord`].
pub const RECOVERY_KEY: &str = "paperclip-run.json";
/// A Secret whose recovery record would be longer has one without the [`RecoveryData`].
const RECORD_MAX_BYTES: usize = 128 << 10;
/// The same for a Secret with a longer prompt: Kubernetes accepts 1 MiB, and variables may be half of that.
const PROMPT_MAX_BYTES: usize = 256 << 10;

/// What a run was asked to do, without secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryData {
    agent: Value,
    runtime: Value,
    /// The agent's config, without the secrets in its `env`.
    pub config: Map<String, Value>,
    context: Value,
}

impl RecoveryData {
    fn new(request: &Request) -> RecoveryData {
        let parse = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
        let mut config = parse(&request.config_json);
        let env = request.config_env.iter().map(|entry| (entry.name.clone(), json!(entry.value)));
        config.insert("env".to_owned(), Value::Object(env.collect()));
        let agent = &request.agent;
        // The values that are masked are those of the first host, whatever this one would mask.
        let masked = request.masked_env.iter().map(|name| (name.clone(), json!({"type": "secret_ref"})));
        let masked: Map<String, Value> = masked.collect();
        RecoveryData {
            agent: json!({
                "id": agent.id, "companyId": agent.company_id, "name": agent.name, "adapterType": agent.adapter_type,
                "adapterConfig": {"env": masked},
            }),
            runtime: Value::Object(parse(&request.runtime_json)),
            config,
            context: Value::Object(parse(&request.context_json)),
        }
    }

    /// Returns the text for the record of a run. A ConfigMap is not a Secret: the run's secret values are masked wherever they are.
    pub fn text_of(request: &Request, redactor: &Redactor) -> String {
        let RecoveryData { mut agent, mut runtime, config, mut context } = RecoveryData::new(request);
        let mut config = Value::Object(config);
        for part in [&mut agent, &mut runtime, &mut config, &mut context] {
            mask_value(part, redactor);
        }
        json!({"agent": agent, "runtime": runtime, "config": config, "context": context}).to_string()
    }

    /// Parses the text of a record.
    ///
    /// # Errors
    /// The text is no such record.
    pub fn parse(text: &str) -> Result<RecoveryData, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Takes the time for which the agent has run off its `timeoutSec`, if it has one. Returns it before and after, in seconds.
    pub fn shorten_timeout(&mut self, elapsed: Duration) -> Option<(u64, u64)> {
        let timeout = self.config.get_mut("timeoutSec")?;
        let timeout_s = timeout.as_u64().filter(|seconds| *seconds > 0)?;
        // 0 would be no limit.
        let remaining_s = timeout_s.saturating_sub(elapsed.as_secs()).max(1);
        *timeout = remaining_s.into();
        Some((timeout_s, remaining_s))
    }

    /// Returns the agent type whose plugin drives the run.
    pub fn adapter_type(&self) -> &str {
        self.agent["adapterType"].as_str().unwrap_or_default()
    }

    /// Returns the execution context as Paperclip would send it again, for the run that has the Job now.
    pub fn into_context(self, run_id: &str, secrets: &Secrets) -> Value {
        let RecoveryData { agent, runtime, mut config, context } = self;
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

/// Returns for how long the agent of a run has run when another host adopts the run. Its container started at `started_at` by the clock of
/// its node, the run was accepted at `accepted_at` by the clock of the host that accepted it, and it is `now` by this host's. No clock alone
/// decides: a node that is behind would make the time too long, and end a healthy run. No agent has run for longer than its run exists.
pub fn elapsed(now: Timestamp, started_at: Timestamp, accepted_at: Timestamp) -> Duration {
    now.since(started_at).min(now.since(accepted_at))
}

/// What the Secret of a run's Job says about the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryRecord {
    /// None if it is too long for a Secret: then the record of the run has it.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub data: Option<RecoveryData>,
    /// Name of the Lease by which runs of the agent exclude one another.
    pub lease: String,
    /// The Secret that contains this record, with the source of each value.
    pub secret: NewSecret,
}

impl RecoveryRecord {
    fn new(data: Option<RecoveryData>, guard: &AcquireGuard, secret: &NewSecret) -> RecoveryRecord {
        let named = without_prompt(secret);
        let secret = named.unwrap_or_else(|| NewSecret { entries: Vec::new(), ..secret.clone() });
        RecoveryRecord { data, lease: lease::lease_name(&guard.key), secret }
    }

    /// Parses the text of a record.
    ///
    /// # Errors
    /// The text is not a record.
    pub fn parse(text: &str) -> Result<RecoveryRecord, serde_json::Error> {
        serde_json::from_str(text)
    }
}

/// Adds the run's recovery record to its Secret, with the data if prompt and record are small enough. A run without a guard gets none: no
/// Lease would show whether a host still drives it.
pub(crate) fn with_recovery_record(
    secret: NewSecret,
    request: &Request,
    guard: Option<&AcquireGuard>,
) -> NewSecret {
    let Some(guard) = guard else { return secret };
    let prompt_bytes: usize = secret.entries.iter().map(|entry| prompt_bytes(&entry.source)).sum();
    let text = |data| serde_json::to_string(&RecoveryRecord::new(data, guard, &secret)).unwrap_or_default();
    let whole = Some(text(Some(RecoveryData::new(request))));
    let whole = whole.filter(|text| prompt_bytes <= PROMPT_MAX_BYTES && text.len() <= RECORD_MAX_BYTES);
    let text = whole.unwrap_or_else(|| text(None));
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
        assert_eq!(record.data.expect("it is short").into_context("r2", &read), expected);
    }

    fn record_of(secret: NewSecret, request: &Request) -> RecoveryRecord {
        let kept = with_recovery_record(secret, request, Some(&guard()));
        let Some(SecretSource::Prompt(text)) = kept.entries.last().map(|entry| &entry.source) else {
            panic!("{kept:?}")
        };
        RecoveryRecord::parse(text).expect("its own text")
    }

    #[test]
    fn a_secret_says_what_its_values_are_however_long_the_context_is() {
        let (request, _) = request();
        assert_eq!(with_recovery_record(secret("p"), &request, None), secret("p"), "no Lease shows its host");
        let long_prompt = record_of(secret(&"x".repeat(PROMPT_MAX_BYTES + 1)), &request);
        assert_eq!((long_prompt.data, long_prompt.secret.entries.len()), (None, 2));
        let verbose =
            Request { context_json: json!({"x": "x".repeat(RECORD_MAX_BYTES)}).to_string(), ..request };
        assert_eq!(record_of(secret("p"), &verbose).data, None);
    }

    #[test]
    fn the_timeout_of_an_adopted_run_continues_whatever_the_clock_of_its_node_says() {
        let at = |s: u64| Timestamp::EPOCH + Duration::from_secs(s);
        let s = Duration::from_secs;
        assert_eq!(elapsed(at(1_100), at(1_000), at(990)), s(100));
        assert_eq!(elapsed(at(1_100), at(910), at(990)), s(110), "the node is 90 s behind");
        assert_eq!(elapsed(at(1_100), at(1_090), at(990)), s(10), "the node is 90 s ahead");
        assert_eq!(elapsed(at(1_100), at(1_200), at(990)), s(0));
        let (mut request, _) = request();
        let shorten = |request: &Request, elapsed| {
            let mut data = RecoveryData::new(request);
            let times = data.shorten_timeout(elapsed);
            (times, data.config["timeoutSec"].clone())
        };
        assert_eq!(shorten(&request, s(20)), (Some((60, 40)), json!(40)));
        assert_eq!(shorten(&request, s(90)), (Some((60, 1)), json!(1)));
        request.config_json = json!({"timeoutSec": 0}).to_string();
        assert_eq!(shorten(&request, s(90)), (None, json!(0)), "it has no limit");
    }

    #[test]
    fn the_text_for_the_record_of_a_run_has_no_secret_wherever_it_is() {
        let (mut request, secrets) = request();
        request.context_json =
            json!({"task": "use the-secret-token", "list": ["the-key-of-ours"]}).to_string();
        let named = [("authToken", "the-secret-token"), ("KEY", "the-key-of-ours")];
        let redactor = Redactor::new(named).expect("good");
        let text = RecoveryData::text_of(&request, &redactor);
        assert!(!text.contains("the-secret-token") && !text.contains("the-key-of-ours"), "{text}");
        let data = RecoveryData::parse(&text).expect("its own text");
        assert_eq!(data.adapter_type(), "t");
        assert_eq!(data.into_context("r", &secrets)["config"]["env"]["KEY"], "the-key");
    }
}
