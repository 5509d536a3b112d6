//! An agent type, as its plugin describes it: a command-line program, how it is called, what it prints, and how its runs are judged.
//!
//! [`Cli`] is everything that a plugin implements, together with [`AgentStream`] for what the program prints; everything else is the kit's.
//! `docs/writing-a-plugin.md` is a tutorial.

use serde_json::{Map, Value};

use crate::bindings::exports::paperclip::agent::types::{Descriptor, Model, Observation};
use crate::config::Settings;
use crate::config::fields::Fields;
use crate::config::schema::{self, ConfigField};
use crate::judge::{classify_document, judge, may_retry_fresh};
use crate::machine::{Agent, Judgement, Watch};
use crate::manifest::mcp::{JsonPart, McpServer};
use crate::manifest::{AgentType, Call, ClaimMount, OutputBy, environment};
use crate::outcome::{Billing, Evidence, RunFacts, StreamEnd, Workspace};
use crate::plugin::AgentPlugin;
use crate::refusal::Refusal;
use crate::request::{Attempt, Request, text};
use crate::sessions;
use crate::stream::{AgentStream, Verdict};
use crate::transcript::{self, TranscriptEntry};

/// Who an agent type is.
#[derive(Debug)]
pub struct Identity {
    /// Paperclip's name for it, such as `claude_k8s`: the value of the label `paperclip.io/adapter-type`.
    pub adapter_type: &'static str,
    /// As people read it, such as `Claude Code (Kubernetes)`.
    pub label: &'static str,
    /// The version of the plugin, semver: `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// The name of the agent's container.
    pub container_name: &'static str,
    /// The prefix of its Jobs' names: lower-case letters and digits.
    pub job_name_prefix: &'static str,
    /// The program, which is on the container's PATH and reads the prompt from its standard input.
    pub program: &'static str,
    /// The variable that usually has its credentials.
    pub credential: &'static str,
    /// Variables whose values the judgement and the manifest depend on; all others stay with the host.
    pub revealed_env: &'static [&'static str],
    /// Models to choose from.
    pub models: &'static [ModelOption],
    /// How to configure what is particular about this type, for people and for agents that configure others. Markdown.
    pub doc: &'static str,
}

/// A model to choose from.
#[derive(Debug, Clone, Copy)]
pub struct ModelOption {
    /// As the program takes it.
    pub id: &'static str,
    pub label: &'static str,
    /// The way to reach it, such as `direct`.
    pub provider: &'static str,
}

/// How the agent's instructions reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// The program takes a file ([`Call::instructions_file`]).
    ByFile,
    /// They are the first part of the prompt of a new session.
    ByPrompt,
}

/// The variables of the agent's container, as far as a plugin may know of them.
#[derive(Clone, Copy)]
pub struct Variables<'a> {
    value: &'a dyn Fn(&str) -> Option<String>,
    is_set: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variables")
    }
}

impl<'a> Variables<'a> {
    pub(crate) fn new(
        value: &'a dyn Fn(&str) -> Option<String>,
        is_set: &'a dyn Fn(&str) -> bool,
    ) -> Variables<'a> {
        Variables { value, is_set }
    }

    /// Returns the value of one of [`Identity::revealed_env`].
    pub fn value(&self, name: &str) -> Option<String> {
        (self.value)(name)
    }

    /// Returns whether the container has a variable, whatever its value.
    pub fn has(&self, name: &str) -> bool {
        (self.is_set)(name)
    }
}

/// An agent type.
pub trait Cli: Default + Clone + std::fmt::Debug + 'static {
    /// What is kept of the program's output.
    type Stream: AgentStream;

    /// Who it is.
    const IDENTITY: Identity;
    /// Variables that neither config nor inheritance can override.
    const FORCED_ENV: &'static [(&'static str, &'static str)] = &[("HOME", "/paperclip")];
    /// Variables that the run sets unless `config.env` does.
    const DEFAULT_ENV: &'static [(&'static str, &'static str)] = &[];
    /// How the agent's instructions reach it.
    const INSTRUCTIONS: Instructions = Instructions::ByPrompt;
    /// The folder of the run's files in which the program finds its skills, each in a folder of its own.
    const SKILLS_DIR: &'static str = "skills";
    /// How the program's output leaves its container.
    const OUTPUT_BY: OutputBy = OutputBy::Pipe;
    /// The members of the program's events that say what an event is, by their paths, such as `item.type`: their values are never masked. A
    /// program without events has none.
    const PROTOCOL_MEMBERS: &'static [&'static str] = &[];
    /// How long the agent may run where the config does not say, for a program that can wait for ever.
    const DEFAULT_TIMEOUT_SEC: Option<u32> = None;
    /// Whether a session can be resumed only in the folder in which it was started.
    const SESSION_IS_BOUND_TO_CWD: bool = false;
    /// Whether the program takes its MCP servers by options or settings of [`Call::mcp_servers`], which name the variables of their
    /// tokens. Else [`Self::mcp_config`] returns a file, and no variable has a token.
    const MCP_TOKENS_IN_ENV: bool = false;

    /// Returns the form's fields of this agent type alone.
    fn config_fields() -> Vec<ConfigField>;

    /// Returns the program's arguments.
    ///
    /// # Errors
    /// One of the config fields holds what the program would not accept.
    fn arguments(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal>;

    /// Returns variables that follow from the config and that nothing else can override.
    ///
    /// # Errors
    /// One of the config fields holds what the program would not accept.
    fn environment(_call: &Call<'_>, _config: &mut Fields<'_>) -> Result<Vec<(String, String)>, Refusal> {
        Ok(Vec::new())
    }

    /// Returns commands of a POSIX shell that run before the program, such as one that makes its home.
    ///
    /// # Errors
    /// One of the config fields holds what the program would not accept.
    fn setup(_call: &Call<'_>, _config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        Ok(Vec::new())
    }

    /// Returns volume claims that exist in the run's namespace and that the agent's container mounts.
    ///
    /// # Errors
    /// One of the config fields holds what Kubernetes would not accept.
    fn claims(_call: &Call<'_>, _config: &mut Fields<'_>) -> Result<Vec<ClaimMount>, Refusal> {
        Ok(Vec::new())
    }

    /// Returns the file that configures the program's MCP servers; `None` if it has none that a file configures.
    fn mcp_config(_servers: &[McpServer]) -> Option<Vec<JsonPart>> {
        None
    }

    /// Returns who serves the model and who is paid.
    fn billing(config: &Map<String, Value>, variables: &Variables<'_>) -> Billing;

    /// Returns the transcript's entries of an event; none if it is to be shown as it was printed.
    fn entries_of<'a>(
        event: &<Self::Stream as AgentStream>::Event<'a>,
        ts: &'a str,
        to: &mut Vec<TranscriptEntry<'a>>,
    );
}

impl<A: Cli> AgentType for A {
    fn adapter_type(&self) -> &'static str {
        A::IDENTITY.adapter_type
    }

    fn job_name_prefix(&self) -> &'static str {
        A::IDENTITY.job_name_prefix
    }

    fn container_name(&self) -> &'static str {
        A::IDENTITY.container_name
    }

    fn program(&self) -> &'static str {
        A::IDENTITY.program
    }

    fn credential(&self) -> &'static str {
        A::IDENTITY.credential
    }

    fn forced_env(&self) -> &'static [(&'static str, &'static str)] {
        A::FORCED_ENV
    }

    fn default_env(&self) -> &'static [(&'static str, &'static str)] {
        A::DEFAULT_ENV
    }

    fn skills_dir(&self) -> &'static str {
        A::SKILLS_DIR
    }

    fn has_instructions_in_prompt(&self) -> bool {
        A::INSTRUCTIONS == Instructions::ByPrompt
    }

    fn output_by(&self) -> OutputBy {
        A::OUTPUT_BY
    }

    fn default_timeout_sec(&self) -> Option<u32> {
        A::DEFAULT_TIMEOUT_SEC
    }

    fn session_is_bound_to_cwd(&self) -> bool {
        A::SESSION_IS_BOUND_TO_CWD
    }

    fn mcp_config(&self, servers: &[McpServer]) -> Option<Vec<JsonPart>> {
        A::mcp_config(servers)
    }

    fn has_mcp_tokens_in_env(&self) -> bool {
        A::MCP_TOKENS_IN_ENV
    }

    fn arguments(&self, call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        A::arguments(call, config)
    }

    fn environment(
        &self,
        call: &Call<'_>,
        config: &mut Fields<'_>,
    ) -> Result<Vec<(String, String)>, Refusal> {
        A::environment(call, config)
    }

    fn claims(&self, call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<ClaimMount>, Refusal> {
        A::claims(call, config)
    }

    fn setup(&self, call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        A::setup(call, config)
    }
}

impl<A: Cli> Agent for A {
    type Stream = A::Stream;

    fn read_line(&self, stream: &mut A::Stream, line: &str) {
        stream.push_line(line);
    }

    fn read_cut_line(&self, stream: &mut A::Stream, head: &str, tail: &str, line_bytes: u64) {
        stream.push_cut_line(head, tail, line_bytes);
    }

    fn read_stderr_line(&self, stream: &mut A::Stream, line: &str) {
        stream.push_stderr_line(line);
    }

    fn event_count(&self, stream: &A::Stream) -> u64 {
        stream.kept().event_count
    }

    fn ended(&self, stream: &A::Stream) -> StreamEnd {
        match stream.verdict() {
            Verdict::Open => StreamEnd::Open,
            verdict => {
                StreamEnd::Ended { is_good: verdict == Verdict::Success, open_tasks: stream.open_tasks() }
            }
        }
    }

    fn last_activity<'a>(&self, stream: &'a A::Stream) -> &'a str {
        &stream.kept().last_activity
    }

    fn observations(&self, stream: &A::Stream) -> Vec<Observation> {
        let kept = stream.kept();
        let version = kept.cli_version.as_deref().map(|version| ("cli-version", version, 1));
        let unknown = kept.unknown_events.counts().iter();
        let unknown = unknown.map(|(kind, count)| ("unknown-event", kind.as_str(), *count));
        let observation = |(kind, value, count): (&str, &str, u64)| Observation {
            kind: kind.to_owned(),
            value: value.to_owned(),
            count,
        };
        version.into_iter().chain(unknown).map(observation).collect()
    }

    fn watch(&self, stream: &A::Stream) -> Watch {
        stream.watch()
    }

    fn run_facts(&self, request: &Request, settings: &Settings, attempt: Attempt) -> RunFacts {
        let session = request.runtime.session().map(str::to_owned);
        let shown = |name: &str| environment::shown_value(request, settings.inherit_env, name);
        let is_set = |name: &str| environment::is_set(request, settings.inherit_env, name);
        RunFacts {
            timeout_sec: settings.timeout_sec.map_or(0.0, f64::from),
            model: settings.model.clone(),
            billing: A::billing(&request.config, &Variables::new(&shown, &is_set)),
            previous_session_id: session.clone(),
            resumed_session_id: session.filter(|_| !attempt.is_session_fresh),
            workspace: workspace(request),
            may_retry_fresh_session: settings.retry_fresh_session,
            is_fresh_retry: attempt.is_session_fresh,
        }
    }

    fn judge(&self, evidence: &Evidence, stream: &A::Stream) -> Judgement {
        let session = evidence.run.resumed_session_id.as_deref().unwrap_or_default();
        let name = A::Stream::WORDS.name;
        Judgement {
            result: judge(evidence, stream),
            retry: may_retry_fresh(evidence, stream).map(|reason| reason.log_line(name, session)),
        }
    }
}

/// Returns where the agent works, which is kept beside its session.
fn workspace(request: &Request) -> Workspace {
    let Some(workspace) = request.context.get("paperclipWorkspace").and_then(Value::as_object) else {
        return Workspace::default();
    };
    let field = |key: &str| text(workspace, key).map(str::to_owned);
    Workspace {
        cwd: field("cwd"),
        workspace_id: field("workspaceId"),
        repo_url: field("repoUrl"),
        repo_ref: field("repoRef"),
        prompt_bundle_key: None,
    }
}

/// Paperclip's flags of an adapter: what the server may rely on. Every agent gets a token for Paperclip's API, instructions, and skills
/// that come with the context; every program keeps its sessions within the context itself, so the server starts no new ones (0 is never).
const CAPABILITIES: &str = r#"{"supportsLocalAgentJwt":true,"supportsInstructionsBundle":true,"instructionsPathKey":"instructionsFilePath","requiresMaterializedRuntimeSkills":false,"sessionManagement":{"supportsSessionResume":true,"nativeContextManagement":"confirmed","defaultSessionCompaction":{"enabled":true,"maxSessionRuns":0,"maxRawInputTokens":0,"maxSessionAgeHours":0}}}"#;

/// How to configure what all agent types have in common. Markdown.
const SHARED_DOC: &str = include_str!("agent_configuration.md");

/// Returns how to configure an agent: what is particular about its type, then what all have in common.
pub fn doc<A: Cli>() -> String {
    format!("{}\n{SHARED_DOC}", A::IDENTITY.doc)
}

/// Returns the whole form: the fields of this agent type, then those of all.
pub fn config_fields<A: Cli>() -> Vec<ConfigField> {
    A::config_fields().into_iter().chain(schema::schema()).collect()
}

impl<A: Cli> AgentPlugin for A {
    const PROTOCOL_MEMBERS: &[&str] = <A as Cli>::PROTOCOL_MEMBERS;

    fn describe() -> Descriptor {
        let Identity { adapter_type, label, version, container_name, revealed_env, models, .. } = A::IDENTITY;
        let owned = |model: &ModelOption| Model {
            id: model.id.to_owned(),
            label: model.label.to_owned(),
            provider: model.provider.to_owned(),
        };
        Descriptor {
            adapter_type: adapter_type.to_owned(),
            label: label.to_owned(),
            version: version.to_owned(),
            container_name: container_name.to_owned(),
            revealed_env: revealed_env.iter().map(|name| (*name).to_owned()).collect(),
            models: models.iter().map(owned).collect(),
            config_schema_json: schema::document(&config_fields::<A>()).to_string(),
            capabilities_json: CAPABILITIES.to_owned(),
            doc: doc::<A>(),
        }
    }

    fn classify(at_ms: u64, evidence_json: &str) -> Result<String, String> {
        classify_document::<A>(i64::try_from(at_ms).unwrap_or(i64::MAX), evidence_json)
    }

    fn transcript(line: &str, at: &str) -> String {
        transcript::entries_json::<A>(line, at)
    }

    fn decode_session(stored_json: &str) -> Option<String> {
        let stored = serde_json::from_str(stored_json).ok()?;
        serde_json::to_string(&sessions::decode(&stored)?).ok()
    }

    fn encode_session(session_json: &str) -> Option<String> {
        let session = serde_json::from_str(session_json).ok()?;
        sessions::encode(&session).map(|stored| stored.to_string())
    }
}
