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
    /// Returns the variable that usually has the program's credentials.
    fn credential(&self) -> &'static str {
        "API_KEY"
    }
    /// Returns variables that neither config nor inheritance can override.
    fn forced_env(&self) -> &'static [(&'static str, &'static str)];
    /// Returns variables that the run sets unless `config.env` does.
    fn default_env(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    /// Returns variables that follow from the config and that nothing else can override.
    ///
    /// # Errors
    /// One of the agent type's config fields holds what the program would not accept.
    fn environment(
        &self,
        _call: &Call<'_>,
        _config: &mut Fields<'_>,
    ) -> Result<Vec<(String, String)>, Refusal> {
        Ok(Vec::new())
    }
    /// Returns commands of a POSIX shell that run before the program.
    ///
    /// # Errors
    /// One of the agent type's config fields holds what the program would not accept.
    fn setup(&self, _call: &Call<'_>, _config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        Ok(Vec::new())
    }
    /// Returns volume claims that exist in the run's namespace and that the agent's container mounts.
    ///
    /// # Errors
    /// One of the agent type's config fields holds what Kubernetes would not accept.
    fn claims(&self, _call: &Call<'_>, _config: &mut Fields<'_>) -> Result<Vec<ClaimMount>, Refusal> {
        Ok(Vec::new())
    }
    /// Returns how the program's output leaves its container.
    fn output_by(&self) -> OutputBy {
        OutputBy::Pipe
    }
    /// Returns whether the agent's instructions are a part of the prompt. Else the program takes a file.
    fn has_instructions_in_prompt(&self) -> bool {
        false
    }
    /// Returns how long the agent may run where the config does not say.
    fn default_timeout_sec(&self) -> Option<u32> {
        None
    }
    /// Returns whether a session can be resumed only in the folder in which it was started.
    fn session_is_bound_to_cwd(&self) -> bool {
        false
    }
    /// Returns the folder of the run's files in which the program finds its skills, each in a folder of its own.
    fn skills_dir(&self) -> &'static str {
        "skills"
    }
    /// Returns the file that configures the program's MCP servers; `None` if it has none that a file configures.
    fn mcp_config(&self, _servers: &[McpServer]) -> Option<Vec<JsonPart>> {
        None
    }
    /// Returns whether the program takes its MCP servers from [`Call::mcp_servers`], with their tokens in its environment.
    fn has_mcp_tokens_in_env(&self) -> bool {
        false
    }
    /// Returns the program's arguments.
    ///
    /// # Errors
    /// One of the agent type's config fields holds what the program would not accept.
    fn arguments(&self, call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal>;
}

/// How a program's output leaves its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputBy {
    /// The program writes to its standard output.
    Pipe,
    /// The program loses output through a pipe: it writes to a file, which the container's script prints.
    File,
}

/// A volume claim and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMount {
    pub claim_name: String,
    pub path: &'static str,
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
    /// A folder of the agent alone on the shared volume, which need not exist yet.
    pub agent_dir: &'a str,
    /// The file of [`AgentType::mcp_config`], if there are MCP servers.
    pub mcp_config_file: Option<&'a str>,
    /// The MCP servers of a program that takes none by a file ([`AgentType::has_mcp_tokens_in_env`]).
    pub mcp_servers: &'a [McpServer],
}

/// Adds an option and its value, if it has one.
pub fn option(args: &mut Vec<String>, name: &str, value: Option<&str>) {
    args.extend(value.map(|value| [name.to_owned(), value.to_owned()]).into_iter().flatten());
}
