//! The parts of a run's manifest that depend on the agent type.

use super::mcp::{JsonPart, McpServer};
use crate::config::fields::Fields;
use crate::refusal::Refusal;

/// One type of agent: the program that its container runs, and its arguments.
pub trait AgentType {
    /// Returns Paperclip's name for the type, such as `claude_k8s`: the value of the label `paperclip.io/adapter-type`.
    fn adapter_type(&self) -> &'static str;
    /// Returns the prefix of its Jobs' names: lower-case letters and digits.
    fn job_name_prefix(&self) -> &'static str;
    /// Returns the name of the agent's container.
    fn container_name(&self) -> &'static str;
    /// Returns the program, which is on the container's PATH and reads the prompt from its standard input.
    fn program(&self) -> &'static str;
    /// Returns variables that neither config nor inheritance can override.
    fn forced_env(&self) -> &'static [(&'static str, &'static str)];
    /// Returns the folder of the run's files in which the program finds its skills, each in a folder of its own.
    fn skills_dir(&self) -> &'static str {
        "skills"
    }
    /// Returns the file that configures the program's MCP servers; `None` if it has none that a file configures.
    fn mcp_config(&self, _servers: &[McpServer]) -> Option<Vec<JsonPart>> {
        None
    }
    /// Returns the program's arguments.
    ///
    /// # Errors
    /// One of the agent type's config fields holds what the program would not accept.
    fn arguments(&self, call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal>;
}

/// How one attempt calls the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The session to resume.
    pub session: Option<&'a str>,
    /// The directory of the run's files, if it has any.
    pub bundle_dir: Option<&'a str>,
    /// The file with the agent's instructions, if it has any.
    pub instructions_file: Option<&'a str>,
    /// The file of [`AgentType::mcp_config`], if there are MCP servers.
    pub mcp_config_file: Option<&'a str>,
}
