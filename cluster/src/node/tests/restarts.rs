use serde_json::json;

use super::bench::*;
use crate::resource::Resource;

#[tokio::test]
async fn a_node_that_goes_down_ends_its_containers_and_loses_their_pods() {
    let mut bench = Bench::new().await;
    bench.job("j", "trap 'exit 0' TERM; echo ready; sleep 1000 & wait", |_| ());
    let pod = bench.pod_until(is_running).await;
    bench.until_logged(&pod, "main", "ready").await;
    let mut log =
        bench.open_log(&pod, "main", crate::node::LogOptions { follow: true, ..Default::default() }).await;
    bench.stop().await;
    while futures::TryStreamExt::try_next(&mut log).await.unwrap().is_some() {}
    assert_eq!(
        bench.get(Resource::Pods, pod["metadata"]["name"].as_str().unwrap()).unwrap()["status"]["phase"],
        "Running"
    );

    bench.start(|_| ()).await;
    let lost = bench.pod_until(is_over).await;
    assert_eq!(
        (exit_code(&lost, "main"), &state(&lost, "main")["terminated"]["reason"]),
        (Some(255), &json!("Unknown"))
    );
    let (_, condition_) = bench.finished("j").await;
    assert_eq!(condition_["type"], "Failed");
}

#[tokio::test]
async fn ended_node_leaves_no_process() {
    let mut bench = Bench::new().await;
    let mut container =
        shell("c", "setsid sh -c 'trap \"\" HUP TERM; echo $$$$ > /v/pid; exec sleep 1000' & wait");
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    bench.pod(
        "p",
        json!({
            "containers": [container, shell("watcher", "echo up; exec sleep 1000")],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }),
    );
    let pod = bench.pod_until(is_running).await;
    bench.until_logged(&pod, "watcher", "up").await;
    let mut log =
        bench.open_log(&pod, "watcher", crate::node::LogOptions { follow: true, ..Default::default() }).await;
    bench.crash();
    // The watchdog kills it; its output ends, and with it the follow.
    while futures::TryStreamExt::try_next(&mut log).await.unwrap().is_some() {}
}
