//! The agent's real CLI instead of the scripted agent, with a scripted model.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Field, PATIENCE};
use crate::messages::{self, Script};
use crate::records::text;
use crate::scenario::SignalName;
use crate::verdict;

/// The image's name on the node.
const IMAGE: &str = "localhost/claude-code:1";

/// The expected result of a script.
struct Expectation {
    script: Script,
    exit: i32,
    code: Option<&'static str>,
    /// A text that some line contains.
    piece: &'static str,
}

const EXPECTATIONS: [Expectation; 4] = [
    Expectation { script: Script::Answers, exit: 0, code: None, piece: "naïve café ☕" },
    Expectation { script: Script::UsesTool, exit: 0, code: None, piece: r"\n1999\n2000" },
    Expectation {
        script: Script::Unauthorized,
        exit: 1,
        code: Some("claude_auth_required"),
        piece: "Invalid API key",
    },
    Expectation { script: Script::Hangs, exit: 3, code: Some("cancelled"), piece: "sleep 300" },
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
        for expected in EXPECTATIONS {
            let script = expected.script;
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
                host.records.wait_for("call of the tool", deadline, |record| expected.is_in(record))?;
                host.signal(SignalName::Int)?;
            }
            let exit = host.wait(Instant::now() + PATIENCE)?;
            let received = host.records.lock();
            let complaints = expected.complaints(exit, &received.records)?;
            good += usize::from(complaints.is_empty());
            complaints.iter().for_each(|complaint| println!("{name}: {complaint}"));
            let result = received.records.last().cloned().unwrap_or_default();
            let lines = received.records.iter().filter(|record| record["type"] == "log").count();
            println!(
                "{name}: {lines} lines, exit {exit:?}, {}, {}, session {}, usage {}",
                result["errorCode"], result["errorMessage"], result["sessionId"], result["usage"]
            );
        }
        println!("cli: {good} of {} runs came out as they should", EXPECTATIONS.len());
        Ok(good == EXPECTATIONS.len())
    }
}

impl Expectation {
    fn complaints(&self, exit: Option<i32>, records: &[Value]) -> Result<Vec<String>> {
        // The session is known, whatever its id.
        let result = json!({"errorCode": self.code, "sessionId": "~"});
        let expect = serde_json::from_value(json!({"exit": self.exit, "result": result}))?;
        let mut complaints = verdict::complaints(&expect, exit, records);
        if !records.iter().any(|record| self.is_in(record)) {
            complaints.push(format!("no line has {:?}", self.piece));
        }
        Ok(complaints)
    }

    fn is_in(&self, record: &Value) -> bool {
        text(record, "log").contains(self.piece)
    }
}
