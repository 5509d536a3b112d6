//! Checks that relative links in Markdown files lead to existing files, and links to headings to existing headings.

use std::fs;
use std::path::{Path, PathBuf};

/// Files and folders whose Markdown files are read, from the workspace's root.
const READ: [&str; 8] =
    [".github", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "SECURITY.md", "docs", "host", "tests"];

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), files);
        }
    } else if path.extension().is_some_and(|extension| extension == "md") {
        files.push(path.to_owned());
    }
}

/// The targets of a text's links: `[text](target)`.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// A heading's anchor, as GitHub derives it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Whether a link leads nowhere.
fn is_broken(file: &Path, target: &str) -> bool {
    if target.contains("://") || target.starts_with("mailto:") {
        return false;
    }
    let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
    let linked = if path.is_empty() { file.to_owned() } else { file.parent().unwrap().join(path) };
    if !linked.exists() {
        return true;
    }
    let has_anchor = |text: &str| text.lines().any(|line| line.starts_with('#') && anchor(line) == fragment);
    !fragment.is_empty() && !fs::read_to_string(&linked).is_ok_and(|text| has_anchor(&text))
}

#[test]
fn links_lead_to_existing_files_and_headings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for path in READ {
        collect(&root.join(path), &mut files);
    }
    let mut broken = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let links = targets(&text).filter(|target| is_broken(&file, target));
        broken.extend(links.map(|target| format!("{}: {target}", file.display())));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn anchors_are_derived_as_github_does() {
    assert_eq!(anchor("## Add an agent type"), "add-an-agent-type");
    assert_eq!(anchor("# What's `x_y`, then?"), "whats-x_y-then");
}
