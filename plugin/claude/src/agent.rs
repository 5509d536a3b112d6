//! The agent type `claude_k8s` for the run state machine and the plugin's exports.

use paperclip_kit::bindings::exports::paperclip::agent::types::{Descriptor, Model, Observation};
use paperclip_kit::config::{Settings, fields::Fields, schema};
use paperclip_kit::machine::{Agent, Judgement, Watch};
use paperclip_kit::manifest::mcp::{self, JsonPart, McpServer};
use paperclip_kit::manifest::{AgentType, Call, environment};
use paperclip_kit::outcome::{Evidence, RunFacts, StreamEnd, Workspace};
use paperclip_kit::plugin::AgentPlugin;
use paperclip_kit::refusal::Refusal;
use paperclip_kit::request::{Attempt, Request, text};
use serde_json::Value;

use crate::models::{ModelSource, is_bedrock};
use crate::outcome::{classify_document, judge, may_retry_fresh};
use crate::stream::{ApiRetry, Stream};
use crate::{command, describe, session, transcript};

/// Runs the Claude Code CLI.
#[derive(Debug, Default, Clone, Copy)]
pub struct Claude;

impl AgentType for Claude {
    fn adapter_type(&self) -> &'static str {
        describe::ADAPTER_TYPE
    }

    fn job_name_prefix(&self) -> &'static str {
        "ac"
    }

    fn container_name(&self) -> &'static str {
        describe::CONTAINER_NAME
    }

    fn program(&self) -> &'static str {
        "claude"
    }

    fn forced_env(&self) -> &'static [(&'static str, &'static str)] {
        command::FORCED_ENV
    }

    fn skills_dir(&self) -> &'static str {
        ".claude/skills"
    }

    fn mcp_config(&self, servers: &[McpServer]) -> Option<Vec<JsonPart>> {
        Some(mcp::document(servers))
    }

    fn arguments(&self, call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
        command::arguments(call, config)
    }
}

impl Agent for Claude {
    type Stream = Stream;

    fn read_line(&self, stream: &mut Stream, line: &str) {
        stream.push_line(line);
    }

    fn read_cut_line(&self, stream: &mut Stream, head: &str, tail: &str, line_bytes: u64) {
        stream.push_cut_line(head, tail, line_bytes);
    }

    fn read_stderr_line(&self, stream: &mut Stream, line: &str) {
        stream.push_stderr_line(line);
    }

    fn event_count(&self, stream: &Stream) -> u64 {
        stream.event_count()
    }

    fn ended(&self, stream: &Stream) -> StreamEnd {
        stream.end()
    }

    fn last_activity<'a>(&self, stream: &'a Stream) -> &'a str {
        stream.last_activity()
    }

    fn observations(&self, stream: &Stream) -> Vec<Observation> {
        let version = stream.cli_version().map(|version| ("cli-version", version, 1));
        let unknown = stream.unknown_events().counts().iter();
        let unknown = unknown.map(|(kind, count)| ("unknown-event", kind.as_str(), *count));
        let observation = |(kind, value, count): (&str, &str, u64)| Observation {
            kind: kind.to_owned(),
            value: value.to_owned(),
            count,
        };
        version.into_iter().chain(unknown).map(observation).collect()
    }

    fn watch(&self, stream: &Stream) -> Watch {
        stream.retry().map(ApiRetry::describe).map_or(Watch::Fine, Watch::Status)
    }

    fn run_facts(&self, request: &Request, settings: &Settings, attempt: Attempt) -> RunFacts {
        let session = request.runtime.session().map(str::to_owned);
        let shown = |name: &str| environment::shown_value(request, settings.inherit_env, name);
        RunFacts {
            timeout_sec: settings.timeout_sec.map_or(0.0, f64::from),
            model: settings.model.clone(),
            is_bedrock: is_bedrock(shown),
            previous_session_id: session.clone(),
            resumed_session_id: session.filter(|_| !attempt.is_session_fresh),
            workspace: workspace(request),
            may_retry_fresh_session: settings.retry_fresh_session,
            is_fresh_retry: attempt.is_session_fresh,
        }
    }

    fn judge(&self, evidence: &Evidence, stream: &Stream) -> Judgement {
        let session = evidence.run.resumed_session_id.as_deref().unwrap_or_default();
        Judgement {
            result: judge(evidence, stream),
            retry: may_retry_fresh(evidence, stream).map(|reason| reason.log_line(session)),
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

impl AgentPlugin for Claude {
    const PROTOCOL_MEMBERS: &[&str] = &describe::PROTOCOL_MEMBERS;

    fn describe() -> Descriptor {
        let models = |source: ModelSource, provider: &'static str| {
            source.models().iter().map(move |model| Model {
                id: model.id.to_owned(),
                label: model.label.to_owned(),
                provider: provider.to_owned(),
            })
        };
        Descriptor {
            adapter_type: describe::ADAPTER_TYPE.to_owned(),
            label: describe::LABEL.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            container_name: describe::CONTAINER_NAME.to_owned(),
            revealed_env: describe::REVEALED_ENV.iter().map(|name| (*name).to_owned()).collect(),
            models: models(ModelSource::Anthropic, "direct")
                .chain(models(ModelSource::Bedrock, "bedrock"))
                .collect(),
            config_schema_json: schema::document(&command::config_fields()).to_string(),
            capabilities_json: serde_json::to_string(&describe::CAPABILITIES).unwrap_or_default(),
            doc: describe::AGENT_CONFIGURATION_DOC.to_owned(),
        }
    }

    fn classify(at_ms: u64, evidence_json: &str) -> Result<String, String> {
        classify_document(i64::try_from(at_ms).unwrap_or(i64::MAX), evidence_json)
    }

    fn transcript(line: &str, at: &str) -> String {
        transcript::entries_json(line, at)
    }

    fn decode_session(stored_json: &str) -> Option<String> {
        let stored = serde_json::from_str(stored_json).ok()?;
        serde_json::to_string(&session::decode(&stored)?).ok()
    }

    fn encode_session(session_json: &str) -> Option<String> {
        let session = serde_json::from_str(session_json).ok()?;
        session::encode(&session).map(|stored| stored.to_string())
    }
}
