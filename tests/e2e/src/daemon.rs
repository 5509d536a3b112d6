//! The daemon's HTTP API through curl, as a client uses it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// A client of one host.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// Such as `http://127.0.0.1:7411`.
    url: String,
    /// curl's options, in a file so that no list of processes shows the token.
    options: PathBuf,
    folder: PathBuf,
}

impl Client {
    /// Makes a client of the host at this URL, with its bearer token.
    pub(crate) fn new(url: String, token: &str, folder: &Path) -> Result<Client> {
        let options = folder.join("curl-options");
        let text = format!("silent\nshow-error\nno-buffer\nheader = \"Authorization: Bearer {token}\"\n");
        fs::write(&options, text)?;
        Ok(Client { url, options, folder: folder.to_owned() })
    }

    /// Starts a run; the child prints its records on stdout.
    pub(crate) fn start(&self, run_id: &str, context: &Path) -> Result<Child> {
        let url = format!("{}/v1/runs", self.url);
        let context: Value = serde_json::from_slice(&fs::read(context)?)?;
        let adapter = &context["agent"]["adapterType"];
        let body = self.folder.join(format!("{run_id}-body.json"));
        fs::write(&body, json!({"adapter": adapter, "context": context}).to_string())?;
        let output = self
            .curl()
            .args(["--fail-with-body", "--header", "content-type: application/json", "--data-binary"])
            .arg(format!("@{}", body.display()))
            .arg(&url)
            .output()
            .context("cannot start curl: install it")?;
        if !output.status.success() {
            let answer = String::from_utf8_lossy(&output.stdout);
            bail!("{url} rejects the run: {answer}{}", String::from_utf8_lossy(&output.stderr));
        }
        fs::remove_file(body)?;
        let follow = format!("{url}/{run_id}/events");
        self.curl().arg(follow).stdout(Stdio::piped()).spawn().context("cannot start curl")
    }

    /// Whether it accepts runs.
    pub(crate) fn is_ready(&self) -> bool {
        let output = self.curl().arg("--fail").arg(format!("{}/readyz", self.url)).output();
        output.is_ok_and(|output| output.status.success())
    }

    fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.arg("--config").arg(&self.options).stdin(Stdio::null());
        curl
    }
}
