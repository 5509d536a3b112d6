//! Documents that a person names on a command line or in the configuration.

use std::io::Read as _;
use std::path::Path;

use paperclip_diagnostic::{Diagnose as _, Diagnostic};
use paperclip_engine::intake;
use serde_json::Value;

/// Reads a text file; `-` is stdin. `what` names the document in messages.
///
/// # Errors
/// The file cannot be read.
pub fn read(what: &str, path: &Path) -> Result<String, Diagnostic> {
    let outcome = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    outcome.map_err(|error| {
        Diagnostic::new("file_unreadable", format!("{what} {}: {error}", path.display()))
            .with_hint("name a readable file, or - for stdin")
    })
}

/// Reads an execution context; `-` is stdin.
///
/// # Errors
/// The file cannot be read, or does not hold JSON.
pub fn read_context(path: &Path) -> Result<Value, Diagnostic> {
    let text = read("context", path)?;
    intake::parse(&text).map_err(|error| error.diagnostic().on(format_args!("context {}", path.display())))
}
