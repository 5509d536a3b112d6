//! Checks that the files, folders and functions that `docs/architecture.md` names exist.

use std::path::Path;

/// The texts in backticks of a line.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Functions that a line names after a file, and that the file does not define. Everything in backticks between a path that ends in
/// `.rs` and the colon or the next path is the name of a function.
fn missing(root: &Path, line: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let mut source: Option<(&str, String)> = None;
    let steps = line.rsplit_once(": ").map_or(line, |(steps, _)| steps);
    for text in quoted(steps) {
        if text.contains('/') && text.ends_with(".rs") {
            match std::fs::read_to_string(root.join(text)) {
                Ok(content) => source = Some((text, content)),
                Err(_) => missing.push(text.to_owned()),
            }
        } else if let Some((file, content)) = &source
            && !content.contains(&format!("fn {text}("))
            && !content.contains(&format!("fn {text}<"))
        {
            missing.push(format!("{file} {text}"));
        }
    }
    missing
}

#[test]
fn architecture_names_existing_files_and_functions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let steps: Vec<_> =
        text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).collect();
    assert!(steps.len() > 20, "the lists of functions were not read");
    let mut absent: Vec<String> = steps.iter().flat_map(|line| missing(root, line)).collect();
    let crates = text.lines().filter_map(|line| line.strip_prefix("| `"));
    for row in crates {
        let cell = row.split_once(" |").map_or(row, |(cell, _)| cell);
        let folders = cell.split("`, `").map(|folder| folder.trim_matches('`'));
        absent.extend(folders.filter(|folder| !root.join(folder).exists()).map(str::to_owned));
    }
    assert!(absent.is_empty(), "docs/architecture.md names what does not exist: {absent:#?}");
}
