//! HTTP by curl, which gives up on a server that is silent.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A stream that sends nothing for these seconds is opened again at another replica. An agent prints more often.
const SILENCE_SEC: u64 = 4;

/// What was answered. Without an answer the status is 0.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
}

impl Answer {
    /// The code of an error, or the text of what is none.
    pub(super) fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        body["error"]["code"].as_str().unwrap_or(&self.text).to_owned()
    }
}

/// Returns the contents of a file of options.
pub(super) fn options(token: &str) -> String {
    let header = if token.is_empty() {
        String::new()
    } else {
        format!("header = \"Authorization: Bearer {token}\"\n")
    };
    format!("silent\nno-buffer\nconnect-timeout = 2\n{header}")
}

/// Sends a request and waits for its answer.
pub(super) fn send(options: &Path, method: &str, url: &str, body: Option<&Path>, limit_sec: u64) -> Answer {
    let mut curl = Command::new("curl");
    curl.arg("--config").arg(options).args(["--request", method, "--max-time", &limit_sec.to_string()]);
    curl.args(["--write-out", "\n%{http_code}"]).stdin(Stdio::null());
    if let Some(body) = body {
        curl.args(["--header", "content-type: application/json", "--data-binary"]);
        curl.arg(format!("@{}", body.display()));
    }
    let output = curl.arg(url).output();
    let output =
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let (text, status) = output.rsplit_once('\n').unwrap_or_default();
    Answer { status: status.parse().unwrap_or(0), text: text.to_owned() }
}

/// Opens a stream of lines on the child's stdout. It ends with the answer, or when the server is silent.
pub(super) fn stream(options: &Path, url: &str) -> Result<Child> {
    let mut curl = Command::new("curl");
    curl.arg("--config").arg(options);
    curl.args(["--speed-limit", "1", "--speed-time", &SILENCE_SEC.to_string()]);
    curl.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    curl.spawn().context("cannot start curl: install it")
}
