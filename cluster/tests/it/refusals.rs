//! Every refusal is a `Status` with the words of a real API server.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;

use crate::world::{CONFIG_MAPS, JOBS, config_map, job, suspended_job, world};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";

#[tokio::test]
async fn refusals_are_worded_as_the_api_server_words_them() {
    let world = world().await;
    world.post(CONFIG_MAPS, &config_map("taken")).await;
    let mut outdated = config_map("taken");
    outdated["metadata"]["resourceVersion"] = json!("1");
    let mut other_uid = config_map("taken");
    other_uid["metadata"]["uid"] = json!("other");
    let mut elsewhere = config_map("x");
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    let mut unknown = job("x", "true");
    unknown["spec"]["backofLimit"] = json!(1);
    unknown["spec"]["template"]["spec"]["containers"][0]["imgae"] = json!("y");
    let mut mistyped = job("x", "true");
    mistyped["spec"]["parallelism"] = json!("many");
    let mut broken = job("x", "true");
    broken["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    broken["spec"]["template"]["spec"]["containers"][0]["name"] = json!("");
    let taken = format!("{CONFIG_MAPS}/taken");
    let strict = format!("{JOBS}?fieldValidation=Strict");
    let nothing = json!(null);
    let cases = [
        ("no such object", Method::GET, "/apis/batch/v1/namespaces/default/jobs/x", &nothing),
        ("no such path", Method::GET, "/apis/apps/v1/deployments", &nothing),
        ("name is taken", Method::POST, CONFIG_MAPS, &config_map("taken")),
        ("outdated", Method::PUT, &taken, &outdated),
        ("another uid", Method::PUT, &taken, &other_uid),
        ("another name", Method::PUT, &taken, &config_map("other")),
        ("another namespace", Method::POST, CONFIG_MAPS, &elsewhere),
        ("another kind", Method::POST, JOBS, &config_map("x")),
        ("unknown fields", Method::POST, &strict, &unknown),
        ("wrong type", Method::POST, JOBS, &mistyped),
        ("broken rules", Method::POST, JOBS, &broken),
        ("version of a new object", Method::POST, CONFIG_MAPS, &outdated),
        ("lease without its version", Method::PUT, LEASE, &json!({"metadata": {"name": "l"}})),
        ("no name", Method::POST, CONFIG_MAPS, &json!({"metadata": {}})),
        ("method", Method::PATCH, CONFIG_MAPS, &nothing),
        ("all namespaces at once", Method::DELETE, "/api/v1/configmaps", &nothing),
        ("selector", Method::GET, "/api/v1/pods?labelSelector=a%20b", &nothing),
        ("field selector", Method::GET, "/api/v1/pods?fieldSelector=spec.foo%3D1", &nothing),
        ("future version", Method::GET, "/api/v1/pods?resourceVersion=99999999999999", &nothing),
        (
            "precondition",
            Method::DELETE,
            &taken,
            &json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}}),
        ),
    ];
    let uid = world.get(&taken).await.json()["metadata"]["uid"].as_str().unwrap().to_owned();
    let mut seen = BTreeMap::new();
    for (name, method, path, body) in cases {
        let answer = world.write(method, path, body).await;
        let status = answer.json();
        assert_eq!(status["kind"], "Status", "{name}");
        assert_eq!(status["code"], answer.code, "{name}");
        // Uids and the version of now are others in every run.
        let message = status["message"].as_str().unwrap().replace(&uid, "UID");
        let message = message.split(", current:").next().unwrap();
        let line = format!("{} {}: {message}", answer.code, status["reason"].as_str().unwrap());
        seen.insert(name, json!({"line": line, "details": status["details"]}));
    }
    insta::with_settings!({sort_maps => true}, { insta::assert_json_snapshot!(seen) });
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn media_types_that_are_not_spoken() {
    let world = world().await;
    world.post(CONFIG_MAPS, &config_map("c")).await;
    let xml = world.write_as(Method::POST, CONFIG_MAPS, "text/xml", b"<a/>".to_vec()).await;
    assert_eq!((xml.code, xml.json()["reason"].as_str()), (415, Some("UnsupportedMediaType")));
    let path = format!("{CONFIG_MAPS}/c");
    let apply = world.write_as(Method::PATCH, &path, "application/apply-patch+yaml", b"{}".to_vec()).await;
    assert_eq!(apply.code, 415);
    assert!(apply.json()["message"].as_str().unwrap().contains("application/strategic-merge-patch+json"));
    assert_eq!(world.get_as(&path, "application/cbor").await.code, 406);
    let large = vec![b' '; 4 * 1024 * 1024];
    assert_eq!(world.write_as(Method::POST, CONFIG_MAPS, "application/json", large).await.code, 413);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_ignored() {
    let world = world().await;
    let mut job = suspended_job("j");
    job["spec"]["sleep"] = json!(1);
    let post = |validation: &str| format!("{JOBS}?dryRun=All&fieldValidation={validation}");
    assert_eq!(world.post(&post("Strict"), &job).await.code, 400);
    let warned = world.post(&post("Warn"), &job).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.headers["warning"], r#"299 - "unknown field \"spec.sleep\"""#);
    assert!(warned.json()["spec"].get("sleep").is_none());
    let ignored = world.post(&post("Ignore"), &job).await;
    assert_eq!((ignored.code, ignored.headers.get("warning")), (201, None));
    world.cluster.shutdown().await;
}
