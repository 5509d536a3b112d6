#![no_main]

#[path = "../../tests/simulation/tests/it/outside.rs"]
#[allow(dead_code)]
mod outside;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| outside::stream_lines(bytes));
