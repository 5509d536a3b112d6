//! Recorded cases of an agent type: what its program printed, and how that run is to be judged.
//!
//! A folder of cases has for each one `NAME.ndjson`, the program's standard output; `NAME.exit`, whose first line is its exit code, negative
//! for a signal, and whose words `killed by the recorder` say that it did not end by itself; and if there are any, `NAME.stderr` and
//! `NAME.json`: `{"evidence": {…}, "expected": {…}}`, members of the evidence beside the recording's and fields that the result has.
//! `expected.txt` may have a line `NAME CODE` for each case, where the code of a success is `success`. `config.json` is the config of all
//! cases. A `*.ndjson` without an exit has a case in each line: `{"name", "evidence", "expected"}`.
//!
//! Evidence is the input of `paperclip-host classify`.

use paperclip_diagnostic::Diagnose;
use paperclip_files::Root;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The largest file of a case.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// What a termination message of a container holds.
const STDERR_BYTES: usize = 4000;
const KILLED: &str = "killed by the recorder";
const SUCCESS: &str = "success";

/// A recorded run with its expected judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    pub name: String,
    /// The document that a plugin classifies.
    pub evidence: Value,
    /// Fields that the result has; none if nobody has said yet.
    pub expected: Option<Map<String, Value>>,
}

/// A folder of cases cannot be read. The message names the file, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct CasesError {
    pub file: PathBuf,
    pub reason: String,
}

/// A field of a result that is not as expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    pub field: String,
    pub found: Value,
    pub expected: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, expected {}", self.field, self.found, self.expected)
    }
}

/// A case of a file that has one in each line.
#[derive(Debug, Deserialize)]
pub struct CaseLine {
    pub name: String,
    pub evidence: Value,
    pub expected: Map<String, Value>,
}

/// What a case says beside its recording.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Beside {
    evidence: Map<String, Value>,
    expected: Option<Map<String, Value>>,
}

/// Reads the cases of a folder, by name.
///
/// # Errors
/// The folder has no case, or a file of it cannot be read.
pub fn read(folder: &Path) -> Result<Vec<Case>, CasesError> {
    let wrong = |name: &Path, reason: String| CasesError { file: folder.join(name), reason };
    let root = Root::open(folder).map_err(|error| wrong(Path::new(""), error.to_string()))?;
    let files = Files { root, folder };
    let names = files.root.names(Path::new("")).map_err(|error| wrong(Path::new(""), error.to_string()))?;
    let config = files.json::<Value>("config.json")?.unwrap_or_else(|| json!({}));
    let codes = files.text("expected.txt")?.unwrap_or_default();
    let codes = by_name(&codes);
    let mut cases = Vec::new();
    for name in names.iter().filter_map(|name| name.to_str()?.strip_suffix(".ndjson")) {
        match files.text(&format!("{name}.exit"))? {
            Some(exit) => cases.push(files.recording(name, &exit, &config, codes.get(name))?),
            None => cases.extend(files.lines(name)?),
        }
    }
    if cases.is_empty() {
        return Err(wrong(Path::new(""), "it has no case: NAME.ndjson with NAME.exit".to_owned()));
    }
    Ok(cases)
}

/// Returns the codes of `expected.txt` by the names of their cases.
fn by_name(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(name, code)| (name, code.trim()))
        .collect()
}

struct Files<'a> {
    root: Root,
    folder: &'a Path,
}

impl Files<'_> {
    fn wrong(&self, name: &str, reason: impl fmt::Display) -> CasesError {
        CasesError { file: self.folder.join(name), reason: reason.to_string() }
    }

    /// Reads a file as text, whatever its bytes; none if it does not exist.
    fn text(&self, name: &str) -> Result<Option<String>, CasesError> {
        match self.root.read(Path::new(name), MAX_FILE_BYTES) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.wrong(name, error)),
        }
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, CasesError> {
        let text = self.text(name)?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| self.wrong(name, error))
    }

    fn recording(
        &self,
        name: &str,
        exit: &str,
        config: &Value,
        code: Option<&&str>,
    ) -> Result<Case, CasesError> {
        let stdout = self.text(&format!("{name}.ndjson"))?.unwrap_or_default();
        let stderr = self.text(&format!("{name}.stderr"))?.unwrap_or_default();
        let beside: Beside = self.json(&format!("{name}.json"))?.unwrap_or_default();
        let code_of_exit = exit.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
        let exit_code = code_of_exit
            .ok_or_else(|| self.wrong(&format!("{name}.exit"), "its first line is no exit code"))?;
        let mut evidence = evidence(config, &stdout, &stderr, exit_code, exit.contains(KILLED));
        if let Value::Object(evidence) = &mut evidence {
            evidence.extend(beside.evidence);
        }
        let of_code = code.map(|code| {
            let code = Some(*code).filter(|code| *code != SUCCESS);
            Map::from_iter([("errorCode".to_owned(), code.into())])
        });
        Ok(Case { name: name.to_owned(), evidence, expected: beside.expected.or(of_code) })
    }

    fn lines(&self, name: &str) -> Result<Vec<Case>, CasesError> {
        let file = format!("{name}.ndjson");
        let text = self.text(&file)?.unwrap_or_default();
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let case = |(number, line): (u32, &str)| {
            let case: CaseLine = serde_json::from_str(line).map_err(|error| {
                self.wrong(&file, format!("line {number}: {error}; a recording has {name}.exit beside it"))
            })?;
            Ok(Case { name: case.name, evidence: case.evidence, expected: Some(case.expected) })
        };
        lines.map(case).collect()
    }
}

/// Returns a recorded run as evidence.
fn evidence(config: &Value, stdout: &str, stderr: &str, exit_code: i32, is_timed_out: bool) -> Value {
    let (outcome, phase, reason) = match exit_code {
        0 => ("complete", "Succeeded", "Completed"),
        _ => ("failed", "Failed", "Error"),
    };
    // Of a signal, a shell and Kubernetes report 128 more than its number.
    let exit_code = if exit_code < 0 { 128 - exit_code } else { exit_code };
    let start = stderr.ceil_char_boundary(stderr.len().saturating_sub(STDERR_BYTES));
    json!({
        "config": config, "stdout": stdout, "stderr": &stderr[start..], "job": {"outcome": outcome},
        "container": {"exitCode": exit_code, "reason": reason, "message": null, "signal": null},
        "pod": {"phase": phase, "missing": false}, "timedOut": is_timed_out,
    })
}

impl Case {
    /// Returns what the program printed.
    pub fn stdout(&self) -> &str {
        self.evidence["stdout"].as_str().unwrap_or_default()
    }
}

impl Diagnose for CasesError {
    fn code(&self) -> &'static str {
        "cases_unreadable"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("name a folder with recorded cases; `paperclip-host plugins test --help` describes it".into())
    }
}

/// Returns the fields of a result that are not as expected.
pub fn differences(result: &Map<String, Value>, expected: &Map<String, Value>) -> Vec<Difference> {
    let found = |field: &str| result.get(field).unwrap_or(&Value::Null);
    expected
        .iter()
        .filter(|(field, expected)| found(field) != *expected)
        .map(|(field, expected)| Difference {
            field: field.clone(),
            found: found(field).clone(),
            expected: expected.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_recording_is_evidence_with_what_is_said_beside_it() {
        let folder = folder(&[
            ("config.json", r#"{"model":"m"}"#),
            ("expected.txt", "bad auth_required\ngood success\n"),
            ("bad.ndjson", "{}\n"),
            ("bad.exit", "-9\nwall 40 s; killed by the recorder\n"),
            ("bad.stderr", "boom"),
            ("bad.json", r#"{"evidence":{"previousSessionId":"s"}}"#),
            ("good.ndjson", ""),
            ("good.exit", "0"),
        ]);
        let cases = read(folder.path()).unwrap();
        assert_eq!(cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>(), ["bad", "good"]);
        let (bad, good) = (&cases[0], &cases[1]);
        assert_eq!(bad.evidence["container"]["exitCode"], 137);
        assert_eq!((&bad.evidence["stderr"], &bad.evidence["timedOut"]), (&json!("boom"), &json!(true)));
        assert_eq!(bad.evidence["previousSessionId"], "s");
        assert_eq!(bad.evidence["config"], json!({"model": "m"}));
        assert_eq!(bad.expected.as_ref().unwrap()["errorCode"], "auth_required");
        assert_eq!(good.expected.as_ref().unwrap()["errorCode"], Value::Null);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_file() {
        for (files, named) in [
            (vec![], "it has no case"),
            (vec![("a.ndjson", ""), ("a.exit", "none")], "a.exit: its first line is no exit code"),
            (vec![("a.ndjson", "{}")], "a.ndjson: line 1: missing field `name`"),
            (
                vec![("a.ndjson", ""), ("a.exit", "0"), ("a.json", r#"{"expect":1}"#)],
                "a.json: unknown field `expect`",
            ),
        ] {
            let error = read(folder(&files).path()).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_field_that_is_missing_differs_from_a_value_alone() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let result = map(json!({"exitCode": 0}));
        assert_eq!(differences(&result, &map(json!({"exitCode": 0, "errorCode": null}))), []);
        let found = differences(&result, &map(json!({"errorCode": "x"})));
        assert_eq!(found[0].to_string(), r#"errorCode is null, expected "x""#);
    }
}
