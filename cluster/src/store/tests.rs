use serde_json::json;

use super::{
    ChangeKind, DeleteOptions, Deletion, Key, Propagation, Store, StoreOptions, meta, resource_version,
};
use crate::error::ApiError;
use crate::resource::Resource;

fn store() -> Store {
    Store::new(StoreOptions::default()).unwrap()
}

fn config_map(name: &str) -> serde_json::Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "data": {"a": "1"}})
}

fn set(field: &mut serde_json::Value, value: serde_json::Value) -> Result<(), ApiError> {
    *field = value;
    Ok(())
}

fn key(name: &str) -> Key {
    Key::new(Resource::ConfigMaps, "default", name)
}

#[test]
fn a_created_object_gets_its_identity() {
    let store = store();
    let made = store.create(Resource::ConfigMaps, config_map("a")).unwrap();
    assert_eq!(made["kind"], "ConfigMap");
    assert_eq!(made["apiVersion"], "v1");
    assert_eq!(resource_version(&made), store.revision());
    assert_eq!(meta(&made, "uid").len(), 36);
    assert_eq!(store.create(Resource::ConfigMaps, config_map("a")).unwrap_err().reason, "AlreadyExists");
    assert!(store.get(&Key::new(Resource::Namespaces, "", "default")).is_some());
}

#[test]
fn a_name_is_generated_from_its_base() {
    let made = store()
        .create(Resource::ConfigMaps, json!({"metadata": {"generateName": "run-", "namespace": "default"}}))
        .unwrap();
    assert!(meta(&made, "name").starts_with("run-"));
    assert_eq!(meta(&made, "name").len(), "run-".len() + 5);
}

#[test]
fn an_update_that_changes_nothing_writes_nothing() {
    let store = store();
    store.create(Resource::ConfigMaps, config_map("a")).unwrap();
    let before = store.revision();
    store.update(&key("a"), |_| Ok(())).unwrap();
    assert_eq!(store.revision(), before);
    let changed = store
        .update(&key("a"), |object| {
            object["data"]["a"] = json!("2");
            object["metadata"]["uid"] = json!("forged");
            Ok(())
        })
        .unwrap();
    assert_eq!(store.revision(), before + 1);
    assert_ne!(meta(&changed, "uid"), "forged");
}

#[test]
fn a_dry_run_leaves_no_trace() {
    let store = store();
    let made = store.dry_run().create(Resource::ConfigMaps, config_map("a")).unwrap();
    assert_eq!(meta(&made, "name"), "a");
    assert!(store.get(&key("a")).is_none());
    assert!(store.get(&Key::new(Resource::Namespaces, "", "default")).is_none());
}

#[test]
fn generation_counts_changes_of_the_spec_only() {
    let store = store();
    let made = store
        .create(
            Resource::Jobs,
            json!({"metadata": {"name": "j", "namespace": "default"}, "spec": {"suspend": true}}),
        )
        .unwrap();
    assert_eq!(made["metadata"]["generation"], 1);
    let key = Key::of(Resource::Jobs, &made);
    let status = store.update(&key, |job| set(&mut job["status"]["active"], json!(1))).unwrap();
    assert_eq!(status["metadata"]["generation"], 1);
    let spec = store.update(&key, |job| set(&mut job["spec"]["suspend"], json!(false))).unwrap();
    assert_eq!(spec["metadata"]["generation"], 2);
}

#[test]
fn a_finalizer_holds_a_deleted_object() {
    let store = store();
    let mut object = config_map("a");
    object["metadata"]["finalizers"] = json!(["example.org/hold"]);
    store.create(Resource::ConfigMaps, object).unwrap();
    let deletion = store.delete(&key("a"), &DeleteOptions::default()).unwrap();
    assert!(matches!(deletion, Deletion::Pending(_)));
    assert!(store.get(&key("a")).is_some());
    store.update(&key("a"), |object| set(&mut object["metadata"]["finalizers"], json!([]))).unwrap();
    assert!(store.get(&key("a")).is_none());
}

#[test]
fn a_running_pod_keeps_its_grace_and_a_second_delete_may_shorten_it() {
    let store = store();
    let pod = json!({
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": "local", "terminationGracePeriodSeconds": 30},
        "status": {"phase": "Running"},
    });
    let pod = store.create(Resource::Pods, pod).unwrap();
    let key = Key::of(Resource::Pods, &pod);
    let grace = |seconds| DeleteOptions { grace_period_seconds: Some(seconds), ..DeleteOptions::default() };
    let marked = store.delete(&key, &DeleteOptions::default()).unwrap();
    assert_eq!(marked.object()["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = store.delete(&key, &grace(3)).unwrap();
    assert_eq!(shorter.object()["metadata"]["deletionGracePeriodSeconds"], 3);
    let longer = store.delete(&key, &grace(60)).unwrap();
    assert_eq!(longer.object()["metadata"]["deletionGracePeriodSeconds"], 3);
    let removed = store.remove(&key, meta(&pod, "uid")).unwrap();
    assert!(matches!(removed, Deletion::Removed(_)));
}

#[test]
fn preconditions_and_propagation_of_a_job() {
    let store = store();
    let job = json!({"metadata": {"name": "j", "namespace": "default"}, "spec": {}});
    store.create(Resource::Jobs, job).unwrap();
    let key = Key::new(Resource::Jobs, "default", "j");
    let wrong = DeleteOptions { uid: Some("other".to_owned()), ..DeleteOptions::default() };
    let refused = store.delete(&key, &wrong).unwrap_err();
    assert_eq!(refused.reason, "Conflict");
    let orphaned = store.delete(&key, &DeleteOptions::default()).unwrap();
    assert_eq!(orphaned.object()["metadata"]["finalizers"], json!(["orphan"]));
    let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    let held = store.delete(&key, &foreground).unwrap();
    assert_eq!(held.object()["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    assert!(matches!(store.delete(&key, &background).unwrap(), Deletion::Removed(_)));
}

#[tokio::test]
async fn a_watch_gives_every_change_of_its_namespace_in_order() {
    let store = store();
    let start = store.revision();
    store.create(Resource::ConfigMaps, config_map("a")).unwrap();
    let elsewhere = json!({"metadata": {"name": "a", "namespace": "other"}});
    store.create(Resource::ConfigMaps, elsewhere).unwrap();
    let mut watch = store.watch(Resource::ConfigMaps, Some("default".to_owned()), start).unwrap();
    assert_eq!(watch.next().await.unwrap().kind, ChangeKind::Added);
    assert!(watch.try_next().unwrap().is_none());
    assert_eq!(watch.position(), store.revision());
    let waiting = tokio::spawn(async move { watch.next().await.map(|change| change.kind) });
    store.delete(&key("a"), &DeleteOptions::default()).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), ChangeKind::Deleted);
}

#[tokio::test]
async fn a_watch_that_falls_behind_the_window_expires() {
    let options = StoreOptions { watch_window_changes: 2, folder: None };
    let store = Store::new(options).unwrap();
    let start = store.revision();
    let mut slow = store.watch(Resource::ConfigMaps, None, start).unwrap();
    for name in ["a", "b", "c"] {
        store.create(Resource::ConfigMaps, config_map(name)).unwrap();
    }
    assert_eq!(slow.next().await.unwrap_err().code, 410);
    assert_eq!(store.watch(Resource::ConfigMaps, None, start).unwrap_err().code, 410);
    assert_eq!(store.watch(Resource::ConfigMaps, None, u64::MAX).unwrap_err().code, 504);
    assert!(store.watch(Resource::Jobs, None, start).is_ok(), "another resource lost nothing");
}

#[test]
fn a_list_of_the_past_is_what_it_was() {
    let store = store();
    store.create(Resource::ConfigMaps, config_map("a")).unwrap();
    store.create(Resource::ConfigMaps, config_map("b")).unwrap();
    let (then, before) = store.list(Resource::ConfigMaps, Some("default"));
    store.delete(&key("a"), &DeleteOptions::default()).unwrap();
    store.update(&key("b"), |object| set(&mut object["data"]["a"], json!("2"))).unwrap();
    store.create(Resource::ConfigMaps, config_map("c")).unwrap();
    assert_eq!(store.list_at(Resource::ConfigMaps, Some("default"), then).unwrap(), before);
    assert_eq!(store.list_at(Resource::ConfigMaps, None, u64::MAX).unwrap_err().code, 504);
}

#[test]
fn a_persistent_store_comes_back_with_newer_versions() {
    let folder = tempfile::tempdir().unwrap();
    let options = || StoreOptions { folder: Some(folder.path().join("store")), ..StoreOptions::default() };
    let first = Store::new(options()).unwrap();
    let kept = first.create(Resource::ConfigMaps, config_map("kept.v1")).unwrap();
    first.create(Resource::ConfigMaps, config_map("deleted.v1")).unwrap();
    first.delete(&key("deleted.v1"), &DeleteOptions::default()).unwrap();
    let last = first.revision();
    drop(first);
    let second = Store::new(options()).unwrap();
    assert_eq!(second.get(&key("kept.v1")), Some(kept));
    assert!(second.get(&key("deleted.v1")).is_none());
    assert!(second.revision() > last);
    assert_eq!(second.watch(Resource::ConfigMaps, None, last).unwrap_err().reason, "Expired");
}
