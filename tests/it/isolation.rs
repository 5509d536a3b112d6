//! Paperclip's data volume: what of it an agent can read from a shell in its pod.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::host::{Finished, Place, recording};

const RUN: [&str; 6] = ["run", "--cluster", "local", "--output", "ndjson", "--context"];
const WORKSPACE: &str = "/paperclip/instances/default/workspaces/nova";

/// Lists every file below the mounts with its content, tries paths of others, counts the runs of this home, and plays a good recording.
const AGENT: &str = r#"cat >/dev/null
{
  for folder in "$HOME" "$PWD"; do (cd "$folder" && find . -type f -exec cat {} +); done
  for file in $CANARIES; do cat "$file"; done
  echo run >>"$HOME/runs"
  echo "runs: $(wc -l <"$HOME/runs")"
} >"$SEEN" 2>&1
cat "$(dirname "$0")/output""#;

/// Folders of others: each has a canary of its own name.
const OTHERS: [&str; 7] = [
    "instances/default/db",
    "instances/default/secrets",
    "instances/default/workspaces/other",
    "instances/default/projects/other/p1",
    "agent-homes/acme/other",
    "agent-homes/other/nova",
    ".claude",
];

/// Paperclip's pod with its data volume and a Secret of the server.
fn pod() -> Value {
    json!({"metadata": {"namespace": "default"}, "spec": {
        "containers": [{"name": "paperclip", "image": "local/paperclip", "volumeMounts": [
            {"name": "data", "mountPath": "/paperclip"}, {"name": "keys", "mountPath": "/keys"},
        ]}],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "keys", "secret": {"secretName": "server-keys"}},
        ],
    }})
}

/// Runs the agent in its workspace, and returns what it has seen.
fn run(place: &Place, run_id: &str, config: Value, cwd: &str, args: &[&str]) -> (Finished, String) {
    let seen = place.path(run_id);
    let canaries = OTHERS.map(|folder| format!("/paperclip/{folder}/canary")).join(" ");
    let mut config = config;
    config["env"] = json!({"HOME": "/paperclip", "CANARIES": canaries, "SEEN": seen});
    let file = place.context(config);
    let mut context: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    context["runId"] = json!(run_id);
    context["context"]["paperclipWorkspace"] = json!({"cwd": cwd});
    fs::write(&file, context.to_string()).unwrap();
    let pod_file = place.path("pod.json");
    fs::write(&pod_file, pod().to_string()).unwrap();
    let mut command = place.host(&RUN);
    command.arg(file).arg("--self-pod").arg(pod_file).args(args);
    let finished = Finished::of(command.output().unwrap());
    let seen = fs::read_to_string(seen).unwrap_or_default();
    (finished, seen)
}

/// Finds the folder of the claim that the local cluster has made.
fn claim(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    entries
        .filter(|path| path.is_dir())
        .find_map(|path| if path.ends_with("claims/default/data") { Some(path) } else { claim(&path) })
}

#[test]
fn an_agent_reads_its_home_and_workspace_and_no_file_of_others() {
    let place = Place::playing(&recording("ok"), "").with_agent(AGENT);
    let (first, seen) = run(&place, "first", json!({}), WORKSPACE, &[]);
    assert_eq!(first.result()["errorCode"], Value::Null, "{}", first.result());
    assert!(seen.ends_with("runs: 1\n"), "{seen}");
    let denied =
        |record: &Value| record["text"].as_str().is_some_and(|text| text.contains("Secret server-keys"));
    assert!(first.records.iter().any(denied), "{:#?}", first.records);

    let volume = claim(place.path("").as_path()).expect("the claim has a folder");
    for folder in OTHERS {
        fs::create_dir_all(volume.join(folder)).unwrap();
        fs::write(volume.join(folder).join("canary"), format!("canary of {folder}\n")).unwrap();
    }
    fs::write(volume.join("instances/default/workspaces/nova/file"), "own file\n").unwrap();
    let (second, seen) = run(&place, "second", json!({}), WORKSPACE, &[]);
    assert_eq!(second.result()["errorCode"], Value::Null, "{}", second.result());
    assert!(seen.contains("own file") && !seen.contains("canary of"), "{seen}");
    assert_eq!(seen.matches("No such file").count(), OTHERS.len(), "{seen}");
    assert!(seen.ends_with("runs: 2\n"), "the home is that of the first run: {seen}");
    assert_eq!(fs::read_to_string(volume.join("agent-homes/acme/nova/runs")).unwrap(), "run\nrun\n");
}

#[test]
fn no_config_or_context_of_a_tenant_mounts_more() {
    let place = Place::playing(&recording("ok"), "").with_agent(AGENT);
    for (run_id, config, cwd) in [
        ("shared", json!({"dataMount": "shared"}), WORKSPACE),
        ("database", json!({}), "/paperclip/instances/default/db"),
        ("other", json!({}), "/paperclip/instances/default/workspaces/other"),
        ("link", json!({}), "/paperclip/instances/default/workspaces/nova/../other"),
    ] {
        let (finished, seen) = run(&place, run_id, config, cwd, &[]);
        let result = finished.result();
        assert_eq!(result["errorCode"], "plugin_refused", "{run_id}: {result}");
        assert!(result["errorMessage"].as_str().unwrap().contains("rule data-volume"), "{result}");
        assert_eq!(seen, "", "{run_id}: the agent never started");
    }
}

#[test]
fn an_operator_shares_the_volume() {
    let place = Place::playing(&recording("ok"), "").with_agent(AGENT);
    let config = place.path("host.toml");
    fs::write(&config, "[agents]\ndata_mount = \"shared\"\n").unwrap();
    let (finished, seen) =
        run(&place, "shared", json!({}), WORKSPACE, &["--config", config.to_str().unwrap()]);
    assert_eq!(finished.result()["errorCode"], Value::Null, "{}", finished.result());
    assert!(seen.ends_with("runs: 1\n"), "{seen}");
    let volume = claim(place.path("").as_path()).expect("the claim has a folder");
    assert!(volume.join("runs").exists(), "its home is the volume's root");
    let warned =
        |record: &Value| record["text"].as_str().is_some_and(|text| text.contains("dataMount: shared"));
    assert!(finished.records.iter().any(warned), "{:#?}", finished.records);
}
