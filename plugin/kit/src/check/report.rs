//! Makes Paperclip's environment test result from the cluster's answers.

use serde::Serialize;
use serde_json::Value;

use super::{Access, Probe, Question};

/// A probe, answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub probe: Probe,
    /// Whether the answer is yes.
    pub ok: bool,
    /// Why there is no answer.
    pub error: Option<String>,
    /// The object that was found.
    pub object: Option<Value>,
}

impl Answer {
    /// Reads an answer as the host writes it: the probe with `ok`, `error` and `object`; `None` if it is not a probe.
    pub fn read(written: &Value) -> Option<Answer> {
        let text = |key: &str| written[key].as_str().map(str::to_owned);
        let namespace = || text("namespace").unwrap_or_default();
        let question = match written["kind"].as_str()? {
            "api" => Question::Api,
            "namespace" => Question::Namespace { namespace: namespace() },
            "access" => Question::Access {
                namespace: namespace(),
                group: text("group").unwrap_or_default(),
                resource: text("resource")?,
                subresource: text("subresource").unwrap_or_default(),
                verb: text("verb")?,
            },
            "secret" => Question::Secret {
                namespace: namespace(),
                name: text("name")?,
                is_guess: written["isGuess"] == true,
            },
            "pvc" => Question::Pvc {
                namespace: namespace(),
                name: text("name"),
                is_pod_known: written["isPodKnown"] == true,
            },
            _ => return None,
        };
        Some(Answer {
            probe: Probe { id: text("id")?, question },
            ok: written["ok"] == true,
            error: text("error"),
            object: written.get("object").filter(|object| !object.is_null()).cloned(),
        })
    }

    /// The version of Kubernetes, of the probe that asks for it.
    fn version(&self) -> Option<&str> {
        self.object.as_ref()?["gitVersion"].as_str()
    }
}

/// How the version of the host's own cluster ends, which has a claim as soon as a pod names it.
const LOCAL: &str = "+paperclip-local";

/// The whole test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub status: Status,
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pass,
    Warn,
    Fail,
}

/// One line of the test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub code: String,
    pub level: Level,
    pub message: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// Judges the answers. `credential` is the variable with the agent type's credentials. If the API does not answer, the report has no other check.
pub fn report(answers: &[Answer], credential: &str) -> Report {
    let is_local =
        answers.iter().any(|answer| answer.version().is_some_and(|version| version.ends_with(LOCAL)));
    let mut checks: Vec<Check> = answers.iter().map(|answer| check(answer, is_local, credential)).collect();
    if let Some(unreachable) = checks.iter().find(|check| check.code == "k8s_api_unreachable").cloned() {
        checks = vec![unreachable];
    }
    let has = |level| checks.iter().any(|check| check.level == level);
    let status = if has(Level::Error) {
        Status::Fail
    } else if has(Level::Warn) {
        Status::Warn
    } else {
        Status::Pass
    };
    Report { status, checks }
}

fn check(answer: &Answer, is_local: bool, credential: &str) -> Check {
    match &answer.probe.question {
        Question::Api => api(answer),
        Question::Namespace { namespace } => self::namespace(answer, namespace),
        Question::Access { namespace, verb, resource, .. } => {
            access(answer, namespace, Access::of(&answer.probe.id), verb, resource)
        }
        Question::Secret { namespace, name, is_guess } => {
            secret(answer, namespace, name, *is_guess, credential)
        }
        Question::Pvc { name: Some(name), .. } if is_local && !answer.ok && answer.error.is_none() => found(
            "k8s_pvc_on_demand",
            format!("The volume claim {name} is made when the first pod names it."),
        ),
        Question::Pvc { namespace, name, is_pod_known } => {
            claim(answer, namespace, name.as_deref(), *is_pod_known)
        }
    }
}

fn api(answer: &Answer) -> Check {
    if answer.ok {
        let version = answer.version().map(|version| format!(" (Kubernetes {version})")).unwrap_or_default();
        return found("k8s_api_reachable", format!("The Kubernetes API answers{version}."));
    }
    let message = format!("The Kubernetes API does not answer: {}.", cause(answer));
    let hint = "Run Paperclip in the cluster with a service account, or give the host a kubeconfig whose server can be reached from here.";
    wrong(Level::Error, "k8s_api_unreachable", message, hint.into())
}

fn namespace(answer: &Answer, namespace: &str) -> Check {
    if answer.ok {
        return found("k8s_namespace_exists", format!("The namespace {namespace} exists."));
    }
    if let Some(error) = &answer.error {
        let message = format!("Whether the namespace {namespace} exists is not known: {error}.");
        return wrong(Level::Info, "k8s_namespace_check_failed", message, String::new());
    }
    let message = format!("The namespace {namespace} does not exist.");
    let hint = format!("Create it (`kubectl create namespace {namespace}`), or set the field namespace.");
    wrong(Level::Error, "k8s_namespace_missing", message, hint)
}

fn access(answer: &Answer, namespace: &str, access: Option<&Access>, verb: &str, resource: &str) -> Check {
    let target = access.map_or_else(|| resource.to_owned(), Access::target);
    let code = answer.probe.id.as_str();
    if answer.ok {
        return found(code, format!("Allowed to {verb} {target} in namespace {namespace}."));
    }
    let hint = access.map(|access| access.hint(namespace)).unwrap_or_default();
    if let Some(error) = &answer.error {
        let message = format!(
            "The permission to {verb} {target} in namespace {namespace} could not be reviewed: {error}."
        );
        return wrong(Level::Info, code, message, hint);
    }
    let level = if access.is_none_or(|access| access.is_needed) { Level::Error } else { Level::Warn };
    wrong(level, code, format!("Not allowed to {verb} {target} in namespace {namespace}."), hint)
}

fn secret(answer: &Answer, namespace: &str, name: &str, is_guess: bool, credential: &str) -> Check {
    if answer.ok {
        return found("k8s_secret_exists", format!("The Secret {name} exists in namespace {namespace}."));
    }
    if let Some(error) = &answer.error {
        let message =
            format!("Whether the Secret {name} exists in namespace {namespace} is not known: {error}.");
        return wrong(Level::Info, "k8s_secret_check_failed", message, String::new());
    }
    let message = format!("There is no Secret {name} in namespace {namespace}.");
    let hint = format!(
        "If agents get their credentials from it, create it: `kubectl --namespace {namespace} create secret generic {name} --from-literal={credential}=…`. The field secretRef names another one."
    );
    let level = if is_guess { Level::Info } else { Level::Warn };
    wrong(level, "k8s_secret_missing", message, hint)
}

fn claim(answer: &Answer, namespace: &str, name: Option<&str>, is_pod_known: bool) -> Check {
    const HINT: &str = "Mount a ReadWriteMany volume claim at /paperclip in Paperclip's pod, or name one in volume_claim of [agents].";
    let Some(name) = name else {
        let (level, message) = if is_pod_known {
            (
                Level::Warn,
                "Agents inherit no volume claim at /paperclip: they keep neither sessions nor workspaces.",
            )
        } else {
            (
                Level::Info,
                "Paperclip's pod is not named here: which volume claim agents mount at /paperclip is not known.",
            )
        };
        return wrong(level, "k8s_pvc_not_detected", message.into(), HINT.into());
    };
    if let Some(error) = &answer.error {
        let message = format!("The volume claim {name} could not be read in namespace {namespace}: {error}.");
        let hint = format!(
            "To check it, the host must be allowed to get persistentvolumeclaims in namespace {namespace}."
        );
        return wrong(Level::Info, "k8s_pvc_check_failed", message, hint);
    }
    let Some(claim) = answer.object.as_ref().filter(|_| answer.ok) else {
        let message =
            format!("There is no volume claim {name} in namespace {namespace}, where the agents run.");
        let hint = format!("Create it in namespace {namespace}: pods of agents wait for it. {HINT}");
        return wrong(Level::Error, "k8s_pvc_missing", message, hint);
    };
    let modes: Vec<&str> =
        claim["spec"]["accessModes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if modes.contains(&"ReadWriteMany") {
        return found(
            "k8s_pvc_rwx",
            format!("The volume claim {name} can be mounted by many nodes (ReadWriteMany)."),
        );
    }
    let message = format!(
        "The volume claim {name} is {}, not ReadWriteMany: agents run on Paperclip's own node only, or wait for it.",
        modes.join(", ")
    );
    let hint =
        "Use a storage class that offers ReadWriteMany, or keep agents on that node with nodeSelector.";
    wrong(Level::Warn, "k8s_pvc_not_rwx", message, hint.into())
}

fn cause(answer: &Answer) -> &str {
    answer.error.as_deref().unwrap_or("not found")
}

fn found(code: &str, message: String) -> Check {
    Check { code: code.to_owned(), level: Level::Info, message, hint: None }
}

fn wrong(level: Level, code: &str, message: String, hint: String) -> Check {
    Check { code: code.to_owned(), level, message, hint: Some(hint).filter(|hint| !hint.is_empty()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{ACCESS, plan, report_document};
    use crate::request::Request;
    use serde_json::json;

    /// All probes of an environment, answered by `answer`.
    fn answers(answer: impl Fn(&Probe) -> Value) -> Vec<Answer> {
        let mut request = Request::default();
        request.config.insert("namespace".into(), json!("agents"));
        request.config.insert("secretRef".into(), json!("keys"));
        request.paperclip_pod = Some(json!({"spec": {
            "containers": [{"volumeMounts": [{"name": "d", "mountPath": "/paperclip"}]}],
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}],
        }}));
        let answered = |probe: Probe| {
            let mut answered = serde_json::to_value(&probe).unwrap();
            answered.as_object_mut().unwrap().extend(answer(&probe).as_object().cloned().unwrap());
            Answer::read(&answered).unwrap()
        };
        plan(&request).unwrap().into_iter().map(answered).collect()
    }

    fn healthy(probe: &Probe) -> Value {
        match probe.question {
            Question::Api => json!({"ok": true, "object": {"gitVersion": "v1.37.2"}}),
            Question::Pvc { .. } => {
                json!({"ok": true, "object": {"spec": {"accessModes": ["ReadWriteMany"]}}})
            }
            _ => json!({"ok": true}),
        }
    }

    #[test]
    fn a_healthy_environment_passes() {
        let report = report(&answers(healthy), "AGENT_KEY");
        assert_eq!(report.status, Status::Pass);
        assert_eq!(report.checks.len(), ACCESS.len() + 4);
        assert!(report.checks.iter().all(|check| check.level == Level::Info && check.hint.is_none()));
    }

    #[test]
    fn every_finding_has_a_code_a_level_and_a_hint() {
        for (id, answer, code, status) in [
            ("namespace", json!({"ok": false}), "k8s_namespace_missing", Status::Fail),
            ("secret", json!({"ok": false}), "k8s_secret_missing", Status::Warn),
            ("pvc", json!({"ok": false}), "k8s_pvc_missing", Status::Fail),
            ("pvc", json!({"ok": false, "name": null}), "k8s_pvc_not_detected", Status::Warn),
            (
                "pvc",
                json!({"ok": true, "object": {"spec": {"accessModes": ["ReadWriteOnce"]}}}),
                "k8s_pvc_not_rwx",
                Status::Warn,
            ),
            ("k8s_rbac_job_patch", json!({"ok": false}), "k8s_rbac_job_patch", Status::Fail),
            ("k8s_rbac_event_list", json!({"ok": false}), "k8s_rbac_event_list", Status::Warn),
        ] {
            let wrong = |probe: &Probe| if probe.id == id { answer.clone() } else { healthy(probe) };
            let report = report(&answers(wrong), "AGENT_KEY");
            assert_eq!(report.status, status, "{id} {answer}");
            let faults: Vec<_> = report.checks.iter().filter(|check| check.level != Level::Info).collect();
            assert_eq!(faults.len(), 1);
            assert_eq!(faults[0].code, code);
            assert!(faults[0].hint.is_some(), "{code}");
        }
    }

    #[test]
    fn the_local_cluster_needs_no_claim_before_a_pod_names_it() {
        let local = |probe: &Probe| match probe.question {
            Question::Api => json!({"ok": true, "object": {"gitVersion": "v1.37.0+paperclip-local"}}),
            Question::Pvc { .. } => json!({"ok": false}),
            _ => healthy(probe),
        };
        let report = report(&answers(local), "AGENT_KEY");
        assert_eq!(report.status, Status::Pass);
        assert!(report.checks.iter().any(|check| check.code == "k8s_pvc_on_demand"));
    }

    #[test]
    fn what_cannot_be_known_is_no_fault() {
        for (id, answer, code) in [
            ("namespace", json!({"ok": false, "error": "403"}), "k8s_namespace_check_failed"),
            ("secret", json!({"ok": false, "error": "403"}), "k8s_secret_check_failed"),
            ("secret", json!({"ok": false, "isGuess": true}), "k8s_secret_missing"),
            ("pvc", json!({"ok": false, "error": "403"}), "k8s_pvc_check_failed"),
            ("pvc", json!({"ok": false, "name": null, "isPodKnown": false}), "k8s_pvc_not_detected"),
            ("k8s_rbac_job_patch", json!({"ok": false, "error": "500"}), "k8s_rbac_job_patch"),
        ] {
            let unknown = |probe: &Probe| if probe.id == id { answer.clone() } else { healthy(probe) };
            let report = report(&answers(unknown), "AGENT_KEY");
            assert_eq!(report.status, Status::Pass, "{id} {answer}");
            let check = report.checks.iter().find(|check| check.code == code);
            assert!(check.is_some_and(|check| check.level == Level::Info), "{id} {answer}");
        }
    }

    #[test]
    fn every_denied_permission_is_reported_with_its_hint() {
        let denied = |probe: &Probe| match probe.question {
            Question::Access { .. } => json!({"ok": false}),
            _ => healthy(probe),
        };
        let checks = report(&answers(denied), "AGENT_KEY").checks;
        for access in ACCESS {
            let check = checks.iter().find(|check| check.code == access.code).unwrap();
            assert_eq!(check.level == Level::Error, access.is_needed, "{}", access.code);
            assert!(
                check.hint.as_deref().unwrap().contains(&format!("`{}`", access.verb)),
                "{}",
                access.code
            );
        }
    }

    #[test]
    fn without_the_api_nothing_else_is_reported() {
        let silent = answers(|_| json!({"ok": false, "error": "connection refused"}));
        let report = report(&silent, "AGENT_KEY");
        assert_eq!((report.status, report.checks.len()), (Status::Fail, 1));
        assert_eq!(report.checks[0].message, "The Kubernetes API does not answer: connection refused.");
    }

    #[test]
    fn the_report_is_the_document_of_paperclips_server() {
        let answers = json!([
            {"id": "api", "kind": "api", "ok": true},
            {"id": "secret", "kind": "secret", "namespace": "n", "name": "s", "ok": false},
        ]);
        let report: Value =
            serde_json::from_str(&report_document(&answers.to_string(), "AGENT_KEY").unwrap()).unwrap();
        assert_eq!(report["status"], "warn");
        assert_eq!(
            report["checks"][0],
            json!({"code": "k8s_api_reachable", "level": "info", "message": "The Kubernetes API answers."})
        );
        assert_eq!(report["checks"][1]["level"], "warn", "a Secret that was named");
        assert!(report_document("{}", "AGENT_KEY").is_err());
        assert!(
            report_document("[{\"id\": \"x\", \"kind\": \"weather\"}]", "AGENT_KEY")
                .unwrap_err()
                .contains("weather")
        );
    }
}
