//! Paperclip's pod: the pod that Paperclip itself runs in, from which agents inherit image, volumes and environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paperclip_diagnostic::Diagnostic;
use paperclip_kubernetes::environment::try_expand;
use paperclip_kubernetes::paperclip_pod;
use paperclip_shell::Cluster;
use serde_json::Value;

use crate::access::is_inside_cluster;
use crate::documents;

fn parse(name: &Path, text: &str) -> Result<Value, Diagnostic> {
    let problem = |what: String| {
        Diagnostic::new("bad_paperclip_pod", format!("Paperclip's pod {}: {what}", name.display()))
    };
    let pod: Value = serde_json::from_str(text).map_err(|error| {
        problem(format!("not JSON: {error}"))
            .with_hint("give the Pod as JSON, such as `kubectl get pod NAME -o json` prints it")
    })?;
    if pod["spec"]["containers"].is_array() {
        return Ok(pod);
    }
    Err(problem("it has no spec.containers".to_owned()).with_hint("give a core/v1 Pod as JSON"))
}

/// Reads a Pod (core/v1) from a JSON file; `-` is stdin.
///
/// # Errors
/// The file cannot be read, or does not hold a Pod.
pub fn read(path: &Path) -> Result<Value, Diagnostic> {
    parse(path, &documents::read("Paperclip's pod", path)?)
}

/// Returns the pod that this process runs in, if it runs in one, as far as agents may inherit from it: without the volumes that hold
/// `credential_files`.
///
/// # Errors
/// The API does not return the pod.
pub async fn of_this_process(
    cluster: &Cluster,
    credential_files: &[PathBuf],
) -> Result<Option<Value>, Diagnostic> {
    let Some(name) = std::env::var("HOSTNAME").ok().filter(|_| is_inside_cluster()) else { return Ok(None) };
    let unreadable = |error: String| {
        Diagnostic::new(
            "paperclip_pod_unreadable",
            format!("Paperclip's pod {name}: cannot be read: {error}"),
        )
        .with_hint("allow this host to get Pods there, or give the pod with --self-pod")
    };
    let path = format!("/api/v1/namespaces/{}/pods/{name}", cluster.default_namespace());
    let request =
        http::Request::get(&path).body(Vec::new()).map_err(|error| unreadable(error.to_string()))?;
    let pod = cluster.client().request::<Value>(request).await;
    let mut pod = pod.map_err(|error| unreadable(error.to_string()))?;
    withhold(&mut pod, credential_files);
    Ok(Some(pod))
}

/// Returns the URL of Paperclip's API that Paperclip's container has in its environment.
pub fn api_url(pod: &Value) -> Option<String> {
    let mut pod = pod.clone();
    expand_literals(&mut pod);
    literal(&pod, "PAPERCLIP_API_URL").map(str::to_owned)
}

/// Returns the namespace that the pod is in.
pub fn namespace(pod: &Value) -> Option<&str> {
    pod["metadata"]["namespace"].as_str()
}

/// Removes the volumes of Secrets that hold `files`, such as the token of this host: agents inherit the Secrets that the pod mounts.
fn withhold(pod: &mut Value, files: &[PathBuf]) {
    let holds = |mount: &Value| {
        let folder = mount["mountPath"].as_str().map(Path::new);
        folder.is_some_and(|folder| files.iter().any(|file| file.starts_with(folder)))
    };
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mounts = containers.flat_map(|container| container["volumeMounts"].as_array().into_iter().flatten());
    let withheld: Vec<Value> =
        mounts.filter(|mount| holds(mount)).map(|mount| mount["name"].clone()).collect();
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
        // Other volumes, such as the claim that holds Paperclip's data, are shared on purpose.
        volumes.retain(|volume| volume["secret"].is_null() || !withheld.contains(&volume["name"]));
    }
}

/// Returns the literal value of a variable of Paperclip's container; of several the last, as in the container.
fn literal<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let mut entries = paperclip_pod::container(pod).ok()?["env"].as_array()?.iter().rev();
    entries.find(|entry| entry["name"] == name)?["value"].as_str()
}

/// Expands the literals of Paperclip's container as Kubernetes does: `$(NAME)` becomes the value of a variable before it, `$$` becomes
/// `$`. Agents read them from a Secret, in which Kubernetes expands nothing.
///
/// Removes a literal that refers to a variable whose value only the container knows, and returns a warning for each.
pub(crate) fn expand_literals(pod: &mut Value) -> Vec<String> {
    let Ok(index) = paperclip_pod::container_index(pod) else { return Vec::new() };
    let container = &mut pod["spec"]["containers"][index];
    let inherits_whole = container["envFrom"].as_array().is_some_and(|sources| !sources.is_empty());
    let Some(entries) = container.get_mut("env").and_then(Value::as_array_mut) else { return Vec::new() };
    let mut known = Known { variables: BTreeMap::new(), inherits_whole };
    let mut warnings = Vec::new();
    entries.retain_mut(|entry| {
        let Some(name) = entry["name"].as_str().map(str::to_owned) else { return true };
        let expanded = match entry["value"].as_str() {
            Some(literal) => known.expand(literal),
            None if entry["valueFrom"].is_object() => Err(name.clone()),
            None => Ok(String::new()),
        };
        let is_literal = entry["value"].is_string();
        if let (true, Err(unknown)) = (is_literal, &expanded) {
            warnings.push(format!(
                "{name} is not inherited from Paperclip's pod: its value refers to {unknown}, which only that pod knows"
            ));
        }
        if let (true, Ok(text)) = (is_literal, &expanded) {
            entry["value"] = Value::from(text.as_str());
        }
        let is_kept = !is_literal || expanded.is_ok();
        known.variables.insert(name, expanded.ok());
        is_kept
    });
    warnings
}

/// The variables that come before a literal.
struct Known {
    /// None: the variable exists, and the container alone knows its value.
    variables: BTreeMap<String, Option<String>>,
    /// There are more, from whole Secrets and ConfigMaps.
    inherits_whole: bool,
}

impl Known {
    /// Expands a literal. The error is the name of an unknown variable.
    fn expand(&self, literal: &str) -> Result<String, String> {
        try_expand(literal, |name| match self.variables.get(name) {
            Some(Some(value)) => Ok(Some(value.as_str())),
            Some(None) => Err(name.to_owned()),
            None if self.inherits_whole => Err(name.to_owned()),
            None => Ok(None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expanded(env: &Value, env_from: &Value) -> (Value, Vec<String>) {
        let mut pod = json!({"spec": {"containers": [
            {"name": "side", "env": [{"name": "A", "value": "$(B)"}]},
            {"name": "paperclip", "env": env, "envFrom": env_from},
        ]}});
        let warnings = expand_literals(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["env"][0]["value"], "$(B)");
        (pod["spec"]["containers"][1]["env"].clone(), warnings)
    }

    #[test]
    fn credentials_of_the_host_are_not_inherited() {
        let mut pod = json!({"spec": {
            "containers": [{"volumeMounts": [
                {"name": "token", "mountPath": "/etc/paperclip-host"},
                {"name": "cloud", "mountPath": "/etc/cloud"},
                {"name": "data", "mountPath": "/paperclip"},
            ]}],
            "volumes": [
                {"name": "token", "secret": {"secretName": "t"}},
                {"name": "cloud", "secret": {"secretName": "c"}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "d"}},
            ],
        }});
        withhold(&mut pod, &["/etc/paperclip-host/token".into(), "/paperclip/host.toml".into()]);
        let kept: Vec<_> = pod["spec"]["volumes"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
        assert_eq!(kept, ["cloud", "data"]);
    }

    #[test]
    fn expands_literals_as_the_container_sees_them() {
        let env = json!([
            {"name": "HOST", "value": "db"},
            {"name": "URL", "value": "postgres://$(HOST)/$(LATER)?a=$$(HOST)$"},
            {"name": "LATER", "value": "x"},
            {"name": "BOTH", "value": "$(URL) $(LATER) $(unclosed"},
            {"name": "EMPTY", "value": ""},
            {"name": "NOTHING"},
            {"name": "AFTER", "value": "[$(EMPTY)$(NOTHING)]"},
        ]);
        let (env, warnings) = expanded(&env, &json!([]));
        let values: Vec<_> = env.as_array().unwrap().iter().map(|entry| &entry["value"]).collect();
        let url = "postgres://db/$(LATER)?a=$(HOST)$";
        let both = format!("{url} x $(unclosed");
        assert_eq!(
            values,
            [&json!("db"), &json!(url), &json!("x"), &json!(both), &json!(""), &json!(null), &json!("[]")]
        );
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn removes_literals_that_only_the_pod_can_expand_and_warns() {
        let reference = json!({"fieldRef": {"fieldPath": "status.podIP"}});
        let env = json!([
            {"name": "POD_IP", "valueFrom": reference},
            {"name": "SELF", "value": "http://$(POD_IP):3100"},
            {"name": "NEXT", "value": "$(SELF)/x"},
            {"name": "KEPT", "value": "$$(POD_IP)"},
        ]);
        let (env, warnings) = expanded(&env, &json!([]));
        assert_eq!(
            env,
            json!([{"name": "POD_IP", "valueFrom": reference}, {"name": "KEPT", "value": "$(POD_IP)"}])
        );
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0].starts_with("SELF is not inherited") && warnings[0].contains("POD_IP"),
            "{warnings:?}"
        );
        assert!(warnings[1].contains("refers to SELF"), "{warnings:?}");
        let whole = json!([{"secretRef": {"name": "s"}}]);
        assert_eq!(expanded(&json!([{"name": "A", "value": "$(OUT_OF_S)"}]), &whole).0, json!([]));
    }

    #[test]
    fn the_last_literal_of_a_name_counts() {
        let pod = json!({"spec": {"containers": [{"name": "main", "env": [
            {"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B", "valueFrom": {}},
        ]}]}});
        assert_eq!(literal(&pod, "A"), Some("2"));
        assert_eq!(literal(&pod, "B"), None);
        assert_eq!(literal(&json!({}), "A"), None);
        assert_eq!(expand_literals(&mut json!({"spec": {"containers": []}})), Vec::<String>::new());
    }
}
