//! What processes show of logs: each line of the container's output once, except for shown gaps (S4).

use super::no_secret;
use crate::coverage_points::CoveragePoint;
use crate::script::masked;
use crate::world::World;

/// What a process has shown of a log.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    next_index: u64,
    /// Nothing is shown after it.
    pub(super) has_result: bool,
    pub(super) pod_uid: Option<String>,
    /// Places in the container's output after the last line shown: several where equal lines leave it open after a gap.
    pub(super) places: Vec<usize>,
    pub(super) has_gap: bool,
    /// The agent printed its session.
    pub(super) has_session: bool,
    /// The last line that was shown is a piece of one.
    pub(super) is_cut: bool,
    /// Lines of this log that were shown.
    lines: u64,
    /// Lines of this log that were reported as lost.
    lost_lines: u64,
    /// A gap of unknown size was reported.
    has_unknown_loss: bool,
}

impl Shown {
    pub(crate) fn reads(&mut self, pod_uid: &str) {
        if self.pod_uid.as_deref() != Some(pod_uid) {
            self.pod_uid = Some(pod_uid.to_owned());
            self.places = vec![0];
            self.has_session = false;
            (self.lines, self.lost_lines, self.has_unknown_loss) = (0, 0, false);
        }
    }

    /// Whether a line may have this index.
    fn expects(&self, index: u64) -> bool {
        !self.has_result && index == self.next_index
    }
}

/// Whether a masked line starts with this text, which may end with up to seven bytes of a secret.
fn starts_masked(line: &str, text: &str) -> bool {
    let is_at_secret = |bytes: usize| {
        let known = text.len().checked_sub(bytes).and_then(|end| text.get(..end));
        known.and_then(|known| line.strip_prefix(known)).is_some_and(|rest| rest.starts_with("[redacted:"))
    };
    line.starts_with(text) || (1..8).any(is_at_secret)
}

/// S4: line by line what the container printed, each once.
pub(crate) fn emitted_line(world: &mut World, process: usize, index: u64, text: &str) {
    no_secret(world, "the log", text);
    let run = world.processes[process].run;
    let shown = &mut world.processes[process].shown;
    if !shown.expects(index) {
        let text = format!("line {index} follows line {}", shown.next_index.wrapping_sub(1));
        return world.violate("S4", text);
    }
    if shown.is_cut {
        let text = format!("line {index} follows a piece of a line without a gap");
        return world.violate("S4", text);
    }
    let is_first = shown.next_index == 0 || shown.places == [0];
    shown.next_index += 1;
    shown.lines += 1;
    let Some(pod) = shown.pod_uid.as_ref().and_then(|uid| world.cluster.pods.get(uid)) else {
        return world.violate("S4", format!("line {index} is shown before any log was read"));
    };
    let lines = &pod.log.lines;
    // Rule 11: what was rotated away before the first read cannot be known to be missing.
    let from_anywhere = is_first && pod.log.rotations > 0;
    let places: Vec<usize> = if from_anywhere {
        (0..lines.len()).collect()
    } else if pod.log.is_counted() {
        // What is lost is reported by the next control line, and compared at the end.
        (shown.places.first().copied().unwrap_or_default()..lines.len()).collect()
    } else {
        shown.places.clone()
    };
    let is_same = |at: &usize| lines.get(*at).is_some_and(|line| line == text || masked(line) == text);
    let next: Vec<usize> = places.iter().copied().filter(is_same).map(|at| at + 1).collect();
    let (is_masked, is_long) = (text.contains("[redacted:"), text.len() > 16 << 10);
    let is_cut = |at: &usize| {
        lines.get(*at).is_some_and(|line| line.starts_with(text) || starts_masked(&masked(line), text))
    };
    if next.is_empty() && !text.is_empty() && places.iter().any(is_cut) {
        // Only a piece could be read: a gap must follow.
        shown.is_cut = true;
        return;
    }
    if next.is_empty() {
        let at = shown.places.first().copied().unwrap_or_default();
        let expected = lines.get(at).map_or("(nothing)", String::as_str);
        let text = format!("line {index} is {text:.80}, and the agent printed {expected:.80}");
        return world.violate("S4", text);
    }
    shown.places = next;
    shown.has_session |= pod.script.grammar.start[0] == text;
    let count = shown.places[0];
    world.runs[run].shown = world.runs[run].shown.max(count);
    world.trace.note(world.now_ms, text.as_bytes());
    if is_masked {
        world.cover(CoveragePoint::Masked);
    }
    if is_long {
        world.cover(CoveragePoint::LongLine);
    }
}

/// S4: the tail of stderr comes after the output, as the termination message has it.
pub(crate) fn emitted_stderr(world: &mut World, process: usize, index: u64, text: &str) {
    no_secret(world, "stderr", text);
    let shown = &mut world.processes[process].shown;
    let is_next = shown.expects(index);
    shown.next_index += 1;
    let is_known =
        world.cluster.pods.values().any(|pod| pod.script.stderr.lines().any(|line| masked(line) == text));
    if !is_next || !is_known {
        world.violate("S4", format!("stderr line {index} {text:?} is out of place"));
    }
    world.cover(CoveragePoint::StderrShown);
}

/// S4: after a gap any later place may follow.
pub(crate) fn emitted_gap(world: &mut World, process: usize, index: u64, lost_lines: Option<u64>) {
    world.cover(CoveragePoint::Gap);
    let run = world.processes[process].run;
    world.runs[run].has_gap = true;
    let shown = &mut world.processes[process].shown;
    if !shown.expects(index) {
        let text = format!("a gap before line {index}, and {} lines were shown", shown.next_index);
        return world.violate("S4", text);
    }
    shown.has_gap = true;
    match lost_lines {
        Some(lines) => shown.lost_lines += lines,
        None => shown.has_unknown_loss = true,
    }
    shown.is_cut = false;
    let from = shown.places.first().copied().unwrap_or_default();
    let Some(pod) = shown.pod_uid.as_ref().and_then(|uid| world.cluster.pods.get(uid)) else { return };
    shown.places = (from..=pod.log.lines.len().max(from) + 4_096).collect();
}

/// S4: of output that is counted to its end, the lines shown and those reported as lost are the lines printed, exactly.
pub(super) fn counted(world: &mut World, process: usize) {
    let shown = &world.processes[process].shown;
    let Some(pod) = shown.pod_uid.as_ref().and_then(|uid| world.cluster.pods.get(uid)) else { return };
    if !pod.log.is_counted_to_its_end() || pod.restarts > 0 || shown.has_unknown_loss {
        return;
    }
    let (lines, lost, printed) = (shown.lines, shown.lost_lines, pod.log.lines.len() as u64);
    world.cover(CoveragePoint::CountedToItsEnd);
    if lines + lost != printed {
        let text =
            format!("{lines} lines were shown and {lost} reported as lost, and the agent printed {printed}");
        world.violate("S4", text);
    }
}
