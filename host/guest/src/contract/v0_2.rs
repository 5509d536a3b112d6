//! Version 0.2 of the contract, the newest: its types are those of the engine.

pub(super) use bindings::{AgentPlugin, AgentPluginPre};

#[allow(dead_code, missing_debug_implementations, unreachable_pub, clippy::all)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/0.2",
        world: "agent-plugin",
        require_store_data_send: true,
        with: { "paperclip:agent/types": paperclip_contract::types },
    });
}
