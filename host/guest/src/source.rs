//! The origin of a plugin's bytes.

use std::fmt;
use std::path::PathBuf;

/// The origin of a plugin. Serialises as `builtin` or as the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Embedded in this program, under this name.
    Builtin(String),
    File(PathBuf),
}

impl Source {
    /// Returns the agent type that the name implies: the embedded name, or the file's name without `.wasm`.
    pub fn expected_type(&self) -> Option<String> {
        match self {
            Source::Builtin(name) => Some(name.clone()),
            Source::File(path) => path.file_stem().map(|stem| stem.to_string_lossy().into_owned()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Builtin(name) => write!(f, "built-in plugin {name}"),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl serde::Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Source::Builtin(_) => serializer.serialize_str("builtin"),
            Source::File(path) => serializer.collect_str(&path.display()),
        }
    }
}
