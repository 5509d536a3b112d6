#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| paperclip_fuzz::feed("log_framing", bytes));
