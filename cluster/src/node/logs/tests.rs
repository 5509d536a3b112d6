use futures::TryStreamExt as _;
use serde_json::json;

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "literals read better")]
fn pod(state: serde_json::Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "nodeName": "local",
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "c"}],
        },
        "status": {"containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "containerID": "local://u/c/0", "state": state["state"], "lastState": state["last"],
        }]},
    }))
    .unwrap()
}

fn instance() -> Instance {
    Instance::of_id(&pod(json!({})), "local://u/c/0").unwrap()
}

fn logs(rotation: Rotation) -> (tempfile::TempDir, Logs) {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::new(folder.path().to_owned(), rotation);
    (folder, logs)
}

async fn text(stream: LogStream) -> String {
    let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

fn terminated(attempt: u32) -> serde_json::Value {
    json!({"terminated": {"exitCode": 1, "containerID": format!("local://u/c/{attempt}")}})
}

#[test]
fn which_instance_is_read() {
    let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
    let running = json!({"running": {}});
    let cases = [
        (json!({"state": running}), false, Ok("local://u/c/0")),
        (json!({"state": terminated(0)}), false, Ok("local://u/c/0")),
        (json!({"state": waiting, "last": terminated(3)}), false, Ok("local://u/c/3")),
        (json!({"state": running, "last": terminated(3)}), true, Ok("local://u/c/3")),
        (json!({"state": running}), true, Err("previous terminated container \"c\" in pod \"p\" not found")),
        (
            json!({"state": waiting}),
            false,
            Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
        ),
        (json!({}), false, Err("container \"c\" in pod \"p\" is waiting to start - no logs yet")),
    ];
    for (state, previous, expected) in cases {
        let found = instance_id(&pod(state.clone()), "c", previous).map_err(|error| error.message);
        assert_eq!(found.as_deref(), expected.map_err(str::to_owned).as_deref(), "{state} {previous}");
    }
}

#[test]
fn which_container_is_read() {
    let one = pod(json!({}));
    let mut two = one.clone();
    let spec = two.spec.as_mut().unwrap();
    spec.containers.push(spec.containers[0].clone());
    spec.containers[1].name = "d".to_owned();
    let cases = [
        (&one, None, Ok("c")),
        (&one, Some("i"), Ok("i")),
        (&one, Some("x"), Err("container x is not valid for pod p")),
        (&two, Some("d"), Ok("d")),
        (
            &two,
            None,
            Err("a container name must be specified for pod p, choose one of: [c d] or one of the init \
                 containers: [i]"),
        ),
    ];
    for (pod, requested, expected) in cases {
        let found = choose_container(pod, requested).map_err(|error| error.message);
        assert_eq!(found.as_deref(), expected.map_err(str::to_owned).as_deref(), "{requested:?}");
    }
}

#[test]
fn impossible_options_are_refused() {
    let none = LogOptions::default();
    for (options, message) in [
        (LogOptions { tail_lines: Some(-1), ..none.clone() }, "tailLines"),
        (LogOptions { limit_bytes: Some(0), ..none.clone() }, "limitBytes"),
        (LogOptions { since_seconds: Some(0), ..none.clone() }, "sinceSeconds"),
        (
            LogOptions { since_seconds: Some(1), since_time: Some(Timestamp::UNIX_EPOCH), ..none.clone() },
            "at most one",
        ),
    ] {
        let error = check(&pod(json!({})), &options).unwrap_err();
        assert_eq!(error.code, 422);
        assert!(error.message.contains(message), "{}", error.message);
    }
    assert_eq!(check(&pod(json!({})), &none), Ok(()));
}

#[test]
fn since_is_cut_to_the_second() {
    let options =
        LogOptions { since_time: Some("2026-01-01T00:00:01.999Z".parse().unwrap()), ..Default::default() };
    assert_eq!(since(&options, Timestamp::now()), Some("2026-01-01T00:00:01Z".parse().unwrap()));
}

#[tokio::test]
async fn an_unscheduled_pod_has_an_empty_log() {
    let (_folder, logs) = logs(Rotation::default());
    let mut pod = pod(json!({}));
    pod.spec.as_mut().unwrap().node_name = None;
    assert!(logs.open(&pod, None, &LogOptions::default()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_line_longer_than_a_chunk_is_served_whole_with_one_stamp() {
    let (_folder, logs) = logs(Rotation::default());
    let log = logs.create(&instance()).unwrap();
    let line = format!("{}\n", "x".repeat(400 * 1024));
    log.pump(Output::Stdout, line.as_bytes()).await;
    let pod = pod(json!({"state": {"running": {}}}));
    let options = LogOptions { timestamps: true, ..LogOptions::default() };
    let served = text(logs.open(&pod, None, &options).await.unwrap().unwrap()).await;
    let (stamp, rest) = served.split_once(' ').unwrap();
    assert!(stamp.parse::<Timestamp>().is_ok());
    assert_eq!(rest, line);
}

#[tokio::test]
async fn a_burst_over_many_rotations_is_served_whole_to_who_follows_and_to_who_comes_later() {
    let (_folder, logs) = logs(Rotation { file_bytes: 200, files: 2 });
    let log = logs.create(&instance()).unwrap();
    let pod = pod(json!({"state": {"running": {}}}));
    let lines: Vec<String> = (0..100).map(|n| format!("line {n}\n")).collect();
    // Files are filled before a reader comes.
    for line in &lines[..30] {
        log.clone().pump(Output::Stdout, line.as_bytes()).await;
    }
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut follow = logs.open(&pod, None, &options).await.unwrap().unwrap();
    let first = follow.next().await.unwrap().unwrap();
    // The reader does not read while the rest is printed.
    for line in &lines[30..] {
        log.clone().pump(Output::Stdout, line.as_bytes()).await;
    }
    logs.end(&instance());
    let late = logs.open(&pod, None, &LogOptions::default()).await.unwrap().unwrap();
    let served = String::from_utf8(first.to_vec()).unwrap() + &text(follow).await;
    assert_eq!(served, lines.concat());
    let late = text(late).await;
    assert!(!late.is_empty() && lines.concat().ends_with(&late), "{late}");
}

#[tokio::test]
async fn followed_tail_continues_and_tail_alone_ends() {
    let (_folder, logs) = logs(Rotation::default());
    let log = logs.create(&instance()).unwrap();
    log.clone().pump(Output::Stdout, b"one\ntwo\nthree\n".as_slice()).await;
    let pod = pod(json!({"state": {"running": {}}}));
    let tail = LogOptions { tail_lines: Some(1), ..LogOptions::default() };
    assert_eq!(text(logs.open(&pod, None, &tail).await.unwrap().unwrap()).await, "three\n");
    let mut follow = logs.open(&pod, None, &LogOptions { follow: true, ..tail }).await.unwrap().unwrap();
    assert_eq!(follow.next().await.unwrap().unwrap(), "three\n");
    log.clone().pump(Output::Stdout, b"four\n".as_slice()).await;
    assert_eq!(follow.next().await.unwrap().unwrap(), "four\n");
    logs.end(&instance());
    assert!(follow.next().await.is_none());
    assert_eq!(logs.tail(&instance(), 2, 6).await, b"\nfour\n");
}

#[tokio::test]
async fn logs_of_deleted_pod_are_removed() {
    let (folder, logs) = logs(Rotation::default());
    logs.create(&instance()).unwrap();
    logs.forget("n", "p", "u");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn only_the_last_two_instances_keep_their_logs() {
    let (folder, logs) = logs(Rotation { file_bytes: 1, files: 2 });
    for attempt in 0..3 {
        let log = logs.create(&Instance { attempt, ..instance() }).unwrap();
        log.pump(Output::Stdout, b"line\n".as_slice()).await;
    }
    let files = std::fs::read_dir(folder.path().join("n_p_u/c")).unwrap();
    let mut names: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    assert_eq!(names, ["1.log", "2.log"]);
}
