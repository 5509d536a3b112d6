//! How the operator names Paperclip's pod.

use serde::{Deserialize, Serialize};

/// Where Paperclip's pod is. A run that names the pod by itself is restricted to what matches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaperclipPodConfig {
    /// Namespace of Paperclip's pod; default: the host's own.
    pub namespace: Option<String>,
    /// Label selector, such as `app.kubernetes.io/name=paperclip`.
    pub selector: Option<String>,
}
