use std::collections::BTreeMap;

use super::*;
use crate::intake::IntakeFacts;
use paperclip_contract::types::{AgentIdentity, DeleteCause, DeleteJob, Label, NewObject, PollHttp};
use serde_json::json;

pub(super) fn request() -> Request {
    let paperclip_pod = json!({"metadata": {"namespace": "paperclip"}, "spec": {
        "containers": [{
            "name": "paperclip",
            "envFrom": [{"secretRef": {"name": "paperclip-secrets"}}],
            "volumeMounts": [
                {"name": "data", "mountPath": "/paperclip"}, {"name": "backups", "mountPath": "/backups"},
                {"name": "keys", "mountPath": "/ssh"},
            ],
        }],
        "imagePullSecrets": [{"name": "regcred"}],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "backups", "persistentVolumeClaim": {"claimName": "backups"}},
            {"name": "keys", "secret": {"secretName": "ssh"}},
        ],
    }});
    Request {
        run_id: "run-1".into(),
        agent: AgentIdentity {
            id: "nova".into(),
            company_id: "acme".into(),
            name: "Nova".into(),
            adapter_type: "test_k8s".into(),
        },
        runtime_json: "{}".into(),
        config_json: json!({"namespace": "agents"}).to_string(),
        config_env: Vec::new(),
        context_json: "{}".into(),
        has_auth_token: true,
        masked_env: Vec::new(),
        paperclip_pod_json: Some(paperclip_pod.to_string()),
        files: Vec::new(),
        instructions_path: None,
        host: IntakeFacts::bare(Some("default")).host,
    }
}

/// A Job that breaks no rule.
pub(super) fn job() -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "agents"}, "spec": {
        "suspend": true,
        "template": {"metadata": {}, "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "imagePullSecrets": [{"name": "regcred"}],
            "containers": [{
                "name": "agent", "image": "ghcr.io/acme/agent:1",
                "env": [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "j-run", "key": "authToken"}}}],
                "envFrom": [{"secretRef": {"name": "paperclip-secrets"}}],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "resources": {"limits": {"cpu": "2", "memory": "4Gi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/paperclip", "subPath": "agent-homes/acme/nova"}],
            }],
            "volumes": [
                {"name": "prompt", "secret": {"secretName": "j-prompt"}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "run", "emptyDir": {}},
            ],
        }},
    }})
}

fn create(job: &Value) -> Action {
    Action::CreateJob(NewObject { manifest_json: job.to_string() })
}

fn check(grant: Grant, action: Action) -> Result<(), Refused> {
    Policy::new(grant, &request()).check(&[Command { id: 1, action }])
}

pub(super) fn grant(toml_like: Value) -> Grant {
    serde_json::from_value(toml_like).expect("a grant")
}

/// Sets a value in a Job and returns its refusal.
fn refused_with(grant: Grant, pointer: &str, value: Value) -> Option<Refused> {
    let mut job = job();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    match job.pointer_mut(parent).expect("a parent") {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value,
        Value::Object(map) => {
            map.insert(key.to_owned(), value);
        }
        other => panic!("{parent} is {other}"),
    }
    check(grant, create(&job)).err()
}

#[test]
fn accepts_a_job_that_breaks_no_rule() {
    assert_eq!(check(Grant::default(), create(&job())), Ok(()));
}

/// Each row is a Job that differs from a good one in one place.
#[test]
fn names_each_broken_rule() {
    const SPEC: &str = "/spec/template/spec";
    let rows = [
        ("/metadata/namespace", json!("kube-system"), Rule::Namespace),
        ("/kind", json!("CronJob"), Rule::Manifest),
        ("/spec/suspend", json!(false), Rule::JobShape),
        ("/spec/parallelism", json!(2), Rule::JobShape),
        ("/spec/template/spec", json!({}), Rule::Manifest),
        ("{}/containers/0/securityContext/privileged", json!(true), Rule::Privileged),
        ("{}/containers/0/securityContext/allowPrivilegeEscalation", json!(true), Rule::Privileged),
        ("{}/containers/0/securityContext", json!({}), Rule::Privileged),
        ("{}/initContainers", json!([{"name": "i", "image": "x"}]), Rule::Privileged),
        ("{}/hostNetwork", json!(true), Rule::HostNamespaces),
        ("{}/hostPID", json!(true), Rule::HostNamespaces),
        ("{}/hostIPC", json!(true), Rule::HostNamespaces),
        ("{}/nodeName", json!("node-1"), Rule::NodeName),
        ("{}/volumes/-", json!({"name": "h", "hostPath": {"path": "/"}}), Rule::HostPath),
        ("{}/volumes/-", json!({"name": "n", "nfs": {"server": "x"}}), Rule::VolumeKind),
        (
            "{}/volumes/-",
            json!({"name": "c", "persistentVolumeClaim": {"claimName": "other"}}),
            Rule::VolumeClaim,
        ),
        (
            "{}/volumes/-",
            json!({"name": "b", "persistentVolumeClaim": {"claimName": "backups"}}),
            Rule::VolumeClaim,
        ),
        ("{}/containers/0/volumeMounts/0/subPath", json!("agent-homes/acme/other"), Rule::DataVolume),
        ("{}/containers/0/volumeMounts/0/subPath", json!(null), Rule::DataVolume),
        ("{}/volumes/-", json!({"name": "s", "secret": {"secretName": "other"}}), Rule::Secret),
        ("{}/volumes/-", json!({"name": "s", "secret": {"secretName": "ssh"}}), Rule::Secret),
        ("{}/volumes/-", json!({"name": "s", "secret": {"secretName": "paperclip-secrets"}}), Rule::Secret),
        (
            "{}/volumes/-",
            json!({"name": "s", "projected": {"sources": [{"secret": {"name": "other"}}]}}),
            Rule::Secret,
        ),
        (
            "{}/containers/0/env/-",
            json!({"name": "S", "valueFrom": {"secretKeyRef": {"name": "jj"}}}),
            Rule::Secret,
        ),
        ("{}/containers/0/envFrom/-", json!({"secretRef": {"name": "other"}}), Rule::Secret),
        ("{}/imagePullSecrets/-", json!({"name": "other"}), Rule::Secret),
        ("{}/containers/0/ports", json!([{"containerPort": 1, "hostPort": 1}]), Rule::HostPort),
        ("{}/containers/0/securityContext/capabilities/add", json!(["SYS_ADMIN"]), Rule::Capabilities),
        ("{}/containers/0/securityContext/runAsUser", json!(0), Rule::RootUser),
        ("{}/securityContext/runAsNonRoot", json!(false), Rule::RootUser),
        ("{}/securityContext/seccompProfile/type", json!("Unconfined"), Rule::Seccomp),
        ("{}/securityContext/sysctls", json!([{"name": "a", "value": "b"}]), Rule::Sysctls),
        ("{}/automountServiceAccountToken", json!(true), Rule::ServiceAccount),
        ("{}/serviceAccountName", json!("admin"), Rule::ServiceAccount),
        ("{}/serviceAccount", json!("admin"), Rule::ServiceAccount),
        (
            "{}/volumes/-",
            json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}),
            Rule::ServiceAccount,
        ),
        (
            "{}/volumes/-",
            json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "vault"}}]}}),
            Rule::ServiceAccount,
        ),
        (
            "{}/volumes/-",
            json!({"name": "t", "projected": {"sources": [{"podCertificate": {"signerName": "s"}}]}}),
            Rule::VolumeKind,
        ),
        ("{}/priorityClassName", json!("system-cluster-critical"), Rule::PriorityClass),
        ("{}/priority", json!(1_000_000), Rule::PriorityClass),
        ("{}/runtimeClassName", json!("privileged"), Rule::RuntimeClass),
        (
            "{}/containers/0/livenessProbe",
            json!({"httpGet": {"host": "169.254.169.254", "port": 80}}),
            Rule::ProbeHost,
        ),
        ("{}/containers/0/readinessProbe", json!({"tcpSocket": {"host": "db", "port": 1}}), Rule::ProbeHost),
        ("{}/containers/0/startupProbe", json!({"httpGet": {"host": "db", "port": 1}}), Rule::ProbeHost),
        (
            "{}/containers/0/lifecycle",
            json!({"preStop": {"httpGet": {"host": "db", "port": 1}}}),
            Rule::ProbeHost,
        ),
        ("{}/volumes/-", json!({"name": "c", "configMap": {"name": "other"}}), Rule::ConfigMap),
        (
            "{}/volumes/-",
            json!({"name": "c", "projected": {"sources": [{"configMap": {"name": "o"}}]}}),
            Rule::ConfigMap,
        ),
        ("{}/containers/0/envFrom/-", json!({"configMapRef": {"name": "other"}}), Rule::ConfigMap),
        (
            "{}/containers/0/env/-",
            json!({"name": "C", "valueFrom": {"configMapKeyRef": {"name": "paperclip-files-x", "key": "k"}}}),
            Rule::ConfigMap,
        ),
    ];
    for (pointer, value, rule) in rows {
        let pointer = pointer.replace("{}", SPEC);
        let refused = refused_with(Grant::default(), &pointer, value);
        assert_eq!(refused.as_ref().map(|refused| refused.rule), Some(rule), "{pointer}: {refused:?}");
    }
}

#[test]
fn a_grant_narrows_and_widens() {
    const SPEC: &str = "/spec/template/spec";
    let narrow = [
        (json!({"images": ["docker.io/acme/*"]}), Rule::Image),
        (json!({"namespaces": ["other-*"]}), Rule::Namespace),
        (json!({"max_cpu": "1500m"}), Rule::Resources),
        (json!({"max_memory": "4095Mi"}), Rule::Resources),
    ];
    for (document, rule) in narrow {
        let refused = check(grant(document), create(&job())).expect_err("refused");
        assert_eq!(refused.rule, rule, "{refused}");
    }
    let cap = grant(json!({"max_cpu": "2", "max_memory": "4Gi", "images": ["ghcr.io/acme/*"]}));
    assert_eq!(check(cap.clone(), create(&job())), Ok(()));
    let unlimited = refused_with(cap, &format!("{SPEC}/containers/0/resources"), json!({}));
    assert_eq!(unlimited.map(|refused| refused.rule), Some(Rule::Resources));
    let account = format!("{SPEC}/serviceAccountName");
    let accounts = grant(json!({"service_accounts": ["agent-*"]}));
    assert_eq!(refused_with(accounts.clone(), &account, json!("agent-sa")), None);
    assert_eq!(
        refused_with(accounts, &account, json!("admin")).map(|refused| refused.rule),
        Some(Rule::ServiceAccount)
    );
    let volume = json!({"name": "s", "secret": {"secretName": "team-key"}});
    assert_eq!(
        refused_with(grant(json!({"secrets": ["team-*"]})), &format!("{SPEC}/volumes/-"), volume),
        None
    );
    let hub = grant(json!({"images": ["docker.io/library/busybox:*"]}));
    assert_eq!(refused_with(hub, &format!("{SPEC}/containers/0/image"), json!("busybox:1")), None);
}

/// Each row is a field that only a grant allows, the grant, and a value that this grant does not name.
#[test]
fn what_a_grant_names_is_allowed_and_nothing_else() {
    let rows = [
        (
            "serviceAccountName",
            json!({"service_accounts": ["agent-*"]}),
            "agent-a",
            "other",
            Rule::ServiceAccount,
        ),
        ("priorityClassName", json!({"priority_classes": ["batch"]}), "batch", "other", Rule::PriorityClass),
        ("runtimeClassName", json!({"runtime_classes": ["gvisor"]}), "gvisor", "other", Rule::RuntimeClass),
    ];
    for (field, document, granted, other, rule) in rows {
        let pointer = format!("/spec/template/spec/{field}");
        assert_eq!(refused_with(grant(document.clone()), &pointer, json!(granted)), None, "{field}");
        let refused = refused_with(grant(document), &pointer, json!(other)).expect("refused");
        assert_eq!(refused.rule, rule);
        assert!(
            refused.what.contains("other") && refused.hint.contains("the plugin is granted"),
            "{refused}"
        );
    }
    let map = json!({"name": "c", "configMap": {"name": "team-settings"}});
    assert_eq!(
        refused_with(grant(json!({"config_maps": ["team-*"]})), "/spec/template/spec/volumes/-", map),
        None
    );
    let shared = format!("paperclip-files-{}", "0f".repeat(20));
    let map = json!({"name": "c", "configMap": {"name": shared}});
    assert_eq!(refused_with(Grant::default(), "/spec/template/spec/volumes/-", map), None);
    let own_host = json!({"httpGet": {"port": 80}});
    assert_eq!(
        refused_with(Grant::default(), "/spec/template/spec/containers/0/livenessProbe", own_host),
        None
    );
}

#[test]
fn the_hosts_own_account_is_never_granted() {
    let mut job = job();
    let policy = |own: Option<&str>| {
        let grant = grant(json!({"service_accounts": ["*"]}));
        Policy::new(grant, &request()).without_account(own.map(str::to_owned))
    };
    for field in ["serviceAccountName", "serviceAccount"] {
        job["spec"]["template"]["spec"][field] = json!("paperclip-host");
        let commands = [Command { id: 1, action: create(&job) }];
        assert_eq!(policy(None).check(&commands), Ok(()));
        assert_eq!(policy(Some("other")).check(&commands), Ok(()));
        let refused = policy(Some("paperclip-host")).check(&commands).expect_err("refused");
        assert_eq!(refused.rule, Rule::ServiceAccount);
        job["spec"]["template"]["spec"][field] = Value::Null;
    }
}

#[test]
fn a_token_that_paperclips_pod_has_for_another_service_is_inherited() {
    let token = |audience: &str| json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": audience}}]}});
    let mut request = request();
    let pod = json!({"metadata": {"namespace": "agents"}, "spec": {"containers": [], "volumes": [token("sts.amazonaws.com")]}});
    request.paperclip_pod_json = Some(pod.to_string());
    let check = |audience: &str| {
        let mut job = job();
        let spec = &mut job["spec"]["template"]["spec"];
        spec["volumes"] = json!([token(audience)]);
        spec["imagePullSecrets"] = json!([]);
        spec["containers"][0]["envFrom"] = json!([]);
        Policy::new(Grant::default(), &request).check(&[Command { id: 1, action: create(&job) }])
    };
    assert_eq!(check("sts.amazonaws.com"), Ok(()));
    for audience in ["", "https://kubernetes.default.svc"] {
        assert_eq!(check(audience).expect_err("refused").rule, Rule::ServiceAccount, "{audience}");
    }
}

#[test]
fn a_companys_grant_takes_the_place_of_the_agent_types_fields() {
    let type_grant =
        grant(json!({"images": ["*"], "namespaces": ["a", "b"], "max_cpu": "4", "secrets": ["s"]}));
    let company: CompanyGrant = serde_json::from_value(json!({
        "namespace": "acme", "images": ["ghcr.io/acme/*"], "service_accounts": [], "max_memory": "8Gi", "runs": 3,
        "priority_classes": ["batch"], "runtime_classes": ["gvisor"],
    }))
    .expect("a company's grant");
    let expected = grant(json!({
        "images": ["ghcr.io/acme/*"], "namespaces": ["acme"], "max_cpu": "4", "max_memory": "8Gi", "secrets": ["s"],
        "priority_classes": ["batch"], "runtime_classes": ["gvisor"],
    }));
    assert_eq!(company.apply_to(type_grant.clone()), expected);
    assert_eq!(CompanyGrant::default().apply_to(type_grant.clone()), type_grant);
}

#[test]
fn refuses_objects_lists_and_polls_outside_the_run() {
    let elsewhere = ObjectRef { namespace: "kube-system".into(), name: "j".into(), uid: "u".into() };
    let label = |value: &str| vec![Label { key: AGENT_LABEL.into(), value: value.into() }];
    let list =
        |labels| Action::ListJobs(paperclip_contract::types::ListJobs { namespace: "agents".into(), labels });
    let poll = |path: &str| Action::PollHttp(PollHttp { path: path.into() });
    let delete = DeleteJob { job: elsewhere.clone(), cause: DeleteCause::Cancelled };
    let rows = [
        (Action::FollowJob(elsewhere), Some(Rule::Namespace)),
        (Action::DeleteJob(delete), Some(Rule::Namespace)),
        (list(label("nova")), None),
        (list(label("other")), Some(Rule::OtherAgent)),
        (list(Vec::new()), Some(Rule::OtherAgent)),
        (poll("/api/heartbeat-runs/run-1"), None),
        (poll("/metrics"), Some(Rule::HttpPath)),
        (poll("/api/../metrics"), Some(Rule::HttpPath)),
    ];
    for (action, rule) in rows {
        let text = format!("{action:?}");
        let refused = check(Grant::default(), action).err();
        assert_eq!(refused.as_ref().map(|refused| refused.rule), rule, "{text}: {refused:?}");
    }
}

#[test]
fn a_refusal_names_rule_object_and_hint() {
    let refused =
        refused_with(Grant::default(), "/spec/template/spec/hostNetwork", json!(true)).expect("refused");
    assert_eq!(refused.to_string(), "rule host-namespaces: Job j has hostNetwork; no grant allows it");
    let names: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    assert_eq!(names.len(), Rule::ALL.len());
}

#[test]
fn recognises_an_agent_by_the_valid_form_of_its_label() {
    for (value, id, expected) in [
        ("nova", "nova", true),
        ("a-b", "a/b", true),
        ("nov", "nova", false),
        ("", "", false),
        (&"x".repeat(63), &"x".repeat(80), true),
        ("other", "nova", false),
    ] {
        assert_eq!(is_label_of(value, id), expected, "{value:?} for {id:?}");
    }
}

#[test]
fn a_pattern_is_a_name_or_a_prefix() {
    assert!(serde_json::from_value::<Grant>(json!({"images": ["a*b"]})).is_err());
    assert!(serde_json::from_value::<Grant>(json!({"images": [""]})).is_err());
    assert!(serde_json::from_value::<Grant>(json!({"max_cpu": "lots"})).is_err());
    let unknown = serde_json::from_value::<Grant>(json!({"image": ["x"]})).expect_err("a typo");
    assert!(unknown.to_string().contains("unknown field `image`"), "{unknown}");
}

#[test]
fn a_shared_config_map_is_named_after_its_content() {
    let map = |name: &str| NewConfigMap {
        namespace: "agents".into(),
        name: name.into(),
        labels: Vec::new(),
        owner: ObjectRef { namespace: "agents".into(), name: "j".into(), uid: "u".into() },
        entries: vec![Label { key: "a".into(), value: "text".into() }],
        binary_entries: Vec::new(),
        is_shared: true,
    };
    let name = paperclip_kubernetes::shared::name(&BTreeMap::from([("a", "text")]), &BTreeMap::new());
    let check = |map: NewConfigMap| {
        let policy = Policy::new(Grant::default(), &request());
        policy.check(&[Command { id: 1, action: Action::CreateConfigMap(map) }])
    };
    assert_eq!(check(map(&name)), Ok(()));
    assert_eq!(check(NewConfigMap { is_shared: false, ..map("own") }), Ok(()));
    let refused = check(map("paperclip-files-0")).unwrap_err();
    assert_eq!(refused.rule, Rule::Manifest);
    assert!(refused.what.contains(&name), "{refused}");
}
