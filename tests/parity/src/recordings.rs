//! What real programs printed in many situations, and how each run is to be judged: `tests/fixtures/agents/NAME-VERSION`, and
//! `tests/fixtures/claude-cli-VERSION`.
//!
//! `expected.txt` has a line for each case: its name, and the error code, or `success`.

use std::path::{Path, PathBuf};

use paperclip_cases::Case;
use paperclip_kit::cli::Cli;
use paperclip_kit::machine::Watch;
use paperclip_kit::outcome::{AdapterResult, ErrorCode};
use paperclip_kit::plugin::AgentPlugin as _;
use paperclip_kit::stream::AgentStream as _;
use serde_json::Value;

/// 2026-11-30, shortly after the recordings.
pub const AT_MS: i64 = 1_795_990_000_000;

/// A recorded run.
#[derive(Debug, Clone)]
pub struct Recording {
    pub name: String,
    pub stdout: String,
    /// The run as the recorder saw it.
    evidence: Value,
    /// The error code that the run is to get; `None` is a success.
    pub expected: Option<String>,
}

/// Returns the folder of a program's recordings, by name and version.
pub fn folder(program: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let of_agent = fixtures.join("agents").join(program);
    if of_agent.exists() { of_agent } else { fixtures.join(program) }
}

/// Loads the recordings of a folder, by name.
///
/// # Panics
/// A file is missing, or a case has no expected judgement.
pub fn load(folder: &Path) -> Vec<Recording> {
    let cases = paperclip_cases::read(folder).unwrap_or_else(|error| panic!("{error}"));
    cases.into_iter().map(Recording::of).collect()
}

impl Recording {
    fn of(case: Case) -> Recording {
        let expected =
            case.expected.as_ref().unwrap_or_else(|| panic!("nothing is expected of {}", case.name));
        Recording {
            stdout: case.stdout().to_owned(),
            expected: expected["errorCode"].as_str().map(str::to_owned),
            name: case.name,
            evidence: case.evidence,
        }
    }

    /// Returns the same run with other output.
    pub fn with_stdout(self, stdout: String) -> Recording {
        Recording { stdout, ..self }
    }

    /// Returns the run as an evidence document: the input of `paperclip-host classify`. An agent type that watches its agent stops it
    /// as it would have stopped the run.
    pub fn evidence<A: Cli>(&self, config: &Value) -> Value {
        let mut evidence = self.evidence.clone();
        let stopped_for = self.stopped_for::<A>();
        evidence["timedOut"] = (evidence["timedOut"] == true && stopped_for.is_none()).into();
        evidence["stoppedFor"] = stopped_for.into();
        evidence["config"] = config.clone();
        evidence["stdout"] = self.stdout.as_str().into();
        evidence["atMs"] = AT_MS.into();
        evidence
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
