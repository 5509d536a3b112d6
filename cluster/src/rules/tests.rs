use serde_json::{Value, json};

use super::{apply_defaults, check_change, check_new, start_life};
use crate::resource::Resource;
use crate::store::complete;

fn job(change: impl FnOnce(&mut Value)) -> Value {
    let mut job = json!({
        "metadata": {"name": "run", "namespace": "default", "labels": {"app": "x"}},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "volumes": [{"name": "prompt", "secret": {"secretName": "s"}}, {"name": "home"}],
            "containers": [{
                "name": "main",
                "image": "agent:1",
                "env": [{"name": "A", "value": "1"}],
                "volumeMounts": [{"name": "prompt", "mountPath": "/tmp/prompt"}],
            }],
        }}},
    });
    change(&mut job);
    ready(Resource::Jobs, job)
}

fn ready(resource: Resource, mut object: Value) -> Value {
    object["metadata"]["uid"] = json!("11111111-2222-3333-4444-555555555555");
    complete(resource, &mut object).unwrap();
    apply_defaults(resource, &mut object);
    start_life(resource, &mut object);
    object
}

fn refusal(resource: Resource, object: &Value) -> String {
    check_new(resource, object).expect_err("broken").message
}

#[test]
fn a_job_gets_its_defaults_and_its_selector() {
    let mut made = job(|_| {});
    check_new(Resource::Jobs, &made).unwrap();
    made["metadata"]["creationTimestamp"] = json!("NOW");
    insta::with_settings!({sort_maps => true}, { insta::assert_json_snapshot!(made) });
}

#[test]
fn defaults_are_stable() {
    let once = job(|_| {});
    let mut twice = once.clone();
    apply_defaults(Resource::Jobs, &mut twice);
    assert_eq!(once, twice);
}

#[test]
fn each_broken_rule_of_a_job_is_named_with_its_field() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change)] = &[
        ("name", |j| j["metadata"]["name"] = json!("A_b")),
        ("label", |j| j["metadata"]["labels"] = json!({"a b": "c d"})),
        ("no containers", |j| j["spec"]["template"]["spec"]["containers"] = json!([])),
        ("container without name and image", |j| {
            j["spec"]["template"]["spec"]["containers"] = json!([{}]);
        }),
        ("same name twice", |j| {
            j["spec"]["template"]["spec"]["initContainers"] = json!([{"name": "main", "image": "x"}]);
        }),
        ("mounts", |j| {
            j["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
                json!([{"name": "nowhere", "mountPath": "/a"}, {"name": "prompt"}]);
        }),
        ("restart policy", |j| j["spec"]["template"]["spec"]["restartPolicy"] = json!("Always")),
        ("negative numbers", |j| {
            j["spec"]["backoffLimit"] = json!(-1);
            j["spec"]["activeDeadlineSeconds"] = json!(-5);
            j["spec"]["ttlSecondsAfterFinished"] = json!(-1);
        }),
        ("limit below request", |j| {
            j["spec"]["template"]["spec"]["containers"][0]["resources"] =
                json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "1", "gpu": "1"}});
        }),
        ("environment", |j| {
            j["spec"]["template"]["spec"]["containers"][0]["env"] = json!([
                {"name": "A=B", "value": "1"},
                {"name": "C", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "D", "valueFrom": {"fieldRef": {"fieldPath": "metadata.color"}}},
            ]);
        }),
        ("volumes", |j| {
            j["spec"]["template"]["spec"]["volumes"] = json!([
                {"name": "prompt", "secret": {}},
                {"name": "prompt", "emptyDir": {}, "hostPath": {"path": "/x/../y"}},
            ]);
        }),
        ("toleration", |j| {
            j["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "a", "operator": "Like"}]);
        }),
        ("pull policy and port", |j| {
            j["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Sometimes");
            j["spec"]["template"]["spec"]["containers"][0]["ports"] = json!([{"containerPort": 70000}]);
        }),
        ("owner", |j| {
            j["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p"}]);
        }),
        ("selector of one's own", |j| j["spec"]["selector"] = json!({"matchLabels": {"a": "b"}})),
    ];
    let messages: Vec<String> = cases
        .iter()
        .map(|(name, change)| format!("{name}\n    {}", refusal(Resource::Jobs, &job(change))))
        .collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_template_is_immutable_and_suspension_is_not() {
    let old = job(|_| {});
    let mut new = old.clone();
    new["spec"]["suspend"] = json!(true);
    new["spec"]["parallelism"] = json!(2);
    check_change(Resource::Jobs, &old, &new).unwrap();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other");
    let refused = check_change(Resource::Jobs, &old, &new).unwrap_err();
    assert!(refused.message.starts_with("Job.batch \"run\" is invalid: spec.template: Invalid value:"));
    assert!(refused.message.ends_with("field is immutable"));
}

#[test]
fn a_secret_takes_plain_data_and_may_be_frozen() {
    let secret = json!({
        "metadata": {"name": "s", "namespace": "default"},
        "stringData": {"a": "hello"}, "immutable": true,
    });
    let secret = ready(Resource::Secrets, secret);
    assert_eq!(secret["data"], json!({"a": "aGVsbG8="}));
    assert_eq!(secret["type"], "Opaque");
    check_new(Resource::Secrets, &secret).unwrap();
    let mut changed = secret.clone();
    changed["data"]["a"] = json!("aGVsbG8h");
    assert_eq!(
        check_change(Resource::Secrets, &secret, &changed).unwrap_err().message,
        "Secret \"s\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
    let mut large = secret;
    large["data"] = json!({"a": "AAAA".repeat(512 * 1024), "b/c": ""});
    insta::assert_snapshot!(refusal(Resource::Secrets, &large));
}

#[test]
fn a_claim_waits_to_be_bound() {
    let claim = json!({
        "metadata": {"name": "c", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    let claim = ready(Resource::PersistentVolumeClaims, claim);
    check_new(Resource::PersistentVolumeClaims, &claim).unwrap();
    assert_eq!(claim["status"]["phase"], "Pending");
    assert_eq!(claim["spec"]["storageClassName"], "local");
}

#[test]
fn a_pod_gets_its_defaults() {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [
            {"name": "a", "image": "host:5000/x", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        ]},
    });
    let pod = ready(Resource::Pods, pod);
    check_new(Resource::Pods, &pod).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["memory"], "1Gi");
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "Guaranteed"}));
}
