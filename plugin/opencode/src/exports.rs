//! The component's exports.

#![allow(unsafe_code)]

use crate::agent::Opencode;

type Exported = paperclip_kit::plugin::Plugin<Opencode>;

paperclip_kit::bindings::export_plugin!(Exported with_types_in paperclip_kit::bindings);
