//! The exports of a plugin, for any agent type.
//!
//! A plugin crate implements [`AgentPlugin`] and exports `Plugin<It>`:
//! ```text
//! type Exported = paperclip_kit::Plugin<Claude>;
//! paperclip_kit::export_plugin!(Exported with_types_in paperclip_kit::bindings);
//! ```

use std::cell::RefCell;
use std::marker::PhantomData;

use serde_json::{Map, Value};

use crate::bindings::exports::paperclip::agent::{masking, runs, tools, types};
use crate::machine::{Agent, IllegalTransition, Machine};
use crate::manifest;
use crate::outcome::ErrorCode;
use crate::refusal::{CONFIG_INVALID, Refusal};
use crate::request::{self, Attempt, Request};
use crate::{check, panic_note, skills};

/// Everything that Paperclip asks an adapter for, for one agent type.
pub trait AgentPlugin: Agent {
    /// The members of the agent's events that say what an event is, by their paths, such as `type`: their values are never masked. An
    /// agent without events has none.
    const PROTOCOL_MEMBERS: &[&str] = &[];

    /// Returns the plugin's descriptor.
    fn describe() -> types::Descriptor;

    /// Judges the evidence document of a finished run, and returns the result as JSON.
    ///
    /// # Errors
    /// The document is malformed; the text says where.
    fn classify(at_ms: u64, evidence_json: &str) -> Result<String, String>;

    /// Returns Paperclip's transcript entries of a line, as a JSON array.
    fn transcript(line: &str, at: &str) -> String;

    /// Reads a session from the JSON that Paperclip stored; `None` if it holds none.
    fn decode_session(stored_json: &str) -> Option<String>;

    /// Writes a session as the JSON that Paperclip stores; `None` if it is not a session.
    fn encode_session(session_json: &str) -> Option<String>;
}

/// The component's exports for an agent type.
#[derive(Debug)]
pub struct Plugin<A>(PhantomData<A>);

/// A run, as the component model's resource.
#[derive(Debug)]
pub struct Run<A: AgentPlugin>(RefCell<Machine<A>>);

impl<A: AgentPlugin + 'static> runs::Guest for Plugin<A> {
    type Run = Run<A>;
}

impl<A: AgentPlugin + 'static> runs::GuestRun for Run<A> {
    fn start(
        at_ms: u64,
        request: types::Request,
    ) -> Result<(runs::Run, Vec<types::Command>), types::Refusal> {
        panic_note::install();
        let mut machine = read_request(request).and_then(Machine::<A>::new).map_err(contract_refusal)?;
        let commands = or_fault(machine.step(at_ms, Vec::new()));
        Ok((runs::Run::new(Run(RefCell::new(machine))), commands))
    }

    fn step(&self, at_ms: u64, events: Vec<types::Event>) -> Vec<types::Command> {
        or_fault(self.0.borrow_mut().step(at_ms, events))
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(&*self.0.borrow()).expect("a run is plain data with text keys")
    }

    fn restore(snapshot: Vec<u8>) -> Result<runs::Run, types::Refusal> {
        panic_note::install();
        // As text, like every other document: a parser of its own for bytes would make a plugin larger by a fiftieth.
        let unreadable = |error: &dyn std::fmt::Display| types::Refusal {
            code: ErrorCode::SNAPSHOT_UNREADABLE.to_string(),
            field: None,
            message: format!("the snapshot was not made by this version of the plugin: {error}"),
        };
        let text = std::str::from_utf8(&snapshot).map_err(|error| unreadable(&error))?;
        let machine = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
        Ok(runs::Run::new(Run::<A>(RefCell::new(machine))))
    }

    fn phase(&self) -> String {
        self.0.borrow().phase()
    }
}

impl<A: AgentPlugin + 'static> tools::Guest for Plugin<A> {
    fn describe() -> types::Descriptor {
        panic_note::install();
        A::describe()
    }

    fn manifest(request: types::Request) -> Result<String, types::Refusal> {
        panic_note::install();
        read_request(request)
            .and_then(|request| manifest::plan(&request, Attempt::FIRST, &A::default()))
            .map(|plan| plan.to_json().to_string())
            .map_err(contract_refusal)
    }

    fn classify(at_ms: u64, evidence_json: String) -> Result<String, String> {
        panic_note::install();
        A::classify(at_ms, &evidence_json)
    }

    fn transcript(lines: Vec<String>, at: String) -> Vec<String> {
        panic_note::install();
        lines.iter().map(|line| A::transcript(line, &at)).collect()
    }

    fn decode_session(stored_json: String) -> Option<String> {
        panic_note::install();
        A::decode_session(&stored_json)
    }

    fn encode_session(session_json: String) -> Option<String> {
        panic_note::install();
        A::encode_session(&session_json)
    }

    fn skills(input_json: String) -> Result<String, String> {
        panic_note::install();
        skills::snapshot(A::default().adapter_type(), &input_json)
    }

    fn plan_check(input_json: String) -> Result<String, String> {
        panic_note::install();
        check::plan_document(&input_json)
    }

    fn judge_check(answers_json: String) -> Result<String, String> {
        panic_note::install();
        check::report_document(&answers_json, A::default().credential())
    }
}

impl<A: AgentPlugin + 'static> masking::Guest for Plugin<A> {
    fn protocol_members() -> Vec<String> {
        A::PROTOCOL_MEMBERS.iter().map(|member| (*member).to_owned()).collect()
    }
}

/// Ends the instance where a region made an illegal transition. A plugin cannot return a fault: it panics, which traps, and the host ends
/// the run with the text that [`panic_note`] leaves.
#[track_caller]
fn or_fault<T>(stepped: Result<T, IllegalTransition>) -> T {
    stepped.unwrap_or_else(|illegal| panic!("{illegal}"))
}

/// Converts a request of the contract to the kit's.
fn read_request(request: types::Request) -> Result<Request, Refusal> {
    let runtime = serde_json::from_str(&request.runtime_json)
        .map_err(|error| Refusal::new("runtime", format!("is malformed: {error}")))?;
    let paperclip_pod = match &request.paperclip_pod_json {
        Some(json) => Some(object("Paperclip's pod", json)?),
        None => None,
    };
    Ok(Request {
        run_id: request.run_id,
        agent: request::Agent {
            id: request.agent.id,
            company_id: request.agent.company_id,
            name: request.agent.name,
            adapter_type: request.agent.adapter_type,
        },
        runtime,
        config: object("config", &request.config_json)?,
        config_env: request
            .config_env
            .into_iter()
            .map(|entry| request::EnvName { name: entry.name, value: entry.value })
            .collect(),
        context: object("context", &request.context_json)?,
        has_auth_token: request.has_auth_token,
        masked_env: request.masked_env,
        paperclip_pod: paperclip_pod.map(Value::Object),
        files: request
            .files
            .into_iter()
            .map(|file| request::File {
                path: file.path,
                content: file.content,
                is_base64: file.is_base64,
                mode: file.mode,
            })
            .collect(),
        instructions_path: request.instructions_path,
        host: request::HostFacts {
            default_namespace: request.host.default_namespace,
            api_url: request.host.paperclip_api_url,
            denied_env: request.host.denied_env,
            clusters: request.host.clusters,
            init_config_map: request.host.init_config_map,
        },
    })
}

fn object(field: &str, json: &str) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_str(json).map_err(|error| Refusal::new(field, format!("is not an object: {error}")))
}

fn contract_refusal(refusal: Refusal) -> types::Refusal {
    let code = if refusal.code.is_empty() { CONFIG_INVALID.to_owned() } else { refusal.code };
    types::Refusal { code, field: Some(refusal.field), message: refusal.message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "illegal transition of JobState: from Deleted to Live")]
    fn an_illegal_transition_ends_the_instance() {
        or_fault::<()>(Err(IllegalTransition { region: "JobState", from: "Deleted", to: "Live" }));
    }
}
