//! The contract as the guest sees it, generated from `wit/0.2`.

#![allow(unsafe_code, missing_debug_implementations, unreachable_pub, clippy::all)]

wit_bindgen::generate!({
    path: "../../wit/0.2",
    world: "complete-agent-plugin",
    pub_export_macro: true,
    export_macro_name: "export_plugin",
    additional_derives: [PartialEq, serde::Serialize, serde::Deserialize],
});
