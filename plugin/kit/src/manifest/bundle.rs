//! Files for the agent, such as instructions and skills: in ConfigMaps that the Job owns, mounted as one directory.

use std::collections::{BTreeMap, BTreeSet};

use paperclip_kubernetes::shared;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kubernetes::path;
use crate::refusal::Refusal;
use crate::request::File;

/// Where the files are mounted.
pub const BUNDLE_DIR: &str = "/tmp/bundle";
/// Each skill has a directory below this one.
const SKILLS_PREFIX: &str = "skills/";
/// The instructions, and files that they refer to.
const INSTRUCTIONS_PREFIX: &str = "instructions/";
/// The largest total size of a run's files.
pub const BUNDLE_MAX_BYTES: usize = 3 * 1024 * 1024;
/// The largest total size of files in one ConfigMap, of the API's limit of 1 MiB.
const CONFIG_MAP_MAX_BYTES: usize = 900 * 1024;

/// A ConfigMap that the Job owns, alone or with others, with the value of each key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigMapPlan {
    pub name: String,
    pub namespace: String,
    pub entries: BTreeMap<String, String>,
    /// In base64.
    pub binary_entries: BTreeMap<String, String>,
    /// Runs with the same content share it: it is named after its content.
    pub is_shared: bool,
}

/// The ConfigMaps of a run and the volume that its Pod mounts.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    pub plans: Vec<ConfigMapPlan>,
    /// The volume for [`BUNDLE_DIR`], without its name.
    pub volume: Value,
}

/// Returns the names of the skills among the files, sorted.
pub fn skills(files: &[File]) -> Vec<String> {
    let names = files.iter().filter_map(|file| file.path.strip_prefix(SKILLS_PREFIX)?.split_once('/'));
    names.map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Returns the files as the agent gets them: the instructions end with the path that they come from, and with the directory of the files
/// that they refer to.
pub fn with_origin(files: &[File], instructions_path: Option<&str>, source: Option<&str>) -> Vec<File> {
    let dir_of = |path: &str| {
        let dir = path.rsplit_once('/').map_or(".", |(dir, _)| if dir.is_empty() { "/" } else { dir });
        dir.to_owned()
    };
    let origin = source.map(|source| {
        let dir = match instructions_path.and_then(|path| path.rsplit_once('/')) {
            Some((dir, _)) => format!("{BUNDLE_DIR}/{dir}"),
            None => dir_of(source),
        };
        format!("\n\nThese instructions are a copy of {source}. Relative paths in them start from {dir}.\n")
    });
    files
        .iter()
        .map(|file| match &origin {
            Some(origin) if instructions_path == Some(file.path.as_str()) && !file.is_base64 => {
                File { content: format!("{}{origin}", file.content.trim_end()), ..file.clone() }
            }
            _ => file.clone(),
        })
        .collect()
}

/// Distributes files over ConfigMaps; `None` if there are no files. Skills and instructions are in shared ones: many runs have the
/// same. The skills are mounted at `skills_dir`. `context_sources` are sources of the volume that Secrets hold.
///
/// # Errors
/// A path leads out of the directory or occurs twice, or the files are too large.
pub fn plan(
    job_name: &str,
    namespace: &str,
    files: &[File],
    skills_dir: &str,
    context_sources: &[Value],
) -> Result<Option<Bundle>, Refusal> {
    check(files)?;
    if files.is_empty() && context_sources.is_empty() {
        return Ok(None);
    }
    let mut groups: BTreeMap<Group<'_>, Vec<&File>> = BTreeMap::new();
    for file in files {
        let members = groups.entry(Group::of(&file.path)).or_default();
        members.insert(members.partition_point(|other| other.path < file.path), file);
    }
    let (mut plans, mut sources): (Vec<ConfigMapPlan>, Vec<Value>) = (Vec::new(), Vec::new());
    for (group, members) in groups {
        for chunk in chunks(&members) {
            let (entries, items) = filled(chunk, skills_dir);
            let mut plan = ConfigMapPlan {
                namespace: namespace.to_owned(),
                is_shared: group != Group::Other,
                ..entries
            };
            plan.name = if plan.is_shared {
                shared::name(&plan.entries, &plan.binary_entries)
            } else {
                format!("{job_name}-bundle-{:03}", plans.len())
            };
            sources.push(json!({"configMap": {"name": plan.name, "items": items}}));
            // Two skills of the same content are in one.
            if !plans.iter().any(|known| known.name == plan.name) {
                plans.push(plan);
            }
        }
    }
    sources.extend(context_sources.iter().cloned());
    Ok(Some(Bundle { plans, volume: json!({"projected": {"sources": sources}}) }))
}

/// Files that are in the same ConfigMaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group<'a> {
    Instructions,
    Skill(&'a str),
    Other,
}

impl Group<'_> {
    fn of(path: &str) -> Group<'_> {
        if path.starts_with(INSTRUCTIONS_PREFIX) {
            return Group::Instructions;
        }
        match path.strip_prefix(SKILLS_PREFIX).and_then(|path| path.split_once('/')) {
            Some((skill, _)) => Group::Skill(skill),
            None => Group::Other,
        }
    }
}

/// Divides files so that one ConfigMap holds each part.
fn chunks<'a, 'f>(files: &'a [&'f File]) -> Vec<&'a [&'f File]> {
    let mut chunks = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (at, file) in files.iter().enumerate() {
        if bytes + size(file) > CONFIG_MAP_MAX_BYTES {
            chunks.push(&files[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += size(file);
    }
    chunks.push(&files[from..]);
    chunks
}

/// Returns a ConfigMap without a name, and the items of the volume.
fn filled(files: &[&File], skills_dir: &str) -> (ConfigMapPlan, Vec<Value>) {
    let mut plan = ConfigMapPlan {
        name: String::new(),
        namespace: String::new(),
        entries: BTreeMap::new(),
        binary_entries: BTreeMap::new(),
        is_shared: false,
    };
    let mut items = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let key = format!("file-{index:04}");
        let path = match file.path.strip_prefix(SKILLS_PREFIX) {
            Some(path) => format!("{skills_dir}/{path}"),
            None => file.path.clone(),
        };
        let mut item = json!({"key": key, "path": path});
        if let Some(mode) = file.mode {
            item["mode"] = json!(mode);
        }
        items.push(item);
        let entries = if file.is_base64 { &mut plan.binary_entries } else { &mut plan.entries };
        entries.insert(key, file.content.clone());
    }
    (plan, items)
}

/// Returns the size of a file's content in a ConfigMap.
fn size(file: &File) -> usize {
    if file.is_base64 { file.content.len() / 4 * 3 } else { file.content.len() }
}

fn check(files: &[File]) -> Result<(), Refusal> {
    let mut sorted: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    sorted.sort_unstable();
    for file in files {
        let refused = |message| Refusal::new("files", message);
        path::inside_volume(&file.path)
            .map_err(|rule| refused(format!("the path `{}` {rule}", file.path)))?;
        if size(file) > CONFIG_MAP_MAX_BYTES {
            return Err(refused(format!(
                "`{}` is {} bytes; a file for the agent can have at most {CONFIG_MAP_MAX_BYTES}: put it into the workspace instead",
                file.path,
                size(file)
            )));
        }
        if file.mode.is_some_and(|mode| mode > 0o777) {
            return Err(refused(format!(
                "the mode of `{}` must be permission bits, at most 0o777",
                file.path
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
    let bundle_bytes: usize = files.iter().map(size).sum();
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
mod tests;
