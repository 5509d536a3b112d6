//! Paperclip's environment test: the probes of the cluster, and a report of their answers for an operator.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod access;
mod report;

pub use access::{ACCESS, Access};
pub use report::{Answer, Check, Level, Report, Status, report};

use crate::config;
use crate::manifest::paperclip_pod::PaperclipPod;
use crate::refusal::Refusal;
use crate::request::{HostFacts, Request, text};

/// The name of the Secret that an installation of Paperclip usually has.
const DEFAULT_SECRET: &str = "paperclip-secrets";

/// A question for the host to ask the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Identifies the probe in the answers.
    pub id: String,
    #[serde(flatten)]
    pub question: Question,
}

/// The question of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Question {
    /// Does the API answer? `object` of the answer: its version.
    Api,
    /// Does the namespace exist?
    Namespace { namespace: String },
    /// Does a SelfSubjectAccessReview allow this? An `error` in the answer means that the review failed.
    Access { namespace: String, group: String, resource: String, subresource: String, verb: String },
    /// Does the Secret exist?
    Secret {
        namespace: String,
        name: String,
        /// No field names it: an installation of Paperclip usually has it.
        #[serde(rename = "isGuess")]
        is_guess: bool,
    },
    /// Does the volume claim exist? `object` of the answer: the claim. Without a name there is none, and the answer is `ok: false`.
    Pvc {
        namespace: String,
        name: Option<String>,
        /// Whether it is known what agents inherit.
        #[serde(rename = "isPodKnown")]
        is_pod_known: bool,
    },
}

/// Input of [`plan_document`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Environment {
    config: Map<String, Value>,
    #[serde(rename = "selfPod")]
    paperclip_pod: Option<Value>,
    /// The host's default.
    namespace: Option<String>,
    /// Names of clusters that the config may name.
    clusters: Vec<String>,
}

/// Plans the probes for a config, in the order of the report.
///
/// # Errors
/// The config itself is invalid: nothing is probed.
pub fn plan(request: &Request) -> Result<Vec<Probe>, Refusal> {
    let config = config::read(request, None)?;
    let paperclip_pod = PaperclipPod::of(request)?;
    let namespace = config
        .placement
        .namespace
        .or(paperclip_pod.namespace)
        .or_else(|| request.host.default_namespace.clone())
        .ok_or_else(|| {
            Refusal::new(
                "namespace",
                "no namespace: Paperclip's pod is unknown and the host has no default; set this field",
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
    let named = text(&request.config, "secretRef");
    let secret = named.unwrap_or(DEFAULT_SECRET).to_owned();
    let is_guess = named.is_none();
    probes.push(probe("secret", Question::Secret { namespace: namespace.clone(), name: secret, is_guess }));
    let name = paperclip_pod.data_claim.map(|claim| claim.claim_name);
    let is_pod_known = request.paperclip_pod.is_some();
    probes.push(probe("pvc", Question::Pvc { namespace, name, is_pod_known }));
    Ok(probes)
}

/// Applies [`plan`] to `{"config","selfPod"?,"namespace"?,"clusters"?}` and returns a JSON array of probes.
///
/// # Errors
/// The document is malformed, or the config in it is invalid.
pub fn plan_document(input_json: &str) -> Result<String, String> {
    let input: Environment = serde_json::from_str(input_json)
        .map_err(|error| format!("the environment to check is malformed: {error}"))?;
    let request = Request {
        config: input.config,
        paperclip_pod: input.paperclip_pod,
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

/// Applies [`report()`] to `[{…the probe, "ok","error"?,"object"?}]` and returns `{"status","checks":[{"code","level","message","hint"}]}`.
///
/// # Errors
/// The document is malformed.
///
/// ```
/// let answers = r#"[{"id": "api", "kind": "api", "ok": true}]"#;
/// let report = paperclip_kit::check::report_document(answers, "AGENT_KEY").unwrap();
/// assert!(report.starts_with(r#"{"status":"pass""#));
/// ```
pub fn report_document(answers_json: &str, credential: &str) -> Result<String, String> {
    let written: Vec<Value> =
        serde_json::from_str(answers_json).map_err(|error| format!("the answers are malformed: {error}"))?;
    let answers = written
        .iter()
        .map(|answer| Answer::read(answer).ok_or_else(|| format!("this is not an answered probe: {answer}")))
        .collect::<Result<Vec<_>, _>>()?;
    serde_json::to_string(&report(&answers, credential)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn probes_every_permission_in_the_runs_namespace() {
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
        assert_eq!(
            last[0],
            json!({"id": "secret", "kind": "secret", "namespace": "agents", "name": "s", "isGuess": false})
        );
        assert_eq!(
            last[1],
            json!({"id": "pvc", "kind": "pvc", "namespace": "agents", "name": "data", "isPodKnown": true})
        );
    }

    #[test]
    fn refuses_an_invalid_config_before_probing() {
        let refused = |input: Value| plan_document(&input.to_string()).unwrap_err();
        assert!(
            refused(json!({"config": {"namespace": "Agents"}})).starts_with("namespace: `Agents` must be")
        );
        assert!(refused(json!({"config": {}})).starts_with("namespace: no namespace"));
        assert!(refused(json!("x")).starts_with("the environment to check is malformed"));
    }
}
