use tokio::io::AsyncBufReadExt as _;

use super::*;
use crate::node::logs::{Instance, LogOptions, Logs, Rotation};

struct Bench {
    folder: tempfile::TempDir,
    logs: Logs,
    launcher: Launcher,
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path().join("logs"), Rotation::default());
        let mark = folder.path().display().to_string();
        let launcher = Launcher::new(mark, &folder.path().join("memory")).await;
        Bench { folder, logs, launcher }
    }

    fn instance(&self) -> Instance {
        Instance {
            namespace: "n".to_owned(),
            pod: "p".to_owned(),
            pod_uid: "u".to_owned(),
            container: "c".to_owned(),
            attempt: 0,
        }
    }

    fn start(&self, words: &[&str]) -> Result<Process, StartError> {
        let command = Command {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            env: vec![("PATH".to_owned(), std::env::var("PATH").unwrap())],
            working_dir: self.folder.path().to_owned(),
            id: "u/c/0".to_owned(),
        };
        self.launcher.start(&command, &self.logs.create(&self.instance()).unwrap())
    }

    async fn output(&self) -> String {
        String::from_utf8(self.logs.tail(&self.instance(), 1000, 1 << 20).await).unwrap()
    }
}

#[tokio::test]
async fn exit_codes_and_output() {
    let bench = Bench::new().await;
    for (script, code) in [("exit 0", 0), ("exit 3", 3), ("kill -s KILL $$", 137), ("kill -s TERM $$", 143)] {
        let process = bench.start(&["sh", "-c", &format!("echo {code}; {script}")]).unwrap();
        assert_eq!(process.ended().await.0, code, "{script}");
        assert_eq!(bench.output().await, format!("{code}\n"));
    }
}

#[tokio::test]
async fn the_environment_and_arguments_are_those_given() {
    let bench = Bench::new().await;
    let process = bench.start(&["sh", "-c", "echo \"$0 $1 $HOME\"; pwd", "zero", "a  b"]).unwrap();
    assert_eq!(process.ended().await.0, 0);
    let folder = bench.folder.path().canonicalize().unwrap();
    assert_eq!(bench.output().await, format!("zero a  b \n{}\n", folder.display()));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let bench = Bench::new().await;
    let error = bench.start(&["no-such-program"]).unwrap_err().to_string();
    assert!(error.ends_with("exec: \"no-such-program\": executable file not found in $PATH"), "{error}");
}

#[tokio::test]
async fn no_process_of_a_container_outlives_its_first() {
    let bench = Bench::new().await;
    // One child stays in the group, one leaves it; both hold the pipe.
    let process = bench.start(&["sh", "-c", "sleep 1000 & setsid sleep 1000 & echo started"]).unwrap();
    let ended = tokio::time::timeout(DRAIN_LIMIT, process.ended()).await;
    assert_eq!(ended.map(|(code, _)| code), Ok(0));
    assert_eq!(bench.output().await, "started\n");
}

#[tokio::test]
async fn terminates_the_whole_group() {
    let bench = Bench::new().await;
    let script = "trap 'echo terminated; exit 7' TERM; sleep 1000 & echo ready; wait";
    let process = bench.start(&["sh", "-c", script]).unwrap();
    let group = process.group();
    let ended = tokio::spawn(process.ended());
    let mut follow = Box::pin(futures::StreamExt::map(bench.follow().await, |bytes| bytes.unwrap()));
    assert_eq!(futures::StreamExt::next(&mut follow).await.unwrap(), "ready\n");
    group.terminate();
    assert_eq!(ended.await.unwrap().0, 7);
    assert_eq!(bench.output().await, "ready\nterminated\n");
}

impl Bench {
    async fn follow(&self) -> crate::node::logs::LogStream {
        let pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"nodeName": "local", "containers": [{"name": "c"}]},
            "status": {"containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "containerID": self.instance().id(), "state": {"running": {}},
            }]},
        }))
        .unwrap();
        let options = LogOptions { follow: true, ..LogOptions::default() };
        self.logs.open(&pod, None, &options).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn the_watchdog_ends_what_is_left_when_its_pipe_ends() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("memory");
    std::fs::create_dir(&memory).unwrap();
    let mark = format!("{MARK}={}/", folder.path().display());
    let watchdog = Watchdog::start(&mark, &memory).unwrap();
    let spawn = |script: &str| {
        tokio::process::Command::new("sh")
            .args(["-c", script])
            .env(MARK, format!("{}/u/c/0", folder.path().display()))
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut watched = spawn("sleep 1000 & wait");
    let mut forgotten = spawn("sleep 1000 & wait");
    let mut stray = spawn("echo $$; exec sleep 1000");
    let group = |child: &tokio::process::Child| {
        Group(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap())
    };
    for child in [&watched, &forgotten] {
        watchdog.watch(group(child));
    }
    watchdog.forget(group(&forgotten));
    let mut line = String::new();
    tokio::io::BufReader::new(stray.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    drop(watchdog);
    for child in [&mut watched, &mut forgotten, &mut stray] {
        assert_eq!(exit_code(child.wait().await.unwrap()), 137, "killed by its group or by its mark");
    }
    assert!(!memory.exists());
}
