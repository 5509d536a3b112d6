//! Files for the agent, such as instructions and skills: in ConfigMaps that the Job owns, mounted as one directory.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kubernetes::path;
use crate::refusal::Refusal;
use crate::request::File;

/// Where the files are mounted.
pub const BUNDLE_DIR: &str = "/tmp/bundle";
/// The file that holds the agent's instructions.
pub const INSTRUCTIONS_PATH: &str = "agent-instructions.md";
/// Each skill has a directory below this one.
const SKILLS_PREFIX: &str = ".claude/skills/";
/// The largest total size of a run's files.
pub const BUNDLE_MAX_BYTES: usize = 3 * 1024 * 1024;
/// The largest total size of files in one ConfigMap, of the API's limit of 1 MiB.
const CONFIG_MAP_MAX_BYTES: usize = 900 * 1024;

/// A ConfigMap that the Job owns, with the text of each key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMapPlan {
    pub name: String,
    pub namespace: String,
    pub entries: BTreeMap<String, String>,
}

/// The ConfigMaps of a run and the volume that its Pod mounts.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    pub plans: Vec<ConfigMapPlan>,
    /// The volume for [`BUNDLE_DIR`], without its name.
    pub volume: Value,
    pub has_instructions: bool,
}

/// Returns the names of the skills among the files, sorted.
pub fn skills(files: &[File]) -> Vec<String> {
    let names = files.iter().filter_map(|file| file.path.strip_prefix(SKILLS_PREFIX)?.split_once('/'));
    names.map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the files as the agent gets them: the instructions end with the path that they come from, since they may refer to other files
/// relative to it.
pub fn with_origin(files: &[File], instructions_path: Option<&str>) -> Vec<File> {
    let origin = instructions_path.map(|path| {
        let dir = path.rsplit_once('/').map_or(".", |(dir, _)| if dir.is_empty() { "/" } else { dir });
        format!("\n\nThese instructions are a copy of {path}. Relative paths in them start from {dir}.\n")
    });
    files
        .iter()
        .map(|file| match &origin {
            Some(origin) if file.path == INSTRUCTIONS_PATH => {
                File { content: format!("{}{origin}", file.content.trim_end()), ..file.clone() }
            }
            _ => file.clone(),
        })
        .collect()
}

/// Distributes files over ConfigMaps; `None` if there are no files. `context_sources` are sources of the volume that Secrets hold.
///
/// # Errors
/// A path leads out of the directory or occurs twice, or the files are too large.
pub fn plan(
    job_name: &str,
    namespace: &str,
    files: &[File],
    context_sources: &[Value],
) -> Result<Option<Bundle>, Refusal> {
    check(files)?;
    if files.is_empty() && context_sources.is_empty() {
        return Ok(None);
    }
    let mut plans: Vec<ConfigMapPlan> = Vec::new();
    let mut items: Vec<Vec<Value>> = Vec::new();
    let mut free_bytes = 0;
    for (index, file) in files.iter().enumerate() {
        if plans.is_empty() || file.content.len() > free_bytes {
            let name = format!("{job_name}-bundle-{:03}", plans.len());
            plans.push(ConfigMapPlan { name, namespace: namespace.into(), entries: BTreeMap::new() });
            items.push(Vec::new());
            free_bytes = CONFIG_MAP_MAX_BYTES;
        }
        free_bytes -= file.content.len();
        let key = format!("file-{index:04}");
        if let (Some(plan), Some(items)) = (plans.last_mut(), items.last_mut()) {
            items.push(json!({"key": key, "path": file.path}));
            plan.entries.insert(key, file.content.clone());
        }
    }
    let sources: Vec<Value> = plans
        .iter()
        .zip(items)
        .map(|(plan, items)| json!({"configMap": {"name": plan.name, "items": items}}))
        .chain(context_sources.iter().cloned())
        .collect();
    Ok(Some(Bundle {
        plans,
        volume: json!({"projected": {"sources": sources}}),
        has_instructions: files.iter().any(|file| file.path == INSTRUCTIONS_PATH),
    }))
}

fn check(files: &[File]) -> Result<(), Refusal> {
    let mut sorted: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    sorted.sort_unstable();
    for file in files {
        let refused = |message| Refusal::new("files", message);
        path::inside_volume(&file.path)
            .map_err(|rule| refused(format!("the path `{}` {rule}", file.path)))?;
        if file.content.len() > CONFIG_MAP_MAX_BYTES {
            return Err(refused(format!(
                "`{}` is {} bytes; a file for the agent can have at most {CONFIG_MAP_MAX_BYTES}: put it into the workspace instead",
                file.path,
                file.content.len()
            )));
        }
        let first = sorted.partition_point(|path| *path < file.path.as_str());
        if sorted.get(first + 1) == Some(&file.path.as_str()) {
            return Err(refused(format!("the path `{}` occurs twice", file.path)));
        }
        let dir = format!("{}/", file.path);
        let inside = sorted.partition_point(|path| *path < dir.as_str());
        if sorted.get(inside).is_some_and(|path| path.starts_with(&dir)) {
            return Err(refused(format!("the path `{}` is both a file and a directory", file.path)));
        }
    }
    let bundle_bytes: usize = files.iter().map(|file| file.content.len()).sum();
    if bundle_bytes > BUNDLE_MAX_BYTES {
        return Err(Refusal::new(
            "files",
            format!(
                "instructions and skills are {bundle_bytes} bytes in total; an agent gets at most {BUNDLE_MAX_BYTES}: give it fewer skills"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: usize) -> File {
        File { path: path.into(), content: "x".repeat(bytes) }
    }

    #[test]
    fn files_share_config_maps_as_far_as_they_fit() {
        let files = [
            file("agent-instructions.md", 10),
            file("skills/a/SKILL.md", CONFIG_MAP_MAX_BYTES - 10),
            file("b", 1),
        ];
        let bundle = plan("j", "n", &files, &[]).unwrap().unwrap();
        let keys: Vec<Vec<_>> = bundle.plans.iter().map(|plan| plan.entries.keys().collect()).collect();
        assert_eq!(keys, [vec!["file-0000", "file-0001"], vec!["file-0002"]]);
        let second = &bundle.volume["projected"]["sources"][1]["configMap"];
        assert_eq!(*second, json!({"name": "j-bundle-001", "items": [{"key": "file-0002", "path": "b"}]}));
        assert!(bundle.has_instructions);
        assert!(!plan("j", "n", &files[1..], &[]).unwrap().unwrap().has_instructions);
        assert_eq!(plan("j", "n", &[], &[]).unwrap(), None);
        let context = [json!({"secret": {"name": "s"}})];
        let bundle = plan("j", "n", &[], &context).unwrap().unwrap();
        assert_eq!((bundle.plans.len(), &bundle.volume), (0, &json!({"projected": {"sources": context}})));
        let full: Vec<File> = (0..4).map(|n| file(&n.to_string(), BUNDLE_MAX_BYTES / 4)).collect();
        assert!(plan("j", "n", &full, &[]).is_ok(), "exactly the limit");
    }

    #[test]
    fn skills_are_directories() {
        let files = [
            file(".claude/skills/review/SKILL.md", 1),
            file(".claude/skills/audit/SKILL.md", 1),
            file(".claude/skills/audit/more/x.md", 1),
            file(".claude/skills/README.md", 1),
            file("skills/other/SKILL.md", 1),
        ];
        assert_eq!(skills(&files), ["audit", "review"]);
    }

    #[test]
    fn instructions_end_with_their_origin() {
        let files = [File { path: INSTRUCTIONS_PATH.into(), content: "Be kind.\n".into() }, file("b", 1)];
        let files_with_origin = with_origin(&files, Some("/paperclip/agents/nova/AGENTS.md"));
        assert_eq!(
            files_with_origin[0].content,
            "Be kind.\n\nThese instructions are a copy of /paperclip/agents/nova/AGENTS.md. Relative paths in them start from /paperclip/agents/nova.\n"
        );
        assert_eq!(files_with_origin[1], files[1]);
        assert_eq!(with_origin(&files, None), files);
        assert!(with_origin(&files, Some("/A.md"))[0].content.ends_with("start from /.\n"));
        assert!(with_origin(&files, Some("A.md"))[0].content.ends_with("start from ..\n"));
    }

    #[test]
    fn refuses_files_that_are_too_large_or_lead_out_of_the_directory() {
        for (files, expected) in [
            (vec![file("../a", 1)], "the path `../a` must be a relative path"),
            (vec![file("a", 1), file("b", 1), file("a", 1)], "the path `a` occurs twice"),
            (
                vec![file("a", 1), file("a-b", 1), file("a/b", 1)],
                "the path `a` is both a file and a directory",
            ),
            (vec![file("a", CONFIG_MAP_MAX_BYTES + 1)], "`a` is 921601 bytes"),
            (
                (0..4).map(|n| file(&n.to_string(), CONFIG_MAP_MAX_BYTES)).collect(),
                "instructions and skills are 3686400 bytes",
            ),
        ] {
            let refusal = plan("j", "n", &files, &[]).unwrap_err();
            assert!(refusal.message.starts_with(expected), "{refusal}");
        }
    }
}
