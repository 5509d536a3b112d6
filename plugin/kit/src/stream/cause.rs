//! The line that explains best why a program failed.

use crate::outcome::{printable, quoted};
use serde::{Deserialize, Serialize};

/// A cause, in characters.
const CAUSE_CHARS: usize = 300;
/// How much of a line is read, in bytes.
const READ_BYTES: usize = 4096;

/// Lines of a program, of which the last one that looks like an error is kept, else the last one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CauseLine {
    last_error: Option<String>,
    /// The last error ends with a colon: the next line belongs to it.
    is_open: bool,
    last: Option<String>,
}

impl CauseLine {
    pub fn push(&mut self, line: &str) {
        let text = printable(&line[..line.floor_char_boundary(READ_BYTES)], READ_BYTES);
        if is_noise(&text, line) {
            return;
        }
        match self.last_error.as_mut().filter(|_| self.is_open) {
            Some(error) => {
                error.push(' ');
                error.push_str(&text);
                self.is_open = false;
            }
            None if looks_like_an_error(&text) => {
                self.is_open = text.ends_with(':');
                self.last_error = Some(text.clone());
            }
            None => {}
        }
        self.last = Some(text);
    }

    pub fn get(&self) -> Option<String> {
        self.last_error.as_ref().or(self.last.as_ref()).map(|text| quoted(text, CAUSE_CHARS))
    }
}

/// What error messages have in common, in lower case.
const ERROR_WORDS: [&str; 10] = [
    "error",
    "fatal",
    "panic",
    "exception",
    "cannot",
    "not found",
    "denied",
    "failed",
    "no space",
    "out of memory",
];

fn looks_like_an_error(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ERROR_WORDS.iter().any(|word| text.contains(word))
}

/// Whether a line explains nothing: a rule, a frame of a stack, a warning, a notice.
fn is_noise(text: &str, line: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let starts_with = |starts: &[&str]| starts.iter().any(|start| lower.starts_with(start));
    let is_frame = line.starts_with([' ', '\t']) && lower.starts_with("at ");
    !text.contains(char::is_alphanumeric)
        || is_frame
        || starts_with(&[
            "node:internal",
            "node.js v",
            "(use `node --trace",
            "npm notice",
            "npm warn",
            "warning",
            "warn ",
            "[warn",
        ])
        || lower.contains("warning:")
        || lower.contains("ld.so:") && lower.contains("ignored")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(lines: &str) -> Option<String> {
        let mut cause = CauseLine::default();
        lines.lines().for_each(|line| cause.push(line));
        cause.get()
    }

    #[test]
    fn the_last_line_that_looks_like_an_error_is_chosen() {
        for (lines, expected) in [
            ("one\ntwo", "two"),
            ("Error: x\nmore", "Error: x"),
            ("Error: x\nfatal: y\nbye", "fatal: y"),
            ("\u{1b}[31mError:\u{1b}[0m x\r", "Error: x"),
            (
                "Error: Invalid MCP configuration:\nMCP config file not found: /a.json",
                "Error: Invalid MCP configuration: MCP config file not found: /a.json",
            ),
            (
                "Error: Invalid MCP configuration:\n----\n/a.json\nbye",
                "Error: Invalid MCP configuration: /a.json",
            ),
            ("Segmentation fault\n====", "Segmentation fault"),
            ("write: no space left on device\nNode.js v20.19.0", "write: no space left on device"),
        ] {
            assert_eq!(cause(lines).as_deref(), Some(expected), "{lines}");
        }
    }

    #[test]
    fn noise_is_passed_over() {
        let stack = "node:internal/modules/cjs/loader:1228\n  throw err;\n  ^\n\nError: Cannot find module '/x.js'\n\
                     Require stack:\n- internal/preload\n    at Module.error (node:internal/x:1:2)\n  \
                     code: 'MODULE_NOT_FOUND'\n}\n\nNode.js v20.19.0\n";
        assert_eq!(cause(stack).as_deref(), Some("Error: Cannot find module '/x.js'"));
        for noise in [
            "(node:7) [DEP0040] DeprecationWarning: errors are deprecated",
            "(Use `node --trace-deprecation ...` to show where the error was created)",
            "ERROR: ld.so: object '/x.so' from LD_PRELOAD cannot be preloaded: ignored.",
            "npm notice error",
            "npm WARN error",
            "bash: warning: setlocale: LC_ALL: cannot change locale",
            "Warning: cannot",
            "==========",
        ] {
            assert_eq!(cause(&format!("fatal: y\n{noise}")).as_deref(), Some("fatal: y"), "{noise}");
            assert_eq!(cause(noise), None, "{noise}");
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        let line = format!("Error: {}", "é".repeat(10_000));
        assert_eq!(cause(&line).unwrap().chars().count(), 301);
    }
}
