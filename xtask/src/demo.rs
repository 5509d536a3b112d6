//! `cargo xtask demo`: one run from start to end, without a cluster.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{PipeReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::dist::{Profile, build_host};
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{Workspace, relative};

/// Shows a run from start to end in the terminal: plugin, host and local cluster, with a recorded agent.
///
/// Builds the plugins and the host, then starts `paperclip-host run --cluster local`. A stand-in for the Claude Code CLI
/// (xtask/demo/claude) plays a recorded session that uses a tool; nothing leaves this machine and no key is needed. Ctrl-C
/// cancels the run. The exit code is the run's: 0 if it succeeded.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Run the real Claude Code CLI: `claude` must be on PATH and ANTHROPIC_API_KEY set. It costs a few cents. Tools that need a
    /// permission are disabled, because the local cluster does not isolate its containers.
    #[arg(long)]
    claude: bool,

    #[command(flatten)]
    toolchain: toolchain::Selection,
}

/// The recording that the stand-in plays, and its pause before each line: long enough to see the run, short enough not to bore.
const RECORDING: &str = "tests/fixtures/claude-cli-2.1.330/tool.ndjson";
const PAUSE_SEC: &str = "0.6";

/// The real agent's task: small, without tools.
const PROMPT: &str = "In three short sentences: greet the person who tries you out, say what Kubernetes is to an agent like \
                      you, and say goodbye. Use no tools.";
const MAX_TURNS: u32 = 3;

/// Variables of the caller's environment that the real agent gets.
const CLAUDE_VARIABLES: [&str; 3] = [API_KEY, "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"];
const API_KEY: &str = "ANTHROPIC_API_KEY";

pub(crate) fn run(options: &Options) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let real = RealAgent::find(&path, |name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    if options.claude {
        real.check()?;
    }
    let workspace = Workspace::find()?;
    process::stage("plugins", || wasm::build(&workspace, options.toolchain))?;
    // The dev profile: it links fast, `cargo xtask test` reuses its artifacts, and one run spends its time waiting for the agent.
    let (host, _) = process::stage("host", || build_host(&workspace, Profile::Dev))?;

    let files = workspace.target.join("demo");
    fs::create_dir_all(&files).with_context(|| format!("cannot create {}", files.display()))?;
    let pod = files.join("pod.json");
    write_json(&pod, &paperclip_pod())?;
    let mut command = Command::new(host);
    command.args(["run", "--cluster", "local", "--output", "pretty", "--self-pod"]).arg(pod);
    command.arg("--state").arg(files.join("state"));
    let run_id = run_id(SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO));
    if options.claude {
        // Through a pipe: the key must not be left in a file.
        let context = execution_context(&run_id, &claude_config(&real.variables));
        command.args(["--context", "-"]).stdin(pipe_with(&context)?);
        process::note("The real Claude Code CLI runs; Ctrl-C cancels it.");
    } else {
        let context = files.join("context.json");
        write_json(&context, &execution_context(&run_id, &recorded_config(&workspace.root.join(RECORDING))))?;
        command.arg("--context").arg(&context).env("PATH", with_stand_in(&workspace.root, &path)?);
        process::note(&format!(
            "A recorded agent runs: xtask/demo is first on PATH and plays {RECORDING}. {}",
            real.hint()
        ));
        process::note(&format!("Its execution context is in {}.", relative(&context, &workspace)));
    }
    process::announce(&command);
    // Replaces this process, so that signals and the exit code are the host's.
    Err(command.exec()).context("cannot start the host that was just built")
}

/// Checks that the real CLI can run.
///
/// # Errors
/// The program or its key is missing.
pub(crate) fn check_real_agent() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    RealAgent::find(&path, |name| std::env::var(name).ok().filter(|value| !value.is_empty())).check()
}

/// The prerequisites of the real CLI.
#[derive(Debug)]
struct RealAgent {
    program: Option<PathBuf>,
    /// Those of [`CLAUDE_VARIABLES`] that are set.
    variables: Map<String, Value>,
}

impl RealAgent {
    fn find(path: &OsStr, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| Some((name.to_owned(), Value::String(variable(name)?)));
        Self {
            program: process::find_program("claude", path),
            variables: CLAUDE_VARIABLES.into_iter().filter_map(set).collect(),
        }
    }

    fn check(&self) -> Result<()> {
        if self.program.is_none() {
            bail!("there is no `claude` on PATH: install the Claude Code CLI, or leave out --claude");
        }
        if !self.variables.contains_key(API_KEY) {
            bail!("{API_KEY} is not set: the agent needs a key of its own, or leave out --claude");
        }
        Ok(())
    }

    fn hint(&self) -> &'static str {
        match self.check() {
            Ok(()) => "`claude` is on PATH and a key is set: `cargo xtask demo --claude` runs the real one.",
            Err(_) => {
                "With `claude` on PATH and ANTHROPIC_API_KEY set, `cargo xtask demo --claude` runs the real one."
            }
        }
    }
}

/// Paperclip's execution context of one run, as its server passes it to an adapter.
fn execution_context(run_id: &str, config: &Value) -> Value {
    json!({
        "runId": run_id,
        "agent": {
            "id": "7d1d7b9c-4a8e-4f0e-9f27-1b2c3d4e5f60",
            "companyId": "f28d0535-9554-4d3b-8e1b-0dcba71f5296",
            "name": "Nova",
            "adapterType": "claude_k8s",
        },
        "runtime": {},
        "config": config,
        "context": {},
        "authToken": format!("demo-token-of-{run_id}"),
    })
}

fn recorded_config(recording: &Path) -> Value {
    json!({
        "image": "local/claude",
        "env": { "PAPERCLIP_DEMO_RECORDING": recording, "PAPERCLIP_DEMO_PAUSE_SEC": PAUSE_SEC },
    })
}

fn claude_config(variables: &Map<String, Value>) -> Value {
    json!({
        "image": "local/claude",
        "env": variables,
        "promptTemplate": PROMPT,
        "maxTurnsPerRun": MAX_TURNS,
        "dangerouslySkipPermissions": false,
    })
}

/// Paperclip's pod: it provides the volume for the agents' home and working directory.
fn paperclip_pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "paperclip-0", "namespace": "default" },
        "spec": {
            "containers": [{
                "name": "paperclip",
                "image": "local/paperclip",
                "volumeMounts": [{ "name": "data", "mountPath": "/paperclip" }],
            }],
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "paperclip-data" } }],
        },
    })
}

/// A unique id in the form of a UUID.
fn run_id(since_epoch: Duration) -> String {
    let digits = format!("{:016x}", since_epoch.as_nanos() as u64);
    // The digits that change fastest come first: names of Jobs keep only the first characters.
    format!("{}-{}-4000-8000-{:012x}", &digits[8..], &digits[4..8], std::process::id())
}

/// PATH with the stand-in's folder first.
fn with_stand_in(root: &Path, path: &OsStr) -> Result<OsString> {
    let folders = std::iter::once(root.join("xtask/demo")).chain(std::env::split_paths(path));
    std::env::join_paths(folders).context("the workspace's path has a colon in it, so it cannot be on PATH")
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    fs::write(path, format!("{value:#}\n")).with_context(|| format!("cannot write {}", path.display()))
}

/// A pipe that contains the text, which is far smaller than a pipe's buffer.
fn pipe_with(value: &Value) -> Result<PipeReader> {
    let (reader, mut writer) = std::io::pipe().context("cannot make a pipe")?;
    writer.write_all(value.to_string().as_bytes()).context("cannot write to a pipe")?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    fn play(recording: &OsStr, pause: &str) -> std::process::Output {
        let mut stand_in = Command::new(root().join("xtask/demo/claude"))
            .args(["--print", "-"])
            .env("PAPERCLIP_DEMO_RECORDING", recording)
            .env("PAPERCLIP_DEMO_PAUSE_SEC", pause)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Without a recording the stand-in exits before it reads its prompt.
        let _ = stand_in.stdin.take().unwrap().write_all(b"a prompt");
        stand_in.wait_with_output().unwrap()
    }

    #[test]
    fn stand_in_plays_every_recording_byte_for_byte() {
        let recordings = root().join(RECORDING).parent().unwrap().to_owned();
        for recording in fs::read_dir(recordings).unwrap() {
            let recording = recording.unwrap().path();
            let output = play(recording.as_os_str(), "0");
            assert!(output.status.success());
            assert!(
                output.stdout == fs::read(&recording).unwrap(),
                "{} is played unchanged",
                recording.display()
            );
        }
    }

    #[test]
    fn stand_in_keeps_backslashes_spaces_and_an_unfinished_line() {
        let folder = tempfile::tempdir().unwrap();
        let recording = folder.path().join("recording");
        fs::write(&recording, "  {\"a\\n\": \"%s\\\\\"}\t \n\nunfinished").unwrap();
        let output = play(recording.as_os_str(), "0");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "  {\"a\\n\": \"%s\\\\\"}\t \n\nunfinished\n");
    }

    #[test]
    fn stand_in_fails_without_its_recording() {
        let output = play(OsStr::new("/nowhere"), "0");
        assert!(!output.status.success());
        assert!(String::from_utf8(output.stderr).unwrap().contains("/nowhere"));
    }

    #[test]
    fn stand_in_comes_first_on_the_path() {
        let path = with_stand_in(root(), OsStr::new("/usr/bin:/bin")).unwrap();
        assert_eq!(process::find_program("claude", &path), Some(root().join("xtask/demo/claude")));
    }

    #[test]
    fn real_agent_needs_a_program_and_a_key() {
        let stand_in_as_real = with_stand_in(root(), OsStr::new("")).unwrap();
        let key = |name: &str| (name == API_KEY).then(|| "sk-test".to_owned());
        let message = |agent: &RealAgent| agent.check().unwrap_err().to_string();
        assert!(
            message(&RealAgent::find(OsStr::new("/nowhere"), key))
                .starts_with("there is no `claude` on PATH")
        );
        assert!(
            message(&RealAgent::find(&stand_in_as_real, |_| None))
                .starts_with("ANTHROPIC_API_KEY is not set")
        );
        let agent = RealAgent::find(&stand_in_as_real, key);
        agent.check().unwrap();
        assert_eq!(claude_config(&agent.variables)["env"], json!({ "ANTHROPIC_API_KEY": "sk-test" }));
    }

    #[test]
    fn run_ids_of_nearby_moments_differ_at_the_start() {
        let (first, second) = (run_id(Duration::from_nanos(1)), run_id(Duration::from_micros(1)));
        assert_ne!(first[..8], second[..8]);
        assert_eq!(first.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }

    #[test]
    fn context_fits_into_a_pipe() {
        let context = execution_context("run", &claude_config(&Map::new()));
        let mut text = String::new();
        std::io::Read::read_to_string(&mut pipe_with(&context).unwrap(), &mut text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), context);
    }
}
