//! Kubernetes through kubectl, as an operator has it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// How often something is asked for that kubectl cannot wait for.
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

    /// Runs it with the arguments of a line, and gives what it prints without the line's end.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        self.call(&words(line), "")
    }

    pub(crate) fn apply(&self, manifests: &str) -> Result<()> {
        self.call(&["apply".to_owned(), "-f".to_owned(), "-".to_owned()], manifests).map(drop)
    }

    /// Creates an object where only the API itself knows how.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<()> {
        let line = ["create", "--raw", path, "-f", "-"].map(str::to_owned);
        self.call(&line, &body.to_string()).map(drop)
    }

    pub(crate) fn json(&self, line: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&format!("{line} -o json"))?)?)
    }

    /// How often an agent was started in the namespace, as the kubelet's events tell.
    pub(crate) fn agent_starts(&self) -> Result<usize> {
        let events = self.json("get events --field-selector reason=Started")?;
        let items = events["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_agent = |event: &&Value| event["involvedObject"]["fieldPath"] == "spec.containers{claude}";
        Ok(items.iter().filter(is_agent).count())
    }

    /// Asks until the answer is the wanted one.
    pub(crate) fn until(&self, line: &str, wanted: &str, deadline: Instant) -> Result<()> {
        loop {
            let found = self.run(line)?;
            if found == wanted {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("`kubectl {line}` still prints {found:?} instead of {wanted:?}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks until output or error contains this.
    pub(crate) fn until_told(&self, line: &str, wanted: &str, deadline: Instant) -> Result<()> {
        loop {
            let told = self.run(line).unwrap_or_else(|error| error.to_string());
            if told.contains(wanted) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("`kubectl {line}` still tells {told:?}, without {wanted:?}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Starts it with output that goes on.
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

/// The words of a line; single quotes keep one together.
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
