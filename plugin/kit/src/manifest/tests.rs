//! Whole plans, of a minimal agent type.

use std::collections::BTreeMap;

use paperclip_kubernetes::{Quantity, validation};
use proptest::prelude::*;

use super::*;
use crate::config::{ConcurrencyScope, InheritEnv};
use crate::kubernetes::{label, resource};
use crate::request::{EnvName, File};

#[cfg(target_os = "linux")]
mod script;
mod variables;

struct Plain;

impl AgentType for Plain {
    fn adapter_type(&self) -> &'static str {
        "plain_k8s"
    }
    fn job_name_prefix(&self) -> &'static str {
        "pl"
    }
    fn container_name(&self) -> &'static str {
        "plain"
    }
    fn program(&self) -> &'static str {
        "plain"
    }
    fn forced_env(&self) -> &'static [(&'static str, &'static str)] {
        &[("HOME", "/paperclip")]
    }
    fn arguments(&self, call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        let mut args: Vec<String> = config.texts("extraArgs")?.into_iter().map(str::to_owned).collect();
        args.extend(call.session.map(|session| format!("resume={session}")));
        args.extend(call.instructions_file.map(str::to_owned));
        Ok(args)
    }
}

fn request(config: Value, context: Value) -> Request {
    let mut request: Request = serde_json::from_value(json!({
        "runId": "run-1",
        "agent": {"id": "agent-1", "companyId": "company-1", "name": "Nova", "adapterType": "plain_k8s"},
        "host": {"defaultNamespace": "default"},
    }))
    .unwrap();
    (request.config, request.context) = (object(config), object(context));
    request
}

fn object(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is not an object"),
    }
}

fn planned(request: &Request) -> Plan {
    plan(request, Attempt::FIRST, &Plain).unwrap()
}

fn container(plan: &Plan) -> &Value {
    &plan.job["spec"]["template"]["spec"]["containers"][0]
}

fn variable<'a>(plan: &'a Plan, name: &str) -> Option<&'a Value> {
    container(plan)["env"].as_array().unwrap().iter().find(|variable| variable["name"] == name)
}

fn paperclip_pod(env: Value, env_from: Value) -> Value {
    let mut container = json!({"name": "paperclip", "image": "p:1"});
    container["env"] = env;
    container["envFrom"] = env_from;
    json!({"metadata": {"namespace": "paperclip"}, "spec": {"containers": [container]}})
}

#[test]
fn outside_a_cluster_an_image_must_be_configured() {
    let refusal = plan(&request(json!({}), json!({})), Attempt::FIRST, &Plain).unwrap_err();
    assert_eq!(refusal.field, "image");
    assert!(refusal.message.contains("[agents] in the host's configuration"), "{refusal}");
    assert_eq!(planned(&request(json!({"image": "a:1"}), json!({}))).namespace, "default");
}

#[test]
fn without_any_namespace_one_must_be_configured() {
    let mut request = request(json!({"image": "a:1"}), json!({}));
    request.host.default_namespace = None;
    assert_eq!(plan(&request, Attempt::FIRST, &Plain).unwrap_err().field, "namespace");
    request.host.default_namespace = Some("No Such".into());
    assert_eq!(plan(&request, Attempt::FIRST, &Plain).unwrap_err().field, "namespace");
}

#[test]
fn an_agent_without_a_label_is_refused_with_its_own_code() {
    let mut request = request(json!({"image": "a:1"}), json!({}));
    request.agent.id = "é!".into();
    let refusal = plan(&request, Attempt::FIRST, &Plain).unwrap_err();
    assert_eq!(refusal.code, "k8s_agent_id_invalid");
    assert_eq!(refusal.message, "Agent ID \"é!\" cannot be sanitized to a valid Kubernetes label");
}

#[test]
fn the_second_attempt_has_its_own_name_and_no_session() {
    let mut request = request(json!({"image": "a:1"}), json!({}));
    request.runtime.session_id = Some("s-1".into());
    let (first, second) = (planned(&request), plan(&request, Attempt::WITH_FRESH_SESSION, &Plain).unwrap());
    assert_eq!(second.job_name, format!("{}-2", first.job_name));
    assert_eq!(first.args, ["resume=s-1"]);
    assert_eq!(second.args, Vec::<String>::new());
    let labels = |plan: &Plan| plan.job["metadata"]["labels"].clone();
    assert_eq!(labels(&first)["paperclip.io/session-id"], "s-1");
    assert_eq!(labels(&first)["paperclip.io/attempt"], Value::Null);
    assert_eq!(labels(&second)["paperclip.io/session-id"], Value::Null);
    assert_eq!(labels(&second)["paperclip.io/attempt"], "2");
    assert_ne!(first.spec_hash, second.spec_hash);
    assert_eq!(first.guard_key, second.guard_key);
}

#[test]
fn runs_that_exclude_one_another_have_one_guard_and_one_selector() {
    let labels = |agent: &str, task: &str| {
        let mut request = request(json!({}), json!({"taskId": task}));
        request.agent.id = agent.into();
        labels::RunLabels::of(&request, Attempt::FIRST, &Plain).unwrap()
    };
    let (first, second, other) = (labels("a", "t"), labels("a", "u"), labels("b", "t"));
    let key = |labels: &labels::RunLabels, scope| labels.guard_key(scope, "r1");
    assert!(key(&first, ConcurrencyScope::Agent).starts_with("paperclip-agent-"));
    assert_eq!(key(&first, ConcurrencyScope::Agent), key(&second, ConcurrencyScope::Agent));
    assert_ne!(key(&first, ConcurrencyScope::Agent), key(&other, ConcurrencyScope::Agent));
    assert_ne!(key(&first, ConcurrencyScope::Task), key(&second, ConcurrencyScope::Task));
    let own = |run: &str| first.guard_key(ConcurrencyScope::None, run);
    assert!(own("r1").starts_with("paperclip-run-") && own("r1") != own("r2"), "each run has its own");
    let selector = [("paperclip.io/agent-id", "a"), ("paperclip.io/adapter-type", "plain_k8s")];
    assert_eq!(first.guard_selector(), selector.map(|(key, value)| (key, value.to_owned())).into());
}

#[test]
fn a_pod_has_no_empty_lists() {
    let spec = |request: &Request| planned(request).job["spec"]["template"]["spec"].clone();
    let bare = spec(&request(json!({"image": "a:1"}), json!({})));
    let placed =
        json!({"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]});
    let mut request = request(placed, json!({}));
    let mut paperclip = paperclip_pod(json!([]), json!([]));
    paperclip["spec"]["imagePullSecrets"] = json!([{"name": "pull"}]);
    request.paperclip_pod = Some(paperclip);
    let full = spec(&request);
    for name in ["imagePullSecrets", "nodeSelector", "tolerations"] {
        assert_eq!(bare.get(name), None, "{name}");
        assert!(full[name].is_array() || full[name].is_object(), "{name}: {full}");
    }
}

#[test]
fn refuses_a_session_with_a_nul_character() {
    let mut request = request(json!({"image": "a:1"}), json!({}));
    request.runtime.session_id = Some("a\0b".into());
    assert_eq!(plan(&request, Attempt::FIRST, &Plain).unwrap_err().field, "runtime.sessionId");
    assert!(plan(&request, Attempt::WITH_FRESH_SESSION, &Plain).is_ok());
}

#[test]
fn a_job_has_its_deadline_grace_and_service_account() {
    let plan = planned(&request(
        json!({"image": "a:1", "timeoutSec": 900, "graceSec": 30, "cancelGraceSec": 20, "serviceAccountName": "sa"}),
        json!({}),
    ));
    let spec = &plan.job["spec"];
    assert_eq!(spec["activeDeadlineSeconds"], 900 + 30 + 3600);
    assert_eq!(spec["suspend"], true);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 20);
    assert_eq!(pod["serviceAccountName"], "sa");
    assert_eq!(pod["automountServiceAccountToken"], Value::Null);
}

#[test]
fn mounts_files_and_passes_their_path_to_the_agent() {
    let mut request = request(json!({"image": "a:1"}), json!({}));
    let file = |path: &str| File { path: path.into(), content: "be kind".into(), ..File::default() };
    assert_eq!(planned(&request).skills_line(), "Skills bundled (0): none");
    request.files = vec![file("agent-instructions.md"), file("skills/b/SKILL.md"), file("skills/a/SKILL.md")];
    request.instructions_path = Some("agent-instructions.md".into());
    let plan = planned(&request);
    assert_eq!(plan.skills_line(), "Skills bundled (2): a, b");
    assert_eq!(plan.skills_note(), "Skills (2): a, b");
    assert_eq!(plan.args, ["/tmp/bundle/agent-instructions.md"]);
    // Both skills have the same content.
    assert_eq!(plan.config_maps.iter().map(|map| map.is_shared).collect::<Vec<_>>(), [true, false]);
    assert_eq!(plan.config_maps[1].entries["file-0000"], "be kind");
    let mounts = container(&plan)["volumeMounts"].as_array().unwrap();
    assert!(mounts.contains(&json!({"name": "bundle", "mountPath": "/tmp/bundle", "readOnly": true})));
    assert_eq!(plan.to_json()["configMaps"][1]["keys"], json!(["file-0000"]));
}

#[test]
fn an_inherited_volume_keeps_its_name_unless_that_is_taken() {
    let mut request = request(json!({}), json!({}));
    let mut paperclip = paperclip_pod(json!([]), json!([]));
    let volume = |name: &str| json!({"name": name, "secret": {"secretName": format!("of-{name}")}});
    paperclip["spec"]["volumes"] = json!([volume("certificates"), volume("run")]);
    paperclip["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "certificates", "mountPath": "/certificates"}, {"name": "run", "mountPath": "/keys"}]);
    request.paperclip_pod = Some(paperclip);
    let plan = planned(&request);
    let volumes = plan.job["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let names: Vec<&str> = volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["prompt", "run", "scratch", "certificates", "inherited-1"]);
}

#[test]
fn inherited_volumes_never_replace_those_of_the_run() {
    let mut request = request(json!({}), json!({}));
    request.paperclip_pod = Some(json!({
        "metadata": {"namespace": "paperclip"},
        "spec": {
            "containers": [{"image": "p:1", "volumeMounts": [
                {"name": "prompt", "mountPath": "/keys"}, {"name": "other", "mountPath": "/tmp/prompt"},
            ]}],
            "volumes": [
                {"name": "prompt", "secret": {"secretName": "a"}}, {"name": "other", "secret": {"secretName": "b"}},
            ],
        },
    }));
    let plan = planned(&request);
    let volumes = plan.job["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    let names: Vec<_> = volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["prompt", "run", "scratch", "inherited-0"]);
}

#[test]
fn warns_of_objects_that_another_namespace_must_have() {
    let mut request = request(json!({"namespace": "agents"}), json!({}));
    request.paperclip_pod = Some(json!({
        "metadata": {"namespace": "paperclip"},
        "spec": {"imagePullSecrets": [{"name": "reg"}], "containers": [{"image": "p:1"}]},
    }));
    let plan = planned(&request);
    assert_eq!(
        plan.warnings,
        ["the run's namespace agents is not Paperclip's own: Secret reg must exist there too"]
    );
    request.config = object(json!({"namespace": "paperclip"}));
    assert_eq!(planned(&request).warnings, Vec::<String>::new(), "the Secret is in that namespace");
    request.config = object(json!({"namespace": "agents"}));
    request.paperclip_pod = Some(json!({
        "metadata": {"namespace": "paperclip"}, "spec": {"containers": [{"image": "p:1"}]},
    }));
    assert_eq!(planned(&request).warnings, Vec::<String>::new(), "the pod refers to no object");
}

#[test]
fn secrets_and_files_have_the_labels_of_their_run() {
    let plan = planned(&request(json!({"image": "a:1"}), json!({})));
    let keys: Vec<&str> = plan.owned_labels().iter().map(|(key, _)| *key).collect();
    let all = plan.labels.entries();
    assert!(keys.contains(&labels::MANAGED_BY) && keys.contains(&labels::RUN_ID), "{keys:?}");
    assert!(!keys.contains(&labels::TASK_ID), "only Jobs have the labels of the selector: {keys:?}");
    assert!(plan.owned_labels().iter().all(|label| all.contains(label)));
}

#[test]
fn accepts_files_of_three_mebibytes() {
    let mut request = request(json!({"image": "a:1"}), json!({}));
    let file =
        |index: usize| File { path: format!("f{index}"), content: "x".repeat(700 * 1024), ..File::default() };
    request.files = (0..4).map(file).collect();
    assert_eq!(planned(&request).config_maps.len(), 4);
    request.files = (0..5).map(file).collect();
    assert_eq!(plan(&request, Attempt::FIRST, &Plain).unwrap_err().field, "files");
}

#[test]
fn the_hash_does_not_depend_on_the_order_of_keys() {
    let with = |dns: &str| {
        let mut request = request(json!({}), json!({}));
        let mut pod = paperclip_pod(json!([]), json!([]));
        pod["spec"]["dnsConfig"] = serde_json::from_str(dns).unwrap();
        request.paperclip_pod = Some(pod);
        planned(&request)
    };
    let (one, other) =
        (with(r#"{"searches":["a"],"options":[]}"#), with(r#"{"options":[],"searches":["a"]}"#));
    assert_eq!(one.spec_hash, other.spec_hash);
    assert_eq!(one.job["metadata"]["annotations"][SPEC_HASH], one.spec_hash.as_str());
    assert_ne!(one.spec_hash, with("{}").spec_hash);
}

#[test]
fn splits_a_prompt_of_eight_megabytes() {
    let text = "é".repeat(prompt::PROMPT_MAX_BYTES / 2);
    let plan = planned(&request(json!({"image": "a:1", "promptTemplate": text}), json!({})));
    let joined: String = plan
        .secrets
        .iter()
        .flat_map(|secret| secret.entries.values())
        .filter_map(|source| plan.prompt_of(source))
        .collect();
    assert_eq!(joined, text);
    assert!(container(&plan)["command"][2].as_str().unwrap().contains("cat /tmp/prompt/prompt.* | \"$@\""));
}

#[test]
fn a_plan_survives_serialisation() {
    let plan = planned(&request(json!({"image": "a:1", "timeoutSec": 5}), json!({"taskId": "t"})));
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

/// Checks the parts of a Job that depend on the config by Kubernetes' rules.
fn assert_kubernetes_accepts(plan: &Plan) {
    let job = &plan.job;
    assert_eq!(name::dns_label(job["metadata"]["name"].as_str().unwrap()), Ok(()));
    assert_eq!(name::dns_label(job["metadata"]["namespace"].as_str().unwrap()), Ok(()));
    let pod = &job["spec"]["template"]["spec"];
    let labels =
        [&job["metadata"]["labels"], &job["spec"]["template"]["metadata"]["labels"], &pod["nodeSelector"]];
    for (key, value) in labels.into_iter().filter_map(Value::as_object).flatten() {
        assert_eq!(label::key(key), Ok(()));
        assert_eq!(label::value(value.as_str().unwrap()), Ok(()));
    }
    for toleration in pod["tolerations"].as_array().into_iter().flatten() {
        let toleration = serde_json::from_value(toleration.clone()).unwrap();
        assert_eq!(crate::kubernetes::toleration::check(&toleration), Ok(()));
    }
    let resources = &container(plan)["resources"];
    let quantity = |amount: &Value| Quantity::parse(amount.as_str().unwrap()).unwrap();
    for (name, request) in resources["requests"].as_object().unwrap() {
        let may_overcommit = resource::kind(name).unwrap().may_overcommit();
        match resources["limits"].get(name) {
            Some(limit) if may_overcommit => assert!(quantity(request) <= quantity(limit)),
            Some(limit) => assert_eq!(quantity(request), quantity(limit)),
            None => assert!(may_overcommit, "{name}"),
        }
    }
    for name in resources["limits"].as_object().unwrap().keys() {
        assert!(resources["requests"].get(name).is_some(), "{name}");
    }
    let mut names = BTreeMap::new();
    for variable in container(plan)["env"].as_array().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert_eq!(name::variable(name), Ok(()));
        assert_eq!(names.insert(name.to_owned(), ()), None, "{name} occurs twice");
    }
    for secret in &plan.secrets {
        assert_eq!(name::dns_subdomain(&secret.name), Ok(()));
        assert!(secret.entries.keys().all(|key| validation::is_config_key(key)));
    }
    for deadline in ["activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        assert!(job["spec"][deadline].as_i64().unwrap_or(1) <= i64::from(i32::MAX));
    }
}

/// Values of config fields, from valid to absurd.
fn config_value() -> impl Strategy<Value = Value> {
    let text_area = "([a-z./-]{0,8}[=:] ?[a-zA-Z0-9 .\"'-]{0,8}\r?\n?){0,4}";
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[0-9.]{1,3}(m|Mi|Gi|G|)".prop_map(Value::from),
        "[a-z0-9.:/@-]{0,20}".prop_map(Value::from),
        text_area.prop_map(Value::from),
        ".{0,30}".prop_map(Value::from),
        "[-{}\\[\\]:,\"a-e \n]{0,30}".prop_map(Value::from),
        prop::collection::vec(("[a-zA-Z./-]{0,8}", ".{0,8}"), 0..4)
            .prop_map(|entries| entries.into_iter().map(|(key, value)| (key, json!(value))).collect()),
        ("[a-z]{0,5}", prop::sample::select(vec!["Exists", "Equal", "", "x"]), "[a-z ]{0,4}")
            .prop_map(|(key, operator, value)| json!([{"key": key, "operator": operator, "value": value}])),
        prop::collection::vec(".{0,8}", 0..4).prop_map(Value::from),
    ]
}

fn config_key() -> impl Strategy<Value = String> {
    let mut keys: Vec<String> =
        crate::config::schema::schema().into_iter().map(|field| field.key.to_owned()).collect();
    keys.extend(
        [
            "timeoutSec",
            "graceSec",
            "cwd",
            "extraArgs",
            "model",
            "promptTemplate",
            "resources",
            "resources.limits.ephemeral-storage",
            "resources.requests.nvidia.com/gpu",
            "resources.limits.nvidia.com/gpu",
        ]
        .map(String::from),
    );
    prop::sample::select(keys)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_config_is_refused_or_accepted_by_kubernetes(
        config in prop::collection::vec((config_key(), config_value()), 0..4),
        env_name in "[A-Z]{1,5}|.{0,5}",
        run_id in ".{0,40}",
        task in ".{0,80}",
    ) {
        let mut request = request(json!({"image": "a:1"}), json!({"taskId": task}));
        request.config.extend(config);
        request.run_id = run_id;
        request.config_env = vec![EnvName { name: env_name, value: None }];
        match plan(&request, Attempt::FIRST, &Plain) {
            Ok(plan) => assert_kubernetes_accepts(&plan),
            Err(refusal) => prop_assert!(!refusal.field.is_empty() && !refusal.message.is_empty()),
        }
    }
}
