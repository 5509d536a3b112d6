//! Paperclip's pod: the pod that Paperclip itself runs in, from which agents inherit image, volumes and environment.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paperclip_diagnostic::{Diagnose, Diagnostic};
use paperclip_kubernetes::environment::try_expand;
use paperclip_kubernetes::paperclip_pod;
use paperclip_kubernetes::validation::dns_subdomain;
use paperclip_shell::Cluster;
use serde_json::Value;

use crate::config::{Config, PaperclipPodConfig};
use crate::documents;

/// The variable with the URL of Paperclip's API.
pub(crate) const API_URL: &str = "PAPERCLIP_API_URL";

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

/// Returns the pod that agents of a run inherit from: the one that its context names in `paperclipPod` (`{"namespace"?, "name"}`), else
/// the one that the configuration selects; without the volumes that hold this host's credentials. It is never the pod that this process
/// runs in, unless it is named.
///
/// # Errors
/// The context or the configuration names a pod that does not exist or cannot be read.
pub async fn find(
    config: &Config,
    cluster: &Cluster,
    context: &Value,
) -> Result<Option<Value>, PaperclipPodError> {
    let Some(query) = Query::of(config, context, cluster.default_namespace())? else { return Ok(None) };
    let request = http::Request::get(query.path()).body(Vec::new());
    let request = request.map_err(|error| query.unreadable(error.to_string(), None))?;
    let answer = cluster.ask(request).await.map_err(|error| match error.status {
        Some(404) => query.not_found(),
        status => query.unreadable(error.message, status),
    })?;
    let mut pod = query.pick(answer).ok_or_else(|| query.not_found())?;
    withhold(&mut pod, &config.credential_files());
    Ok(Some(pod))
}

/// Returns whether the context or the configuration names a pod.
pub fn is_named(config: &Config, context: &Value) -> bool {
    !context["paperclipPod"].is_null() || config.paperclip_pod.selector.is_some()
}

/// Why Paperclip's pod is not known although it is named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PaperclipPodError {
    /// The context names it wrongly.
    #[error("paperclipPod: {0}")]
    Context(String),
    #[error("Paperclip's pod {what} does not exist")]
    NotFound { what: String, is_named_by_run: bool },
    #[error("Paperclip's pod {what} cannot be read: {cause}")]
    Unreadable { what: String, namespace: String, verb: &'static str, cause: String, status: Option<u16> },
}

impl PaperclipPodError {
    /// Whether another attempt may succeed with the same request and the same rights.
    pub fn is_transient(&self) -> bool {
        match self {
            PaperclipPodError::Context(_) | PaperclipPodError::NotFound { is_named_by_run: true, .. } => {
                false
            }
            // While Paperclip is rolled out none of its pods may exist.
            PaperclipPodError::NotFound { is_named_by_run: false, .. } => true,
            PaperclipPodError::Unreadable { status, .. } => {
                status.is_none_or(|status| status >= 500 || status == 429)
            }
        }
    }
}

impl Diagnose for PaperclipPodError {
    fn code(&self) -> &'static str {
        match self {
            PaperclipPodError::Context(_) => "bad_context",
            PaperclipPodError::NotFound { .. } => "paperclip_pod_not_found",
            PaperclipPodError::Unreadable { .. } => "paperclip_pod_unreadable",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            PaperclipPodError::Context(_) => r#"name it as {"namespace": "…", "name": "…"}, or leave it out"#.into(),
            PaperclipPodError::NotFound { is_named_by_run: true, .. } => {
                "name a pod that exists and matches [paperclip_pod] of the configuration, or leave it out".into()
            }
            PaperclipPodError::NotFound { .. } => {
                "correct selector and namespace in [paperclip_pod] of the configuration".into()
            }
            PaperclipPodError::Unreadable { namespace, verb, status: Some(403), .. } => {
                format!("allow this host's service account to {verb} pods in namespace {namespace} (paperclip.namespace of the chart)").into()
            }
            PaperclipPodError::Unreadable { .. } => "try again when the Kubernetes API answers".into(),
        })
    }
}

/// The request for Paperclip's pod.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    namespace: String,
    /// The pod that the run names.
    name: Option<String>,
    selector: Option<String>,
}

impl Query {
    fn of(config: &Config, context: &Value, own_namespace: &str) -> Result<Option<Query>, PaperclipPodError> {
        let wrong = |what: &str| PaperclipPodError::Context(what.to_owned());
        let PaperclipPodConfig { namespace, selector } = &config.paperclip_pod;
        let named = &context["paperclipPod"];
        let text = |field: &str| match &named[field] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(wrong(&format!("{field} is not a string"))),
        };
        let (name, named_namespace) = match named {
            Value::Null => (None, None),
            Value::Object(_) => {
                (Some(text("name")?.ok_or_else(|| wrong("name is missing"))?), text("namespace")?)
            }
            _ => return Err(wrong("it is not an object")),
        };
        if name.is_none() && selector.is_none() {
            return Ok(None);
        }
        for part in name.iter().chain(&named_namespace) {
            if let Some(rule) = dns_subdomain(part).first() {
                return Err(wrong(&format!("`{part}`: {rule}")));
            }
        }
        let is_elsewhere = |named: &String| namespace.as_ref().is_some_and(|allowed| allowed != named);
        if let Some(named) = named_namespace.as_ref().filter(|named| is_elsewhere(named)) {
            return Err(PaperclipPodError::Context(format!(
                "namespace {named} is not that of [paperclip_pod] in the configuration"
            )));
        }
        let namespace = named_namespace.as_ref().or(namespace.as_ref()).map_or(own_namespace, String::as_str);
        Ok(Some(Query { namespace: namespace.to_owned(), name, selector: selector.clone() }))
    }

    fn path(&self) -> String {
        let pods = format!("/api/v1/namespaces/{}/pods", self.namespace);
        match (&self.name, &self.selector) {
            (Some(name), None) => format!("{pods}/{name}"),
            (name, selector) => {
                let labels = selector.iter().map(|selector| ("labelSelector", percent_encoded(selector)));
                let field = name.iter().map(|name| ("fieldSelector", format!("metadata.name%3D{name}")));
                let query: Vec<_> =
                    labels.chain(field).map(|(key, value)| format!("{key}={value}")).collect();
                format!("{pods}?{}", query.join("&"))
            }
        }
    }

    /// Returns the pod of an answer: of several the newest that runs and is not being deleted, else the newest.
    fn pick(&self, mut answer: Value) -> Option<Value> {
        if !answer["items"].is_array() {
            return answer["spec"].is_object().then_some(answer);
        }
        let Value::Array(pods) = answer["items"].take() else { return None };
        pods.into_iter().max_by_key(|pod| {
            let runs = pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null();
            (runs, pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// The pod for people.
    fn what(&self) -> String {
        match (&self.name, &self.selector) {
            (Some(name), _) => format!("{name} in namespace {}", self.namespace),
            (None, selector) => {
                format!(
                    "with labels {} in namespace {}",
                    selector.as_deref().unwrap_or_default(),
                    self.namespace
                )
            }
        }
    }

    fn not_found(&self) -> PaperclipPodError {
        PaperclipPodError::NotFound { what: self.what(), is_named_by_run: self.name.is_some() }
    }

    fn unreadable(&self, cause: String, status: Option<u16>) -> PaperclipPodError {
        PaperclipPodError::Unreadable {
            what: self.what(),
            namespace: self.namespace.clone(),
            verb: if self.selector.is_some() { "list" } else { "get" },
            cause,
            status,
        }
    }
}

/// Encodes a value of a URL's query.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// Whether agents learn the URL of Paperclip's API from the pod that they inherit from, as far as this host knows: a variable may come
/// out of a Secret.
pub(crate) fn names_api_url(pod: Option<&Value>) -> bool {
    let container = pod.and_then(|pod| paperclip_pod::container(pod).ok());
    container.is_some_and(|container| {
        let entries = container["env"].as_array().into_iter().flatten();
        let mut named = entries.filter(|entry| entry["name"] == API_URL);
        let has_whole = container["envFrom"].as_array().is_some_and(|sources| !sources.is_empty());
        named
            .any(|entry| entry["valueFrom"].is_object() || entry["value"] != "" && entry["value"].is_string())
            || has_whole
    })
}

/// Returns the URL of Paperclip's API that Paperclip's container has in its environment.
pub fn api_url(pod: &Value) -> Option<String> {
    let mut pod = pod.clone();
    expand_literals(&mut pod);
    literal(&pod, API_URL).filter(|url| !url.is_empty()).map(str::to_owned)
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

    fn query(config: &str, context: &Value) -> Result<Option<Query>, PaperclipPodError> {
        let config: Config = toml::from_str(config).expect("valid");
        Query::of(&config, context, "mine")
    }

    #[test]
    fn paperclips_pod_is_named_by_the_run_or_selected_by_the_configuration() {
        let selecting = "[paperclip_pod]\nnamespace = \"prod\"\nselector = \"app=paperclip,tier in (web)\"";
        let none = json!({});
        let named = json!({"paperclipPod": {"namespace": "prod", "name": "paperclip-0"}});
        let unqualified = json!({"paperclipPod": {"name": "paperclip-0"}});
        let path =
            |config: &str, context: &Value| query(config, context).expect("good").map(|query| query.path());
        assert_eq!(path("", &none), None, "not even the pod of this process");
        assert_eq!(path("", &named).as_deref(), Some("/api/v1/namespaces/prod/pods/paperclip-0"));
        assert_eq!(path("", &unqualified).as_deref(), Some("/api/v1/namespaces/mine/pods/paperclip-0"));
        assert_eq!(
            path(selecting, &none).as_deref(),
            Some("/api/v1/namespaces/prod/pods?labelSelector=app%3Dpaperclip%2Ctier%20in%20%28web%29")
        );
        assert_eq!(
            path(selecting, &unqualified).as_deref(),
            Some(
                "/api/v1/namespaces/prod/pods?labelSelector=app%3Dpaperclip%2Ctier%20in%20%28web%29&fieldSelector=metadata.name%3Dpaperclip-0"
            )
        );
        for (context, says) in [
            (json!({"paperclipPod": "paperclip-0"}), "not an object"),
            (json!({"paperclipPod": {}}), "name is missing"),
            (json!({"paperclipPod": {"name": 3}}), "name is not a string"),
            (json!({"paperclipPod": {"name": "../secrets/x"}}), "`../secrets/x`: "),
            (
                json!({"paperclipPod": {"name": "a", "namespace": "kube-system"}}),
                "is not that of [paperclip_pod]",
            ),
        ] {
            let error = query(selecting, &context).expect_err("refused");
            assert!(error.to_string().contains(says) && !error.is_transient(), "{error}");
        }
    }

    #[test]
    fn of_several_pods_the_newest_that_runs_is_taken() {
        let query = query("[paperclip_pod]\nselector = \"a=b\"", &json!({})).expect("good").expect("selects");
        let pod = |name: &str, created: &str, phase: &str, deleted: Option<&str>| {
            json!({
                "metadata": {"name": name, "creationTimestamp": created, "deletionTimestamp": deleted},
                "status": {"phase": phase},
            })
        };
        let pick =
            |pods: &[Value]| query.pick(json!({"items": pods})).map(|pod| pod["metadata"]["name"].clone());
        let old = pod("old", "2026-01-01T00:00:00Z", "Running", None);
        let newer = pod("newer", "2026-01-02T00:00:00Z", "Running", None);
        let pending = pod("pending", "2026-01-03T00:00:00Z", "Pending", None);
        let leaving = pod("leaving", "2026-01-04T00:00:00Z", "Running", Some("2026-01-05T00:00:00Z"));
        assert_eq!(pick(&[leaving.clone(), newer, old, pending.clone()]), Some(json!("newer")));
        assert_eq!(pick(&[pending, leaving]), Some(json!("leaving")));
        assert_eq!(pick(&[]), None);
        let missing = query.not_found();
        assert!(
            missing.is_transient() && missing.to_string().contains("with labels a=b in namespace mine"),
            "{missing}"
        );
        let denied = query.unreadable("forbidden".to_owned(), Some(403));
        assert!(!denied.is_transient());
        assert!(denied.hint().is_some_and(|hint| hint.contains("to list pods in namespace mine")));
    }

    #[test]
    fn the_url_of_the_api_is_known_from_the_config_or_the_pod() {
        let pod = |container: Value| json!({"spec": {"containers": [container]}});
        for (container, is_named) in [
            (json!({"name": "p"}), false),
            (json!({"env": [{"name": API_URL, "value": ""}, {"name": "A", "value": "a"}]}), false),
            (json!({"env": [{"name": API_URL, "value": "http://p"}]}), true),
            (json!({"env": [{"name": API_URL, "valueFrom": {}}]}), true),
            (json!({"envFrom": [{"secretRef": {"name": "s"}}]}), true),
        ] {
            assert_eq!(names_api_url(Some(&pod(container.clone()))), is_named, "{container}");
        }
        assert!(!names_api_url(None));
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
