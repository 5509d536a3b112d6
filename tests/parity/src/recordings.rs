//! What real programs printed in many situations, and how each run is to be judged: `tests/fixtures/agents/NAME-VERSION`.
//!
//! `expected.txt` has a line for each case: its name, and the error code, or `success`.

use std::fs;
use std::path::{Path, PathBuf};

use paperclip_kit::cli::Cli;
use paperclip_kit::machine::Watch;
use paperclip_kit::manifest::termination::MARKER;
use paperclip_kit::outcome::{AdapterResult, ErrorCode};
use paperclip_kit::plugin::AgentPlugin as _;
use paperclip_kit::stream::AgentStream as _;
use serde_json::{Value, json};

/// 2026-11-30, shortly after the recordings.
pub const AT_MS: i64 = 1_795_990_000_000;
/// How a line of the file with the exit says that the program did not end by itself.
const KILLED: &str = "killed by the recorder";
/// How many bytes of standard error a termination message holds.
const STDERR_BYTES: usize = 4000;

/// A recorded run.
#[derive(Debug, Clone)]
pub struct Recording {
    pub name: String,
    pub stdout: String,
    pub stderr: String,
    /// As a shell reports it.
    pub exit_code: i32,
    /// The recorder ended it, as a run's timeout does.
    pub is_timed_out: bool,
    /// The error code that the run is to get; `None` is a success.
    pub expected: Option<String>,
    /// The session that the run resumed.
    pub resumed: Option<String>,
}

/// Returns the folder of a program's recordings.
pub fn folder(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/agents").join(program)
}

/// Loads the recordings of a folder, by name.
///
/// # Panics
/// A file is missing, or a case has no expected judgement.
pub fn load(folder: &Path) -> Vec<Recording> {
    let expected = fs::read_to_string(folder.join("expected.txt")).expect("the recordings have expected.txt");
    let expected = |name: &str| {
        let line = expected.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("expected.txt has no line for {name}")).trim().to_owned()
    };
    let files = fs::read_dir(folder).expect("the recordings are there");
    let mut names: Vec<_> = files
        .filter_map(|file| Some(file.ok()?.file_name().to_str()?.strip_suffix(".ndjson")?.to_owned()))
        .collect();
    names.sort();
    names.into_iter().map(|name| read(folder, name, &expected)).collect()
}

fn read(folder: &Path, name: String, expected: &dyn Fn(&str) -> String) -> Recording {
    let text = |extension: &str| {
        let bytes = fs::read(folder.join(format!("{name}.{extension}"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let exit = text("exit");
    let code: i32 = exit.lines().next().and_then(|code| code.trim().parse().ok()).expect("an exit code");
    let expected = Some(expected(&name)).filter(|code| code != "success");
    Recording {
        stdout: text("ndjson"),
        stderr: text("stderr"),
        // Python reports a signal as a negative number.
        exit_code: if code < 0 { 128 - code } else { code },
        is_timed_out: exit.contains(KILLED),
        resumed: None,
        expected,
        name,
    }
}

impl Recording {
    /// Returns the run as an evidence document: the input of `paperclip-host classify`. An agent type that watches its agent stops it
    /// as it would have stopped the run.
    pub fn evidence<A: Cli>(&self, config: &Value) -> Value {
        let (outcome, phase, reason) = match self.exit_code {
            0 => ("complete", "Succeeded", "Completed"),
            _ => ("failed", "Failed", "Error"),
        };
        let start = self.stderr.ceil_char_boundary(self.stderr.len().saturating_sub(STDERR_BYTES));
        let message = (!self.stderr.is_empty()).then(|| format!("{MARKER}\n{}", &self.stderr[start..]));
        let stopped_for = self.stopped_for::<A>();
        json!({"config": config, "stdout": self.stdout, "job": {"outcome": outcome},
            "container": {"exitCode": self.exit_code, "reason": reason, "message": message, "signal": null},
            "pod": {"phase": phase, "missing": false}, "atMs": AT_MS,
            "timedOut": self.is_timed_out && stopped_for.is_none(), "stoppedFor": stopped_for,
            "previousSessionId": self.resumed})
    }

    /// Returns why the agent type would have stopped the agent.
    pub fn stopped_for<A: Cli>(&self) -> Option<String> {
        let mut stream = A::Stream::default();
        self.stdout.lines().find_map(|line| {
            stream.push_line(line);
            match stream.watch() {
                Watch::Stop(reason) => Some(reason),
                Watch::Fine | Watch::Status(_) => None,
            }
        })
    }

    /// Judges the recording.
    ///
    /// # Panics
    /// The evidence is not a document.
    pub fn judged<A: Cli>(&self, config: &Value) -> AdapterResult {
        let at_ms = u64::try_from(AT_MS).expect("a time after 1970");
        let json = A::classify(at_ms, &self.evidence::<A>(config).to_string()).expect("a document");
        serde_json::from_str(&json).expect("a result")
    }

    /// Returns the transcript's entries.
    ///
    /// # Panics
    /// The entries are not JSON.
    pub fn transcript<A: Cli>(&self) -> Vec<Value> {
        let entries =
            |line| serde_json::from_str::<Vec<Value>>(&A::transcript(line, "t")).expect("entries are JSON");
        self.stdout.lines().flat_map(entries).collect()
    }
}

/// Returns what differs from the expected judgement of each recording: a line each.
pub fn differences<A: Cli>(recordings: &[Recording], config: &Value) -> Vec<String> {
    let difference = |recording: &Recording| {
        let result = recording.judged::<A>(config);
        let code = result.error_code.map(ErrorCode::as_str);
        let is_judged =
            code == recording.expected.as_deref() && result.is_success() == recording.expected.is_none();
        (!is_judged).then(|| {
            format!(
                "{}: {} instead of {}: {:?}",
                recording.name,
                code.unwrap_or("success"),
                recording.expected.as_deref().unwrap_or("success"),
                result.error_message
            )
        })
    };
    recordings.iter().filter_map(difference).collect()
}

/// Shortens texts to `max` characters and their length, so that a snapshot stays readable.
pub fn shortened(value: Value, max: usize) -> Value {
    match value {
        Value::String(text) if text.len() > max => {
            let shown: String = text.chars().take(max).collect();
            Value::String(format!("{shown}… ({} bytes)", text.len()))
        }
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, shortened(value, max))).collect()
        }
        Value::Array(items) => items.into_iter().map(|item| shortened(item, max)).collect(),
        other => other,
    }
}
