//! What a type of agent prints: its lines, from a file of `agents/`. Everything else about simulated agents is the same for all types.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::script::Verdict;

/// The lines of an agent type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grammar {
    /// Paperclip's name for the type: the file's name without `.yaml`.
    #[serde(skip)]
    pub(crate) adapter_type: String,
    /// The name of the agent's container.
    pub(crate) container: String,
    /// What its config needs beside that of every run.
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
    /// Whether its usage is that of a run, and not that of a session.
    pub(crate) has_usage_per_run: bool,
    /// Its first lines. The first one has its session.
    pub(crate) start: Vec<String>,
    /// A message. `$ID` is its number, `$TEXT` what it says.
    text: String,
    /// The use of a tool. `$ID` is its number.
    tool: String,
    /// It reports a success.
    pub(crate) success: String,
    /// It reports a failure. The first one has no particular cause.
    pub(crate) failures: Vec<Failure>,
    /// It reports that its turns are used up.
    pub(crate) turns: Option<Failure>,
    /// The session that it is to resume does not exist.
    pub(crate) lost_session: LostSession,
    /// It reports that SIGTERM ended it.
    pub(crate) interrupted: Option<String>,
    /// Tasks in the background.
    pub(crate) tasks: Option<Tasks>,
}

/// The report of a failure, and what the run's result is to be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Failure {
    pub(crate) line: String,
    pub(crate) exit: i32,
    /// The result's `errorCode`.
    pub(crate) code: String,
}

/// How an agent ends that does not find its session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct LostSession {
    #[serde(default)]
    pub(crate) line: Option<String>,
    #[serde(default)]
    pub(crate) stderr: String,
    pub(crate) exit: i32,
}

/// The lines about tasks in the background.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Tasks {
    /// One has started.
    pub(crate) open: String,
    /// None is left.
    pub(crate) closed: String,
}

impl Grammar {
    /// Reads the grammar of an agent type.
    ///
    /// # Errors
    /// There is no file for the type, or it is not a grammar.
    pub fn of(adapter_type: &str) -> Result<Grammar> {
        let path = folder().join(format!("{adapter_type}.yaml"));
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{adapter_type} cannot be simulated: {}", path.display()))?;
        let grammar: Grammar = serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?;
        anyhow::ensure!(!grammar.start.is_empty() && !grammar.failures.is_empty(), "{}", path.display());
        Ok(Grammar { adapter_type: adapter_type.to_owned(), ..grammar })
    }

    /// Returns the agent types that can be simulated, in the order of their names.
    ///
    /// # Errors
    /// The folder of the grammars cannot be read.
    pub fn types() -> Result<Vec<String>> {
        let entries = std::fs::read_dir(folder()).context("cannot read the folder of the grammars")?;
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        let name = |path: &PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
        let mut types: Vec<String> = paths.iter().filter_map(name).collect();
        types.sort();
        Ok(types)
    }

    pub(crate) fn say(&self, id: u32, text: &str) -> String {
        self.text.replace("$ID", &id.to_string()).replace("$TEXT", text)
    }

    pub(crate) fn use_tool(&self, id: u32) -> String {
        self.tool.replace("$ID", &id.to_string())
    }

    /// Returns the verdict of a line, if it reports the agent's end.
    pub(crate) fn verdict(&self, line: &str) -> Option<Verdict> {
        if line == self.success {
            return Some(Verdict::Good);
        }
        let others = [&self.interrupted, &self.lost_session.line];
        let is_other = others.into_iter().flatten().any(|known| known == line);
        (is_other || self.failure(line).is_some()).then_some(Verdict::Failed)
    }

    /// Returns the failure that a line reports.
    pub(crate) fn failure(&self, line: &str) -> Option<&Failure> {
        self.failures.iter().chain(&self.turns).find(|failure| failure.line == line)
    }

    /// Returns how many background tasks are open, if a line says so.
    pub(crate) fn open_tasks(&self, line: &str) -> Option<u64> {
        let Tasks { open, closed } = self.tasks.as_ref()?;
        [closed, open].iter().position(|known| *known == line).map(|count| count as u64)
    }

    /// Returns an error code of the agent type's own.
    pub(crate) fn code(&self, name: &str) -> String {
        format!("{}_{name}", self.agent())
    }

    /// Returns the name of an error code of the agent type's own, without the agent's.
    pub(crate) fn own_code<'a>(&self, code: &'a str) -> Option<&'a str> {
        code.strip_prefix(self.agent())?.strip_prefix('_')
    }

    fn agent(&self) -> &str {
        self.adapter_type.trim_end_matches("_k8s")
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("agents")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_type_has_lines_that_differ() {
        let types = Grammar::types().unwrap();
        assert!(types.len() > 3, "{types:?}");
        for agent_type in types {
            let grammar = Grammar::of(&agent_type).unwrap();
            assert_eq!(grammar.verdict(&grammar.success), Some(Verdict::Good), "{agent_type}");
            let failures = grammar.failures.iter().chain(&grammar.turns).map(|failure| &failure.line);
            let failed = failures.chain(&grammar.interrupted).chain(&grammar.lost_session.line);
            for line in failed {
                assert_eq!(grammar.verdict(line), Some(Verdict::Failed), "{line}");
            }
            let others = [grammar.say(1, "done"), grammar.use_tool(2), "result".to_owned()];
            for line in grammar.start.iter().chain(&others) {
                assert_eq!(grammar.verdict(line), None, "{line}");
            }
            for line in grammar.start.iter().chain(&others[..2]).chain([&grammar.success]) {
                let event: Value = serde_json::from_str(line).unwrap();
                assert!(event["type"].is_string(), "{line}");
            }
            assert_eq!(grammar.own_code(&grammar.code("truncated")), Some("truncated"));
            assert_eq!(grammar.own_code("timeout"), None);
        }
    }

    #[test]
    fn background_tasks_are_counted_where_a_type_has_them() {
        let grammar = Grammar::of("claude_k8s").unwrap();
        let Tasks { open, closed } = grammar.tasks.clone().unwrap();
        assert_eq!(
            (grammar.open_tasks(&open), grammar.open_tasks(&closed), grammar.open_tasks(&grammar.success)),
            (Some(1), Some(0), None)
        );
    }
}
