//! A run of the component, which gets the same events as the native one.

use std::sync::{Arc, LazyLock};

use paperclip_contract::types as contract;
use paperclip_engine::time::Timestamp;
use paperclip_engine::{FaultCause, Guest as _};
use paperclip_guest::{Instance, Plugin};
use paperclip_kit::bindings::exports::paperclip::agent::types::{Command, Event};
use paperclip_kit::machine::IllegalTransition;
use paperclip_kit::request::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::component::load_file;
use crate::host::workspace;

static ECHO: LazyLock<Arc<Plugin>> = LazyLock::new(|| {
    let path = workspace().join("dist/test-plugins/echo_k8s.wasm");
    assert!(path.is_file(), "{} is missing: run `cargo xtask test`, which builds it", path.display());
    load_file(&path)
});

/// Names that journals pin: the contract's of the kit's. See `host/contract/src/types/mod.rs`.
const PINNED: [(&str, &str); 6] = [
    ("DryRunPod", "TryPod"),
    ("GetJob", "LookUpJob"),
    ("ListPods", "LookUpPods"),
    ("PaperclipPodEnv", "SelfPodEnv"),
    ("JobDeleted", "JobGone"),
    ("PodDeleted", "PodGone"),
];

pub(crate) struct Twin(Instance);

impl Twin {
    pub(crate) fn start(request: &Request, now_ms: u64, commands: &[Command]) -> Twin {
        let mut instance = ECHO.instantiate().unwrap();
        let started = instance.start(Timestamp::from_millis(now_ms), &to_contract(request)).unwrap().unwrap();
        assert_eq!(from_contract(&started), commands, "the component starts as the native code");
        Twin(instance)
    }

    /// Makes the step that the run made.
    pub(crate) fn step(
        &mut self,
        _snapshot: &[u8],
        now_ms: u64,
        events: &[Event],
        stepped: &Result<Vec<Command>, IllegalTransition>,
    ) {
        let events: Vec<contract::Event> = convert(events, |(kit, contract)| (kit, contract));
        match (self.0.step(Timestamp::from_millis(now_ms), &events), stepped) {
            (Ok(commands), Ok(expected)) => {
                assert_eq!(&from_contract(&commands), expected, "the component decides as the native code");
            }
            (Err(fault), Err(illegal)) => {
                let FaultCause::Trap(text) = &fault.cause else { panic!("{fault}") };
                assert!(text.contains(&illegal.to_string()), "{text}");
            }
            (stepped, expected) => panic!("{stepped:?} is not {expected:?}"),
        }
    }
}

fn from_contract(commands: &[contract::Command]) -> Vec<Command> {
    convert(commands, |(kit, contract)| (contract, kit))
}

/// Converts between the types that the kit and the host have for the contract, whose members have the same names.
fn convert<A: Serialize + ?Sized, B: DeserializeOwned>(
    value: &A,
    direction: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> B {
    let mut json = serde_json::to_value(value).unwrap();
    for (from, to) in PINNED.map(direction) {
        rename(&mut json, from, to);
    }
    serde_json::from_value(json).unwrap()
}

fn rename(json: &mut Value, from: &str, to: &str) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, from, to)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| rename(member, from, to));
            if let Some(value) = members.remove(from) {
                members.insert(to.to_owned(), value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The request as the host passes it, which the component reads as this one.
fn to_contract(request: &Request) -> contract::Request {
    contract::Request {
        run_id: request.run_id.clone(),
        agent: contract::AgentIdentity {
            id: request.agent.id.clone(),
            company_id: request.agent.company_id.clone(),
            name: request.agent.name.clone(),
            adapter_type: request.agent.adapter_type.clone(),
        },
        runtime_json: json!(request.runtime).to_string(),
        config_json: json_object(&request.config),
        config_env: request
            .config_env
            .iter()
            .map(|entry| contract::EnvEntry { name: entry.name.clone(), value: entry.value.clone() })
            .collect(),
        context_json: json_object(&request.context),
        has_auth_token: request.has_auth_token,
        masked_env: request.masked_env.clone(),
        paperclip_pod_json: request.paperclip_pod.as_ref().map(Value::to_string),
        files: request
            .files
            .iter()
            .map(|file| contract::ContextFile {
                path: file.path.clone(),
                content: file.content.clone(),
                is_base64: file.is_base64,
                mode: file.mode,
            })
            .collect(),
        instructions_path: request.instructions_path.clone(),
        host: contract::HostFacts {
            default_namespace: request.host.default_namespace.clone(),
            paperclip_api_url: request.host.api_url.clone(),
            denied_env: request.host.denied_env.clone(),
            clusters: request.host.clusters.clone(),
            limits: paperclip_engine::limits(),
            init_config_map: request.host.init_config_map.clone(),
        },
    }
}

fn json_object(object: &Map<String, Value>) -> String {
    Value::Object(object.clone()).to_string()
}
