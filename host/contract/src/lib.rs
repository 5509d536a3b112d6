//! The plugin contract as the host sees it: the types and calls of `wit/0.2`, generated.
//!
//! The types are plain data and serialise, because the journal stores what crossed the contract. Their serialised form is
//! therefore part of the journal's format: see the journal's changelog before you touch the contract.

/// Version of the contract that this module speaks, as it stands in the names of a component's exports.
pub const VERSION: &str = "0.2.0";

#[allow(missing_debug_implementations, unreachable_pub, clippy::all)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/0.2",
        world: "agent-plugin",
        require_store_data_send: true,
        additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
    });
}

pub use bindings::exports::paperclip::agent::{runs, tools, types};
pub use bindings::{AgentPlugin, AgentPluginPre};
