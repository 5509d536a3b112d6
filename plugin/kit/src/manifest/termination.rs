//! The termination message of a run's container: the tail of the agent's stderr, after a marker.

/// The line before the tail. The script prints it in single quotes, so it contains none.
pub const MARKER: &str = "--- paperclip: end of stderr ---";
/// Kubernetes keeps the last bytes of a termination message, at most so many.
pub const MESSAGE_MAX_BYTES: usize = 4096;

/// Splits a termination message into the text that the agent itself wrote and the tail of its stderr.
///
/// ```
/// use paperclip_kit::manifest::termination::{MARKER, split};
///
/// assert_eq!(split(&format!("{MARKER}\nno space left\n")), ("", Some("no space left\n")));
/// ```
pub fn split(message: &str) -> (&str, Option<&str>) {
    let marker_line = |at: usize| {
        let is_line_start = at == 0 || message[..at].ends_with('\n');
        let tail = message[at + MARKER.len()..].strip_prefix('\n')?;
        is_line_start.then_some((&message[..at], Some(tail)))
    };
    // The agent may have printed the marker itself: the first one is the script's.
    message.match_indices(MARKER).find_map(|(at, _)| marker_line(at)).unwrap_or((message, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_messages_at_the_marker_line() {
        let marked = |before: &str, tail: &str| format!("{before}{MARKER}\n{tail}");
        for (message, expected) in [
            (String::new(), ("", None)),
            ("own text".into(), ("own text", None)),
            (marked("", "boom\n"), ("", Some("boom\n"))),
            (marked("own\n", "boom"), ("own\n", Some("boom"))),
            (marked("", ""), ("", Some(""))),
            (format!("x {MARKER}\n"), (&*format!("x {MARKER}\n"), None)),
            (format!("{MARKER}!"), (&*format!("{MARKER}!"), None)),
            (marked("", &marked("a\n", "b")), ("", Some(&*marked("a\n", "b")))),
        ] {
            assert_eq!(split(&message), expected, "{message:?}");
        }
    }
}
