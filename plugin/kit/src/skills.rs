//! Paperclip's skills snapshot: which skills an agent has, could have, and lacks.
//!
//! Skills come with each run's context; nothing is installed on the side, so a sync changes nothing and lists again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// What is known of skills: those of the company, those that an agent wants, and those that somebody put into its home.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Input {
    available: Vec<Available>,
    desired: Vec<String>,
    installed: Vec<Installed>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Available {
    key: String,
    #[serde(default)]
    runtime_name: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    required_reason: Option<String>,
    #[serde(default)]
    source: Option<String>,
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    required_reason: Option<String>,
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

/// The snapshot for `{"available":[{key,runtimeName,required?,source?}],"desired":[key],"installed":[{name,path}]}`.
///
/// # Errors
/// What is wrong with the document.
pub fn snapshot(adapter_type: &str, input_json: &str) -> Result<String, String> {
    let input: Input = serde_json::from_str(input_json).map_err(|error| format!("skills: {error}"))?;
    let mut desired: BTreeSet<String> = input.desired.into_iter().map(|key| key.trim().to_owned()).collect();
    desired.remove("");
    desired.extend(input.available.iter().filter(|skill| skill.required).map(|skill| skill.key.clone()));
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut warnings = Vec::new();
    for installed in input.installed {
        entries.insert(installed.name.clone(), external(installed));
    }
    for skill in input.available {
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

fn managed(skill: Available, is_desired: bool) -> Entry {
    Entry {
        key: skill.key,
        runtime_name: skill.runtime_name,
        desired: is_desired,
        managed: true,
        required: skill.required,
        required_reason: skill.required_reason,
        state: if is_desired { State::Configured } else { State::Available },
        origin: if skill.required { "paperclip_required" } else { "company_managed" },
        read_only: false,
        source_path: skill.source,
        target_path: None,
        detail: is_desired.then(|| "Put into each run's files.".to_owned()),
    }
}

fn external(installed: Installed) -> Entry {
    Entry {
        key: installed.name.clone(),
        runtime_name: Some(installed.name),
        desired: false,
        managed: false,
        required: false,
        required_reason: None,
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
        required: false,
        required_reason: None,
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
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_skill_has_its_state_and_they_are_sorted() {
        let input = json!({
            "available": [{"key": "b", "runtimeName": "b"}, {"key": "c", "required": true}, {"key": "a"}],
            "desired": ["a", "gone"],
            "installed": [{"name": "own", "path": "/paperclip/.claude/skills/own"}],
        });
        let snapshot: Value = serde_json::from_str(&snapshot("x_k8s", &input.to_string()).unwrap()).unwrap();
        let states: Vec<_> = snapshot["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| (entry["key"].as_str().unwrap(), entry["state"].as_str().unwrap()))
            .collect();
        assert_eq!(
            states,
            [
                ("a", "configured"),
                ("b", "available"),
                ("c", "configured"),
                ("gone", "missing"),
                ("own", "external")
            ]
        );
        assert_eq!(snapshot["desiredSkills"], json!(["a", "c", "gone"]));
        assert_eq!(snapshot["mode"], "ephemeral");
        assert_eq!(snapshot["warnings"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_broken_document_is_named() {
        assert!(super::snapshot("x_k8s", "[").unwrap_err().starts_with("skills: "));
    }
}
