use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bench::*;
use crate::node::LogOptions;
use crate::resource::Resource;
use crate::store::{DeleteOptions, Propagation, is_deleting, meta};

fn with_grace(seconds: i64) -> impl FnOnce(&mut Value) {
    move |job: &mut Value| job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(seconds)
}

#[tokio::test]
async fn cancelled_run_is_terminated_and_its_log_drained() {
    let bench = Bench::new().await;
    // The child of the shell gets the signal too: the whole group does.
    let child =
        "sh -c \"trap 'echo child terminated; exit 0' TERM; echo child ready; while :; do sleep 1; done\" & ";
    let script =
        format!("trap 'echo terminated; wait; echo last words; exit 9' TERM; {child} echo ready; wait");
    bench.job("j", &script, with_grace(60));
    let pod = bench.pod_until(is_running).await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let log = bench.open_log(&pod, "main", follow).await;
    for line in ["ready", "child ready"] {
        bench.until_logged(&pod, "main", line).await;
    }
    bench.delete(Resource::Jobs, "j", Propagation::Background);
    assert!(bench.get(Resource::Jobs, "j").is_none(), "in the background the Job goes first");
    let ended = bench.pod_until(is_over).await;
    assert!(is_deleting(&ended), "the Pod shows how it ended before it goes");
    assert_eq!((exit_code(&ended, "main"), &ended["status"]["phase"]), (Some(9), &json!("Failed")));
    bench.until_deleted(Resource::Pods, meta(&pod, "name")).await;
    let served = text(log).await;
    assert!(served.contains("last words\n"), "{served}");
    assert!(served.contains("child terminated"), "{served}");
    bench.event("Killing").await;
}

#[tokio::test]
async fn what_does_not_end_in_its_grace_is_killed() {
    let bench = Bench::new().await;
    bench.job("j", "trap '' TERM; echo ready; while :; do sleep 1; done", with_grace(1));
    let pod = bench.pod_until(is_running).await;
    bench.until_logged(&pod, "main", "ready").await;
    let start = Instant::now();
    bench.delete(Resource::Jobs, "j", Propagation::Background);
    let ended = bench.pod_until(is_over).await;
    assert_eq!(exit_code(&ended, "main"), Some(137));
    assert!(start.elapsed() >= Duration::from_secs(1), "not before the grace was over");
    bench.until_deleted(Resource::Pods, meta(&pod, "name")).await;
}

#[tokio::test]
async fn a_second_deletion_shortens_the_grace() {
    let bench = Bench::new().await;
    bench.pod(
        "p",
        json!({
            "terminationGracePeriodSeconds": 1000,
            "containers": [shell("c", "trap '' TERM; echo ready; while :; do sleep 1; done")],
        }),
    );
    let pod = bench.pod_until(is_running).await;
    bench.until_logged(&pod, "c", "ready").await;
    bench.delete(Resource::Pods, "p", Propagation::Background);
    bench.event("Killing").await;
    let at_once = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    let log = bench.open_log(&pod, "c", LogOptions { follow: true, ..LogOptions::default() }).await;
    bench.store.delete(&bench.key(Resource::Pods, "p"), &at_once).unwrap();
    assert!(bench.get(Resource::Pods, "p").is_none(), "by force the object goes first");
    assert_eq!(text(log).await, "ready\n", "and the process after it");
}

#[tokio::test]
async fn in_the_foreground_the_job_goes_last() {
    let bench = Bench::new().await;
    bench.job("j", "trap 'exit 0' TERM; echo ready; sleep 1000 & wait", |_| ());
    let pod = bench.pod_until(is_running).await;
    bench.until_logged(&pod, "main", "ready").await;
    bench.delete(Resource::Jobs, "j", Propagation::Foreground);
    assert!(bench.get(Resource::Jobs, "j").is_some());
    bench.until_deleted(Resource::Jobs, "j").await;
    assert!(bench.store.list(Resource::Pods, Some(NAMESPACE)).1.is_empty());
}

#[tokio::test]
async fn orphans_run_on() {
    let bench = Bench::new().await;
    bench.job("j", "trap 'exit 0' TERM; echo ready; sleep 1000 & wait", |_| ());
    let pod = bench.pod_until(is_running).await;
    bench.delete(Resource::Jobs, "j", Propagation::Orphan);
    bench.until_deleted(Resource::Jobs, "j").await;
    let orphan = bench.pod_until(|pod| pod["metadata"]["ownerReferences"] == json!([])).await;
    assert_eq!(meta(&orphan, "uid"), meta(&pod, "uid"));
    assert!(!is_deleting(&orphan));
    bench.until_logged(&orphan, "main", "ready").await;
}

#[tokio::test]
async fn everything_that_a_job_owns_goes_with_it() {
    let bench = Bench::new().await;
    let job = bench.job("j", "true", |job| job["spec"]["suspend"] = json!(true));
    let other = bench.job("other", "true", |job| job["spec"]["suspend"] = json!(true));
    let owned = |name: &str, owners: &[&Value]| {
        let owners: Vec<Value> = owners
            .iter()
            .map(|owner| {
                json!({"apiVersion": "batch/v1", "kind": "Job", "name": owner["metadata"]["name"],
                       "uid": owner["metadata"]["uid"]})
            })
            .collect();
        json!({"metadata": {"name": name, "ownerReferences": owners}})
    };
    bench.create(Resource::Secrets, owned("owned", &[&job]));
    bench.create(Resource::ConfigMaps, owned("owned", &[&job]));
    bench.create(Resource::ConfigMaps, owned("shared", &[&job, &other]));
    bench.delete(Resource::Jobs, "j", Propagation::Background);
    bench.until_deleted(Resource::Secrets, "owned").await;
    bench.until_deleted(Resource::ConfigMaps, "owned").await;
    let shared = bench
        .until_named(Resource::ConfigMaps, "shared", |map| {
            map["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.len() == 1)
        })
        .await;
    assert_eq!(shared["metadata"]["ownerReferences"][0]["name"], "other");

    // Too late: the owner is deleted already.
    bench.create(Resource::Secrets, owned("late", &[&job]));
    bench.until_deleted(Resource::Secrets, "late").await;
}

#[tokio::test]
async fn a_namespace_goes_with_everything_in_it() {
    let bench = Bench::new().await;
    bench.job("j", "trap 'exit 0' TERM; sleep 1000 & wait", |_| ());
    bench.pod_until(is_running).await;
    let key = crate::store::Key::new(Resource::Namespaces, "", NAMESPACE);
    let mut watch = bench.store.watch(Resource::Namespaces, None, bench.store.revision()).unwrap();
    bench.store.delete(&key, &DeleteOptions::default()).unwrap();
    while bench.store.get(&key).is_some() {
        watch.next().await.unwrap();
    }
    for resource in [Resource::Jobs, Resource::Pods, Resource::Events] {
        assert!(bench.store.list(resource, Some(NAMESPACE)).1.is_empty(), "{resource:?}");
    }
}
