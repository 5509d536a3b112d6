//! What a tenant writes into an agent's config, against the operator's policy: every field, in one table.

use std::collections::BTreeSet;
use std::sync::Arc;

use paperclip_contract::types::{Action, Command, NewObject, Request};
use paperclip_engine::intake::{self, IntakeFacts};
use paperclip_engine::policy::{Grant, Policy, Rule};
use paperclip_guest::{Plugin, Tools};
use serde_json::{Value, json};

use crate::component::load_file;
use crate::host::plugin_of;
use Outcome::{Allowed, Config, NotUsed, Policed};

/// What comes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The plugin refuses the field by its name.
    Config,
    /// The host's policy refuses the Job.
    Policed(Rule),
    /// The Job is the one without the field.
    NotUsed,
    /// It is the tenant's own choice.
    Allowed,
}

/// Fields of all agent types, and of Kubernetes, with a value that asks for more than a tenant may have.
fn rows() -> Vec<(&'static str, Value, Outcome)> {
    let probe = json!({"httpGet": {"host": "169.254.169.254", "port": 80}});
    let token = json!([{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]);
    vec![
        ("namespace", json!("kube-system"), Policed(Rule::Namespace)),
        ("image", json!("docker.io/evil/agent:1"), Policed(Rule::Image)),
        ("imagePullPolicy", json!("Sometimes"), Config),
        ("serviceAccountName", json!("admin"), Policed(Rule::ServiceAccount)),
        ("kubeconfig", json!("/root/.kube/config"), Config),
        ("inheritEnv", json!("all"), Allowed),
        ("dataMount", json!("shared"), Policed(Rule::DataVolume)),
        ("resources.requests.cpu", json!("64"), Config),
        ("resources.requests.memory", json!("64Gi"), Config),
        ("resources.limits.cpu", json!("64"), Policed(Rule::Resources)),
        ("resources.limits.memory", json!("64Gi"), Policed(Rule::Resources)),
        ("resources", json!({"limits": {"memory": "64Gi"}}), Policed(Rule::Resources)),
        ("resources.limits.hostPort", json!("1"), Config),
        ("nodeSelector", json!({"kubernetes.io/hostname": "n"}), Allowed),
        ("tolerations", json!([{"operator": "Exists"}]), Allowed),
        ("labels", json!({"paperclip.io/agent-id": "other"}), NotUsed),
        ("cwd", json!("/paperclip/instances/default/db"), Allowed),
        ("extraArgs", json!(["--x"]), Allowed),
        ("env", json!({"PAPERCLIP_API_URL": "http://evil", "PAPERCLIP_AGENT_ID": "other"}), NotUsed),
        ("concurrencyScope", json!("none"), Allowed),
        ("whenBusy", json!("fail"), Allowed),
        ("queueTimeoutSec", json!(1), Allowed),
        ("reattachOrphanedJobs", json!(false), Allowed),
        ("retryFreshSession", json!(false), Allowed),
        ("retainJobs", json!(true), Allowed),
        ("ttlSecondsAfterFinished", json!(0), Allowed),
        ("quietTimeoutSec", json!(1), Allowed),
        ("cancelGraceSec", json!(3_000), Allowed),
        ("scheduleGraceSec", json!(1), Allowed),
        ("quotaGraceSec", json!(1), Allowed),
        ("imageGraceSec", json!(1), Allowed),
        ("mountGraceSec", json!(1), Allowed),
        ("resultGraceSec", json!(1), Allowed),
        ("backgroundGraceSec", json!(1), Allowed),
        // Of one agent type or another.
        ("maxTurnsPerRun", json!(1), Allowed),
        ("maxCostUsd", json!(1), Allowed),
        ("dangerouslySkipPermissions", json!(true), Allowed),
        ("modelReasoningEffort", json!("high"), Allowed),
        ("fastMode", json!(true), Allowed),
        ("search", json!(true), Allowed),
        ("dangerouslyBypassApprovalsAndSandbox", json!(true), Allowed),
        ("modelProvider", json!("x"), Allowed),
        ("baseUrl", json!("http://169.254.169.254"), Allowed),
        ("envKey", json!("X"), Allowed),
        ("codexHome", json!("/paperclip/agent-homes/acme/other"), Allowed),
        ("approvalMode", json!("yolo"), Allowed),
        ("authType", json!("gemini-api-key"), Allowed),
        ("variant", json!("x"), Allowed),
        ("smallModel", json!("a/b"), Allowed),
        ("providers", json!({}), Allowed),
        ("agentDbMode", json!("dedicated_pvc"), Policed(Rule::VolumeClaim)),
        // Kubernetes has these, a config does not.
        ("hostNetwork", json!(true), NotUsed),
        ("hostPID", json!(true), NotUsed),
        ("nodeName", json!("control-plane"), NotUsed),
        ("priorityClassName", json!("system-cluster-critical"), NotUsed),
        ("priority", json!(1_000_000), NotUsed),
        ("runtimeClassName", json!("privileged"), NotUsed),
        ("automountServiceAccountToken", json!(true), NotUsed),
        ("securityContext", json!({"privileged": true, "runAsUser": 0}), NotUsed),
        ("volumes", token.clone(), NotUsed),
        ("projected", token[0]["projected"].clone(), NotUsed),
        ("volumeMounts", json!([{"name": "data", "mountPath": "/all"}]), NotUsed),
        ("initContainers", json!([{"name": "i", "image": "x"}]), NotUsed),
        ("envFrom", json!([{"secretRef": {"name": "other"}}, {"configMapRef": {"name": "other"}}]), NotUsed),
        ("imagePullSecrets", json!([{"name": "other"}]), NotUsed),
        ("configMaps", json!(["other"]), NotUsed),
        ("livenessProbe", probe.clone(), NotUsed),
        ("lifecycle", json!({"preStop": probe}), NotUsed),
        ("podSpec", json!({"hostNetwork": true}), NotUsed),
    ]
}

/// Paperclip's pod, with everything that agents must not inherit.
fn paperclip_pod() -> Value {
    json!({"metadata": {"namespace": "agents"}, "spec": {
        "hostNetwork": true, "priorityClassName": "system-cluster-critical", "runtimeClassName": "privileged",
        "serviceAccountName": "paperclip", "nodeName": "n",
        "containers": [{
            "name": "paperclip", "image": "ghcr.io/acme/paperclip:1",
            "livenessProbe": {"httpGet": {"host": "db", "port": 1}},
            "securityContext": {"privileged": true},
            "volumeMounts": [
                {"name": "data", "mountPath": "/paperclip"}, {"name": "backups", "mountPath": "/backups"},
                {"name": "token", "mountPath": "/token"}, {"name": "settings", "mountPath": "/settings"},
                {"name": "node", "mountPath": "/node"},
            ],
        }],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "backups", "persistentVolumeClaim": {"claimName": "backups"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "node", "hostPath": {"path": "/"}},
        ],
    }})
}

/// Returns a run with these fields in its config.
fn request(plugin: &Arc<Plugin>, fields: &Value) -> Request {
    let mut config = json!({"image": "ghcr.io/acme/agent:1", "namespace": "agents"});
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let context = json!({
        "runId": "r", "agent": {"id": "nova", "companyId": "acme"}, "config": config, "authToken": "t",
        "context": {"paperclipWorkspace": {"cwd": "/paperclip/instances/default/workspaces/nova"}},
    });
    let pod = paperclip_pod();
    let facts = IntakeFacts { paperclip_pod: Some(&pod), ..IntakeFacts::bare(Some("agents")) };
    intake::split(&context, plugin.adapter_type(), facts).unwrap().0
}

/// Plans a run with these fields, and checks its Job: the Job's specification, or who refuses it.
fn plan(plugin: &Arc<Plugin>, fields: &Value) -> Result<Value, Outcome> {
    let request = request(plugin, fields);
    let field = fields.as_object().unwrap().keys().next().map_or("", String::as_str);
    let printed = match Tools::new(Arc::clone(plugin)).manifest(&request).unwrap() {
        Ok(printed) => printed,
        Err(refusal) => {
            assert!(
                refusal.field.as_deref() == Some(field) || refusal.message.contains(field),
                "{field}: {refusal:?}"
            );
            return Err(Config);
        }
    };
    let job = serde_json::from_str::<Value>(&printed).unwrap()["job"].take();
    let grant = json!({
        "namespaces": ["agents"], "images": ["ghcr.io/acme/*"], "max_cpu": "4", "max_memory": "8Gi",
    });
    let grant: Grant = serde_json::from_value(grant).unwrap();
    let action = Action::CreateJob(NewObject { manifest_json: job.to_string() });
    match Policy::new(grant, &request).check(&[Command { id: 1, action }]) {
        Ok(()) => Ok(job["spec"].clone()),
        Err(refused) => Err(Policed(refused.rule)),
    }
}

#[test]
fn every_field_of_a_config_is_checked_against_the_operators_policy() {
    let mut unseen: BTreeSet<String> = rows().iter().map(|(field, _, _)| (*field).to_owned()).collect();
    for agent_type in ["claude_k8s", "codex_k8s", "gemini_k8s", "opencode_k8s"] {
        let plugin = load_file(&plugin_of(agent_type));
        let schema: Value = serde_json::from_str(&plugin.descriptor().config_schema_json).unwrap();
        let mut fields: Vec<&str> =
            schema["fields"].as_array().unwrap().iter().map(|field| field["key"].as_str().unwrap()).collect();
        for field in &fields {
            assert!(rows().iter().any(|(row, _, _)| row == field), "{agent_type}: no row for {field}");
        }
        let in_form = fields.len();
        // What no form shows is tried with one agent type: all share how it is read.
        if agent_type == "claude_k8s" {
            let others =
                rows().into_iter().map(|(field, _, _)| field).filter(|field| !fields.contains(field));
            let others: Vec<&str> = others.collect();
            fields.extend(others);
        }
        let model = if agent_type == "opencode_k8s" { json!({"model": "a/b"}) } else { json!({}) };
        let plain = plan(&plugin, &model).expect("a config of a tenant who asks for nothing");
        for (index, field) in fields.iter().enumerate() {
            for (_, value, outcome) in rows().iter().filter(|(row, _, _)| row == field) {
                let mut config = json!({*field: value});
                config.as_object_mut().unwrap().extend(model.as_object().unwrap().clone());
                let found = plan(&plugin, &config);
                // Fields of other agent types are not used.
                let is_foreign = index >= in_form && matches!(outcome, Allowed | Policed(Rule::VolumeClaim));
                match (outcome, &found) {
                    (NotUsed, Ok(spec)) => assert_eq!(*spec, plain, "{agent_type}: {field}"),
                    (Allowed, Ok(spec)) => assert_eq!(
                        spec["template"]["spec"]["volumes"], plain["template"]["spec"]["volumes"],
                        "{agent_type}: {field}"
                    ),
                    (_, Ok(spec)) if is_foreign => assert_eq!(*spec, plain, "{agent_type}: {field}"),
                    (expected, found) => {
                        assert_eq!(found.as_ref().err(), Some(expected), "{agent_type}: {field}");
                    }
                }
                unseen.remove(*field);
            }
        }
    }
    assert_eq!(unseen, BTreeSet::<String>::new());
}

#[test]
fn fields_that_have_no_effect_are_warned_about_once_and_no_others() {
    for agent_type in ["claude_k8s", "codex_k8s", "gemini_k8s", "opencode_k8s"] {
        let plugin = load_file(&plugin_of(agent_type));
        let schema: Value = serde_json::from_str(&plugin.descriptor().config_schema_json).unwrap();
        let fields = schema["fields"].as_array().unwrap();
        let is_own = |field: &str| fields.iter().any(|own| own["key"] == field);
        let mut config = json!({"model": "a/b", "effort": "high", "graceSec": 1, "timeoutSec": 1, "extraArgs": [], "cwd": "/w"});
        for (field, value, outcome) in rows() {
            if is_own(field) && outcome == Allowed {
                config[field] = value;
            }
        }
        let warnings = |config: &Value| -> Vec<String> {
            let printed =
                Tools::new(Arc::clone(&plugin)).manifest(&request(&plugin, config)).unwrap().unwrap();
            let printed: Value = serde_json::from_str(&printed).unwrap();
            let all: Vec<String> = serde_json::from_value(printed["warnings"].clone()).unwrap();
            all.into_iter().filter(|warning| warning.contains("have no effect")).collect()
        };
        assert_eq!(warnings(&config), Vec::<String>::new(), "{agent_type}");
        config["hostNetwork"] = json!(true);
        config["timoutSec"] = json!(1);
        assert_eq!(
            warnings(&config),
            [
                "config fields that have no effect for this agent type: hostNetwork, timoutSec (did you mean timeoutSec?)"
            ],
            "{agent_type}"
        );
    }
}

#[test]
fn no_field_of_paperclips_pod_is_inherited_that_a_config_could_not_have() {
    let plugin = load_file(&plugin_of("claude_k8s"));
    let spec = plan(&plugin, &json!({})).expect("the policy allows it")["template"]["spec"].take();
    for field in ["hostNetwork", "priorityClassName", "runtimeClassName", "serviceAccountName", "nodeName"] {
        assert_eq!(spec[field], Value::Null, "{field}");
    }
    let volumes: Vec<&str> =
        spec["volumes"].as_array().unwrap().iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert_eq!(volumes, ["prompt", "run", "scratch", "data"]);
    let container = &spec["containers"][0];
    assert_eq!(container["livenessProbe"], Value::Null);
    let mounts = container["volumeMounts"].as_array().unwrap().iter().filter(|mount| mount["name"] == "data");
    let mounts: Vec<_> =
        mounts.map(|mount| (mount["mountPath"].as_str(), mount["subPath"].as_str())).collect();
    let own = "instances/default/workspaces/nova";
    let below = format!("/paperclip/{own}");
    assert_eq!(
        mounts,
        [(Some("/paperclip"), Some("agent-homes/acme/nova")), (Some(below.as_str()), Some(own))]
    );
}
