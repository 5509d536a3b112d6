//! Checks that what is of one agent type is in its plugin.

use std::fs;
use std::path::{Path, PathBuf};

/// Parts of the names of agents and of those who serve them.
const NAMES: [&str; 6] = ["claude", "anthropic", "bedrock", "codex", "gemini", "opencode"];
/// What all agent types share.
const SHARED: [&str; 9] = [
    "plugin/kit/src",
    "plugin/json/src",
    "kubernetes/src",
    "host/contract/src",
    "host/daemon/src",
    "host/engine/src",
    "host/guest/src",
    "host/prepare/src",
    "host/shell/src",
];
/// Lines that have a name all the same: the file, how many, and why.
const EXCEPTIONS: [(&str, usize, &str); 4] = [
    ("host/engine/src/policy/grant.rs", 2, "names that a plugin may see by default"),
    ("host/guest/src/contract/v0_1.rs", 1, "where the one plugin of contract 0.1 looks for skills"),
    ("host/guest/src/plugin.rs", 1, "an example in a message"),
    ("plugin/kit/src/prompt/wake.rs", 1, "a wake reason of Paperclip's server"),
];

fn sources(folder: &Path, to: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            sources(&path, to);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            to.push(path);
        }
    }
}

/// Lines of code with a name, without comments and tests.
fn lines_with_a_name(source: &str) -> Vec<&str> {
    let code = source.rsplit_once("#[cfg(test)]\n").map_or(source, |(code, _)| code);
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let has_name = |line: &&str| NAMES.iter().any(|name| line.to_lowercase().contains(name));
    code.lines().filter(is_code).filter(has_name).collect()
}

#[test]
fn what_agent_types_share_names_none_of_them() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    SHARED.iter().for_each(|folder| sources(&root.join(folder), &mut files));
    assert!(files.len() > 100, "the sources were not found");
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let source = fs::read_to_string(&file).unwrap();
        let found = lines_with_a_name(&source);
        let allowed = EXCEPTIONS.iter().find(|(known, ..)| *known == name).map_or(0, |(_, count, _)| *count);
        if found.len() != allowed {
            wrong.push(format!("{name}: {allowed} are allowed: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "names of agents:\n{}", wrong.join("\n"));
}
