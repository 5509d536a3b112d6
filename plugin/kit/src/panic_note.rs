//! The text of a panic, written where the host finds it.
//!
//! A plugin has no imports, so it cannot report the text, and an instance that has trapped cannot be called. The host reads the note
//! from the trapped instance's memory instead: it searches for [`MARK`] and reads the text up to the next NUL.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};

/// Precedes the note, and is nowhere else in a plugin's memory. The host has the same constant.
const MARK: [u8; 16] = *b"\x01paperclip panic";
/// The longest text of a note: location and message of the panic.
const TEXT_BYTES: usize = 1024;
const NOTE_BYTES: usize = MARK.len() + TEXT_BYTES + "\0".len();

type Note = [AtomicU8; NOTE_BYTES];

static NOTE: Note = marked();

const fn marked() -> Note {
    let mut note = [const { AtomicU8::new(0) }; NOTE_BYTES];
    let mut at = 0;
    while at < MARK.len() {
        note[at] = AtomicU8::new(MARK[at]);
        at += 1;
    }
    note
}

/// Installs the panic hook that writes the note. Every export calls this first: a plugin has no other entry point.
#[cfg(target_family = "wasm")]
pub(crate) fn install() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            // A note that is too long is truncated.
            let _ = match (panic.location(), panic.payload_as_str()) {
                (Some(place), Some(text)) => write!(Pen::on(&NOTE), "{place}: {text}"),
                (Some(place), None) => write!(Pen::on(&NOTE), "{place}"),
                (None, text) => Pen::on(&NOTE).write_str(text.unwrap_or("no text")),
            };
        }));
    });
}

/// Natively, in tests, the test harness reports a panic.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn install() {
    let _ = Pen::on(&NOTE);
}

/// Writes a note without allocating: there may be no memory left.
struct Pen<'n> {
    note: &'n Note,
    at: usize,
}

impl<'n> Pen<'n> {
    fn on(note: &'n Note) -> Pen<'n> {
        Pen { note, at: MARK.len() }
    }
}

impl Write for Pen<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes().filter(|byte| *byte != 0) {
            // The last byte stays NUL.
            let place = self.note[..NOTE_BYTES - 1].get(self.at).ok_or(fmt::Error)?;
            place.store(byte, Ordering::Relaxed);
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(note: &Note) -> Vec<u8> {
        note.iter().map(|byte| byte.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn a_note_is_the_mark_the_text_and_a_nul() {
        let note = marked();
        let text = "out\0 of memory";
        write!(Pen::on(&note), "src/a.rs:{}: {text}", 7).unwrap();
        let expected = [&MARK[..], b"src/a.rs:7: out of memory\0"].concat();
        assert_eq!(&read(&note)[..expected.len()], expected);
    }

    #[test]
    fn truncates_a_long_note_before_the_last_nul() {
        let note = marked();
        assert!(write!(Pen::on(&note), "{}", "x".repeat(2 * TEXT_BYTES)).is_err());
        let bytes = read(&note);
        assert_eq!((bytes[NOTE_BYTES - 2], bytes[NOTE_BYTES - 1]), (b'x', 0));
    }
}
