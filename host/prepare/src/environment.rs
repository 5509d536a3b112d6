//! Paperclip's environment test: the plugin plans questions, the cluster answers them, the plugin judges the answers.

use std::borrow::Cow;

use futures::future::join_all;
use paperclip_contract::types::Refusal;
use paperclip_diagnostic::Diagnose;
use paperclip_engine::GuestFault;
use paperclip_guest::Tools;
use paperclip_shell::Cluster;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::host::{HostContext, PrepareError, StartOptions, Target};
use crate::run::PreparedRun;
use crate::supplied::Files;

/// The code of a check of the config.
const CONFIG_INVALID: &str = "k8s_config_invalid";

/// What is tested.
#[derive(Debug)]
pub struct Subject<'a> {
    pub host: &'a HostContext,
    /// The agent's config. The values of its environment do not reach the plugin.
    pub config: &'a Value,
    pub paperclip_pod: Option<Value>,
    /// Whether agents run as processes of this machine.
    pub is_local: bool,
    /// Whether the agent's instructions and skills come with its runs; otherwise this machine's disk must have them.
    pub are_files_sent: bool,
}

/// Why there is no result of a test.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    #[error(transparent)]
    Plugin(#[from] GuestFault),
    /// The plugin's plan or its judgement is wrong.
    #[error("the plugin's environment test is broken: {0}")]
    Broken(String),
}

impl Diagnose for TestError {
    fn code(&self) -> &'static str {
        match self {
            TestError::Plugin(_) | TestError::Broken(_) => "plugin_failed",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            TestError::Plugin(_) => "use another version of the plugin",
            TestError::Broken(_) => "report it to the plugin's author",
        };
        Some(hint.into())
    }
}

/// Returns the execution context of a run that has nothing but this config.
fn context(config: &Value) -> Value {
    json!({
        "runId": "check",
        "agent": {"id": "check", "companyId": "check", "name": "check"},
        "config": config,
    })
}

/// Tests the environment and returns the JSON of Paperclip's `AdapterEnvironmentTestResult`, without the fields that the caller adds.
///
/// # Errors
/// The plugin fails. A config that is refused and a cluster that does not answer are part of the result.
pub async fn test(tools: &Tools, cluster: &Cluster, subject: Subject<'_>) -> Result<String, TestError> {
    let Subject { host, config, paperclip_pod, is_local, are_files_sent } = subject;
    let namespace = cluster.default_namespace();
    let target = Target { namespace: Some(namespace), needs_api_url: !is_local, starts: false };
    let options = StartOptions { files: are_files_sent.then(Files::default), ..StartOptions::default() };
    let prepared =
        host.prepare_with(&context(config), paperclip_pod.clone(), tools.plugin(), target, options);
    // Without a config there is nothing to refuse: the cluster alone is tested.
    let of_config = if config.is_null() { Vec::new() } else { config_checks(tools, prepared)? };
    let agents = &host.config.agents;
    let completed = agents.complete(&json!({"config": config})).into_owned();
    let clusters: Vec<&str> = host.config.clusters.keys().map(String::as_str).collect();
    let input = json!({
        "config": without_env(&completed["config"]),
        "selfPod": agents.overlay(paperclip_pod),
        "namespace": host.config.namespace.as_deref().unwrap_or(namespace),
        "clusters": clusters,
    });
    let probes = match tools.plan_check(&input.to_string())? {
        Ok(probes) => probes,
        Err(refused) => {
            let checks = if of_config.iter().any(|check| check.level == "error") {
                of_config
            } else {
                vec![ConfigCheck::new("error", refused)]
            };
            return Ok(json!({"status": "fail", "checks": checks}).to_string());
        }
    };
    let probes: Vec<Probe> =
        serde_json::from_str(&probes).map_err(|error| TestError::Broken(error.to_string()))?;
    let answers = answer_all(cluster, probes).await;
    let report = tools.judge_check(&json!(answers).to_string())?.map_err(TestError::Broken)?;
    with_checks(&report, of_config).map_err(|error| TestError::Broken(error.to_string()))
}

/// A check of the config alone.
#[derive(Debug, Serialize)]
struct ConfigCheck {
    code: String,
    level: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl ConfigCheck {
    fn new(level: &'static str, message: String) -> ConfigCheck {
        ConfigCheck { code: CONFIG_INVALID.to_owned(), level, message, hint: None }
    }
}

/// Returns why a run with this config would be refused, and what its warnings would be.
fn config_checks(
    tools: &Tools,
    prepared: Result<PreparedRun, PrepareError>,
) -> Result<Vec<ConfigCheck>, TestError> {
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(PrepareError::Plugin(fault)) => return Err(fault.into()),
        Err(error) => {
            let hint = error.hint().map(Cow::into_owned);
            let code = match error {
                // It is the host's configuration that lacks it.
                PrepareError::NoApiUrl | PrepareError::ApiUrl(_) => error.code(),
                _ => CONFIG_INVALID,
            };
            let check = ConfigCheck::new("error", error.to_string());
            return Ok(vec![ConfigCheck { code: code.to_owned(), hint, ..check }]);
        }
    };
    let warnings: Vec<String> = match tools.manifest(&prepared.request)? {
        Ok(plan) => {
            let plan: Value =
                serde_json::from_str(&plan).map_err(|error| TestError::Broken(error.to_string()))?;
            serde_json::from_value(plan["warnings"].clone()).unwrap_or_default()
        }
        Err(Refusal { code, field, message }) => {
            let message = match field {
                Some(field) => format!("config field {field}: {message}"),
                None => message,
            };
            return Ok(vec![ConfigCheck { code, ..ConfigCheck::new("error", message) }]);
        }
    };
    Ok(prepared.warnings.into_iter().chain(warnings).map(|text| ConfigCheck::new("warn", text)).collect())
}

/// Adds checks to a report, before its own.
fn with_checks(report: &str, checks: Vec<ConfigCheck>) -> serde_json::Result<String> {
    let mut report: Value = serde_json::from_str(report)?;
    for level in checks.iter().map(|check| check.level) {
        let worse = match (level, report["status"].as_str()) {
            ("error", _) => Some("fail"),
            (_, Some("pass")) => Some("warn"),
            _ => None,
        };
        if let Some(status) = worse {
            report["status"] = status.into();
        }
    }
    let mut all = serde_json::to_value(checks)?;
    if let (Value::Array(all), Some(own)) = (&mut all, report["checks"].as_array_mut()) {
        all.append(own);
    }
    report["checks"] = all;
    Ok(report.to_string())
}

/// Removes `env`: a test needs no values of variables.
fn without_env(config: &Value) -> Value {
    let mut config = config.as_object().cloned().unwrap_or_default();
    config.remove("env");
    Value::Object(config)
}

/// A question as the plugin planned it: `{"id","kind",…}`.
type Probe = Map<String, Value>;

/// The cluster's answer.
enum Answer {
    Yes(Option<Value>),
    No,
    /// It could not be found out.
    Unknown(String),
}

/// Answers all questions, in their order: each answer is its question with `ok`, and `error` or `object`.
async fn answer_all(cluster: &Cluster, probes: Vec<Probe>) -> Vec<Value> {
    join_all(probes.into_iter().map(|probe| async {
        let answer = answer(cluster, &probe).await;
        answered(probe, answer)
    }))
    .await
}

fn answered(mut probe: Probe, answer: Answer) -> Value {
    let (ok, error, object) = match answer {
        Answer::Yes(object) => (true, None, object),
        Answer::No => (false, None, None),
        Answer::Unknown(error) => (false, Some(error), None),
    };
    probe.insert("ok".to_owned(), ok.into());
    probe.insert("error".to_owned(), error.into());
    probe.insert("object".to_owned(), object.into());
    Value::Object(probe)
}

async fn answer(cluster: &Cluster, probe: &Probe) -> Answer {
    let text = |key: &str| probe.get(key).and_then(Value::as_str).unwrap_or_default();
    let namespace = text("namespace");
    match text("kind") {
        "api" => get(cluster, "/version").await,
        "namespace" => has_namespace(cluster, namespace).await,
        "secret" => {
            let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", text("name"));
            // The question is whether it exists: its values stay here.
            match get(cluster, &path).await {
                Answer::Yes(_) => Answer::Yes(None),
                other => other,
            }
        }
        "pvc" if probe.get("name").is_none_or(Value::is_null) => Answer::No,
        "pvc" => {
            get(cluster, &format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{}", text("name")))
                .await
        }
        "access" => {
            let attributes = json!({
                "namespace": namespace, "group": text("group"), "resource": text("resource"),
                "subresource": text("subresource"), "verb": text("verb"),
            });
            is_allowed(cluster, &attributes).await
        }
        unknown => Answer::Unknown(format!("this host cannot ask for {unknown:?}")),
    }
}

/// Asks whether a namespace exists. A host without the right to read namespaces asks by a dry run of what runs create in it.
async fn has_namespace(cluster: &Cluster, namespace: &str) -> Answer {
    let unreadable = match get(cluster, &format!("/api/v1/namespaces/{namespace}")).await {
        Answer::Unknown(error) => error,
        known => return known,
    };
    let config_map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "paperclip-check-"},
    });
    let request = http::Request::post(format!("/api/v1/namespaces/{namespace}/configmaps?dryRun=All"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(config_map.to_string().into_bytes());
    match send(cluster, request).await {
        Ok(_) => Answer::Yes(None),
        Err(Failure::NotFound) => Answer::No,
        Err(Failure::Other(_)) => Answer::Unknown(unreadable),
    }
}

async fn get(cluster: &Cluster, path: &str) -> Answer {
    let request = http::Request::get(path).body(Vec::new());
    match send(cluster, request).await {
        Ok(object) => Answer::Yes(Some(object)),
        Err(Failure::NotFound) => Answer::No,
        Err(Failure::Other(error)) => Answer::Unknown(error),
    }
}

/// Asks by SelfSubjectAccessReview whether this host's own account has a right.
async fn is_allowed(cluster: &Cluster, attributes: &Value) -> Answer {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(review.to_string().into_bytes());
    match send(cluster, request).await {
        Ok(review) if review["status"]["allowed"] == true => Answer::Yes(None),
        Ok(_) => Answer::No,
        Err(Failure::NotFound) => Answer::Unknown("the server has no SelfSubjectAccessReview".to_owned()),
        Err(Failure::Other(error)) => Answer::Unknown(error),
    }
}

enum Failure {
    NotFound,
    Other(String),
}

async fn send(cluster: &Cluster, request: http::Result<http::Request<Vec<u8>>>) -> Result<Value, Failure> {
    let request = request.map_err(|error| Failure::Other(error.to_string()))?;
    cluster.ask(request).await.map_err(|error| match error.status {
        Some(404) => Failure::NotFound,
        _ => Failure::Other(error.message),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_environment_do_not_reach_the_plugin() {
        let config = json!({"model": "m", "env": {"KEY": "secret"}});
        assert_eq!(without_env(&config), json!({"model": "m"}));
        assert_eq!(without_env(&Value::Null), json!({}));
    }

    #[test]
    fn checks_of_the_config_come_first_and_can_only_worsen_the_status() {
        let report = |status: &str| json!({"status": status, "checks": [{"code": "own"}]}).to_string();
        for (level, status, expected) in [
            ("error", "pass", "fail"),
            ("error", "warn", "fail"),
            ("warn", "pass", "warn"),
            ("warn", "fail", "fail"),
        ] {
            let text = with_checks(&report(status), vec![ConfigCheck::new(level, "m".to_owned())]).unwrap();
            let document: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(document["status"], expected, "{level} {status}");
            assert_eq!(
                document["checks"][0],
                json!({"code": CONFIG_INVALID, "level": level, "message": "m"})
            );
            assert_eq!(document["checks"][1]["code"], "own");
        }
        assert_eq!(with_checks(&report("pass"), Vec::new()).unwrap(), report("pass"));
    }

    #[test]
    fn an_answer_is_its_question_with_the_outcome() {
        let probe = || Map::from_iter([("id".to_owned(), json!("a"))]);
        let yes = answered(probe(), Answer::Yes(Some(json!({"kind": "Pod"}))));
        assert_eq!(yes, json!({"id": "a", "ok": true, "error": null, "object": {"kind": "Pod"}}));
        assert_eq!(
            answered(probe(), Answer::No),
            json!({"id": "a", "ok": false, "error": null, "object": null})
        );
        let unknown = answered(probe(), Answer::Unknown("no answer".to_owned()));
        assert_eq!(unknown, json!({"id": "a", "ok": false, "error": "no answer", "object": null}));
    }
}
