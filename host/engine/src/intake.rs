//! Splits Paperclip's execution context into a plugin's request and the secrets that stay with the host.
//!
//! ```
//! use paperclip_contract::types::SecretSource;
//! use paperclip_engine::intake::{self, IntakeFacts};
//!
//! let context = intake::parse(
//!     r#"{"runId": "r-1", "agent": {"id": "a-1"}, "config": {"env": {"API_KEY": "sk-0123456789"}}}"#,
//! )?;
//! let (request, secrets) = intake::split(&context, "claude_k8s", IntakeFacts::bare(Some("agents")))?;
//! assert_eq!((request.config_env[0].name.as_str(), &request.config_env[0].value), ("API_KEY", &None));
//! let source = SecretSource::ConfigEnv("API_KEY".to_owned());
//! assert_eq!(secrets.resolve(&source).as_deref(), Some("sk-0123456789"));
//! # Ok::<(), intake::IntakeError>(())
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use paperclip_contract::types::{
    AgentIdentity, ContextFile, EnvEntry, HostFacts, JsonPart, Request, SecretSource,
};
use paperclip_kubernetes::paperclip_pod::{self, UnknownContainer};
use serde_json::{Map, Value};

use crate::intake_size::check_text;
pub use crate::intake_size::count_values_of_text;

/// Most values, nested ones included, of each of `config`, `context` and `runtime`: a plugin has them as trees, which are many times as large as
/// their text.
pub const MAX_VALUES: usize = 50_000;

/// The longest id of a run or an agent, in bytes: it is a part of URLs and labels. Those of Paperclip have 36.
pub const MAX_ID_BYTES: usize = 512;

/// Values that plugins, journals and logs never see, by where they came from.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    auth_token: Option<String>,
    config_env: BTreeMap<String, String>,
    paperclip_pod_env: BTreeMap<String, String>,
}

impl Secrets {
    /// Returns the secrets with these values, such as those in the Secret of a run that is resumed. Prompts are not secrets.
    pub fn of(values: impl IntoIterator<Item = (SecretSource, String)>) -> Secrets {
        let mut secrets = Secrets::default();
        for (source, value) in values {
            match source {
                SecretSource::Prompt(_) | SecretSource::Json(_) => {}
                SecretSource::AuthToken => secrets.auth_token = Some(value),
                SecretSource::ConfigEnv(name) => drop(secrets.config_env.insert(name, value)),
                SecretSource::PaperclipPodEnv(name) => drop(secrets.paperclip_pod_env.insert(name, value)),
            }
        }
        secrets
    }

    /// Returns the value of a Secret's entry that has this source.
    pub fn resolve<'a>(&'a self, source: &'a SecretSource) -> Option<Cow<'a, str>> {
        match source {
            SecretSource::Prompt(text) => Some(Cow::Borrowed(text)),
            SecretSource::AuthToken => self.auth_token.as_deref().map(Cow::Borrowed),
            SecretSource::ConfigEnv(name) => {
                self.config_env.get(name).map(|value| Cow::Borrowed(value.as_str()))
            }
            SecretSource::PaperclipPodEnv(name) => {
                self.paperclip_pod_env.get(name).map(|value| Cow::Borrowed(value.as_str()))
            }
            SecretSource::Json(parts) => {
                let parts: Option<String> = parts.iter().map(|part| self.resolve_part(part)).collect();
                parts.map(Cow::Owned)
            }
        }
    }

    fn resolve_part<'a>(&self, part: &'a JsonPart) -> Option<Cow<'a, str>> {
        match part {
            JsonPart::Text(text) => Some(Cow::Borrowed(text)),
            JsonPart::ConfigEnv(name) => {
                let quoted = Value::from(self.config_env.get(name)?.as_str()).to_string();
                Some(Cow::Owned(quoted[1..quoted.len() - 1].to_owned()))
            }
        }
    }

    /// Returns the run's token.
    pub fn auth_token(&self) -> Option<&str> {
        self.auth_token.as_deref()
    }

    /// Returns each value with the name that replaces it in masked text.
    pub fn named(&self) -> impl Iterator<Item = (&str, &str)> {
        let token = self.auth_token.as_deref().map(|token| ("authToken", token));
        let env = self.config_env.iter().chain(&self.paperclip_pod_env);
        token.into_iter().chain(env.map(|(name, value)| (name.as_str(), value.as_str())))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.named().map(|(name, _)| name)).finish()
    }
}

/// Why an execution context is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// The text is not JSON.
    #[error("the context is not JSON: {0}")]
    NotJson(String),
    /// A field has the wrong type.
    #[error("{field}: expected {expected}, found {found}")]
    WrongType { field: String, expected: &'static str, found: &'static str },
    /// A required field is missing or empty.
    #[error("{field} is missing or empty")]
    Missing { field: &'static str, hint: &'static str },
    /// An id by which a run could not be addressed.
    #[error("{field} has {bytes} bytes; at most {MAX_ID_BYTES} are accepted")]
    TooLong { field: &'static str, bytes: usize },
    /// A document has more values than a plugin can be given.
    #[error("{field} consists of {values} values; at most {MAX_VALUES} are accepted")]
    TooManyValues { field: String, values: usize },
    /// Agents would inherit from a container that is not Paperclip's.
    #[error("Paperclip's pod: {0}")]
    PaperclipPod(#[from] UnknownContainer),
}

/// The parts of a request that are not in the context.
#[derive(Debug)]
pub struct IntakeFacts<'a> {
    /// The pod that Paperclip runs in, core/v1.
    pub paperclip_pod: Option<&'a Value>,
    /// Environment names whose values the plugin may see.
    pub revealed_env: &'a [String],
    /// Files for the agent.
    pub files: Vec<ContextFile>,
    /// The path of its instructions among them.
    pub instructions_path: Option<String>,
    /// What the plugin may know about its host.
    pub host: HostFacts,
}

impl IntakeFacts<'_> {
    /// Returns the facts of a host outside a cluster with nothing configured except a namespace.
    pub fn bare(default_namespace: Option<&str>) -> Self {
        IntakeFacts {
            paperclip_pod: None,
            revealed_env: &[],
            files: Vec::new(),
            instructions_path: None,
            host: HostFacts {
                default_namespace: default_namespace.map(str::to_owned),
                paperclip_api_url: None,
                denied_env: Vec::new(),
                clusters: Vec::new(),
                limits: crate::limits(),
                init_config_map: None,
            },
        }
    }
}

/// Returns the agent type that a context requests.
pub fn adapter_type(context: &Value) -> Option<&str> {
    context["agent"]["adapterType"].as_str().filter(|text| !text.is_empty())
}

/// Parses the JSON text of an execution context, unless it has too many values.
///
/// # Errors
/// [`IntakeError::NotJson`] if it is not JSON, [`IntakeError::TooManyValues`] before anything is built of it.
pub fn parse(text: &str) -> Result<Value, IntakeError> {
    check_text(text)?;
    serde_json::from_str(text).map_err(|error| IntakeError::NotJson(error.to_string()))
}

/// Splits an execution context into the request for the plugin and the secrets that stay with the host.
///
/// # Errors
/// A field is missing or empty, or has the wrong type; the error names the field.
pub fn split(
    context: &Value,
    adapter: &str,
    facts: IntakeFacts<'_>,
) -> Result<(Request, Secrets), IntakeError> {
    if !context.is_object() {
        return Err(wrong_type("context", "an object", context));
    }
    let run_id =
        required(context, "runId", "Paperclip gives every run an id; copy it from the heartbeat run")?;
    let agent = &context["agent"];
    let agent_id = text_at(agent, "id", "agent.id")?.unwrap_or_default();
    if agent_id.is_empty() {
        return Err(IntakeError::Missing {
            field: "agent.id",
            hint: "set it to the id of the agent that runs",
        });
    }
    for (field, id) in [("runId", &run_id), ("agent.id", &agent_id)] {
        if id.len() > MAX_ID_BYTES {
            return Err(IntakeError::TooLong { field, bytes: id.len() });
        }
    }
    let mut secrets = Secrets {
        auth_token: text_at(context, "authToken", "authToken")?.filter(|token| !token.is_empty()),
        ..Secrets::default()
    };
    let config = object_at(context, "config")?;
    let config_env = split_config_env(config, facts.revealed_env, &mut secrets)?;
    let paperclip_pod_json = facts
        .paperclip_pod
        .map(|pod| split_paperclip_pod(pod.clone(), facts.revealed_env, &mut secrets))
        .transpose()?
        .map(|pod| pod.to_string());
    let request = Request {
        run_id,
        agent: AgentIdentity {
            id: agent_id,
            company_id: text_at(agent, "companyId", "agent.companyId")?.unwrap_or_default(),
            name: text_at(agent, "name", "agent.name")?.unwrap_or_default(),
            adapter_type: adapter.to_owned(),
        },
        runtime_json: json_of(object_at(context, "runtime")?, None),
        config_json: json_of(config, Some("env")),
        config_env,
        context_json: json_of(object_at(context, "context")?, None),
        has_auth_token: secrets.auth_token.is_some(),
        masked_env: Vec::new(),
        paperclip_pod_json,
        files: facts.files,
        instructions_path: facts.instructions_path,
        host: facts.host,
    };
    Ok((request, secrets))
}

/// Copies the values of `config.env` into the secrets and returns the names, with the values that are revealed. A value is a string, a
/// number, a boolean, or Paperclip's `{"type":"plain","value":…}`.
fn split_config_env(
    config: Option<&Map<String, Value>>,
    revealed: &[String],
    secrets: &mut Secrets,
) -> Result<Vec<EnvEntry>, IntakeError> {
    let env = match config.and_then(|config| config.get("env")) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(env)) => env,
        Some(other) => return Err(wrong_type("config.env", "an object of names and values", other)),
    };
    let mut entries = Vec::new();
    for (name, value) in env {
        let plain = match value {
            Value::Object(binding) => binding.get("value").unwrap_or(&Value::Null),
            plain => plain,
        };
        let text = match plain {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null if !value.is_object() => continue,
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(wrong_type(&format!("config.env.{name}"), "a string, already resolved", value));
            }
        };
        let value = revealed.contains(name).then(|| text.clone());
        secrets.config_env.insert(name.clone(), text);
        entries.push(EnvEntry { name: name.clone(), value });
    }
    Ok(entries)
}

/// Removes the literal values from all containers of Paperclip's pod, except those that are revealed. The values of Paperclip's container
/// become secrets, because an agent can inherit them.
fn split_paperclip_pod(
    mut pod: Value,
    revealed: &[String],
    secrets: &mut Secrets,
) -> Result<Value, UnknownContainer> {
    let main = paperclip_pod::container_index(&pod)?;
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        let Some(containers) = pod["spec"][kind].as_array_mut() else { continue };
        for (index, container) in containers.iter_mut().enumerate() {
            let is_main = kind == "containers" && index == main;
            let mounts = mount_paths(container);
            let Some(env) = container.get_mut("env").and_then(Value::as_array_mut) else { continue };
            for entry in env {
                let is_revealed =
                    |name: &String, value: &str| revealed.contains(name) || is_mounted(value, &mounts);
                hide_literal(entry, is_main, is_revealed, secrets);
            }
        }
    }
    Ok(pod)
}

fn mount_paths(container: &Value) -> Vec<String> {
    let mounts = container["volumeMounts"].as_array().into_iter().flatten();
    mounts.filter_map(|mount| Some(mount["mountPath"].as_str()?.trim_end_matches('/').to_owned())).collect()
}

/// Returns whether a value is the path of a mount, or of a file below one. Such a value is not a secret, and a plugin needs to know
/// whether agents get the file.
fn is_mounted(value: &str, mounts: &[String]) -> bool {
    let is_below = |mount: &String| {
        value.strip_prefix(mount.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !value.contains(|c: char| c == ':' || c.is_whitespace()) && mounts.iter().any(is_below)
}

fn hide_literal(
    entry: &mut Value,
    is_main: bool,
    is_revealed: impl Fn(&String, &str) -> bool,
    secrets: &mut Secrets,
) {
    let Some(entry) = entry.as_object_mut() else { return };
    let Some(name) = entry.get("name").and_then(Value::as_str).map(str::to_owned) else { return };
    let value = entry.get("value").and_then(Value::as_str).unwrap_or_default().to_owned();
    if value.is_empty() {
        return;
    }
    if !(is_main && is_revealed(&name, &value)) {
        entry.remove("value");
    }
    if is_main {
        secrets.paperclip_pod_env.insert(name, value);
    }
}

fn required(context: &Value, field: &'static str, hint: &'static str) -> Result<String, IntakeError> {
    let text = text_at(context, field, field)?.unwrap_or_default();
    if text.trim().is_empty() { Err(IntakeError::Missing { field, hint }) } else { Ok(text) }
}

fn text_at(value: &Value, key: &str, field: &str) -> Result<Option<String>, IntakeError> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong_type(field, "a string", other)),
    }
}

fn object_at<'a>(context: &'a Value, key: &str) -> Result<Option<&'a Map<String, Value>>, IntakeError> {
    match context.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => {
            check_values(key, map)?;
            Ok(Some(map))
        }
        Some(other) => Err(wrong_type(key, "an object", other)),
    }
}

/// Returns the text of an object, without one of its members. The object is not copied.
fn json_of(object: Option<&Map<String, Value>>, without: Option<&str>) -> String {
    use serde::ser::{SerializeMap as _, Serializer as _};
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    let members = object.into_iter().flatten().filter(|(name, _)| Some(name.as_str()) != without);
    let written = serializer.serialize_map(None).and_then(|mut map| {
        members.into_iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    });
    match written.map(|()| String::from_utf8(text)) {
        Ok(Ok(text)) => text,
        // Writing to memory does not fail, and JSON is UTF-8.
        Ok(Err(_)) | Err(_) => String::from("{}"),
    }
}

/// Refuses an object of too many values, and names its largest member.
fn check_values(key: &str, object: &Map<String, Value>) -> Result<(), IntakeError> {
    if object.values().map(count_values).sum::<usize>() <= MAX_VALUES {
        return Ok(());
    }
    let counted = object.iter().map(|(name, value)| (count_values(value), name.as_str()));
    let (values, name) = counted.max().unwrap_or_default();
    Err(IntakeError::TooManyValues { field: format!("{key}.{name}"), values })
}

fn count_values(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count_values).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(count_values).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn wrong_type(field: &str, expected: &'static str, found: &Value) -> IntakeError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    IntakeError::WrongType { field: field.to_owned(), expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CANARY: &str = "canary-2b1f8e";

    fn facts<'a>(paperclip_pod: Option<&'a Value>, revealed: &'a [String]) -> IntakeFacts<'a> {
        IntakeFacts { paperclip_pod, revealed_env: revealed, ..IntakeFacts::bare(None) }
    }

    #[test]
    fn keeps_secret_values_out_of_the_request_and_resolves_each() {
        let context = json!({
            "runId": "r", "agent": {"id": "a"}, "authToken": format!("{CANARY}-token"),
            "config": {"model": "m", "env": {
                "KEY": format!("{CANARY}-key"), "BOUND": {"type": "plain", "value": format!("{CANARY}-bound")}, "HOME": "/h", "N": 3,
            }},
        });
        let pod = json!({"spec": {"containers": [
            {"name": "side", "env": [{"name": "X", "value": format!("{CANARY}-side")}]},
            {"name": "paperclip", "env": [
                {"name": "DB", "value": format!("{CANARY}-db")}, {"name": "EMPTY", "value": ""},
                {"name": "PAPERCLIP_API_URL", "value": "http://p"}, {"name": "REF", "valueFrom": {}},
            ]},
        ]}});
        let revealed = ["HOME".to_owned(), "PAPERCLIP_API_URL".to_owned()];
        let (request, secrets) =
            split(&context, "claude_k8s", facts(Some(&pod), &revealed)).expect("a good context");
        let shown = format!("{request:?} {secrets:?}");
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(request.has_auth_token);
        let home = request.config_env.iter().find(|entry| entry.name == "HOME").expect("listed");
        assert_eq!(home.value.as_deref(), Some("/h"));
        assert!(request.paperclip_pod_json.as_deref().is_some_and(|pod| pod.contains("http://p")));
        for (source, end) in [
            (SecretSource::AuthToken, "token"),
            (SecretSource::ConfigEnv("KEY".to_owned()), "key"),
            (SecretSource::ConfigEnv("BOUND".to_owned()), "bound"),
            (SecretSource::PaperclipPodEnv("DB".to_owned()), "db"),
        ] {
            assert_eq!(secrets.resolve(&source).as_deref(), Some(format!("{CANARY}-{end}").as_str()));
        }
    }

    #[test]
    fn a_pod_in_which_paperclips_container_is_unknown_is_refused() {
        let pod = json!({"spec": {"containers": [{"name": "web"}, {"name": "worker"}]}});
        let context = json!({"runId": "r", "agent": {"id": "a"}});
        let error = split(&context, "claude_k8s", facts(Some(&pod), &[])).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "Paperclip's pod: which of its containers is Paperclip's is not known: web, worker"
        );
    }

    #[test]
    fn a_json_document_gets_its_secrets_as_the_content_of_strings() {
        let context = json!({"runId": "r", "agent": {"id": "a"}, "config": {"env": {"T": "a\"b\\c"}}});
        let (_, secrets) = split(&context, "t", facts(None, &[])).expect("a good context");
        let text = |text: &str| JsonPart::Text(text.to_owned());
        let parts = vec![text("{\"token\":\"Bearer "), JsonPart::ConfigEnv("T".to_owned()), text("\"}")];
        let document = SecretSource::Json(parts);
        let written: Value = serde_json::from_str(&secrets.resolve(&document).expect("known")).expect("JSON");
        assert_eq!(written, json!({"token": "Bearer a\"b\\c"}));
        assert_eq!(secrets.resolve(&SecretSource::Json(vec![JsonPart::ConfigEnv("X".to_owned())])), None);
    }

    #[test]
    fn reveals_paths_below_mounts_of_paperclips_container() {
        let mounts = json!([{"name": "t", "mountPath": "/var/run/secrets/token/"}, {"name": "o", "mountPath": "/otel"}]);
        for (value, is_shown) in [
            ("/var/run/secrets/token/aws", true),
            ("/otel", true),
            ("/otel-secret", false),
            ("/otel/x:/usr", false),
            ("postgres://u:p@/otel", false),
            ("/otel/a b", false),
        ] {
            let env = json!([{"name": "K", "value": value}]);
            let pod =
                json!({"spec": {"containers": [{"name": "paperclip", "env": env, "volumeMounts": mounts}]}});
            let context = json!({"runId": "r", "agent": {"id": "a"}});
            let (request, secrets) =
                split(&context, "claude_k8s", facts(Some(&pod), &[])).expect("a good context");
            let shown =
                request.paperclip_pod_json.expect("a pod").contains(&format!("\"value\":\"{value}\""));
            assert_eq!(shown, is_shown, "{value}");
            let source = SecretSource::PaperclipPodEnv("K".to_owned());
            assert_eq!(secrets.resolve(&source).as_deref(), Some(value));
        }
    }

    #[test]
    fn refuses_a_document_of_too_many_values_and_names_the_member() {
        let split = |key: &str| {
            let numbers = vec![0; 1 << 19];
            let context =
                json!({"runId": "r", "agent": {"id": "a"}, key: {"small": 1, "large": {"x": numbers}}});
            super::split(&context, "t", facts(None, &[])).unwrap_err().to_string()
        };
        assert_eq!(split("config"), "config.large consists of 524290 values; at most 50000 are accepted");
        assert!(split("context").starts_with("context.large"));
        assert!(split("runtime").starts_with("runtime.large"));
    }

    #[test]
    fn names_the_field_that_is_wrong() {
        for (context, expected) in [
            (json!([]), "context: expected an object, found an array"),
            (json!({"agent": {"id": "a"}}), "runId is missing or empty"),
            (json!({"runId": "  ", "agent": {"id": "a"}}), "runId is missing or empty"),
            (json!({"runId": "r"}), "agent.id is missing or empty"),
            (
                json!({"runId": "x".repeat(200_000), "agent": {"id": "a"}}),
                "runId has 200000 bytes; at most 512 are accepted",
            ),
            (
                json!({"runId": "r", "agent": {"id": "x".repeat(513)}}),
                "agent.id has 513 bytes; at most 512 are accepted",
            ),
            (
                json!({"runId": "r", "agent": {"id": "a"}, "config": 3}),
                "config: expected an object, found a number",
            ),
            (
                json!({"runId": "r", "agent": {"id": "a"}, "config": {"env": {"K": {"type": "secret_ref", "secretId": "s"}}}}),
                "config.env.K: expected a string, already resolved, found an object",
            ),
        ] {
            let error = split(&context, "claude_k8s", facts(None, &[])).expect_err("refused");
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
