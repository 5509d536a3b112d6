//! The session that a run leaves behind for the next one, in Paperclip's names.

use serde::{Deserialize, Serialize};

/// Where the agent worked. It is stored with the session id, so that a session is not resumed elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Workspace {
    pub cwd: Option<String>,
    pub workspace_id: Option<String>,
    pub repo_url: Option<String>,
    pub repo_ref: Option<String>,
    pub prompt_bundle_key: Option<String>,
}

/// Paperclip's `sessionParams`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionParams {
    pub session_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repo_ref: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_bundle_key: Option<String>,
}

impl SessionParams {
    pub fn new(session_id: String, workspace: &Workspace) -> SessionParams {
        let Workspace { cwd, workspace_id, repo_url, repo_ref, prompt_bundle_key } = workspace.clone();
        SessionParams { session_id, cwd, workspace_id, repo_url, repo_ref, prompt_bundle_key }
    }
}
