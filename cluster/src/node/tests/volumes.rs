use serde_json::{Value, json};

use super::bench::*;
use crate::resource::Resource;
use crate::store::meta;

fn mounted(script: &str, path: &str) -> Value {
    let mut container = shell("c", script);
    container["volumeMounts"] = json!([{"name": "v", "mountPath": path}]);
    container
}

#[tokio::test]
async fn a_prompt_of_several_secrets_is_read_as_one() {
    let bench = Bench::new().await;
    for (name, data) in [("one", "SGVsbG8s"), ("two", "IHdvcmxkIQ==")] {
        bench.create(Resource::Secrets, json!({"metadata": {"name": name}, "data": {"part": data}}));
    }
    let source =
        |name: &str, path: &str| json!({"secret": {"name": name, "items": [{"key": "part", "path": path}]}});
    bench.pod("p", json!({
        "containers": [mounted("cat /tmp/prompt/prompt.*; ls -ld /tmp/prompt | cut -c1-10", "/tmp/prompt")],
        "volumes": [{"name": "v", "projected": {"sources": [source("one", "prompt.000"), source("two", "prompt.001")]}}],
    }));
    let pod = bench.pod_until(is_over).await;
    assert_eq!(bench.log(&pod, "c").await, "Hello, world!drwx------\n");
}

#[tokio::test]
async fn a_volume_waits_for_its_secret_and_leaves_nothing_behind() {
    let bench = Bench::new().await;
    bench.pod(
        "p",
        json!({
            "containers": [mounted("cat /secret/key; echo; cd /secret && pwd", "/secret")],
            "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
        }),
    );
    let event = bench.event("FailedMount").await;
    assert_eq!(event["message"], "MountVolume.SetUp failed for volume \"v\" : secret \"s\" not found");
    let pod = bench.pod_until(|pod| !state(pod, "c").is_null()).await;
    assert_eq!(state(&pod, "c")["waiting"]["reason"], "ContainerCreating");
    assert_eq!(condition(&pod, "PodReadyToStartContainers")["status"], "False");
    bench.create(Resource::Secrets, json!({"metadata": {"name": "s"}, "data": {"key": "dmFsdWU="}}));
    let pod = bench.pod_until(is_over).await;
    let log = bench.log(&pod, "c").await;
    let (value, folder) = log.trim_end().split_once('\n').unwrap();
    assert_eq!(value, "value");
    assert!(!std::path::Path::new(folder).exists(), "{folder}");
}

#[tokio::test]
async fn a_claim_outlives_its_pod_and_is_made_on_first_use() {
    let bench = Bench::new().await;
    let run = |name: &'static str, script: &str| {
        let spec = json!({
            "containers": [mounted(script, "/paperclip")],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
        });
        bench.pod(name, spec);
        bench.until_named(Resource::Pods, name, is_over)
    };
    run("first", "echo kept > /paperclip/file").await;
    let pod = run("second", "cat /paperclip/file").await;
    assert_eq!(bench.log(&pod, "c").await, "kept\n");
    let claim =
        bench.until(Resource::PersistentVolumeClaims, |claim| claim["status"]["phase"] == "Bound").await;
    assert_eq!(claim["spec"]["volumeName"], format!("pvc-{}", meta(&claim, "uid")));
}

#[tokio::test]
async fn a_host_path_is_refused() {
    let bench = Bench::new().await;
    bench.pod(
        "p",
        json!({
            "containers": [mounted("true", "/host")], "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        }),
    );
    let event = bench.event("FailedMount").await;
    assert!(event["message"].as_str().unwrap().contains("hostPath volumes are refused"));
}

#[tokio::test]
async fn mounts_of_parts_of_a_volume() {
    let bench = Bench::new().await;
    let mut container = shell("c", "pwd | grep -c work/deep; echo a > /one/file; cat /all/sub/file");
    container["workingDir"] = json!("/all/work/deep");
    container["volumeMounts"] = json!([
        {"name": "v", "mountPath": "/all"}, {"name": "v", "mountPath": "/one", "subPath": "sub"},
    ]);
    bench.pod("p", json!({"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}));
    let pod = bench.pod_until(is_over).await;
    assert_eq!(bench.log(&pod, "c").await, "1\na\n");
}
