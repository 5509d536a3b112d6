//! Removes terminal escape sequences from text.

use std::borrow::Cow;

const ESCAPE: char = '\u{1b}';

/// Returns `text` without escape sequences (ECMA-48: CSI such as colours, OSC such as titles, and the shorter ones).
pub fn without_escapes(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find(ESCAPE) else { return Cow::Borrowed(text) };
    let mut clean = String::with_capacity(text.len());
    clean.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(after) = rest.strip_prefix(ESCAPE) {
        let after = &after[sequence_bytes(after)..];
        let next = after.find(ESCAPE).unwrap_or(after.len());
        clean.push_str(&after[..next]);
        rest = &after[next..];
    }
    Cow::Owned(clean)
}

/// How many bytes of `text`, which follows an escape character, belong to the sequence.
fn sequence_bytes(text: &str) -> usize {
    let is_final = |c: char| matches!(c, '@'..='~');
    let through = |body: &str, start: usize, is_end: fn(char) -> bool| {
        body.find(is_end).map_or(start + body.len(), |at| start + at + 1)
    };
    match text.as_bytes().first() {
        Some(b'[') => through(&text[1..], 1, is_final),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => string_bytes(&text[1..]).map_or(1, |bytes| 1 + bytes),
        Some(b' '..=b'/') => through(text, 0, |c| matches!(c, '0'..='~')),
        Some(b'0'..=b'~') => 1,
        Some(_) | None => 0,
    }
}

/// The bytes of a control string with its terminator; `None` if it is not terminated.
fn string_bytes(text: &str) -> Option<usize> {
    let (at, terminator) = [("\u{7}", 1), ("\u{1b}\\", 2)]
        .into_iter()
        .filter_map(|(terminator, bytes)| Some((text.find(terminator)?, bytes)))
        .min()?;
    Some(at + terminator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_sequences_and_keeps_text() {
        for (text, expected) in [
            ("plain", "plain"),
            ("\u{1b}[31mred\u{1b}[0m!", "red!"),
            ("\u{1b}[?2004h{\"a\":1}", "{\"a\":1}"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}]8;;https://a.test\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]0;not terminated {\"a\":1}", "0;not terminated {\"a\":1}"),
            ("\u{1b}(Bx\u{1b}=y\u{1b}7z", "xyz"),
            ("\u{1b}[31", ""),
            ("a\u{1b}", "a"),
            ("\u{1b}é", "é"),
            ("\u{1b}\u{1b}[1mx", "x"),
        ] {
            assert_eq!(without_escapes(text), expected, "{text:?}");
        }
    }
}
