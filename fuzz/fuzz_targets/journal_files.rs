#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| paperclip_fuzz::feed("journal_files", bytes));
