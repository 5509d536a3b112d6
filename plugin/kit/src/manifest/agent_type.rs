//! What an agent type adds to a run's manifest.

use crate::config::fields::Fields;
use crate::refusal::Refusal;

/// One kind of agent: the program that its container runs, and how it is called.
pub trait AgentType {
    /// Such as `claude_k8s`: Paperclip's name for the type, and the value of the label `paperclip.io/adapter-type`.
    fn adapter_type(&self) -> &'static str;
    /// What the names of its Jobs begin with; lower-case letters and digits.
    fn job_name_prefix(&self) -> &'static str;
    /// The container that the agent runs in.
    fn container_name(&self) -> &'static str;
    /// The program, found by the container's PATH. It reads the prompt from its standard input.
    fn program(&self) -> &'static str;
    /// Variables that the container has whatever config and inheritance say.
    fn forced_env(&self) -> &'static [(&'static str, &'static str)];
    /// The program's arguments.
    ///
    /// # Errors
    /// A config field of the agent type's own holds what the program would not take.
    fn arguments(&self, call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal>;
}

/// How one attempt calls the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// The session to resume.
    pub session: Option<&'a str>,
    /// The folder with the run's files, if it has any.
    pub bundle_dir: Option<&'a str>,
    /// The file with the agent's instructions, if it has any.
    pub instructions_file: Option<&'a str>,
}
