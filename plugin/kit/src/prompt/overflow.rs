//! Moves what is too long for a prompt or a variable into files that the agent reads.

use serde::{Deserialize, Serialize};

use crate::manifest::bundle::BUNDLE_DIR;

/// A part of the prompt that is longer is in a file, and the prompt has its start.
pub const INLINE_MAX_BYTES: usize = 128 * 1024;
/// How much of such a part the prompt has.
const HEAD_BYTES: usize = 16 * 1024;
/// The largest file: one Secret holds it, of the API's limit of 1 MiB.
pub const FILE_MAX_BYTES: usize = 900 * 1024;
/// The folder of the files, below [`BUNDLE_DIR`].
const FOLDER: &str = "context";

/// A text of the run's context that the agent reads from a file. It is as confidential as the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextFile {
    /// The path below [`BUNDLE_DIR`].
    pub path: String,
    pub text: String,
}

impl ContextFile {
    /// Returns the path in the container.
    pub fn location(&self) -> String {
        format!("{BUNDLE_DIR}/{}", self.path)
    }
}

/// Returns a text as one file, or as numbered files if it is too long for one.
pub fn files(name: &str, extension: &str, text: &str) -> Vec<ContextFile> {
    if text.len() <= FILE_MAX_BYTES {
        return vec![ContextFile { path: format!("{FOLDER}/{name}.{extension}"), text: text.to_owned() }];
    }
    let mut files = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(FILE_MAX_BYTES.min(rest.len())));
        let path = format!("{FOLDER}/{name}-{:02}.{extension}", files.len() + 1);
        files.push(ContextFile { path, text: piece.to_owned() });
        rest = after;
    }
    files
}

/// Returns the part as the prompt has it: whole, or its start and where the whole of it is.
pub(super) fn inline(part: String, name: &str, moved: &mut Vec<ContextFile>) -> String {
    if part.len() <= INLINE_MAX_BYTES {
        return part;
    }
    let files = files(name, "md", &part);
    let places: Vec<String> = files.iter().map(|file| format!("`{}`", file.location())).collect();
    let limit = part.floor_char_boundary(HEAD_BYTES);
    let head = part[..limit].rfind('\n').filter(|end| *end > 0).map_or(&part[..limit], |end| &part[..end]);
    let note = format!(
        "[The text above is the first {} of {} bytes. The whole of it is in {}: read it before you start.]",
        head.len(),
        part.len(),
        places.join(", then ")
    );
    moved.extend(files);
    format!("{head}\n\n{note}")
}

/// Returns a note about variables that are in files because no program could be started with them.
pub(super) fn variables_note(files: &[ContextFile]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = files.iter().map(|file| format!("- `{}`", file.location())).collect();
    format!("# Files of this run\n\nToo long for a variable, and named after it:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_part_is_in_a_file_that_the_prompt_names() {
        let mut moved = Vec::new();
        let short = "x".repeat(INLINE_MAX_BYTES);
        assert_eq!(inline(short.clone(), "task", &mut moved), short);
        let long = format!("# Task\n{}\n{}", "y".repeat(9_000), "é".repeat(INLINE_MAX_BYTES));
        let shown = inline(long.clone(), "task", &mut moved);
        assert!(shown.starts_with("# Task\nyyy") && !shown.contains('é'), "cut at the end of a line");
        assert!(shown.contains("9007 of 271152 bytes"), "{}", &shown[9_000..]);
        assert!(shown.contains("`/tmp/bundle/context/task.md`"));
        assert_eq!(moved, [ContextFile { path: "context/task.md".into(), text: long }]);
    }

    #[test]
    fn a_text_that_no_secret_holds_is_in_several_files() {
        let text = "é".repeat(FILE_MAX_BYTES);
        let files = files("wake", "json", &text);
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["context/wake-01.json", "context/wake-02.json"]);
        assert_eq!(files.iter().map(|file| file.text.as_str()).collect::<String>(), text);
    }
}
