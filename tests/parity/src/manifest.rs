//! Compares manifests: the intended differences are applied to the reference adapter's manifest, and the rest must be equal.

use paperclip_kit::manifest::SPEC_HASH;
use paperclip_kit::manifest::denied_env::{is_denied, overridden_names};
use paperclip_kit::manifest::environment::{SCRATCH_DIR, SCRATCH_VARIABLES};
use paperclip_kit::request::{EnvName, Request};
use paperclip_kubernetes::data_volume::{home, sub_path};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Names whose values a plugin may see.
pub const REVEALED: [&str; 5] =
    ["CLAUDE_CODE_USE_BEDROCK", "ANTHROPIC_BEDROCK_BASE_URL", "PAPERCLIP_API_URL", "HOME", "PATH"];
/// What the Job's deadline adds to timeout and grace.
const DEADLINE_SLACK_SEC: u64 = 3600;
const DEFAULT_GRACE_SEC: u64 = 60;
const DEFAULT_CANCEL_GRACE_SEC: u64 = 3;
const RUNTIME_VARIABLES: [&str; 3] = ["PAPERCLIP_RUN_ID", "PAPERCLIP_AGENT_ID", "PAPERCLIP_COMPANY_ID"];

/// A line of `tests/fixtures/cases/manifest.ndjson`.
#[derive(Debug, Clone, Deserialize)]
pub struct Case {
    pub name: String,
    /// Paperclip's execution context.
    pub context: Value,
    /// Paperclip's pod.
    pub pod: Value,
    /// The reference adapter's answer.
    pub expected: Value,
}

/// Reads cases, one a line.
///
/// # Panics
/// A line is not a case.
pub fn cases(ndjson: &str) -> Vec<Case> {
    ndjson.lines().map(|line| serde_json::from_str(line).expect("a fixture has one case a line")).collect()
}

/// Makes the request as a host does: values that a plugin must not see are removed.
///
/// # Panics
/// The case's context is not an execution context.
pub fn request(case: &Case) -> Request {
    let mut written = case.context.clone();
    let config_env = written["config"].as_object_mut().and_then(|config| config.shift_remove("env"));
    let shown = |name: &str, value: &Value| EnvName {
        name: name.to_owned(),
        value: value.as_str().filter(|_| REVEALED.contains(&name)).map(str::to_owned),
    };
    let env = config_env.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    let mut request: Request =
        serde_json::from_value(written).expect("a case's context is an execution context");
    request.config_env = env.iter().map(|(name, value)| shown(name, value)).collect();
    request.has_auth_token = case.context["authToken"].is_string();
    let mut pod = case.pod.clone();
    for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
        for variable in container["env"].as_array_mut().into_iter().flatten() {
            let is_shown = variable["name"].as_str().is_some_and(|name| REVEALED.contains(&name));
            if !is_shown && variable["value"] != "" {
                variable.as_object_mut().map(|variable| variable.shift_remove("value"));
            }
        }
    }
    request.paperclip_pod = Some(pod);
    request
}

/// Returns where a printed plan differs from what the case expects: a path and both sides each.
pub fn differences(case: &Case, printed: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut ours = printed.clone();
    ours.as_object_mut().map(|plan| plan.shift_remove("warnings"));
    for list in ["configMaps", "contextFiles"] {
        if ours[list] == json!([]) {
            ours.as_object_mut().map(|plan| plan.shift_remove(list));
        }
    }
    let hash =
        ours["job"]["metadata"]["annotations"].as_object_mut().and_then(|all| all.shift_remove(SPEC_HASH));
    if hash.as_ref().and_then(Value::as_str).map(str::len) != Some(64) {
        found.push(format!("job.metadata.annotations: no {SPEC_HASH}"));
    }
    let expected = expected(case, &mut ours, &mut found);
    compare("", &expected, &ours, &mut found);
    found
}

/// Returns the reference adapter's answer with the intended differences applied.
fn expected(case: &Case, ours: &mut Value, found: &mut Vec<String>) -> Value {
    let mut expected = case.expected.clone();
    expected.as_object_mut().map(|plan| plan.shift_remove("promptSecret"));
    prompt_has_all_of_it(&mut expected, ours, found);
    let secret = format!("{}-run", expected["jobName"].as_str().unwrap_or_default());
    let mut entries = Map::from_iter([("prompt.txt".to_owned(), json!({"from": "prompt"}))]);
    let spec = &mut expected["job"]["spec"];
    spec["suspend"] = json!(true);
    deadline_has_slack(&case.context["config"], spec);
    let pod = &mut spec["template"]["spec"];
    pod_is_locked_down(&case.context["config"], pod);
    prompt_is_a_secret(&secret, pod);
    let container = &mut pod["containers"][0];
    data_volume_is_isolated(&case.context["agent"], container);
    environment_is_secret(case, &secret, container, &mut entries);
    command_is_wrapped(container, &mut ours["job"]["spec"]["template"]["spec"]["containers"][0], found);
    expected["secrets"] =
        json!([{"name": secret, "namespace": expected["namespace"], "entries": Value::Object(entries)}]);
    expected
}

/// The agent's home is mounted in place of the whole volume.
fn data_volume_is_isolated(agent: &Value, container: &mut Value) {
    let [company, agent] = ["companyId", "id"].map(|id| agent[id].as_str().unwrap_or_default());
    let mounts = container["volumeMounts"].as_array_mut().into_iter().flatten();
    for mount in mounts.filter(|mount| mount["name"] == "data") {
        mount["subPath"] = json!(sub_path(mount["subPath"].as_str(), &home(company, agent)));
    }
}

fn deadline_has_slack(config: &Value, spec: &mut Value) {
    if let Some(timeout) = spec["activeDeadlineSeconds"].as_u64() {
        let grace = config["graceSec"].as_u64().unwrap_or(DEFAULT_GRACE_SEC);
        spec["activeDeadlineSeconds"] = json!(timeout + grace + DEADLINE_SLACK_SEC);
    }
}

fn pod_is_locked_down(config: &Value, pod: &mut Value) {
    pod["securityContext"]["seccompProfile"] = json!({"type": "RuntimeDefault"});
    pod["terminationGracePeriodSeconds"] =
        json!(config["cancelGraceSec"].as_u64().unwrap_or(DEFAULT_CANCEL_GRACE_SEC));
    if pod["serviceAccountName"].is_null() {
        pod["automountServiceAccountToken"] = json!(false);
        pod.as_object_mut().map(|pod| pod.shift_remove("serviceAccountName"));
    }
}

/// No init container writes the prompt, and the pod has a directory for the run's own files.
fn prompt_is_a_secret(secret: &str, pod: &mut Value) {
    pod.as_object_mut().map(|pod| pod.shift_remove("initContainers"));
    let items = json!([{"key": "prompt.txt", "path": "prompt.txt"}]);
    replace(
        &mut pod["volumes"],
        "prompt",
        &[
            json!({"name": "prompt", "secret": {"secretName": secret, "items": items}}),
            json!({"name": "run", "emptyDir": {}}),
            json!({"name": "scratch", "emptyDir": {}}),
        ],
    );
    replace(
        &mut pod["containers"][0]["volumeMounts"],
        "prompt",
        &[
            json!({"name": "prompt", "mountPath": "/tmp/prompt", "readOnly": true}),
            json!({"name": "run", "mountPath": "/tmp/paperclip"}),
            json!({"name": "scratch", "mountPath": SCRATCH_DIR}),
        ],
    );
}

/// Literals of Paperclip's pod, the values of `config.env` and the token come from the run's Secret; the server's own secrets
/// are not inherited.
fn environment_is_secret(case: &Case, secret: &str, container: &mut Value, entries: &mut Map<String, Value>) {
    let config_env = &case.context["config"]["env"];
    let has_token = case.context["authToken"].is_string();
    let literals = paperclip_literals(&case.pod);
    let mut variables = Vec::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap_or_default();
        let is_literal = variable["value"].is_string();
        let is_runtime = RUNTIME_VARIABLES.contains(&name);
        let from = match name {
            _ if is_runtime || name == "HOME" => None,
            "PAPERCLIP_API_KEY" if has_token => Some("authToken".to_owned()),
            _ if config_env[name].is_string() => Some(format!("config.env.{name}")),
            _ if is_denied(name, &[]) => continue,
            _ if is_literal && !REVEALED.contains(&name) && literals.contains_key(name) => {
                (literals[name] == variable["value"]).then(|| format!("selfPod.env.{name}"))
            }
            _ => None,
        };
        let is_run_id = name == "PAPERCLIP_RUN_ID";
        variables.push(match from {
            Some(from) => {
                entries.insert(name.to_owned(), json!({"from": from}));
                json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}})
            }
            None if is_runtime => json!({"name": name, "value": runtime_value(&case.context, name)}),
            None => variable.clone(),
        });
        if is_run_id {
            variables.extend(SCRATCH_VARIABLES.map(|name| json!({"name": name, "value": SCRATCH_DIR})));
        }
    }
    if container["envFrom"].is_array() {
        for name in overridden_names(&[]) {
            if !variables.iter().any(|variable| variable["name"] == name.as_str()) {
                variables.push(json!({"name": name, "value": ""}));
            }
        }
    }
    container["env"] = Value::Array(variables);
}

fn runtime_value<'a>(context: &'a Value, name: &str) -> &'a Value {
    match name {
        "PAPERCLIP_RUN_ID" => &context["runId"],
        "PAPERCLIP_AGENT_ID" => &context["agent"]["id"],
        _ => &context["agent"]["companyId"],
    }
}

fn paperclip_literals(pod: &Value) -> Map<String, Value> {
    let paperclip = paperclip_kubernetes::paperclip_pod::container(pod);
    paperclip
        .ok()
        .and_then(|container| container["env"].as_array())
        .into_iter()
        .flatten()
        .filter(|variable| variable["value"].is_string())
        .filter_map(|variable| Some((variable["name"].as_str()?.to_owned(), variable["value"].clone())))
        .collect()
}

/// The prompt has every text of the reference adapter's, with more around it.
fn prompt_has_all_of_it(expected: &mut Value, ours: &mut Value, found: &mut Vec<String>) {
    let prompt = ours["prompt"].as_str().unwrap_or_default();
    for part in expected["prompt"].as_str().unwrap_or_default().split("\n\n") {
        let text =
            ["Wake reason: ", "Comment: "].iter().find_map(|label| part.strip_prefix(label)).unwrap_or(part);
        if !prompt.contains(text) {
            found.push(format!("prompt: no `{text}` in `{prompt}`"));
        }
    }
    if ours["promptMetrics"]["promptChars"] != prompt.encode_utf16().count() {
        found.push(format!("promptMetrics: {}", ours["promptMetrics"]));
    }
    for plan in [expected, ours] {
        plan.as_object_mut().map(|plan| (plan.shift_remove("prompt"), plan.shift_remove("promptMetrics")));
    }
}

/// The same call is in a script that forwards signals and separates stderr.
fn command_is_wrapped(expected: &mut Value, ours: &mut Value, found: &mut Vec<String>) {
    let call = expected["command"][2].as_str().unwrap_or_default();
    let script = ours["command"][2].as_str().unwrap_or_default();
    let (prompt, agent) = call.split_once(" | ").unwrap_or_default();
    let has_line = |text: String| script.lines().any(|line| line == text);
    // The agent's arguments are those of the script.
    let is_called = script.contains(&format!("set -- {agent}\n"))
        && has_line(format!("{prompt} | \"$@\" 2>/tmp/paperclip/stderr &"));
    if !is_called {
        found.push(format!("job.spec.template.spec.containers[0].command: no `{call}` in `{script}`"));
    }
    expected["command"][2] = Value::Null;
    ours["command"][2] = Value::Null;
}

/// Replaces the entry of this name in a list.
fn replace(list: &mut Value, name: &str, others: &[Value]) {
    let Some(entries) = list.as_array_mut() else { return };
    if let Some(at) = entries.iter().position(|entry| entry["name"] == name) {
        entries.splice(at..=at, others.iter().cloned());
    }
}

fn compare(path: &str, expected: &Value, ours: &Value, found: &mut Vec<String>) {
    match (expected, ours) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, value) in left {
                compare(&format!("{path}.{key}"), value, right.get(key).unwrap_or(&Value::Null), found);
            }
            for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                compare(&format!("{path}.{key}"), &Value::Null, value, found);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                compare(&format!("{path}[{index}]"), left, right, found);
            }
        }
        _ if expected == ours => {}
        _ => found.push(format!("{}: expected {expected}, got {ours}", path.trim_start_matches('.'))),
    }
}
