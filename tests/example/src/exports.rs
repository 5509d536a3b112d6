//! The component's exports.

#![allow(unsafe_code)]

use crate::agent::Example;

type Exported = paperclip_kit::plugin::Plugin<Example>;

paperclip_kit::bindings::export_plugin!(Exported with_types_in paperclip_kit::bindings);
