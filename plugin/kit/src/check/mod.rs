//! Paperclip's environment test: what to ask the cluster, and what its answers mean to an operator.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod access;
mod report;

pub use access::{ACCESS, Access};
pub use report::{Answer, Check, Level, Report, Status, report};

use crate::config;
use crate::manifest::own_pod::OwnPod;
use crate::refusal::Refusal;
use crate::request::{HostFacts, Request, text};

/// The Secret that an installation of Paperclip usually has.
const DEFAULT_SECRET: &str = "paperclip-secrets";

/// Something to ask the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Comes back with the answer.
    pub id: String,
    #[serde(flatten)]
    pub question: Question,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Question {
    /// Does the API answer? `object` of the answer: its version.
    Api,
    /// Does the namespace exist?
    Namespace { namespace: String },
    /// Would a SelfSubjectAccessReview allow this? An `error` of the answer says that it could not be asked.
    Access { namespace: String, group: String, resource: String, subresource: String, verb: String },
    /// Does the Secret exist?
    Secret { namespace: String, name: String },
    /// The volume claim, as `object` of the answer. No name: there is none to ask for, and the answer is `ok: false`.
    Pvc { namespace: String, name: Option<String> },
}

/// Input of [`plan_document`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Environment {
    config: Map<String, Value>,
    self_pod: Option<Value>,
    /// The host's default.
    namespace: Option<String>,
    /// Names of clusters that the config may choose.
    clusters: Vec<String>,
}

/// The questions for a config, in the order of the report.
///
/// # Errors
/// The config itself is wrong: nothing needs to be asked.
pub fn plan(request: &Request) -> Result<Vec<Probe>, Refusal> {
    let config = config::read(request)?;
    let own_pod = request.self_pod.as_ref().map(OwnPod::read).unwrap_or_default();
    let namespace = config
        .placement
        .namespace
        .or(own_pod.namespace)
        .or_else(|| request.host.default_namespace.clone())
        .ok_or_else(|| {
            Refusal::new(
                "namespace",
                "no namespace: Paperclip's own pod is unknown and the host has no default; set this field",
            )
        })?;
    let probe = |id: &str, question| Probe { id: id.to_owned(), question };
    let mut probes = vec![
        probe("api", Question::Api),
        probe("namespace", Question::Namespace { namespace: namespace.clone() }),
    ];
    probes.extend(ACCESS.iter().map(|access| {
        let question = Question::Access {
            namespace: namespace.clone(),
            group: access.group.to_owned(),
            resource: access.resource.to_owned(),
            subresource: access.subresource.to_owned(),
            verb: access.verb.to_owned(),
        };
        probe(access.code, question)
    }));
    let secret = text(&request.config, "secretRef").unwrap_or(DEFAULT_SECRET).to_owned();
    probes.push(probe("secret", Question::Secret { namespace: namespace.clone(), name: secret }));
    let claim = own_pod.data_claim.map(|claim| claim.claim_name);
    probes.push(probe("pvc", Question::Pvc { namespace, name: claim }));
    Ok(probes)
}

/// [`plan`] of `{"config","selfPod"?,"namespace"?,"clusters"?}`, as a JSON array of probes.
///
/// # Errors
/// What is wrong with the document or with the config in it.
pub fn plan_document(input_json: &str) -> Result<String, String> {
    let input: Environment = serde_json::from_str(input_json)
        .map_err(|error| format!("the environment to check is not readable: {error}"))?;
    let request = Request {
        config: input.config,
        self_pod: input.self_pod,
        host: HostFacts {
            default_namespace: input.namespace,
            clusters: input.clusters,
            ..HostFacts::default()
        },
        ..Request::default()
    };
    let probes = plan(&request).map_err(|refusal| refusal.to_string())?;
    serde_json::to_string(&probes).map_err(|error| error.to_string())
}

/// [`report()`] on `[{…the probe, "ok","error"?,"object"?}]`, as `{"status","checks":[{"code","level","message","hint"}]}`.
///
/// # Errors
/// What is wrong with the document.
pub fn report_document(answers_json: &str) -> Result<String, String> {
    let written: Vec<Value> = serde_json::from_str(answers_json)
        .map_err(|error| format!("the answers are not readable: {error}"))?;
    let answers = written
        .iter()
        .map(|answer| Answer::read(answer).ok_or_else(|| format!("this is no answered probe: {answer}")))
        .collect::<Result<Vec<_>, _>>()?;
    serde_json::to_string(&report(&answers)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_right_is_asked_for_in_the_runs_namespace() {
        let input = json!({"config": {"namespace": "agents", "secretRef": "s"}, "selfPod": {
            "metadata": {"namespace": "paperclip"},
            "spec": {
                "containers": [{"volumeMounts": [{"name": "d", "mountPath": "/paperclip"}]}],
                "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
            },
        }});
        let probes: Vec<Value> = serde_json::from_str(&plan_document(&input.to_string()).unwrap()).unwrap();
        assert_eq!(probes.len(), ACCESS.len() + 4);
        assert_eq!(probes[0], json!({"id": "api", "kind": "api"}));
        assert_eq!(
            probes[6],
            json!({
                "id": "k8s_rbac_job_patch", "kind": "access", "namespace": "agents", "group": "batch",
                "resource": "jobs", "subresource": "", "verb": "patch",
            })
        );
        let last = &probes[probes.len() - 2..];
        assert_eq!(last[0], json!({"id": "secret", "kind": "secret", "namespace": "agents", "name": "s"}));
        assert_eq!(last[1], json!({"id": "pvc", "kind": "pvc", "namespace": "agents", "name": "data"}));
    }

    #[test]
    fn a_wrong_config_is_told_before_anything_is_asked() {
        let asked = |input: Value| plan_document(&input.to_string()).unwrap_err();
        assert!(asked(json!({"config": {"namespace": "Agents"}})).starts_with("namespace: `Agents` must be"));
        assert!(asked(json!({"config": {}})).starts_with("namespace: no namespace"));
        assert!(asked(json!("x")).starts_with("the environment to check is not readable"));
    }
}
