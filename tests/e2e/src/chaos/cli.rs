//! The agent's real CLI in the place of the stand-in, with a scripted model.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Field, PATIENCE};
use crate::messages::{self, Script};
use crate::records::text;
use crate::scenario::SignalName;

/// The image's name on the node.
const IMAGE: &str = "localhost/claude-code:1";
/// What has to come of each script: the host's exit code, the result's errorCode, and a piece of some line.
const WANTED: [(Script, i32, Option<&str>, &str); 4] = [
    (Script::Answers, 0, None, "naïve café ☕"),
    (Script::UsesTool, 0, None, r"\n1999\n2000"),
    (Script::Unauthorized, 1, Some("claude_auth_required"), "Invalid API key"),
    (Script::Hangs, 3, Some("cancelled"), "sleep 300"),
];

impl Field<'_> {
    /// `files`: those of the image, as `tests/e2e/agent/cli-image.sh` lays them out.
    pub(super) fn cli(&self, files: &Path) -> Result<bool> {
        let cluster =
            self.world.own_cluster.as_ref().context("the image goes onto the own cluster's node")?;
        if !files.join("usr/local/bin/claude").exists() {
            bail!(
                "{} holds no CLI: run `tests/e2e/agent/cli-image.sh {0} 2.1.330` first, where npm has its registry",
                files.display()
            );
        }
        cluster.import(IMAGE, files, "sh")?;
        let address = self
            .kubectl
            .run("get nodes -o jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}")?;
        let port = messages::serve().context("cannot serve the scripted Messages API")?;
        let mut good = 0;
        for wanted in WANTED {
            let (script, ..) = wanted;
            let name = format!("cli-{}", script.name());
            let over = json!({
                "image": IMAGE,
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
                "env": {
                    "ANTHROPIC_BASE_URL": format!("http://{}:{port}/{}", address.trim(), script.name()),
                    "ANTHROPIC_API_KEY": "canary-key", "HOME": "/tmp", "DISABLE_AUTOUPDATER": "1",
                    "CLAUDE_CODE_MAX_RETRIES": "1",
                },
            });
            let mut host = self.start_run(&name, &format!("{}-{name}", self.namespace), "a", over, None)?;
            if script == Script::Hangs {
                let deadline = Instant::now() + PATIENCE;
                host.records.wait_for("call of the tool", deadline, |record| {
                    text(record, "log").contains("sleep 300")
                })?;
                host.signal(SignalName::Int)?;
            }
            let exit = host.wait(Instant::now() + PATIENCE)?;
            let heard = host.records.lock();
            match complaint(wanted, exit, &heard.records) {
                None => good += 1,
                Some(complaint) => println!("{name}: {complaint}"),
            }
            let result = heard.records.last().cloned().unwrap_or_default();
            let lines = heard.records.iter().filter(|record| record["type"] == "log").count();
            println!(
                "{name}: {lines} lines, exit {exit:?}, {}, {}, session {}, usage {}",
                result["errorCode"], result["errorMessage"], result["sessionId"], result["usage"]
            );
        }
        println!("cli: {good} of {} runs came out as they should", WANTED.len());
        Ok(good == WANTED.len())
    }
}

fn complaint(
    (_, wanted_exit, code, piece): (Script, i32, Option<&str>, &str),
    exit: Option<i32>,
    records: &[Value],
) -> Option<String> {
    let result = records.last()?;
    if exit != Some(wanted_exit) || result["errorCode"].as_str() != code {
        let (code_found, message) = (&result["errorCode"], &result["errorMessage"]);
        return Some(format!("exit {wanted_exit} and {code:?} were expected: {code_found}, {message}"));
    }
    if result["sessionId"].is_null() {
        return Some("the session is not known".to_owned());
    }
    let is_there = records.iter().any(|record| text(record, "log").contains(piece));
    (!is_there).then(|| format!("no line has {piece:?}"))
}
