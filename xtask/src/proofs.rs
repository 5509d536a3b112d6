//! Compares `docs/proofs.md`, which names the tests for each promise, with the source.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Folders with tests, from the workspace's root.
const TESTED: [&str; 5] = ["cluster", "host", "plugin", "tests", "xtask"];
/// Prefix of a scenario of the end-to-end suite.
const SCENARIO: &str = "e2e/";

/// Names in backticks in the last cell of a table's rows.
fn named(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Adds the names of all tests in Rust files below a folder, and of all scenarios.
fn collect(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path)?;
            found.extend(tests(&source).map(str::to_owned));
        } else if path.parent().is_some_and(|parent| parent.ends_with("e2e/scenarios")) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            found.insert(format!("{SCENARIO}{name}"));
        }
    }
    Ok(())
}

/// Returns the names of test functions: those with the attribute `#[test]` or `#[tokio::test]`. An ignored test proves nothing.
fn tests(source: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    source.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with("#[ignore") {
            is_test = false;
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| !line.starts_with("//")) {
            let name = rest.split_once('(').map(|(name, _)| name);
            return std::mem::take(&mut is_test).then_some(name).flatten();
        }
        None
    })
}

/// The rows of a table: the names in the first cell ("14, 15" are two), and whether the row names a test.
fn rows(table: &str) -> impl Iterator<Item = (&str, bool)> {
    table.lines().filter_map(|line| line.strip_prefix('|')).flat_map(|row| {
        let (first, rest) = row.split_once('|').unwrap_or((row, ""));
        first.split(',').map(move |name| (name.trim(), rest.contains('`')))
    })
}

/// Those of the expected names that have no row with a test.
fn unproven(table: &str, expected: impl Iterator<Item = String>) -> Vec<String> {
    expected.filter(|name| !rows(table).any(|(row, has_test)| row == name && has_test)).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn text() -> String {
    std::fs::read_to_string(root().join("docs/proofs.md")).unwrap()
}

#[test]
fn every_named_proof_is_a_test_or_a_scenario() {
    let named = named(&text());
    assert!(named.len() > 100, "the tables were not read");
    let mut found = BTreeSet::new();
    for folder in TESTED {
        collect(&root().join(folder), &mut found).unwrap();
    }
    let missing: Vec<_> = named.difference(&found).collect();
    assert!(missing.is_empty(), "docs/proofs.md names what is not a test: {missing:?}");
}

#[test]
fn every_rule_defect_and_fix_has_a_proof() {
    const RULES: u32 = 30;
    const DEFECTS: u32 = 40;
    const FIXES: u32 = 23;
    const OUTCOMES: u32 = 24;
    /// Defects of designs that this product does not have; `docs/differences.md` says so.
    const NOT_APPLICABLE: [u32; 4] = [7, 30, 32, 33];
    let text = text();
    let [_, rules, defects, fixes, outcomes] = text.split("\n## ").collect::<Vec<_>>()[..] else {
        panic!("docs/proofs.md has four tables, each with a heading of its own");
    };
    let none: [String; 0] = [];
    assert_eq!(unproven(rules, (1..=RULES).map(|rule| rule.to_string())), none, "rules");
    let applicable = (1..=DEFECTS).filter(|defect| !NOT_APPLICABLE.contains(defect));
    assert_eq!(unproven(defects, applicable.map(|defect| format!("D{defect}"))), none, "defects");
    assert_eq!(unproven(fixes, (1..=FIXES).map(|fix| fix.to_string())), none, "fixes");
    assert_eq!(unproven(outcomes, (1..=OUTCOMES).map(|row| row.to_string())), none, "outcomes");
}

#[test]
fn only_tests_that_run_count_as_proofs() {
    let source = "
        fn helper() {}
        #[test]
        #[cfg(unix)]
        /// Comments say fn of(this).
        fn first() {}
        #[tokio::test(start_paused = true)]
        async fn second() {}
        #[test]
        #[ignore = \"slow\"]
        fn third() {}";
    assert_eq!(tests(source).collect::<Vec<_>>(), ["first", "second"]);
}

#[test]
fn row_without_a_test_is_no_proof() {
    let table = "| rule | | shown by |\n|---|---|---|\n| 14, 15 | both | `a_test` |\n| 16 | none | |";
    let expected = ["14", "15", "16", "17"].map(str::to_owned);
    assert_eq!(unproven(table, expected.into_iter()), ["16", "17"]);
}
