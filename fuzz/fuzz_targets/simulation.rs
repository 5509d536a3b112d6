//! Reads the bytes as a case of the simulation: its scenario, its faults and its delays.

#![no_main]

use std::sync::LazyLock;

use paperclip_simulation::plugin::DEFAULT_TYPE;
use paperclip_simulation::{Plugin, case};

static PLUGIN: LazyLock<Plugin> = LazyLock::new(|| Plugin::load(DEFAULT_TYPE).expect("the built plugin"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert_eq!(case::run_bytes(bytes, &PLUGIN).violation, None);
});
