//! The guest host with plugins that behave and plugins that do not.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod catalogue;
mod contract_0_1;
mod faults;
mod forge;
mod load;
mod registry;
mod tools;

use forge::Forge;
use paperclip_contract::types::{AgentIdentity, Request};
use paperclip_guest::{Plugin, Runtime, RuntimeOptions, Source};
use std::path::PathBuf;
use std::sync::Arc;

fn runtime() -> Runtime {
    Runtime::new(&RuntimeOptions { max_instances: 8, ..RuntimeOptions::default() }).unwrap()
}

fn source() -> Source {
    Source::File(PathBuf::from("plugins/test.wasm"))
}

fn load(forge: &Forge) -> Arc<Plugin> {
    Plugin::load(&runtime(), source(), &forge.component()).unwrap()
}

fn request() -> Request {
    Request {
        run_id: "run-1".into(),
        agent: AgentIdentity {
            id: "agent-1".into(),
            company_id: "company-1".into(),
            name: "Ada".into(),
            adapter_type: "test_k8s".into(),
        },
        runtime_json: "{}".into(),
        config_json: "{}".into(),
        config_env: Vec::new(),
        context_json: "{}".into(),
        has_auth_token: false,
        masked_env: Vec::new(),
        paperclip_pod_json: None,
        files: Vec::new(),
        instructions_path: None,
        host: paperclip_engine::intake::IntakeFacts::bare(None).host,
    }
}
