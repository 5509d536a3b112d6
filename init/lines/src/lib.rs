//! Control lines: what the init program adds to an agent's output, so that whoever reads the container's log knows what is missing.
//!
//! A control line is a line of its own, between lines of the agent:
//!
//! ```text
//! #paperclip:1:5f3a9c01d2b4e678:1000:81234:9a3bc1d2:-:0c14e7aa
//! ```
//!
//! Its fields are the version of the format, the run's tag, how many lines and bytes precede it, their CRC-32, the exit code or `-`, and
//! the CRC-32 of the control line itself up to its last colon. Control lines do not count. The last one has the exit code, with a `u` before
//! it if the agent did not terminate its last line; the line feed that ends that line is the init program's, and counts.
//!
//! ```
//! use paperclip_control_lines::{ControlLine, Count, End, Parsed, parse, prefix};
//!
//! let mut count = Count::default();
//! count.add(b"one\ntwo\n");
//! let line = ControlLine { count, end: Some(End { exit_code: 0, is_terminated: true }) };
//! let text = line.text("5f3a9c01d2b4e678");
//! assert_eq!(parse(&prefix("5f3a9c01d2b4e678"), text.as_bytes()), Parsed::Control(line));
//! ```

/// The version of the format. It rises when a reader of an older one would misread a line.
pub const FORMAT: u32 = 1;
/// The annotation of a Job whose agent's output has control lines: their format and their tag, with a colon between them.
pub const ANNOTATION: &str = "paperclip.io/control-lines";
/// Most lines between two control lines.
pub const MAX_LINES: u64 = 1000;

/// Returns whether this version reads the control lines of a Job with this annotation.
///
/// ```
/// assert!(paperclip_control_lines::is_readable("1:5f3a9c01d2b4e678"));
/// assert!(!paperclip_control_lines::is_readable("2:5f3a9c01d2b4e678"));
/// ```
pub fn is_readable(annotation: &str) -> bool {
    annotation.split_once(':').is_some_and(|(format, _)| format.parse() == Ok(FORMAT))
}

/// How much output there was so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub lines: u64,
    /// Line feeds included.
    pub bytes: u64,
    /// The CRC-32 of these bytes.
    pub checksum: u32,
}

impl Count {
    /// Adds output, cut anywhere.
    pub fn add(&mut self, output: &[u8]) {
        self.lines += memchr::memchr_iter(b'\n', output).count() as u64;
        self.bytes += output.len() as u64;
        self.checksum = extended(self.checksum, &[output]);
    }

    /// Adds a line without its line feed.
    pub fn add_line(&mut self, text: &[u8]) {
        self.lines += 1;
        self.bytes += text.len() as u64 + 1;
        self.checksum = extended(self.checksum, &[text, b"\n"]);
    }
}

fn extended(checksum: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(checksum);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// One control line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlLine {
    /// What precedes it.
    pub count: Count,
    /// Set on the last one.
    pub end: Option<End>,
}

/// The end of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Of the agent, or 128 and the number of the signal that ended it.
    pub exit_code: i32,
    /// The agent printed a line feed after its last line.
    pub is_terminated: bool,
}

impl ControlLine {
    /// Returns the text of the line, without its line feed.
    pub fn text(&self, tag: &str) -> String {
        let Count { lines, bytes, checksum } = self.count;
        let end = match self.end {
            None => "-".to_owned(),
            Some(End { exit_code, is_terminated: true }) => exit_code.to_string(),
            Some(End { exit_code, is_terminated: false }) => format!("u{exit_code}"),
        };
        let text = format!("{}{lines}:{bytes}:{checksum:08x}:{end}:", prefix(tag));
        let own = extended(0, &[text.as_bytes()]);
        format!("{text}{own:08x}")
    }
}

/// Returns how the control lines of a run start.
pub fn prefix(tag: &str) -> String {
    format!("#paperclip:{FORMAT}:{tag}:")
}

/// What a line of a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A line of the agent.
    Output,
    Control(ControlLine),
    /// A control line whose rest is missing or is another line's.
    Torn,
}

/// Parses a line without its line feed.
pub fn parse(prefix: &str, line: &[u8]) -> Parsed {
    match line.strip_prefix(prefix.as_bytes()) {
        None => Parsed::Output,
        Some(rest) => fields(prefix, rest).map_or(Parsed::Torn, Parsed::Control),
    }
}

fn fields(prefix: &str, rest: &[u8]) -> Option<ControlLine> {
    let rest = std::str::from_utf8(rest).ok()?;
    let (text, own) = rest.rsplit_once(':')?;
    if hex(own)? != extended(0, &[prefix.as_bytes(), text.as_bytes(), b":"]) {
        return None;
    }
    let mut fields = text.split(':');
    let mut next = || fields.next();
    let (lines, bytes) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let checksum = hex(next()?)?;
    let end = match next()? {
        "-" => None,
        code => {
            let unterminated = code.strip_prefix('u');
            let exit_code = unterminated.unwrap_or(code).parse().ok()?;
            Some(End { exit_code, is_terminated: unterminated.is_none() })
        }
    };
    next().is_none().then_some(ControlLine { count: Count { lines, bytes, checksum }, end })
}

fn hex(text: &str) -> Option<u32> {
    (text.len() == 8).then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "5f3a9c01d2b4e678";

    fn line(lines: u64, end: Option<End>) -> ControlLine {
        ControlLine { count: Count { lines, bytes: 10 * lines, checksum: 0x00c0_ffee }, end }
    }

    #[test]
    fn every_line_is_parsed_as_it_was_written() {
        let ends = [
            None,
            Some(End { exit_code: 0, is_terminated: true }),
            Some(End { exit_code: 143, is_terminated: false }),
        ];
        for end in ends {
            for lines in [0, 1, 1000, u64::MAX / 10] {
                let control = line(lines, end);
                assert_eq!(parse(&prefix(TAG), control.text(TAG).as_bytes()), Parsed::Control(control));
            }
        }
    }

    #[test]
    fn a_line_of_another_run_is_output() {
        assert_eq!(parse(&prefix("other"), line(3, None).text(TAG).as_bytes()), Parsed::Output);
        assert_eq!(parse(&prefix(TAG), b"#paperclip"), Parsed::Output);
    }

    #[test]
    fn a_torn_line_is_not_a_count_wherever_it_is_cut_and_whatever_is_appended() {
        let (first, second) = (line(12, None).text(TAG), line(3456, None).text(TAG));
        let prefix = prefix(TAG);
        for cut in prefix.len()..first.len() {
            assert_eq!(parse(&prefix, &first.as_bytes()[..cut]), Parsed::Torn, "cut at {cut}");
            for from in 0..second.len() {
                let joined = [&first.as_bytes()[..cut], &second.as_bytes()[from..]].concat();
                let parsed = parse(&prefix, &joined);
                let is_whole = joined == first.as_bytes() || joined == second.as_bytes();
                assert_eq!(parsed == Parsed::Torn, !is_whole, "{}", String::from_utf8_lossy(&joined));
            }
        }
    }

    #[test]
    fn output_counts_the_same_by_pieces_and_by_lines() {
        let text = b"one\n\ntwo\xff\r\n";
        let (mut by_pieces, mut by_lines) = (Count::default(), Count::default());
        text.chunks(3).for_each(|piece| by_pieces.add(piece));
        text[..text.len() - 1].split(|byte| *byte == b'\n').for_each(|line| by_lines.add_line(line));
        assert_eq!(by_pieces, by_lines);
        assert_eq!((by_lines.lines, by_lines.bytes), (3, text.len() as u64));
    }
}
