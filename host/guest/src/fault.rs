//! What wasmtime says when a call fails, in an operator's words.

use crate::live::{Meter, Overdrawn};
use paperclip_engine::FaultCause;
use wasmtime::{Error, PoolConcurrencyLimitError, Store, Trap, WasmBacktrace, WasmCoreDump};

/// Frames that a message names.
const NAMED_FRAMES: usize = 6;

/// How wasmtime ends its message when a result holds more than `Store::set_hostcall_fuel` allows; the type of the error
/// is private.
const TOO_MUCH_RETURNED: &str = "fuel allocated for hostcalls has been exhausted";

/// Functions between a plugin's own code and the trap of a panic. Their names say nothing about the plugin.
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

/// What a call was allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    pub fuel: u64,
    pub memory_bytes: u64,
    pub output_bytes: u64,
}

/// What a plugin puts before the note that its panic leaves in its memory; the text ends with a NUL. A convention of the
/// contract that a plugin may do without.
const PANIC_MARK: &[u8; 16] = b"\x01paperclip panic";
/// What is read of a note.
const NOTE_BYTES: usize = 1024;

/// Why a call or an instantiation failed.
pub(crate) fn cause(error: &Error, allowed: Allowance, store: &Store<Meter>) -> FaultCause {
    if let Some(full) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        return FaultCause::NoRoom(full.to_string());
    }
    if let Some(overdrawn) = error.downcast_ref::<Overdrawn>() {
        return match overdrawn {
            Overdrawn::Memory => FaultCause::OutOfMemory { limit_bytes: allowed.memory_bytes },
            Overdrawn::Table { elements } => {
                FaultCause::Trap(format!("it wanted a table of {elements} functions"))
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

/// What the plugin's panic said, out of the memory of the dead instance. Only text of the plugin itself: no secret ever enters it.
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

/// The plugin's code went through; what it handed over could not be taken.
fn not_a_trap(error: &Error, allowed: Allowance) -> FaultCause {
    let text = error.root_cause().to_string();
    if text.ends_with(TOO_MUCH_RETURNED) {
        // How much more it is was never counted: lifting stopped at the limit.
        return FaultCause::OverLimit {
            what: "more bytes than fit",
            found: allowed.output_bytes + 1,
            limit: allowed.output_bytes,
        };
    }
    FaultCause::Contract(text)
}

/// `panic (panic_bounds_check) in a::b, called by c::d`, or the trap's own words in place of the panic's.
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
        // The outermost function of the machinery is the one that the plugin's code called: it tells the kind of panic.
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
    fn a_panic_is_told_by_its_kind_and_the_plugins_own_frames() {
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
    fn a_note_is_found_wherever_it_stands() {
        let memory = |note: &[u8]| [b"stack \x01paperclip", &PANIC_MARK[..], note].concat();
        assert_eq!(
            note_in(&memory(b"src/a.rs:1:2: no\n room\0heap")),
            Some("src/a.rs:1:2: no  room".to_owned())
        );
        assert_eq!(note_in(&memory(&[b'x'; 5000])), Some("x".repeat(NOTE_BYTES)));
        assert_eq!(note_in(&memory(b"\0heap")), None);
        assert_eq!(note_in(&memory(b"")), None);
        assert_eq!(note_in(b"nothing here"), None);
    }

    #[test]
    fn another_trap_keeps_its_words_and_long_stacks_are_cut() {
        let trap = "wasm trap: integer divide by zero";
        assert_eq!(describe(trap, &[]), "integer divide by zero");
        assert_eq!(describe(trap, &names(&["a"])), "integer divide by zero in a");
        let deep = names(&["a", "b", "c", "d", "e", "f", "g", "h"]);
        assert_eq!(describe(trap, &deep), "integer divide by zero in a, called by b < c < d < e < f");
    }
}
