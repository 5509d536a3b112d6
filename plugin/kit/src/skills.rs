//! Paperclip's skills snapshot: which skills an agent has, could have, and lacks.
//!
//! Skills come with each run's context; nothing is installed on the side, so a sync changes nothing and lists again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::javascript::trim;

/// The skill by which an agent finds its way around Paperclip's API: every agent has it, whatever it wants.
const OPERATIONAL_SKILL: &str = "paperclipai/paperclip/paperclip";

/// What is known of skills: those of the company, those that an agent wants, and those that somebody put into its home.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Input {
    /// An agent's config; what is not given beside it stands there.
    config: Config,
    available: Option<Vec<Value>>,
    desired: Option<Vec<Value>>,
    installed: Vec<Installed>,
}

/// The fields by which the server hands skills to an adapter.
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
    /// The folder that it stands in.
    source: Option<String>,
    /// Why its files are not there.
    missing: Option<String>,
}

impl Available {
    /// None: it has no key.
    fn read(entry: &Value) -> Option<Available> {
        let text =
            |name: &str| entry[name].as_str().map(trim).filter(|text| !text.is_empty()).map(str::to_owned);
        let is_missing = entry["sourceStatus"] == "missing";
        let missing = || text("missingDetail").unwrap_or_else(|| "Its files are not there.".to_owned());
        Some(Available {
            key: text("key").or(text("name"))?,
            runtime_name: text("runtimeName").or(text("name")),
            source: text("source"),
            missing: is_missing.then(missing),
        })
    }

    /// The last part of its key.
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
    /// Wanted, and put into each run.
    Configured,
    /// Could be wanted.
    Available,
    /// Wanted, and not there.
    Missing,
    /// Somebody else's.
    External,
}

/// The snapshot for `{"config","available":[{key,runtimeName,source,sourceStatus?}],"desired":[key | {key}],"installed":[{name,path}]}`;
/// without `available` and `desired` those of the config, `paperclipRuntimeSkills` and `paperclipSkillSync.desiredSkills`.
///
/// # Errors
/// What is wrong with the document.
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

/// The keys that are meant by what an agent wants: a key, a runtime name or the last part of a key, each if only one skill has it.
fn desired_keys(available: &[Available], desired: &[Value]) -> BTreeSet<String> {
    let told = desired.iter().filter_map(|wanted| wanted.as_str().or(wanted["key"].as_str()));
    let keys = told.map(trim).filter(|wanted| !wanted.is_empty()).map(|wanted| {
        let meant = only(available, |skill| skill.key.eq_ignore_ascii_case(wanted))
            .or_else(|| {
                let named = |name: &str| name.eq_ignore_ascii_case(wanted);
                only(available, |skill| skill.runtime_name.as_deref().is_some_and(named))
            })
            .or_else(|| only(available, |skill| skill.slug().eq_ignore_ascii_case(wanted)));
        meant.map_or_else(|| wanted.to_owned(), |skill| skill.key.clone())
    });
    let operational = available.iter().find(|skill| skill.key.eq_ignore_ascii_case(OPERATIONAL_SKILL));
    keys.chain(operational.map(|skill| skill.key.clone())).collect()
}

fn only(available: &[Available], is_meant: impl Fn(&Available) -> bool) -> Option<&Available> {
    let mut meant = available.iter().filter(|skill| is_meant(skill));
    meant.next().filter(|_| meant.next().is_none())
}

fn managed(skill: Available, is_desired: bool) -> Entry {
    let state = match (&skill.missing, is_desired) {
        (Some(_), _) => State::Missing,
        (None, true) => State::Configured,
        (None, false) => State::Available,
    };
    let put = || is_desired.then(|| "Put into each run's files.".to_owned());
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
        detail: skill.missing.or_else(put),
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
    fn each_skill_has_its_state_and_they_are_sorted() {
        let (snapshot, states) = states(&json!({
            "available": [{"key": "b", "runtimeName": "b"}, {"key": "a", "source": "/s/a"}, {"runtimeName": "nameless"},
                {"key": "c", "sourceStatus": "missing", "missingDetail": "Deleted."}],
            "desired": ["a", "gone", " "],
            "installed": [{"name": "own", "path": "/paperclip/.claude/skills/own"}],
        }));
        assert_eq!(
            states,
            pairs(&[
                ("a", "configured"),
                ("b", "available"),
                ("c", "missing"),
                ("gone", "missing"),
                ("own", "external")
            ])
        );
        assert_eq!(snapshot["desiredSkills"], json!(["a", "gone"]));
        assert_eq!(snapshot["mode"], "ephemeral");
        assert_eq!(snapshot["entries"][0]["sourcePath"], "/s/a");
        assert_eq!(snapshot["entries"][2]["detail"], "Deleted.");
        assert_eq!(snapshot["warnings"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_config_has_the_skills_as_the_server_hands_them_over() {
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
    fn every_agent_has_the_skill_for_paperclip_itself() {
        let available = json!([{"key": OPERATIONAL_SKILL, "runtimeName": "paperclip"}, {"key": "b"}]);
        let (_, states) = states(&json!({"available": available, "desired": []}));
        assert_eq!(states, pairs(&[("b", "available"), (OPERATIONAL_SKILL, "configured")]));
    }

    #[test]
    fn a_broken_document_is_named() {
        assert!(super::snapshot("x_k8s", "[").unwrap_err().starts_with("skills: "));
    }
}
