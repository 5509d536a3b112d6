//! Objects through `kube`: create, read, list, delete.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions, PropagationPolicy};
use serde_json::json;

use crate::world::{CONFIG_MAPS, JOBS, config_map, suspended_job, world};

fn labelled(name: &str, label: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app".to_owned(), label.to_owned())])),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn a_namespace_comes_into_being_with_its_first_object() {
    let world = world().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "team");
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 0);
    maps.create(&PostParams::default(), &labelled("a", "x")).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let team = namespaces.get("team").await.unwrap();
    assert_eq!(team.status.unwrap().phase.as_deref(), Some("Active"));
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "team");
    accounts.get("default").await.unwrap();
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn lists_are_selected_and_come_in_pages() {
    let world = world().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "z")] {
        maps.create(&PostParams::default(), &labelled(name, label)).await.unwrap();
    }
    let names = |params: ListParams| {
        let maps = maps.clone();
        async move {
            let list = maps.list(&params).await.unwrap();
            list.items.into_iter().map(|map| map.metadata.name.unwrap()).collect::<Vec<_>>().join(",")
        }
    };
    assert_eq!(names(ListParams::default().labels("app=x")).await, "a,c");
    assert_eq!(names(ListParams::default().labels("app in (y,z)")).await, "b,d");
    assert_eq!(names(ListParams::default().fields("metadata.name=c")).await, "c");
    let first = maps.list(&ListParams::default().limit(3)).await.unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (3, Some(1)));
    // The second page shows the list as it was when the first was read.
    maps.delete("d", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.unwrap();
    assert_eq!(names(ListParams::default().limit(3).continue_token(&token)).await, "d");
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_job_is_defaulted_and_labelled() {
    let world = world().await;
    let jobs: Api<Job> = Api::default_namespaced(world.client.clone());
    let mut job_without_name: Job = serde_json::from_value(suspended_job("unused")).unwrap();
    job_without_name.metadata.name = None;
    job_without_name.metadata.generate_name = Some("run-".to_owned());
    let made = jobs.create(&PostParams::default(), &job_without_name).await.unwrap();
    let (name, uid) = (made.metadata.name.unwrap(), made.metadata.uid.unwrap());
    assert!(name.starts_with("run-"));
    let spec = made.spec.unwrap();
    assert_eq!(spec.parallelism, Some(1));
    assert_eq!(spec.completions, Some(1));
    let labels = spec.template.metadata.unwrap().labels.unwrap();
    assert_eq!(labels["batch.kubernetes.io/job-name"], name);
    assert_eq!(spec.selector.unwrap().match_labels.unwrap()["batch.kubernetes.io/controller-uid"], uid);
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_dry_run_is_judged_and_forgotten() {
    let world = world().await;
    let jobs: Api<Job> = Api::default_namespaced(world.client.clone());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let job: Job = serde_json::from_value(suspended_job("j")).unwrap();
    assert!(jobs.create(&dry, &job).await.unwrap().metadata.uid.is_some());
    assert!(jobs.get_opt("j").await.unwrap().is_none());
    let mut broken = job.clone();
    broken.spec.as_mut().unwrap().template.spec.as_mut().unwrap().containers.clear();
    assert!(matches!(jobs.create(&dry, &broken).await, Err(kube::Error::Api(status)) if status.is_invalid()));
    // The template of a Job, as a Pod of its own: catches what the Job alone does not.
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let template = job.spec.unwrap().template;
    let pod = Pod {
        metadata: ObjectMeta { name: Some("p".to_owned()), ..ObjectMeta::default() },
        spec: template.spec,
        status: None,
    };
    pods.create(&dry, &pod).await.unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_write_from_an_outdated_read_is_a_conflict() {
    let world = world().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    let read = maps.create(&PostParams::default(), &labelled("a", "x")).await.unwrap();
    let mut first = read.clone();
    first.data = Some(BTreeMap::from([("k".to_owned(), "1".to_owned())]));
    maps.replace("a", &PostParams::default(), &first).await.unwrap();
    let second = maps.replace("a", &PostParams::default(), &read).await;
    assert!(matches!(second, Err(kube::Error::Api(status)) if status.is_conflict()));
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_secret_is_kept_and_dies_with_its_owner() {
    let world = world().await;
    let jobs: Api<Job> = Api::default_namespaced(world.client.clone());
    let secrets: Api<Secret> = Api::default_namespaced(world.client.clone());
    let job = jobs
        .create(&PostParams::default(), &serde_json::from_value(suspended_job("j")).unwrap())
        .await
        .unwrap();
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job.metadata.uid}]);
    let secret = json!({"metadata": {"name": "s", "ownerReferences": owner}, "stringData": {"a": "b"}});
    let secret =
        secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    assert_eq!(secret.data.unwrap()["a"].0, b"b");
    let uid = secret.metadata.uid.unwrap();
    let is_deleted = kube::runtime::wait::conditions::is_deleted(&uid);
    let deleted = kube::runtime::wait::await_condition(secrets.clone(), "s", is_deleted);
    let wrong = DeleteParams {
        preconditions: Some(Preconditions { uid: Some("other".to_owned()), resource_version: None }),
        ..DeleteParams::background()
    };
    assert!(matches!(jobs.delete("j", &wrong).await, Err(kube::Error::Api(status)) if status.is_conflict()));
    let right = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions { uid: job.metadata.uid, resource_version: None }),
        ..DeleteParams::default()
    };
    jobs.delete("j", &right).await.unwrap();
    deleted.await.unwrap();
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_job_deleted_without_a_policy_leaves_its_dependents_and_says_so() {
    let world = world().await;
    world.post(JOBS, &suspended_job("j")).await;
    let deleted = world.write(http::Method::DELETE, &format!("{JOBS}/j"), &json!(null)).await;
    let warning = deleted.headers["warning"].to_str().unwrap();
    assert!(warning.contains("child pods are preserved by default"), "{warning}");
    assert_eq!(deleted.json()["metadata"]["finalizers"], json!(["orphan"]));
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_selector() {
    let world = world().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        maps.create(&PostParams::default(), &labelled(name, label)).await.unwrap();
    }
    let deleted = maps
        .delete_collection(&DeleteParams::default(), &ListParams::default().labels("app=x"))
        .await
        .unwrap();
    assert_eq!(deleted.left().unwrap().items.len(), 2);
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let one = world.write(http::Method::DELETE, &format!("{CONFIG_MAPS}/b"), &json!(null)).await.json();
    assert_eq!(
        (&one["kind"], &one["status"], &one["details"]["name"]),
        (&json!("Status"), &json!("Success"), &json!("b"))
    );
    world.cluster.shutdown().await;
}

#[tokio::test]
async fn a_deleted_namespace_takes_its_objects_along() {
    let world = world().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "team");
    maps.create(&PostParams::default(), &serde_json::from_value(config_map("a")).unwrap()).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let uid = namespaces.get("team").await.unwrap().metadata.uid.unwrap();
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    let condition = kube::runtime::wait::conditions::is_deleted(&uid);
    kube::runtime::wait::await_condition(namespaces, "team", condition).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
    world.cluster.shutdown().await;
}
