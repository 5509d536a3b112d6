//! What each call sends, and what it makes of the answer.

use std::collections::BTreeMap;

use http::Method;
use paperclip_contract::types::{
    ApiError, Label, NewConfigMap, NewSecret, ObjectRef, ReadLog, SecretEntry, SecretSource,
};
use paperclip_engine::api::{ApiCall, ApiReply, Lease, OwnedKind};
use paperclip_engine::intake::{self, IntakeFacts, Secrets};
use paperclip_engine::time::Timestamp;
use paperclip_kubernetes::shared;
use paperclip_shell::calls::call;
use serde_json::json;

use crate::server::{Server, failure, json, not_found, text};

const CANARY: &str = "canary-5d1f";

fn object(name: &str, uid: &str) -> ObjectRef {
    ObjectRef { namespace: "n".into(), name: name.into(), uid: uid.into() }
}

fn label(key: &str, value: &str) -> Label {
    Label { key: key.into(), value: value.into() }
}

fn get_job() -> ApiCall {
    ApiCall::GetJob { namespace: "n".into(), name: "j".into() }
}

fn secrets() -> Secrets {
    let context = json!({
        "runId": "r", "agent": {"id": "a"}, "authToken": format!("{CANARY}-token"),
        "config": {"env": {"KEY": format!("{CANARY}-key")}},
    });
    let facts = IntakeFacts::bare(None);
    intake::split(&context, "t", facts).expect("a context").1
}

async fn ask(server: &Server, request: ApiCall) -> Result<ApiReply, ApiError> {
    call(&server.in_process(), &secrets(), request).await
}

#[tokio::test]
async fn a_call_is_sent_once_whatever_the_answer() {
    for (status, retry_after, expected_ms) in
        [(503, None, None), (429, Some("7"), Some(7_000)), (504, None, None)]
    {
        let server = Server::new(move |_| {
            let mut answer = failure(status, "TooMany", "later");
            if let Some(seconds) = retry_after {
                answer.headers_mut().insert("retry-after", seconds.parse().unwrap());
            }
            answer
        })
        .listen()
        .await;
        let error = call(&server.cluster().await, &Secrets::default(), get_job()).await.unwrap_err();
        assert_eq!((error.status, error.retry_after_ms), (Some(status), expected_ms));
        assert_eq!(error.message, "later");
        assert_eq!(server.server.seen().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_an_error_without_a_status() {
    let server = Server::slow(|_| Box::pin(std::future::pending()));
    let error = ask(&server, get_job()).await.unwrap_err();
    assert_eq!(error.status, None);
    assert!(error.message.ends_with(": no answer within 30 s"), "{error:?}");
}

#[tokio::test]
async fn a_pod_is_validated_without_being_created_and_warnings_are_returned() {
    let server = Server::new(|_| {
        let mut answer = json(201, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}));
        for warning in ["299 - \"unknown field \\\"spec.foo\\\"\"", "299 - \"deprecated\""] {
            answer.headers_mut().append("warning", warning.parse().unwrap());
        }
        answer
    });
    let manifest_json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"n"}}"#.to_owned();
    let reply = ask(&server, ApiCall::DryRunPod { manifest_json: manifest_json.clone() }).await.unwrap();
    assert_eq!(reply, ApiReply::Warnings(vec!["unknown field \"spec.foo\"".into(), "deprecated".into()]));
    let seen = &server.seen()[0];
    assert!(seen.is(&Method::POST, "/api/v1/namespaces/n/pods") && seen.asks("dryRun=All"), "{seen:?}");
    assert_eq!(seen.body, manifest_json.as_bytes());
}

#[tokio::test]
async fn a_created_job_is_named_with_its_uid_and_a_taken_name_has_its_reason() {
    let manifest_json = r#"{"metadata":{"namespace":"n","name":"j"},"spec":{"suspend":true}}"#.to_owned();
    let server = Server::new(|_| {
        json(
            201,
            &json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"namespace": "n", "name": "j", "uid": "u"}}),
        )
    });
    let reply = ask(&server, ApiCall::CreateJob { manifest_json: manifest_json.clone() }).await.unwrap();
    assert_eq!(reply, ApiReply::Created(object("j", "u")));
    let seen = &server.seen()[0];
    assert!(seen.is(&Method::POST, "/apis/batch/v1/namespaces/n/jobs") && !seen.query.contains("dryRun"));
    assert_eq!(seen.body, manifest_json.as_bytes());

    let server = Server::new(|_| failure(409, "AlreadyExists", "jobs.batch \"j\" already exists"));
    let error = ask(&server, ApiCall::CreateJob { manifest_json }).await.unwrap_err();
    assert_eq!((error.status, error.reason.as_deref()), (Some(409), Some("AlreadyExists")));
}

#[tokio::test]
async fn a_manifest_without_a_namespace_is_not_sent() {
    let server = Server::new(|_| not_found());
    for manifest_json in ["{", r#"{"metadata":{}}"#, r#"{"metadata":{"namespace":"../x"}}"#] {
        let error =
            ask(&server, ApiCall::CreateJob { manifest_json: manifest_json.into() }).await.unwrap_err();
        assert_eq!(error.status, Some(400), "{error:?}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_secret_has_its_values_and_belongs_to_the_job() {
    let server = Server::new(|seen| {
        let sent = seen.json();
        json(
            201,
            &json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": "n", "name": sent["metadata"]["name"], "uid": "su"}}),
        )
    });
    let entry = |key: &str, source| SecretEntry { key: key.into(), source };
    let mut request = NewSecret {
        namespace: "n".into(),
        name: "s".into(),
        labels: vec![label("paperclip.io/run-id", "r")],
        owner: object("j", "ju"),
        entries: vec![
            entry("prompt.txt", SecretSource::Prompt("do it".into())),
            entry("TOKEN", SecretSource::AuthToken),
            entry("KEY", SecretSource::ConfigEnv("KEY".into())),
        ],
    };
    let reply = ask(&server, ApiCall::CreateSecret(request.clone())).await.unwrap();
    assert_eq!(reply, ApiReply::Created(object("s", "su")));
    let sent = server.seen()[0].json();
    assert_eq!(sent["type"], "Opaque");
    assert_eq!(sent["metadata"]["labels"], json!({"paperclip.io/run-id": "r"}));
    assert_eq!(
        sent["metadata"]["ownerReferences"],
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "ju", "blockOwnerDeletion": false}])
    );
    assert_eq!(
        sent["data"],
        json!({"prompt.txt": "ZG8gaXQ=", "TOKEN": "Y2FuYXJ5LTVkMWYtdG9rZW4=", "KEY": "Y2FuYXJ5LTVkMWYta2V5"})
    );

    request.entries.push(entry("ABSENT", SecretSource::ConfigEnv("ABSENT".into())));
    let error = ask(&server, ApiCall::CreateSecret(request)).await.unwrap_err();
    assert_eq!(error.status, Some(400));
    assert!(error.message.contains("config.env.ABSENT") && error.message.contains("Secret s"), "{error:?}");
    assert!(!format!("{error:?}").contains(CANARY));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn requests_the_owners_of_an_object_without_its_content() {
    let server = Server::new(|seen| {
        if seen.path.ends_with("/absent") {
            return not_found();
        }
        json(
            200,
            &json!({"metadata": {"name": "s", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "ju"}]}}),
        )
    });
    let get = |kind, name: &str| ApiCall::GetOwners { kind, namespace: "n".into(), name: name.into() };
    let owners = ask(&server, get(OwnedKind::Secret, "s")).await;
    assert_eq!(owners, Ok(ApiReply::Owners(Some(vec!["ju".to_owned()]))));
    assert_eq!(ask(&server, get(OwnedKind::ConfigMap, "absent")).await, Ok(ApiReply::Owners(None)));
    let seen = server.seen();
    assert!(seen[0].is(&Method::GET, "/api/v1/namespaces/n/secrets/s"));
    let accept = seen[0].headers["accept"].to_str().unwrap();
    assert!(accept.contains("as=PartialObjectMetadata;"), "{accept}");
    assert!(seen[1].is(&Method::GET, "/api/v1/namespaces/n/configmaps/absent"));
}

#[tokio::test]
async fn a_config_map_belongs_to_the_job() {
    let server = Server::new(|_| {
        json(
            201,
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "n", "name": "m", "uid": "mu"}}),
        )
    });
    let request = NewConfigMap {
        namespace: "n".into(),
        name: "m".into(),
        labels: Vec::new(),
        owner: object("j", "ju"),
        entries: vec![label("a.md", "text")],
        binary_entries: Vec::new(),
        is_shared: false,
    };
    let reply = ask(&server, ApiCall::CreateConfigMap(Box::new(request))).await.unwrap();
    assert_eq!(reply, ApiReply::Created(object("m", "mu")));
    let sent = server.seen()[0].json();
    assert_eq!(sent["data"], json!({"a.md": "text"}));
    assert_eq!(sent["metadata"]["ownerReferences"][0]["uid"], "ju");
}

#[tokio::test]
async fn a_shared_config_map_says_what_it_contains_and_gets_another_owner() {
    let (text, binary) = (BTreeMap::from([("a.md", "text")]), BTreeMap::from([("b.png", "iVBORw==")]));
    let name = shared::name(&text, &binary);
    let existing = json!({
        "metadata": {"namespace": "n", "name": name, "uid": "mu"}, "data": text, "binaryData": binary,
    });
    let server = Server::new(move |seen| match seen.path.as_str() {
        path if path.ends_with("/absent") => not_found(),
        _ => json(if seen.method == Method::POST { 201 } else { 200 }, &existing),
    });
    let create = NewConfigMap {
        namespace: "n".into(),
        name: name.clone(),
        labels: Vec::new(),
        owner: object("j", "ju"),
        entries: vec![label("a.md", "text")],
        binary_entries: vec![label("b.png", "iVBORw==")],
        is_shared: true,
    };
    ask(&server, ApiCall::CreateConfigMap(Box::new(create))).await.unwrap();
    let get = |name: &str| ApiCall::GetContentName { namespace: "n".into(), name: name.into() };
    assert_eq!(ask(&server, get(&name)).await, Ok(ApiReply::ContentName(Some(name.clone()))));
    assert_eq!(ask(&server, get("absent")).await, Ok(ApiReply::ContentName(None)));
    let add =
        |name: &str| ApiCall::AddOwner { namespace: "n".into(), name: name.into(), owner: object("j", "ju") };
    assert_eq!(ask(&server, add(&name)).await, Ok(ApiReply::Created(object(&name, "mu"))));
    assert_eq!(ask(&server, add("absent")).await.unwrap_err().status, Some(404));

    let seen = server.seen();
    let created = seen[0].json();
    assert_eq!((&created["immutable"], &created["binaryData"]), (&json!(true), &json!(binary)));
    assert_eq!(seen[3].method, Method::PATCH);
    let owners = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "ju", "blockOwnerDeletion": false}]);
    assert_eq!(seen[3].json(), json!({"metadata": {"ownerReferences": owners}}));
}

#[tokio::test]
async fn rule_18_patch_and_delete_carry_the_uid() {
    let server = Server::new(|seen| match seen.method {
        Method::PATCH => json(
            200,
            &json!({"metadata": {"namespace": "n", "name": "j", "uid": "u"}, "spec": {"suspend": false, "template": {}}}),
        ),
        _ => json(200, &json!({"kind": "Status", "status": "Success"})),
    });
    let patch_json = r#"{"spec":{"suspend":false}}"#.to_owned();
    let reply =
        ask(&server, ApiCall::PatchJob { job: object("j", "u"), patch_json, epoch: None }).await.unwrap();
    let ApiReply::Job(Some(job)) = reply else { panic!("{reply:?}") };
    assert_eq!((job.job, job.is_suspended), (object("j", "u"), false));
    let reply = ask(&server, ApiCall::DeleteJob { job: object("j", "u"), epoch: None }).await.unwrap();
    assert_eq!(reply, ApiReply::Done);

    let seen = server.seen();
    assert_eq!(seen[0].headers["content-type"], "application/merge-patch+json");
    assert_eq!(seen[0].json(), json!({"metadata": {"uid": "u"}, "spec": {"suspend": false}}));
    assert_eq!(seen[1].json(), json!({"propagationPolicy": "Background", "preconditions": {"uid": "u"}}));
    assert!(seen[1].is(&Method::DELETE, "/apis/batch/v1/namespaces/n/jobs/j"));
}

#[tokio::test]
async fn only_a_404_of_kubernetes_means_that_a_job_is_missing() {
    let server = Server::new(|_| not_found());
    assert_eq!(ask(&server, get_job()).await, Ok(ApiReply::Job(None)));
    let server = Server::new(|_| text(404, "404 page not found"));
    let error = ask(&server, get_job()).await.unwrap_err();
    assert_eq!((error.status, error.reason), (Some(404), None));
}

#[tokio::test]
async fn jobs_are_listed_by_all_their_labels() {
    let server = Server::new(|_| {
        json(200, &json!({"metadata": {}, "items": [{"metadata": {"name": "j", "uid": "u"}}]}))
    });
    let labels = vec![label("paperclip.io/agent-id", "a"), label("app", "b")];
    let reply = ask(&server, ApiCall::ListJobs { namespace: "n".into(), labels }).await.unwrap();
    let ApiReply::Jobs(jobs) = reply else { panic!("{reply:?}") };
    assert_eq!(jobs[0].job.uid, "u");
    assert!(server.seen()[0].asks("labelSelector=paperclip.io%2Fagent-id%3Da%2Capp%3Db"));
}

fn pod(name: &str, job_uid: &str, created: &str) -> serde_json::Value {
    json!({"metadata": {"namespace": "n", "name": name, "uid": format!("{name}-uid"), "creationTimestamp": created,
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job_uid, "controller": true}]}})
}

#[tokio::test]
async fn rule_17_lists_only_pods_of_this_job_newest_first_and_events_about_them() {
    let server = Server::new(|seen| {
        if seen.path.ends_with("/events") {
            let about = seen.query.rsplit("%3D").next().unwrap_or_default().to_owned();
            let event = |at: &str| {
                json!({"metadata": {}, "involvedObject": {"kind": "X", "name": about}, "reason": at,
                "lastTimestamp": format!("2026-01-02T03:04:{at}Z")})
            };
            return json(200, &json!({"metadata": {}, "items": [event("09"), event("05")]}));
        }
        json(
            200,
            &json!({"metadata": {}, "items": [
                pod("old", "u", "2026-01-01T00:00:00Z"), pod("other", "earlier-job", "2026-01-03T00:00:00Z"),
                pod("new", "u", "2026-01-02T00:00:00Z"),
            ]}),
        )
    });
    let reply = ask(&server, ApiCall::ListPods { job: object("j", "u") }).await.unwrap();
    let ApiReply::Pods(pods) = reply else { panic!("{reply:?}") };
    assert_eq!(pods.iter().map(|pod| pod.pod.name.as_str()).collect::<Vec<_>>(), ["new", "old"]);
    assert!(server.seen()[0].asks("labelSelector=batch.kubernetes.io%2Fjob-name%3Dj"));

    let reply = ask(&server, ApiCall::ListEvents { job: object("j", "u") }).await.unwrap();
    let ApiReply::Events(events) = reply else { panic!("{reply:?}") };
    let observed: Vec<_> = events.iter().map(|event| (event.about.as_str(), event.reason.as_str())).collect();
    assert_eq!(
        observed,
        [
            ("X/u", "05"),
            ("X/u", "09"),
            ("X/new-uid", "05"),
            ("X/new-uid", "09"),
            ("X/old-uid", "05"),
            ("X/old-uid", "09")
        ]
    );
    assert!(server.seen()[1].asks("fieldSelector=involvedObject.uid%3Du"));
}

#[tokio::test]
async fn the_end_of_a_log_is_text() {
    let server = Server::new(|_| http::Response::new(axum::body::Body::from(b"last \xff line\n".to_vec())));
    let read = ReadLog {
        pod: object("p", "pu"),
        container: "agent".into(),
        tail_lines: 20,
        limit_bytes: 4096,
        is_previous: true,
    };
    let reply = ask(&server, ApiCall::ReadLog(read)).await.unwrap();
    assert_eq!(reply, ApiReply::LogText("last \u{fffd} line\n".into()));
    let seen = &server.seen()[0];
    assert!(seen.is(&Method::GET, "/api/v1/namespaces/n/pods/p/log"));
    for pair in ["container=agent", "tailLines=20", "limitBytes=4096", "previous=true"] {
        assert!(seen.asks(pair), "{seen:?}");
    }
}

fn lease(resource_version: &str, uid: &str) -> Lease {
    Lease {
        namespace: "n".into(),
        name: "l".into(),
        uid: uid.into(),
        resource_version: resource_version.into(),
        key: "agent a".into(),
        holder: "r".into(),
        host: "h".into(),
        instance: "i".into(),
        epoch: 3,
        duration_s: 60,
        renewed_at: Timestamp::from_millis(1_767_323_045_123),
    }
}

#[tokio::test]
async fn a_lease_is_compared_and_swapped() {
    let server = Server::new(|seen| match seen.method {
        Method::GET => not_found(),
        Method::POST | Method::PUT => {
            let mut lease = seen.json();
            lease["metadata"]["uid"] = "lu".into();
            lease["metadata"]["resourceVersion"] = "8".into();
            json(200, &lease)
        }
        _ => json(200, &json!({"kind": "Status", "status": "Success"})),
    });
    let get = ApiCall::GetLease { namespace: "n".into(), name: "l".into() };
    assert_eq!(ask(&server, get).await, Ok(ApiReply::Lease(None)));
    let created = ask(&server, ApiCall::CreateLease(lease("7", "stale"))).await;
    assert_eq!(created, Ok(ApiReply::Lease(Some(lease("8", "lu")))));
    let updated = ask(&server, ApiCall::UpdateLease(lease("7", "lu"))).await;
    assert_eq!(updated, Ok(ApiReply::Lease(Some(lease("8", "lu")))));
    assert_eq!(ask(&server, ApiCall::DeleteLease(lease("8", "lu"))).await, Ok(ApiReply::Done));

    let seen = server.seen();
    let created = seen[1].json();
    assert_eq!(created["metadata"].get("resourceVersion"), None);
    assert_eq!(created["spec"]["holderIdentity"], "r");
    assert_eq!(seen[2].json()["metadata"]["resourceVersion"], "7");
    assert!(seen[2].is(&Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/n/leases/l"));
    assert_eq!(seen[3].json()["preconditions"], json!({"resourceVersion": "8", "uid": "lu"}));
}

#[tokio::test]
async fn a_lease_that_changed_meanwhile_is_a_conflict() {
    let server = Server::new(|_| failure(409, "Conflict", "the object has been modified"));
    let error = ask(&server, ApiCall::UpdateLease(lease("7", "lu"))).await.unwrap_err();
    assert_eq!((error.status, error.reason.as_deref()), (Some(409), Some("Conflict")));
}
