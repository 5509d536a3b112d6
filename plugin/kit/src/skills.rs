//! Paperclip's skills snapshot: which skills an agent has, could have, and lacks.
//!
//! Skills come with the context of each run; the adapter installs none, so a sync changes nothing and returns the snapshot.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::javascript::trim;

/// The skill that documents Paperclip's API for agents: every agent has it, whether it is desired or not.
const OPERATIONAL_SKILL: &str = "paperclipai/paperclip/paperclip";

/// The skills of the company, those that the agent desires, and those that are installed in its home.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Input {
    /// The agent's config: the source of the fields that are absent here.
    config: Config,
    available: Option<Vec<Value>>,
    desired: Option<Vec<Value>>,
    installed: Vec<Installed>,
}

/// The config fields in which the server passes skills to an adapter.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    paperclip_runtime_skills: Value,
    paperclip_skill_sync: Value,
}

/// A skill of the company.
#[derive(Debug)]
struct Available {
    key: String,
    runtime_name: Option<String>,
    /// Its directory.
    source: Option<String>,
    /// Why its files are missing.
    missing: Option<String>,
}

impl Available {
    /// Reads a skill; `None` if it has no key.
    fn read(entry: &Value) -> Option<Available> {
        let text =
            |name: &str| entry[name].as_str().map(trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let is_missing = entry["sourceStatus"] == "missing";
        let missing = || text("missingDetail").unwrap_or_else(|| "Its files are missing.".to_owned());
        Some(Available {
            key: text("key").or(text("name"))?,
            runtime_name: text("runtimeName").or(text("name")),
            source: text("source"),
            missing: is_missing.then(missing),
        })
    }

    /// Returns the last part of its key.
    fn slug(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }
}

/// A skill in the agent's own home, `/paperclip/.claude/skills/<name>` or the like.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Installed {
    name: String,
    #[serde(default)]
    path: Option<String>,
}

/// Paperclip's `AdapterSkillSnapshot`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot<'a> {
    adapter_type: &'a str,
    supported: bool,
    mode: &'static str,
    desired_skills: Vec<String>,
    entries: Vec<Entry>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    key: String,
    runtime_name: Option<String>,
    desired: bool,
    managed: bool,
    state: State,
    origin: &'static str,
    read_only: bool,
    source_path: Option<String>,
    target_path: Option<String>,
    detail: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    /// Desired, and part of each run.
    Configured,
    /// Not desired.
    Available,
    /// Desired, and missing.
    Missing,
    /// Not managed by Paperclip.
    External,
}

/// Returns the snapshot for `{"config","available":[{key,runtimeName,source,sourceStatus?}],"desired":[key | {key}],"installed":[{name,path}]}`;
/// `available` and `desired` default to the config's `paperclipRuntimeSkills` and `paperclipSkillSync.desiredSkills`.
///
/// ```
/// let input = r#"{"available": [{"key": "acme/review"}], "desired": ["review"]}"#;
/// let snapshot = paperclip_kit::skills::snapshot("claude_k8s", input).unwrap();
/// assert!(snapshot.contains(r#""desiredSkills":["acme/review"]"#));
/// ```
///
/// # Errors
/// The document is malformed.
pub fn snapshot(adapter_type: &str, input_json: &str) -> Result<String, String> {
    let input: Input = serde_json::from_str(input_json).map_err(|error| format!("skills: {error}"))?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let available = input.available.unwrap_or_else(|| list(&input.config.paperclip_runtime_skills));
    let available: Vec<Available> = available.iter().filter_map(Available::read).collect();
    let desired = input.desired.unwrap_or_else(|| list(&input.config.paperclip_skill_sync["desiredSkills"]));
    let desired = desired_keys(&available, &desired);
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut warnings = Vec::new();
    for installed in input.installed {
        entries.insert(installed.name.clone(), external(installed));
    }
    for skill in available {
        let is_desired = desired.contains(&skill.key);
        entries.insert(skill.key.clone(), managed(skill, is_desired));
    }
    for key in &desired {
        if !entries.contains_key(key) {
            warnings.push(format!(
                "Desired skill \"{key}\" is not available from the Paperclip skills directory."
            ));
            entries.insert(key.clone(), missing(key));
        }
    }
    let snapshot = Snapshot {
        adapter_type,
        supported: true,
        mode: "ephemeral",
        desired_skills: desired.into_iter().collect(),
        entries: entries.into_values().collect(),
        warnings,
    };
    serde_json::to_string(&snapshot).map_err(|error| format!("skills: {error}"))
}

/// Resolves desired skills to keys: by key, by runtime name or by the last part of a key, each if exactly one skill matches.
fn desired_keys(available: &[Available], desired: &[Value]) -> BTreeSet<String> {
    let names = desired.iter().filter_map(|entry| entry.as_str().or(entry["key"].as_str()));
    let keys = names.map(trim).filter(|name| !name.is_empty()).map(|name| {
        let skill = only(available, |skill| skill.key.eq_ignore_ascii_case(name))
            .or_else(|| {
                let has_name = |runtime: &str| runtime.eq_ignore_ascii_case(name);
                only(available, |skill| skill.runtime_name.as_deref().is_some_and(has_name))
            })
            .or_else(|| only(available, |skill| skill.slug().eq_ignore_ascii_case(name)));
        skill.map_or_else(|| name.to_owned(), |skill| skill.key.clone())
    });
    let operational = available.iter().find(|skill| skill.key.eq_ignore_ascii_case(OPERATIONAL_SKILL));
    keys.chain(operational.map(|skill| skill.key.clone())).collect()
}

/// Returns the skill that matches, if exactly one does.
fn only(available: &[Available], is_match: impl Fn(&Available) -> bool) -> Option<&Available> {
    let mut matches = available.iter().filter(|skill| is_match(skill));
    matches.next().filter(|_| matches.next().is_none())
}

fn managed(skill: Available, is_desired: bool) -> Entry {
    let state = match (&skill.missing, is_desired) {
        (Some(_), _) => State::Missing,
        (None, true) => State::Configured,
        (None, false) => State::Available,
    };
    let included = || is_desired.then(|| "Included in the files of each run.".to_owned());
    Entry {
        key: skill.key,
        runtime_name: skill.runtime_name,
        desired: is_desired,
        managed: true,
        state,
        origin: "company_managed",
        read_only: false,
        source_path: skill.source,
        target_path: None,
        detail: skill.missing.or_else(included),
    }
}

fn external(installed: Installed) -> Entry {
    Entry {
        key: installed.name.clone(),
        runtime_name: Some(installed.name),
        desired: false,
        managed: false,
        state: State::External,
        origin: "user_installed",
        read_only: true,
        source_path: None,
        target_path: installed.path,
        detail: Some("Installed in the agent's home, outside of Paperclip.".to_owned()),
    }
}

fn missing(key: &str) -> Entry {
    Entry {
        key: key.to_owned(),
        runtime_name: None,
        desired: true,
        managed: true,
        state: State::Missing,
        origin: "external_unknown",
        read_only: false,
        source_path: None,
        target_path: None,
        detail: Some("Paperclip cannot find this skill in its skills directory.".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn states(input: &Value) -> (Value, Vec<(String, String)>) {
        let snapshot: Value = serde_json::from_str(&snapshot("x_k8s", &input.to_string()).unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entries = snapshot["entries"].as_array().unwrap();
        let states = entries.iter().map(|entry| (text(&entry["key"]), text(&entry["state"]))).collect();
        (snapshot, states)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, state)| ((*key).to_owned(), (*state).to_owned())).collect()
    }

    #[test]
    fn lists_every_skill_with_its_state_sorted_by_key() {
        let (snapshot, states) = states(&json!({
            "available": [{"key": "b", "runtimeName": "b"}, {"key": "a", "source": "/s/a"}, {"runtimeName": "nameless"},
                {"key": "c", "sourceStatus": "missing", "missingDetail": "Deleted."}],
            "desired": ["a", "unknown", " "],
            "installed": [{"name": "own", "path": "/paperclip/.claude/skills/own"}],
        }));
        assert_eq!(
            states,
            pairs(&[
                ("a", "configured"),
                ("b", "available"),
                ("c", "missing"),
                ("own", "external"),
                ("unknown", "missing")
            ])
        );
        assert_eq!(snapshot["desiredSkills"], json!(["a", "unknown"]));
        assert_eq!(snapshot["mode"], "ephemeral");
        assert_eq!(snapshot["entries"][0]["sourcePath"], "/s/a");
        assert_eq!(snapshot["entries"][2]["detail"], "Deleted.");
        assert_eq!(snapshot["warnings"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn reads_the_skills_of_a_config() {
        let (_, states) = states(&json!({"config": {
            "paperclipRuntimeSkills": [{"key": "acme/x/review", "runtimeName": "rev", "source": "/r"},
                {"key": "acme/x/audit", "runtimeName": "audit", "source": "/a"},
                {"key": "acme/y/audit", "runtimeName": "audit", "source": "/b"},
                {"key": "acme/x/lint", "runtimeName": "l", "source": "/l"}],
            "paperclipSkillSync": {"desiredSkills": ["REV", {"key": "lint", "versionId": "v1"}, "audit", 7]},
        }}));
        assert_eq!(
            states,
            pairs(&[
                ("acme/x/audit", "available"),
                ("acme/x/lint", "configured"),
                ("acme/x/review", "configured"),
                ("acme/y/audit", "available"),
                ("audit", "missing"),
            ])
        );
        let (_, states) = self::states(&json!({"config": {"paperclipRuntimeSkills": null}}));
        assert_eq!(states, []);
    }

    #[test]
    fn every_agent_has_the_operational_skill() {
        let available = json!([{"key": OPERATIONAL_SKILL, "runtimeName": "paperclip"}, {"key": "b"}]);
        let (_, states) = states(&json!({"available": available, "desired": []}));
        assert_eq!(states, pairs(&[("b", "available"), (OPERATIONAL_SKILL, "configured")]));
    }

    #[test]
    fn reports_a_malformed_document() {
        assert!(super::snapshot("x_k8s", "[").unwrap_err().starts_with("skills: "));
    }
}
