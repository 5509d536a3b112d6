use serde_json::{Value, json};

use super::bench::*;
use crate::resource::Resource;
use crate::store::{Propagation, meta};

#[tokio::test]
async fn a_signal_is_an_exit_code() {
    let bench = Bench::new().await;
    bench.pod("p", json!({"containers": [shell("c", "kill -s KILL $$$$")]}));
    let pod = bench.pod_until(is_over).await;
    assert_eq!((exit_code(&pod, "c"), &pod["status"]["phase"]), (Some(137), &json!("Failed")));
}

#[tokio::test]
async fn a_command_that_does_not_exist() {
    let bench = Bench::new().await;
    bench.pod("p", json!({"containers": [{"name": "c", "image": "i", "command": ["no-such-program"]}]}));
    let pod = bench.pod_until(is_over).await;
    let end = &state(&pod, "c")["terminated"];
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(128), &json!("StartError")));
    assert_eq!(end["startedAt"], "1970-01-01T00:00:00Z");
    let message = end["message"].as_str().unwrap();
    assert!(message.ends_with("exec: \"no-such-program\": executable file not found in $PATH"), "{message}");
    let event = bench.event("Failed").await;
    assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{c}");
    assert_eq!(bench.log(&pod, "c").await, "");
}

#[tokio::test]
async fn a_missing_secret_is_waited_for() {
    let bench = Bench::new().await;
    let mut container = shell("c", "echo \"got $TOKEN\"");
    container["env"] =
        json!([{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}}]);
    bench.pod("p", json!({"containers": [container]}));
    let waiting = |message: &'static str| {
        move |pod: &Value| {
            state(pod, "c")["waiting"] == json!({"reason": "CreateContainerConfigError", "message": message})
        }
    };
    let pod = bench.pod_until(waiting("secret \"s\" not found")).await;
    assert_eq!(pod["status"]["phase"], "Pending");
    bench.create(Resource::Secrets, json!({"metadata": {"name": "s"}, "data": {"other": ""}}));
    bench.pod_until(waiting("couldn't find key token in Secret n/s")).await;
    bench.update(Resource::Secrets, "s", |secret| secret["data"]["token"] = json!("c2VjcmV0"));
    let pod = bench.pod_until(is_over).await;
    assert_eq!(pod["status"]["phase"], "Succeeded");
    assert_eq!(bench.log(&pod, "c").await, "got secret\n");
    bench.until(Resource::Events, |event| event["message"] == "Error: secret \"s\" not found").await;
}

#[tokio::test]
async fn init_containers_run_in_order_before_the_others() {
    let bench = Bench::new().await;
    let mount = json!([{"name": "v", "mountPath": "/order"}]);
    let step = |name: &str| {
        let mut container = shell(name, &format!("echo {name} >> /order/file"));
        container["volumeMounts"] = mount.clone();
        container
    };
    let mut main = shell("main", "cat /order/file");
    main["volumeMounts"] = mount.clone();
    bench.pod(
        "p",
        json!({
            "initContainers": [step("first"), step("second")],
            "containers": [main],
            "volumes": [{"name": "v", "emptyDir": {}}],
        }),
    );
    let pod = bench.pod_until(is_over).await;
    assert_eq!(bench.log(&pod, "main").await, "first\nsecond\n");
    assert_eq!(condition(&pod, "Initialized")["status"], "True");
}

#[tokio::test]
async fn a_failed_init_container_keeps_the_others_from_starting() {
    let bench = Bench::new().await;
    bench.pod(
        "p",
        json!({
            "initContainers": [shell("init", "exit 4"), shell("never", "true")],
            "containers": [shell("main", "true")],
        }),
    );
    let pod = bench.pod_until(is_over).await;
    assert_eq!((exit_code(&pod, "init"), &pod["status"]["phase"]), (Some(4), &json!("Failed")));
    assert_eq!(state(&pod, "main")["waiting"]["reason"], "PodInitializing");
    assert_eq!(condition(&pod, "Initialized")["message"], "containers with incomplete status: [init never]");
}

#[tokio::test]
async fn a_sidecar_runs_beside_the_others_and_ends_after_them() {
    let bench = Bench::new().await;
    let mut sidecar =
        shell("sidecar", "trap 'echo terminated; exit 0' TERM; echo up > /shared/up; sleep 1000 & wait");
    sidecar["restartPolicy"] = json!("Always");
    let mut main = shell("main", "until [ -e /shared/up ]; do :; done; cat /shared/up");
    for container in [&mut sidecar, &mut main] {
        container["volumeMounts"] = json!([{"name": "v", "mountPath": "/shared"}]);
    }
    bench.pod(
        "p",
        json!({
            "initContainers": [sidecar], "containers": [main], "volumes": [{"name": "v", "emptyDir": {}}],
        }),
    );
    let pod = bench.pod_until(is_over).await;
    assert_eq!((exit_code(&pod, "sidecar"), &pod["status"]["phase"]), (Some(0), &json!("Succeeded")));
    assert_eq!(bench.log(&pod, "main").await, "up\n");
    assert_eq!(bench.log(&pod, "sidecar").await, "terminated\n");
}

#[tokio::test]
async fn a_failing_container_is_restarted_and_its_last_log_kept() {
    let bench = Bench::new().await;
    let mut container = shell(
        "c",
        "echo x >> /state/runs; echo run $(wc -l < /state/runs); [ $(wc -l < /state/runs) -ge 3 ]",
    );
    container["volumeMounts"] = json!([{"name": "v", "mountPath": "/state"}]);
    bench.pod("p", json!({
        "restartPolicy": "OnFailure", "containers": [container], "volumes": [{"name": "v", "emptyDir": {}}],
    }));
    bench.pod_until(|pod| state(pod, "c")["waiting"]["reason"] == "CrashLoopBackOff").await;
    let pod = bench.pod_until(is_over).await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!((&status["restartCount"], &pod["status"]["phase"]), (&json!(2), &json!("Succeeded")));
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(bench.log(&pod, "c").await, "run 3\n");
    let previous = crate::node::LogOptions { previous: true, ..Default::default() };
    assert_eq!(text(bench.open_log(&pod, "c", previous).await).await, "run 2\n");
    bench.event("BackOff").await;
}

#[tokio::test]
async fn last_words() {
    let bench = Bench::new().await;
    let mut own_path = shell("own-path", "printf other > /tmp/last/words; exit 1");
    own_path["terminationMessagePath"] = json!("/tmp/last/words");
    let mut from_log = shell("from-log", "echo the end; exit 1");
    from_log["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    let long = shell(
        "long",
        "head -c 5000 /dev/zero | tr '\\0' x > /dev/termination-log; printf end >> /dev/termination-log",
    );
    bench.pod(
        "p",
        json!({"containers": [
            shell("plain", "printf 'because\\n' > /dev/termination-log; exit 1"), own_path, from_log, long,
            shell("silent", "echo nothing; exit 1"),
        ]}),
    );
    let pod = bench.pod_until(is_over).await;
    let message = |name: &str| state(&pod, name)["terminated"]["message"].clone();
    assert_eq!(message("plain"), "because\n");
    assert_eq!(message("own-path"), "other");
    assert_eq!(message("from-log"), "the end\n");
    assert_eq!(message("long").as_str().unwrap().len(), 4096);
    assert!(message("long").as_str().unwrap().ends_with("xend"));
    assert_eq!(message("silent"), json!(null));
}

#[tokio::test]
async fn the_environment_of_a_container() {
    let bench = Bench::new().await;
    bench.create(Resource::ConfigMaps, json!({"metadata": {"name": "m"}, "data": {"A": "from map"}}));
    let mut container = shell("c", "echo \"$A|$B|$POD|$HOSTNAME|$1\"; env | grep -c CARGO_MANIFEST_DIR");
    container["args"] = json!(["zero", "$(B)!"]);
    container["envFrom"] = json!([{"configMapRef": {"name": "m"}}]);
    container["env"] = json!([
        {"name": "B", "value": "$(A), expanded"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]);
    bench.pod("p", json!({"containers": [container]}));
    let pod = bench.pod_until(is_over).await;
    let expected = "from map|from map, expanded|p|p|from map, expanded!\n0\n";
    assert_eq!(bench.log(&pod, "c").await, expected, "the environment of this process is not inherited");
}

#[tokio::test]
async fn a_container_without_a_command_says_what_it_needs() {
    let bench = Bench::new().await;
    bench.pod("p", json!({"containers": [{"name": "c", "image": "i"}]}));
    let pod = bench.pod_until(|pod| state(pod, "c")["waiting"]["reason"] == "CreateContainerError").await;
    assert!(state(&pod, "c")["waiting"]["message"].as_str().unwrap().contains("spec.command"));
    bench.delete(Resource::Pods, meta(&pod, "name"), Propagation::Background);
    bench.until_deleted(Resource::Pods, "p").await;
}

#[tokio::test]
async fn a_pod_is_held_by_its_gates() {
    let bench = Bench::new().await;
    bench.pod("p", json!({"schedulingGates": [{"name": "g"}], "containers": [shell("c", "true")]}));
    let pod = bench.pod_until(|pod| !condition(pod, "PodScheduled").is_null()).await;
    assert_eq!(condition(&pod, "PodScheduled")["reason"], "SchedulingGated");
    bench.update(Resource::Pods, "p", |pod| pod["spec"]["schedulingGates"] = json!([]));
    assert_eq!(bench.pod_until(is_over).await["status"]["phase"], "Succeeded");
}

#[tokio::test]
async fn a_pod_has_a_deadline_of_its_own() {
    let bench = Bench::new().await;
    bench.pod("p", json!({"activeDeadlineSeconds": 1, "containers": [shell("c", "exec sleep 1000")]}));
    let pod = bench.pod_until(is_over).await;
    assert_eq!((&pod["status"]["reason"], exit_code(&pod, "c")), (&json!("DeadlineExceeded"), Some(143)));
}
