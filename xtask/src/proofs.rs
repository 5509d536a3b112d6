//! `docs/proofs.md` names the tests that show each promise: here they are held against the source.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Folders with tests, from the workspace's root.
const TESTED: [&str; 5] = ["cluster", "host", "plugin", "tests", "xtask"];
/// What a name in the text stands in front of, if it is a scenario of the end-to-end suite.
const SCENARIO: &str = "e2e/";

/// Names in backticks in the last cell of a table's rows.
fn named(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Names of all functions in Rust files below a folder, and of all scenarios.
fn collect(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path)?;
            found.extend(functions(&source).map(str::to_owned));
        } else if path.parent().is_some_and(|parent| parent.ends_with("e2e/scenarios")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            found.insert(format!("{SCENARIO}{name}"));
        }
    }
    Ok(())
}

/// Names of functions; tests of properties have arguments.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| line.split_once("fn ")?.1.split_once('(')).map(|(name, _)| name)
}

#[test]
fn every_test_that_is_named_as_a_proof_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("docs/proofs.md")).unwrap();
    let named = named(&text);
    assert!(named.len() > 100, "the tables were not read");
    let mut found = BTreeSet::new();
    for folder in TESTED {
        collect(&root.join(folder), &mut found).unwrap();
    }
    let missing: Vec<_> = named.difference(&found).collect();
    assert!(missing.is_empty(), "docs/proofs.md names what does not exist: {missing:?}");
}

#[test]
fn every_rule_and_every_defect_has_a_proof() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("docs/proofs.md")).unwrap();
    let (rules, rest) = text.split_once("## Defects").unwrap();
    let (defects, _) = rest.split_once("## What the former").unwrap();
    let has_row = |table: &str, number: &str| {
        table.lines().any(|line| line.starts_with(&format!("| {number} |")) && line.contains('`'))
    };
    let lacking: Vec<String> =
        (1..=30).map(|rule| rule.to_string()).filter(|rule| !has_row(rules, rule)).collect();
    assert_eq!(lacking, [] as [String; 0], "rules");
    const ELSEWHERE: [u32; 4] = [7, 30, 32, 33];
    let lacking: Vec<String> = (1..=40)
        .filter(|defect| !ELSEWHERE.contains(defect))
        .map(|defect| format!("D{defect}"))
        .filter(|defect| !has_row(defects, defect))
        .collect();
    assert_eq!(lacking, [] as [String; 0], "defects");
}
