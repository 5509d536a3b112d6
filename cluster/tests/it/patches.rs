//! The kinds of patch, over HTTP.

use http::Method;
use serde_json::{Value, json};

use crate::world::{Answer, CONFIG_MAPS, JOBS, World, config_map, suspended_job, world};

async fn patch(world: &World, path: &str, kind: &str, body: Value) -> Answer {
    let media_type = format!("application/{kind}+json");
    world.write_as(Method::PATCH, path, &media_type, body.to_string().into_bytes()).await
}

#[tokio::test]
async fn each_kind_of_patch_does_what_it_says() {
    let world = world().await;
    let made = world.post(JOBS, &suspended_job("j")).await.json();
    let path = format!("{JOBS}/j");
    let merge = json!({"metadata": {"uid": made["metadata"]["uid"], "labels": {"a": "1"}}});
    let merged = patch(&world, &path, "merge-patch", merge).await;
    assert_eq!((merged.code, &merged.json()["metadata"]["labels"]["a"]), (200, &json!("1")));
    let operations = json!([
        {"op": "test", "path": "/metadata/labels/a", "value": "1"},
        {"op": "add", "path": "/metadata/labels/b", "value": "2"},
    ]);
    let patched = patch(&world, &path, "json-patch", operations.clone()).await.json();
    assert_eq!(patched["metadata"]["labels"], json!({"a": "1", "b": "2"}));
    let strategic = json!({
        "metadata": {"finalizers": ["example.com/a"], "labels": {"a": null}},
        "spec": {"ttlSecondsAfterFinished": 7},
    });
    let merged = patch(&world, &path, "strategic-merge-patch", strategic).await.json();
    assert_eq!(merged["metadata"]["labels"], json!({"b": "2"}));
    assert_eq!(merged["spec"]["ttlSecondsAfterFinished"], 7);
    assert_eq!(merged["metadata"]["generation"], 2);
    let failed = patch(&world, &path, "json-patch", operations).await;
    assert_eq!((failed.code, failed.json()["reason"].as_str()), (422, Some("Invalid")));
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_patch_of_another_object_of_the_name_or_of_an_old_version_is_refused() {
    let world = world().await;
    world.post(JOBS, &suspended_job("j")).await;
    let path = format!("{JOBS}/j");
    let uid =
        json!({"metadata": {"uid": "11111111-2222-3333-4444-555555555555"}, "spec": {"suspend": false}});
    let refused = patch(&world, &path, "merge-patch", uid).await;
    assert_eq!(refused.code, 422);
    assert!(refused.json()["message"].as_str().unwrap().contains("metadata.uid: Invalid value"));
    let old = json!({"metadata": {"resourceVersion": "1"}, "spec": {"suspend": false}});
    assert_eq!(patch(&world, &path, "merge-patch", old).await.code, 409);
    let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "b"}]}}}});
    let refused = patch(&world, &path, "strategic-merge-patch", template).await;
    assert!(refused.json()["message"].as_str().unwrap().contains("field is immutable"));
    assert_eq!(world.get(&path).await.json()["spec"]["suspend"], true);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let world = world().await;
    let mut job = suspended_job("j");
    job["status"] = json!({"succeeded": 5});
    let made = world.post(JOBS, &job).await.json();
    assert!(made["status"].get("succeeded").is_none());
    let path = format!("{JOBS}/j");
    let conditions = json!([{"type": "Odd", "status": "True"}]);
    let has_condition = |job: &Value| {
        job["status"]["conditions"]
            .as_array()
            .is_some_and(|list| list.iter().any(|condition| condition["type"] == "Odd"))
    };
    let both = json!({"spec": {"backoffLimit": 3}, "status": {"conditions": conditions}});
    let main = patch(&world, &path, "merge-patch", both).await.json();
    assert_eq!((&main["spec"]["backoffLimit"], has_condition(&main)), (&json!(3), false));
    let again = json!({"spec": {"backoffLimit": 9}, "status": {"conditions": conditions}});
    let status = patch(&world, &format!("{path}/status"), "merge-patch", again).await.json();
    assert_eq!((&status["spec"]["backoffLimit"], has_condition(&status)), (&json!(3), true));
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_change_that_changes_nothing_keeps_the_version() {
    let world = world().await;
    let made = world.post(CONFIG_MAPS, &config_map("c")).await.json();
    let path = format!("{CONFIG_MAPS}/c");
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    for body in [json!({}), json!({"metadata": {"labels": null}}), json!({"data": {"a": "1"}})] {
        let same = patch(&world, &path, "merge-patch", body).await.json();
        assert_eq!(version(&same), version(&made));
    }
    let changed = patch(&world, &path, "merge-patch", json!({"data": {"a": "2"}})).await.json();
    assert_ne!(version(&changed), version(&made));
    world.cluster.shutdown().await;
}
