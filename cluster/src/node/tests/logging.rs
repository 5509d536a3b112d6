use futures::TryStreamExt as _;
use serde_json::json;

use super::bench::*;
use crate::node::{LogOptions, Rotation};
use crate::resource::Resource;
use crate::store::{Propagation, meta};

#[tokio::test]
async fn a_long_line_arrives_whole() {
    let bench = Bench::new().await;
    bench.pod("p", json!({"containers": [shell("c", "head -c 409600 /dev/zero | tr '\\0' x; echo")]}));
    let pod = bench.pod_until(is_over).await;
    let options = LogOptions { timestamps: true, ..LogOptions::default() };
    let served = text(bench.open_log(&pod, "c", options).await).await;
    let (stamp, line) = served.split_once(' ').unwrap();
    assert!(stamp.parse::<jiff::Timestamp>().is_ok());
    assert_eq!((line.len(), line.trim_start_matches('x')), (409_601, "\n"));
}

#[tokio::test]
async fn a_follow_ends_with_the_container_and_not_before() {
    let bench = Bench::new().await;
    bench.pod(
        "p",
        json!({
            "containers": [{
                "name": "c", "image": "i",
                "command": ["sh", "-c", "echo one; until [ -e /v/go ]; do sleep 0.01; done; echo two"],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}],
        }),
    );
    let pod = bench.pod_until(is_running).await;
    let mut log = bench.open_log(&pod, "c", LogOptions { follow: true, ..LogOptions::default() }).await;
    assert_eq!(log.try_next().await.unwrap().unwrap(), "one\n");
    std::fs::write(bench.folder.path().join("claims/n/v/go"), "").unwrap();
    assert_eq!(log.try_next().await.unwrap().unwrap(), "two\n");
    assert_eq!(log.try_next().await.unwrap(), None);
}

#[tokio::test]
async fn many_lines_over_rotations_arrive_once_and_in_order() {
    let bench = Bench::with(|options| options.log_rotation = Rotation { file_bytes: 4096, files: 5 }).await;
    // Each line is written only when the reader has the one before, so that it is never two files behind.
    bench.pod("p", json!({
        "containers": [{
            "name": "c", "image": "i",
            "command": ["sh", "-c", "n=0; while [ $n -lt 300 ]; do n=$((n+1)); echo line $n; [ $((n % 20)) -eq 0 ] && { until [ -e /v/$n ]; do sleep 0.01; done; }; done; true"],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}],
    }));
    let pod = bench.pod_until(is_running).await;
    let mut log = bench.open_log(&pod, "c", LogOptions { follow: true, ..LogOptions::default() }).await;
    let mut served = Vec::new();
    while let Some(bytes) = log.try_next().await.unwrap() {
        served.extend_from_slice(&bytes);
        let lines = served.iter().filter(|byte| **byte == b'\n').count();
        if lines > 0 && lines % 20 == 0 {
            std::fs::write(bench.folder.path().join(format!("claims/n/v/{lines}")), "").unwrap();
        }
    }
    let expected: String = (1..=300).map(|n| format!("line {n}\n")).collect();
    assert_eq!(String::from_utf8(served).unwrap(), expected);
}

#[tokio::test]
async fn the_logs_of_a_pod_go_with_it() {
    let bench = Bench::new().await;
    bench.pod("p", json!({"containers": [shell("c", "echo x")]}));
    let pod = bench.pod_until(is_over).await;
    let folder = bench.folder.path().join("logs").join(format!("n_p_{}", meta(&pod, "uid")));
    assert!(folder.exists());
    bench.delete(Resource::Pods, "p", Propagation::Background);
    bench.until_deleted(Resource::Pods, "p").await;
    // The node observes it a little later; a Pod that it has finished after that proves it.
    bench.pod("after", json!({"containers": [shell("c", "true")]}));
    bench.pod_until(is_over).await;
    assert!(!folder.exists());
}
