//! Kubernetes through kubectl, as an operator uses it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Interval between requests for a condition that kubectl cannot wait for.
const POLL: Duration = Duration::from_millis(200);
const NOT_THERE: &str = "cannot start kubectl: is it on PATH?";

/// kubectl with a kubeconfig, in a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) namespace: String,
}

impl Kubectl {
    pub(crate) fn new(kubeconfig: &Path, namespace: &str) -> Kubectl {
        Kubectl { kubeconfig: kubeconfig.to_owned(), namespace: namespace.to_owned() }
    }

    /// Runs it with the arguments of a line, and returns what it prints without the final line feed.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        self.call(&words(line), "")
    }

    pub(crate) fn apply(&self, manifests: &str) -> Result<()> {
        self.call(&["apply".to_owned(), "-f".to_owned(), "-".to_owned()], manifests).map(drop)
    }

    /// Creates an object at a path that kubectl has no command for.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<()> {
        let line = ["create", "--raw", path, "-f", "-"].map(str::to_owned);
        self.call(&line, &body.to_string()).map(drop)
    }

    pub(crate) fn json(&self, line: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&format!("{line} -o json"))?)?)
    }

    /// Returns how often an agent was started in the namespace, according to the kubelet's events.
    pub(crate) fn agent_starts(&self) -> Result<usize> {
        let events = self.json("get events --field-selector reason=Started")?;
        let items = events["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_agent = |event: &&Value| event["involvedObject"]["fieldPath"] == "spec.containers{claude}";
        Ok(items.iter().filter(is_agent).count())
    }

    /// Repeats the command until it prints exactly the expected text.
    pub(crate) fn until(&self, line: &str, expected: &str, deadline: Instant) -> Result<()> {
        loop {
            let found = self.run(line)?;
            if found == expected {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("`kubectl {line}` still prints {found:?} instead of {expected:?}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Repeats the command until its output or error contains the expected text.
    pub(crate) fn until_output_contains(&self, line: &str, expected: &str, deadline: Instant) -> Result<()> {
        loop {
            let output = self.run(line).unwrap_or_else(|error| error.to_string());
            if output.contains(expected) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("`kubectl {line}` still prints {output:?}, without {expected:?}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Starts it with continuous output.
    pub(crate) fn watch(&self, arguments: &[&str]) -> Result<(Child, ChildStdout)> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context(NOT_THERE)?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        Ok((child, stdout))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", &self.namespace]);
        command
    }

    fn call(&self, arguments: &[String], input: &str) -> Result<String> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context(NOT_THERE)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("`kubectl {}` failed: {}", arguments.join(" "), stderr.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}

/// Splits a line into words; single quotes keep a word together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(
            words("patch job j -p '{\"a\": 1}' --now"),
            ["patch", "job", "j", "-p", "{\"a\": 1}", "--now"]
        );
    }
}
