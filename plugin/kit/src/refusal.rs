//! Why a run is refused before anything was created.

use serde::{Deserialize, Serialize};

/// The `errorCode` of a run whose configuration Kubernetes or the agent would not accept.
pub const CONFIG_INVALID: &str = "k8s_config_invalid";
/// The `errorCode` of a run whose agent id has no character that is legal in a label.
pub const AGENT_ID_INVALID: &str = "k8s_agent_id_invalid";

/// What is wrong with a request, for the person who wrote the configuration.
///
/// ```
/// use paperclip_kit::refusal::Refusal;
///
/// let refusal = Refusal::on_line("nodeSelector", Some(2), "`gpu` must have a value");
/// assert_eq!(refusal.to_string(), "nodeSelector: line 2: `gpu` must have a value");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The run's `errorCode`.
    pub code: String,
    /// The field at fault as the user knows it, such as `nodeSelector` or `context.paperclipWorkspace.cwd`.
    pub field: String,
    /// What is wrong and how to correct it.
    pub message: String,
}

impl Refusal {
    /// Refuses a config field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { code: CONFIG_INVALID.into(), field: field.into(), message: message.into() }
    }

    /// Refuses one line of a text area; lines count from 1.
    pub fn on_line(field: impl Into<String>, line: Option<usize>, message: impl Into<String>) -> Refusal {
        let message = message.into();
        Refusal::new(field, line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}")))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for Refusal {}
