//! Checks that code which only works on Linux is gated, so that the workspace compiles and runs on macOS for development.

use std::fs;
use std::path::Path;

/// What exists on Linux only.
const LINUX_ONLY: [&str; 6] = ["\"/proc", "/sys/fs/cgroup", "/dev/full", "pidfd", "prctl", "inotify_"];
/// Gates. One of them in the file is enough: a review sees whether it is on the right item.
const GATES: [&str; 2] = ["target_os = \"linux\"", "#![cfg(target_os"];
/// Files without a gate: (name, reason).
const UNGATED: [(&str, &str); 3] = [
    ("memory.rs", "a file that cannot be read means that the memory is unknown"),
    ("fields.rs", "a file that cannot be read means that the node has no known capacity"),
    ("script.rs", "the module is gated where it is declared"),
];
/// Sources of what runs on a developer's machine. `tests/e2e`, `tests/load` and `xtask` start Linux nodes and measure on Linux.
const READ: [&str; 3] = ["cluster", "host", "plugin"];

fn collect(root: &Path, relative: &Path, ungated: &mut Vec<String>) {
    let path = root.join(relative);
    if path.is_dir() {
        for entry in fs::read_dir(&path).unwrap() {
            collect(root, &relative.join(entry.unwrap().file_name()), ungated);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let source = fs::read_to_string(&path).unwrap();
        let uses = LINUX_ONLY.iter().find(|marker| source.contains(**marker));
        let is_gated = GATES.iter().any(|gate| source.contains(gate));
        let is_listed = UNGATED.iter().any(|(name, _)| relative.ends_with(name));
        if let Some(marker) = uses.filter(|_| !is_gated && !is_listed) {
            ungated.push(format!("{} uses {marker}", relative.display()));
        }
    }
}

#[test]
fn linux_only_code_is_gated() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut ungated = Vec::new();
    for folder in READ {
        collect(root, Path::new(folder), &mut ungated);
    }
    assert!(ungated.is_empty(), "gate with cfg(target_os = \"linux\") and add a fallback: {ungated:#?}");
}
