//! A container's log files, as the runtime writes them and the kubelet serves them.

use jiff::Timestamp;
use paperclip_control_lines::{ControlLine, Count, End, prefix};

use crate::grammar::Grammar;

/// The runtime stores longer lines in chunks (rule 4).
const CHUNK_BYTES: usize = 16 << 10;
/// Shortest time between two rotations, in ms.
const ROTATION_MS: u64 = 10_000;

/// What a container printed, and what is left of it on the node.
#[derive(Debug, Default)]
pub(crate) struct ContainerLog {
    /// Every line in order: the truth with which the shown log is compared.
    pub(crate) lines: Vec<String>,
    entries: Vec<Entry>,
    /// First entry of the file that is served to new readers (rule 11).
    current: usize,
    /// First entry that still exists, in an older file: readers that follow get there.
    oldest: usize,
    /// Lines that nobody could read any more when they were rotated away, or whose chunks were.
    pub(crate) rotations: u32,
    rotated_ms: Option<u64>,
    /// When the last line was printed.
    pub(crate) last_line_ms: Option<u64>,
    /// When the last event was printed.
    pub(crate) last_event_ms: Option<u64>,
    /// How many result events were printed.
    pub(crate) reports: u32,
    /// How many background tasks are open, as the agent said last.
    pub(crate) open_tasks: u64,
    /// Set if the init program counts the output.
    counted: Option<Counted>,
    /// The longest time between two lines, in ms.
    longest_silence_ms: u64,
    /// The longest time between two events after a report, in ms: while no task was open, and while one was.
    longest_stays_ms: [u64; 2],
}

/// The state of the init program.
#[derive(Debug)]
struct Counted {
    tag: String,
    count: Count,
    /// It has written the last control line.
    has_ended: bool,
}

/// What becomes of a control line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlFate {
    Stored,
    Lost,
    /// Its end is missing.
    Torn,
}

#[derive(Debug)]
struct Entry {
    at_ns: u64,
    text: Vec<u8>,
    is_first_chunk: bool,
    is_last_chunk: bool,
}

/// A place in a log: the next entry to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    next: usize,
    /// The end of what the container printed, if another one has taken its place.
    until: Option<usize>,
}

impl ContainerLog {
    /// Stores a line. Lines of one burst have one stamp (rule 3); none has the stamp of a line in an earlier file.
    pub(crate) fn print(&mut self, at_ms: u64, line: String, grammar: &Grammar) {
        self.longest_silence_ms = self.longest_silence_ms(at_ms);
        self.last_line_ms = Some(at_ms);
        if line.starts_with('{') && line.ends_with('}') {
            self.longest_stays_ms = [self.longest_stay_ms(at_ms, false), self.longest_stay_ms(at_ms, true)];
            self.last_event_ms = Some(at_ms);
            self.reports += u32::from(grammar.verdict(&line).is_some());
            self.open_tasks = grammar.open_tasks(&line).unwrap_or(self.open_tasks);
        }
        if let Some(counted) = &mut self.counted {
            counted.count.add_line(line.as_bytes());
        }
        self.store(at_ms, line.as_bytes());
        self.lines.push(line);
    }

    /// Stores a line in chunks.
    fn store(&mut self, at_ms: u64, mut rest: &[u8]) {
        let at_ns = at_ms * 1_000_000 + 123 + u64::from(self.rotations);
        let mut is_first_chunk = true;
        loop {
            // The runtime knows no characters.
            let (chunk, after) = rest.split_at(rest.len().min(CHUNK_BYTES));
            let is_last_chunk = after.is_empty();
            self.entries.push(Entry { at_ns, text: chunk.to_vec(), is_first_chunk, is_last_chunk });
            if is_last_chunk {
                break;
            }
            is_first_chunk = false;
            rest = after;
        }
    }

    /// The init program starts: what is printed from now on is counted.
    pub(crate) fn start_counting(&mut self, at_ms: u64, tag: &str, fate: ControlFate) {
        self.counted = Some(Counted { tag: tag.to_owned(), count: Count::default(), has_ended: false });
        self.count(at_ms, None, fate);
    }

    /// Writes a control line, the last one with an exit code.
    pub(crate) fn count(&mut self, at_ms: u64, exit_code: Option<i32>, fate: ControlFate) {
        let Some(counted) = self.counted.as_mut().filter(|counted| !counted.has_ended) else { return };
        counted.has_ended = exit_code.is_some();
        let end = exit_code.map(|exit_code| End { exit_code, is_terminated: true });
        let text = ControlLine { count: counted.count, end }.text(&counted.tag);
        let torn_bytes = prefix(&counted.tag).len() + 3;
        match fate {
            ControlFate::Stored => self.store(at_ms, text.as_bytes()),
            ControlFate::Torn => self.store(at_ms, &text.as_bytes()[..torn_bytes]),
            ControlFate::Lost => {}
        }
    }

    pub(crate) fn is_counted(&self) -> bool {
        self.counted.is_some()
    }

    /// Whether the init program has written its last control line: then all output is counted.
    pub(crate) fn is_counted_to_its_end(&self) -> bool {
        self.counted.as_ref().is_some_and(|counted| counted.has_ended)
    }

    /// How much a reader that follows has not read.
    pub(crate) fn unread(&self, reading: Reading) -> usize {
        self.entries.len().saturating_sub(reading.next.max(self.oldest))
    }

    /// A reader that follows is slower than the container: it skips so many entries, whose file is rotated away.
    pub(crate) fn skip(&mut self, reading: &mut Reading, entries: usize, now_ms: u64) {
        let mut at = (reading.next.max(self.oldest) + entries).min(self.entries.len());
        while self.entries.get(at).is_some_and(|entry| !entry.is_first_chunk) {
            at += 1;
        }
        self.rotated_ms = Some(now_ms);
        (self.oldest, self.current) = (at, at.max(self.current));
        self.rotations += 1;
        reading.next = at;
    }

    /// The longest time without a line so far, in ms. What was decided for it may be carried out much later, for example while the API does
    /// not answer.
    pub(crate) fn longest_silence_ms(&self, now_ms: u64) -> u64 {
        let current_ms = self.last_line_ms.map_or(0, |last_ms| now_ms.saturating_sub(last_ms));
        self.longest_silence_ms.max(current_ms)
    }

    /// The longest time without an event after a report so far, in ms, while tasks were open or while none was.
    pub(crate) fn longest_stay_ms(&self, now_ms: u64, has_open_tasks: bool) -> u64 {
        let is_current = self.reports > 0 && (self.open_tasks > 0) == has_open_tasks;
        let last_ms = self.last_event_ms.filter(|_| is_current).unwrap_or(now_ms);
        self.longest_stays_ms[usize::from(has_open_tasks)].max(now_ms.saturating_sub(last_ms))
    }

    /// The kubelet checks the sizes of logs every 10 s. A reader that follows is not two files behind by then.
    pub(crate) fn may_rotate(&self, now_ms: u64) -> bool {
        self.rotated_ms.is_none_or(|rotated_ms| rotated_ms + ROTATION_MS <= now_ms)
    }

    /// Starts a new file. Readers that follow continue with the file before; older files are deleted.
    pub(crate) fn rotate(&mut self, now_ms: u64) {
        self.rotated_ms = Some(now_ms);
        self.oldest = self.current;
        self.current = self.entries.len();
        self.rotations += 1;
    }

    /// Another container takes the place of this one, with a log of its own. Who reads this one's may read it to its end.
    pub(crate) fn restart(&mut self) {
        self.oldest = self.current;
        self.current = self.entries.len();
        self.rotations += 1;
    }

    /// What a reader reads ends here.
    pub(crate) fn end_reading(&self, reading: &mut Reading) {
        reading.until.get_or_insert(self.entries.len());
    }

    pub(crate) fn is_at_end(&self, reading: Reading) -> bool {
        reading.until.is_some_and(|until| reading.next >= until)
    }

    /// A new reader starts in the current file (rule 11), at the first entry of this second (rule 1).
    pub(crate) fn open(&self, since_s: Option<i64>) -> Reading {
        let since_ns = since_s.map_or(0, |since_s| since_s.unsigned_abs() * 1_000_000_000);
        let from = self.entries[self.current..].iter().position(|entry| entry.at_ns >= since_ns);
        Reading { next: from.map_or(self.entries.len(), |at| self.current + at), until: None }
    }

    pub(crate) fn has_more(&self, reading: Reading) -> bool {
        reading.next < reading.until.unwrap_or(self.entries.len())
    }

    /// The bytes that a reader gets next.
    pub(crate) fn read(&self, reading: &mut Reading, stamps_chunks: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let until = reading.until.unwrap_or(self.entries.len());
        for entry in &self.entries[reading.next.max(self.oldest).min(until)..until] {
            if entry.is_first_chunk || stamps_chunks {
                push_stamp(&mut bytes, entry.at_ns);
            }
            bytes.extend_from_slice(&entry.text);
            if entry.is_last_chunk {
                bytes.push(b'\n');
            }
        }
        reading.next = until;
        bytes
    }
}

fn push_stamp(bytes: &mut Vec<u8>, at_ns: u64) {
    let stamp = Timestamp::from_nanosecond(i128::from(at_ns)).expect("a time of this century");
    bytes.extend_from_slice(format!("{stamp:.9} ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_800_000_000;

    fn text(log: &ContainerLog, since_s: Option<i64>, stamps_chunks: bool) -> String {
        let mut reading = log.open(since_s);
        String::from_utf8(log.read(&mut reading, stamps_chunks)).unwrap()
    }

    #[test]
    fn lines_are_stamped_and_served_from_a_whole_second_on() {
        let (mut log, grammar) = (ContainerLog::default(), Grammar::of("claude_k8s").unwrap());
        log.print(S * 1_000, "a".to_owned(), &grammar);
        log.print(S * 1_000 + 1_500, "b".to_owned(), &grammar);
        assert_eq!(
            text(&log, None, false),
            "2027-01-15T08:00:00.000000123Z a\n2027-01-15T08:00:01.500000123Z b\n"
        );
        assert_eq!(text(&log, Some(S as i64 + 1), false), "2027-01-15T08:00:01.500000123Z b\n");
        log.rotate(S * 1_000 + 1_600);
        log.print(S * 1_000 + 1_700, "c".to_owned(), &grammar);
        assert_eq!(text(&log, Some(S as i64 + 1), false), "2027-01-15T08:00:01.700000124Z c\n");
    }

    #[test]
    fn a_long_line_comes_in_chunks_of_which_newer_kubelets_stamp_the_first() {
        let (mut log, grammar) = (ContainerLog::default(), Grammar::of("claude_k8s").unwrap());
        log.print(S * 1_000, "x".repeat(CHUNK_BYTES * 2 + 1), &grammar);
        assert_eq!(text(&log, None, false).matches('Z').count(), 1);
        assert_eq!(text(&log, None, true).matches('Z').count(), 3);
        assert_eq!(text(&log, None, true).lines().count(), 1);
    }
}
