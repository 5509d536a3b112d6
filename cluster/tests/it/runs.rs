//! Jobs that run, as far as API and node meet: logs, status, eviction.

use futures::{AsyncReadExt as _, TryStreamExt as _};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{EvictParams, ListParams, LogParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;

use crate::world::{World, job, world};

async fn start(world: &World, name: &str, script: &str) -> Pod {
    let jobs: Api<Job> = Api::default_namespaced(world.client.clone());
    jobs.create(&PostParams::default(), &serde_json::from_value(job(name, script)).unwrap()).await.unwrap();
    running_pod(world, name).await
}

/// The Pod of a Job, once its container runs or has ended.
async fn running_pod(world: &World, job: &str) -> Pod {
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let config = watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let events = watcher::watcher(pods, config).applied_objects();
    let started = events.try_filter(|pod| {
        let status = pod.status.clone().unwrap_or_default();
        let has_started = status.phase.is_some_and(|phase| phase != "Pending");
        std::future::ready(has_started)
    });
    std::pin::pin!(started).try_next().await.unwrap().unwrap()
}

#[tokio::test]
async fn a_job_runs_to_its_end_and_its_log_is_followed() {
    let world = world().await;
    let pod = start(&world, "j", "echo one; echo two").await;
    let name = pod.metadata.name.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let params = LogParams { follow: true, ..LogParams::default() };
    let mut text = String::new();
    pods.log_stream(&name, &params).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "one\ntwo\n");
    let jobs: Api<Job> = Api::default_namespaced(world.client.clone());
    await_condition(jobs, "j", conditions::is_job_completed()).await.unwrap();
    let stamped = pods
        .logs(&name, &LogParams { timestamps: true, tail_lines: Some(1), ..LogParams::default() })
        .await
        .unwrap();
    let (stamp, line) = stamped.split_once(' ').unwrap();
    assert_eq!(line, "two\n");
    stamp.parse::<jiff::Timestamp>().unwrap();
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_log_request_that_makes_no_sense_is_refused() {
    let world = world().await;
    let name = start(&world, "j", "true").await.metadata.name.unwrap();
    let path = format!("/api/v1/namespaces/default/pods/{name}/log");
    for (query, code) in [
        ("container=other", 400),
        ("stream=Stdout", 422),
        ("tailLines=-1", 422),
        ("sinceSeconds=0", 422),
        ("sinceTime=yesterday", 400),
        ("tailLines=many", 400),
    ] {
        let answer = world.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.code, code, "{query}: {}", answer.text);
        assert_eq!(answer.json()["kind"], "Status");
    }
    assert_eq!(world.get("/api/v1/namespaces/default/pods/none/log").await.code, 404);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn an_evicted_pod_says_why_it_ended() {
    let world = world().await;
    let pod = start(&world, "j", "trap 'exit 0' TERM; while :; do sleep 0.05; done").await;
    let (name, uid) = (pod.metadata.name.unwrap(), pod.metadata.uid.unwrap());
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let deleted = await_condition(pods.clone(), &name, conditions::is_deleted(&uid));
    let events = watcher::watcher(pods.clone(), watcher::Config::default());
    let mut seen = std::pin::pin!(events.touched_objects());
    // The watch starts with its first list, and the Pod can be deleted right after its eviction.
    seen.try_next().await.unwrap().unwrap();
    pods.evict(&name, &EvictParams::default()).await.unwrap();
    let reason = loop {
        let pod = seen.try_next().await.unwrap().unwrap();
        let conditions = pod.status.unwrap_or_default().conditions.unwrap_or_default();
        if let Some(found) = conditions.into_iter().find(|c| c.type_ == "DisruptionTarget") {
            break found.reason.unwrap();
        }
    };
    assert_eq!(reason, "EvictionByEvictionAPI");
    deleted.await.unwrap();
    assert!(
        pods.list(&ListParams::default().fields(&format!("metadata.name={name}")))
            .await
            .unwrap()
            .items
            .is_empty()
    );
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn events_report_a_pod() {
    let world = world().await;
    let pod = start(&world, "j", "true").await;
    let uid = pod.metadata.uid.unwrap();
    let path =
        format!("/api/v1/namespaces/default/events?fieldSelector=involvedObject.uid%3D{uid},type%3DNormal");
    let events = world.get(&path).await.json();
    let reasons: Vec<&Value> =
        events["items"].as_array().unwrap().iter().map(|event| &event["reason"]).collect();
    assert!(reasons.iter().any(|reason| *reason == "Scheduled"), "{reasons:?}");
    world.cluster.shutdown().await;
}
