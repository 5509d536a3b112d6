//! The agent's real CLI in the place of the stand-in, with a scripted model.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Field, PATIENCE};
use crate::messages::{self, Script};
use crate::records::text;
use crate::scenario::SignalName;

/// What has to come of each script: the host's exit code, the result's errorCode, and a piece of some line.
const WANTED: [(Script, i32, Option<&str>, &str); 4] = [
    (Script::Answers, 0, None, "naïve café ☕"),
    (Script::UsesTool, 0, None, r"\n1999\n2000"),
    (Script::Unauthorized, 1, Some("claude_auth_required"), "invalid x-api-key"),
    (Script::Hangs, 3, Some("cancelled"), "sleep 300"),
];

impl Field<'_> {
    pub(super) fn cli(&self, version: &str) -> Result<bool> {
        let image = self.cli_image(version)?;
        let address = self
            .kubectl
            .run("get nodes -o jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}")?;
        let port = messages::serve().context("cannot serve the scripted Messages API")?;
        let mut good = 0;
        for wanted in WANTED {
            let (script, ..) = wanted;
            let name = format!("cli-{}", script.name());
            let over = json!({
                "image": image,
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
        println!("cli {version}: {good} of {} runs came out as they should", WANTED.len());
        Ok(good == WANTED.len())
    }

    /// Lays the image's files out and puts it onto the node.
    fn cli_image(&self, version: &str) -> Result<String> {
        let cluster =
            self.world.own_cluster.as_ref().context("the image goes onto the own cluster's node")?;
        let files = cluster.folder.join("cli");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent/cli-image.sh");
        let status = Command::new(&script).arg(&files).arg(version).status();
        if !status.with_context(|| format!("cannot start {}", script.display()))?.success() {
            bail!("{} failed: it needs npm and its registry", script.display());
        }
        let name = format!("localhost/claude-code:{version}");
        cluster.import(&name, &files, "sh")?;
        Ok(name)
    }
}

fn complaint(
    (_, wanted_exit, code, piece): (Script, i32, Option<&str>, &str),
    exit: Option<i32>,
    records: &[Value],
) -> Option<String> {
    let result = records.last()?;
    if exit != Some(wanted_exit) || result["errorCode"].as_str() != code {
        return Some(format!("exit {wanted_exit} and {code:?} were expected: {result}"));
    }
    if result["sessionId"].is_null() {
        return Some("the session is not known".to_owned());
    }
    let is_there = records.iter().any(|record| text(record, "log").contains(piece));
    (!is_there).then(|| format!("no line has {piece:?}"))
}
