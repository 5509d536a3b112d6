//! The cause of a failed call, from wasmtime's error, in words for an operator.

use crate::live::{LimitExceeded, Meter};
use paperclip_engine::FaultCause;
use wasmtime::{Error, PoolConcurrencyLimitError, Store, Trap, WasmBacktrace, WasmCoreDump};

/// Most frames that a message names.
const NAMED_FRAMES: usize = 6;

/// The end of wasmtime's message when a result contains more than `Store::set_hostcall_fuel` allows. The type
/// of the error is private.
const TOO_MUCH_RETURNED: &str = "fuel allocated for hostcalls has been exhausted";

/// Functions between the plugin's code and the trap of a panic. Their names say nothing about the plugin.
const PANIC_MACHINERY: [&str; 9] = [
    "__rust_start_panic",
    "__rustc::",
    "alloc::alloc::handle_alloc_error",
    "core::panicking::",
    "panic_abort::",
    "rust_begin_unwind",
    "rust_panic",
    "std::panicking::",
    "std::sys::backtrace::",
];

/// The limits of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub fuel: u64,
    pub memory_bytes: u64,
    pub output_bytes: u64,
}

/// Precedes the note that the plugin's panic handler writes into its memory; the text ends with a NUL. The
/// contract makes this convention optional.
const PANIC_MARK: &[u8; 16] = b"\x01paperclip panic";
/// Most bytes of a note that are read.
const NOTE_BYTES: usize = 1024;

/// Returns why a call or an instantiation failed.
pub(crate) fn cause(error: &Error, allowed: Allowance, store: &Store<Meter>) -> FaultCause {
    if let Some(full) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        return FaultCause::NoCapacity(full.to_string());
    }
    if let Some(exceeded) = error.downcast_ref::<LimitExceeded>() {
        return match exceeded {
            LimitExceeded::Memory => FaultCause::OutOfMemory { limit_bytes: allowed.memory_bytes },
            LimitExceeded::Table { elements } => {
                FaultCause::Trap(format!("it requested a table of {elements} functions"))
            }
        };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => FaultCause::OutOfFuel { fuel: allowed.fuel },
        Some(trap) => {
            let text = trap_text(*trap, error.downcast_ref::<WasmBacktrace>());
            let note = error.downcast_ref::<WasmCoreDump>().and_then(|dump| panic_note(dump, store));
            FaultCause::Trap(note.map_or(text.clone(), |note| format!("panic at {note} ({text})")))
        }
        None => not_a_trap(error, allowed),
    }
}

/// Returns the message of the plugin's panic from the memory of the failed instance. It is text of the
/// plugin, which contains no secrets.
fn panic_note(dump: &WasmCoreDump, store: &Store<Meter>) -> Option<String> {
    dump.memories().iter().find_map(|memory| note_in(memory.data(store)))
}

fn note_in(memory: &[u8]) -> Option<String> {
    let mark = memory.windows(PANIC_MARK.len()).position(|bytes| bytes == PANIC_MARK)?;
    let text = memory[mark + PANIC_MARK.len()..].iter().take(NOTE_BYTES);
    let text: Vec<u8> = text.copied().take_while(|byte| *byte != 0).collect();
    let text: String =
        String::from_utf8_lossy(&text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Some(text).filter(|text| !text.is_empty())
}

/// Returns the cause when the plugin's code returned and its result is invalid.
fn not_a_trap(error: &Error, allowed: Allowance) -> FaultCause {
    let text = error.root_cause().to_string();
    if text.ends_with(TOO_MUCH_RETURNED) {
        // The excess is unknown: lifting stopped at the limit.
        return FaultCause::OverLimit {
            what: "more bytes than fit",
            found: allowed.output_bytes + 1,
            limit: allowed.output_bytes,
        };
    }
    FaultCause::Contract(text)
}

/// Returns `panic (panic_bounds_check) in a::b, called by c::d`; without a panic, the trap's message is in
/// its place.
fn trap_text(trap: Trap, backtrace: Option<&WasmBacktrace>) -> String {
    let names: Vec<String> = backtrace
        .map_or(&[][..], WasmBacktrace::frames)
        .iter()
        .map(|frame| match frame.func_name() {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", frame.func_index()),
        })
        .collect();
    describe(&trap.to_string(), &names)
}

/// `names`: innermost first.
fn describe(trap: &str, names: &[String]) -> String {
    let is_machinery = |name: &&String| PANIC_MACHINERY.iter().any(|prefix| name.starts_with(prefix));
    let machinery: Vec<&String> = names.iter().take_while(is_machinery).collect();
    let own = &names[machinery.len()..];
    let what = match machinery.last() {
        // The plugin's code called the outermost of these functions, whose name is the kind of panic.
        Some(entry) => format!("panic ({})", entry.rsplit("::").next().unwrap_or(entry)),
        None => trap.trim_start_matches("wasm trap: ").to_owned(),
    };
    match own.split_first() {
        None => what,
        Some((place, [])) => format!("{what} in {place}"),
        Some((place, callers)) => {
            let callers: Vec<&str> = callers.iter().take(NAMED_FRAMES - 1).map(String::as_str).collect();
            format!("{what} in {place}, called by {}", callers.join(" < "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn describes_a_panic_by_its_kind_and_the_frames_of_the_plugin() {
        let names = names(&[
            "__rustc::rust_begin_unwind",
            "core::panicking::panic_fmt",
            "core::panicking::panic_bounds_check",
            "claude::stream::parse",
            "kit::run::step",
        ]);
        assert_eq!(
            describe("wasm trap: wasm `unreachable` instruction executed", &names),
            "panic (panic_bounds_check) in claude::stream::parse, called by kit::run::step"
        );
    }

    #[test]
    fn finds_a_note_anywhere_in_memory() {
        let memory = |note: &[u8]| [b"stack \x01paperclip", &PANIC_MARK[..], note].concat();
        assert_eq!(
            note_in(&memory(b"src/a.rs:1:2: no\n space\0heap")),
            Some("src/a.rs:1:2: no  space".to_owned())
        );
        assert_eq!(note_in(&memory(&[b'x'; 5000])), Some("x".repeat(NOTE_BYTES)));
        assert_eq!(note_in(&memory(b"\0heap")), None);
        assert_eq!(note_in(&memory(b"")), None);
        assert_eq!(note_in(b"nothing here"), None);
    }

    #[test]
    fn keeps_the_message_of_other_traps_and_cuts_long_stacks() {
        let trap = "wasm trap: integer divide by zero";
        assert_eq!(describe(trap, &[]), "integer divide by zero");
        assert_eq!(describe(trap, &names(&["a"])), "integer divide by zero in a");
        let deep = names(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        assert_eq!(describe(trap, &deep), "integer divide by zero in a, called by b < c < d < e < f");
    }
}
