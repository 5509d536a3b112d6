//! The origin of a plugin's bytes.

use std::fmt;
use std::path::PathBuf;

/// The origin of a plugin. Serialises as `builtin`, as the path, or as `configmap/NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Embedded in this program, under this name.
    Builtin(String),
    File(PathBuf),
    /// A ConfigMap of the cluster.
    ConfigMap {
        /// `NAMESPACE/NAME`.
        name: String,
        /// The agent type that its label names.
        adapter_type: String,
    },
}

impl Source {
    /// Returns the agent type that it implies: the embedded name, or the file's name without `.wasm`, or what
    /// the ConfigMap's label says.
    pub fn expected_type(&self) -> Option<String> {
        match self {
            Source::Builtin(name) => Some(name.clone()),
            Source::File(path) => path.file_stem().map(|stem| stem.to_string_lossy().into_owned()),
            Source::ConfigMap { adapter_type, .. } => Some(adapter_type.clone()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Builtin(name) => write!(f, "built-in plugin {name}"),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::ConfigMap { name, .. } => write!(f, "ConfigMap {name}"),
        }
    }
}

impl serde::Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Source::Builtin(_) => serializer.serialize_str("builtin"),
            Source::File(path) => serializer.collect_str(&path.display()),
            Source::ConfigMap { name, .. } => serializer.collect_str(&format_args!("configmap/{name}")),
        }
    }
}
