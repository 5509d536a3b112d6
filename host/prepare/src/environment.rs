//! Paperclip's environment test: the plugin plans questions, the cluster answers them, the plugin judges the answers.

use std::borrow::Cow;

use futures::future::join_all;
use paperclip_diagnostic::Diagnose;
use paperclip_engine::GuestFault;
use paperclip_guest::Tools;
use paperclip_shell::Cluster;
use serde_json::{Map, Value, json};

use crate::config::Agents;

/// What is tested.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The agent's config. The values of its environment do not reach the plugin.
    pub config: &'a Value,
    /// What the operator gives to all agents.
    pub agents: &'a Agents,
    pub paperclip_pod: Option<Value>,
    /// Namespace of runs whose config names none.
    pub namespace: &'a str,
    /// Names of further clusters.
    pub clusters: Vec<&'a str>,
}

/// Why there is no result of a test.
#[derive(Debug, thiserror::Error)]
pub enum TestError {
    #[error("{0}")]
    Config(String),
    #[error(transparent)]
    Plugin(#[from] GuestFault),
    /// The plugin's plan or its judgement is wrong.
    #[error("the plugin's environment test is broken: {0}")]
    Broken(String),
}

impl Diagnose for TestError {
    fn code(&self) -> &'static str {
        match self {
            TestError::Config(_) => "bad_config",
            TestError::Plugin(_) | TestError::Broken(_) => "plugin_failed",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            TestError::Config(_) => "correct that field of the config",
            TestError::Plugin(_) => "use another version of the plugin",
            TestError::Broken(_) => "report it to the plugin's author",
        };
        Some(hint.into())
    }
}

/// Tests the environment and returns the JSON of Paperclip's `AdapterEnvironmentTestResult`, without the fields that the caller adds.
///
/// # Errors
/// The config is refused, or the plugin fails. A cluster that does not answer is part of the result.
pub async fn test(tools: &Tools, cluster: &Cluster, subject: Subject<'_>) -> Result<String, TestError> {
    let completed = subject.agents.complete(&json!({"config": subject.config})).into_owned();
    let input = json!({
        "config": without_env(&completed["config"]),
        "selfPod": subject.agents.overlay(subject.paperclip_pod),
        "namespace": subject.namespace,
        "clusters": subject.clusters,
    });
    let probes = tools.plan_check(&input.to_string())?.map_err(TestError::Config)?;
    let probes: Vec<Probe> =
        serde_json::from_str(&probes).map_err(|error| TestError::Broken(error.to_string()))?;
    let answers = answer_all(cluster, probes).await;
    tools.judge_check(&json!(answers).to_string())?.map_err(TestError::Broken)
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
