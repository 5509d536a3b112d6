//! Logs whose output is counted by control lines: what the kubelet loses is reported exactly.

use std::time::Duration;

use paperclip_control_lines::{ControlLine, Count, End, prefix as control_prefix};
use proptest::prelude::*;

use super::run::Run;
use super::server::{Body, Chunk, Kubelet, Log, at, stamped};
use crate::log::{
    ContainerSeen, Line, LogEnd, LogLimits, LogOutput, LogReader, LogRequest, Position,
    timing::ROTATION_BYTES,
};
use crate::time::Timestamp;

const TAG: &str = "5f3a9c01d2b4e678";
/// Lines between two control lines.
const LINES: u64 = 3;

fn counted(position: Position) -> LogReader {
    LogReader::resume(position, LogLimits::default(), 7).counted_by(TAG)
}

fn running() -> Run {
    let mut run = Run::of(counted(Position::default()));
    run.see(ContainerSeen::Running);
    run.open();
    run
}

/// Returns the control line after these lines.
fn control(lines: &[&str], exit_code: Option<i32>) -> String {
    let mut count = Count::default();
    lines.iter().for_each(|line| count.add_line(line.as_bytes()));
    let end = exit_code.map(|exit_code| End { exit_code, is_terminated: true });
    ControlLine { count, end }.text(TAG)
}

fn feed(run: &mut Run, ns: u32, lines: &[&str]) {
    for line in lines {
        run.bytes(&stamped(at(1, ns), format!("{line}\n").as_bytes()));
    }
}

fn losses(run: &Run) -> Vec<(Option<u64>, Option<u64>)> {
    let gaps = run.outputs.iter().filter_map(|output| match output {
        LogOutput::Gap { lost_lines, lost_bytes, .. } => Some((*lost_lines, *lost_bytes)),
        _ => None,
    });
    gaps.collect()
}

#[test]
fn control_lines_are_not_delivered_and_end_the_log() {
    let mut run = running();
    let end = control(&["one", "two"], Some(0));
    feed(&mut run, 1, &[&control(&[], None), "one", &control(&["one"], None), "two", &end]);
    assert_eq!((run.lines(), run.is_complete()), (vec!["one", "two"], None), "the container runs");
    run.reader.on_exited();
    run.see(ContainerSeen::Terminated);
    assert_eq!((run.is_complete(), run.gaps()), (Some(true), 0));
    assert_eq!(run.request, None, "no last read");
}

#[test]
fn a_log_that_was_rotated_ends_without_a_wait() {
    let long = "x".repeat(usize::try_from(ROTATION_BYTES).expect("it is small"));
    let mut run = running();
    feed(&mut run, 1, &[&control(&[], None), &long]);
    run.see(ContainerSeen::Terminated);
    assert_eq!((run.is_complete(), run.request), (None, None), "the last control line is missing");
    feed(&mut run, 2, &[&control(&[&long], Some(1))]);
    assert_eq!((run.is_complete(), run.gaps(), run.request), (Some(true), 0, None));
}

#[test]
fn a_loss_is_reported_exactly_by_the_next_control_line() {
    let mut run = running();
    feed(&mut run, 1, &["two", &control(&["one", "two"], None)]);
    assert_eq!(losses(&run), [(Some(1), Some(4))], "the head");
    feed(&mut run, 2, &["five", &control(&["one", "two", "three", "four", "five"], None)]);
    assert_eq!(losses(&run)[1..], [(Some(2), Some(11))], "the middle");
    feed(&mut run, 3, &[&control(&["one", "two", "three", "four", "five", "six"], Some(0))]);
    assert_eq!(losses(&run)[2..], [(Some(1), Some(4))], "the tail");
}

#[test]
fn lost_and_torn_control_lines_do_no_harm() {
    let mut run = running();
    let first = control(&["one"], None);
    feed(&mut run, 1, &[&control(&[], None), "one", &first[..40], "two"]);
    feed(&mut run, 2, &[&format!("{}{}", &first[..45], &first[30..])]);
    feed(&mut run, 3, &[&control(&["one", "two"], Some(0))]);
    assert_eq!((run.lines(), run.gaps()), (vec!["one", "two"], 0));
}

#[test]
fn control_lines_of_another_run_are_output() {
    let other = control(&["x"; 9], Some(1)).replace(TAG, "0000000000000000");
    let mut run = running();
    feed(&mut run, 1, &[&control(&[], None), &other, &control(&[&other], Some(0))]);
    assert_eq!((run.lines(), run.gaps()), (vec![&*other], 0));
}

#[test]
fn a_burst_that_arrives_late_is_not_a_gap_if_it_is_counted() {
    let text = "x".repeat(64 << 10);
    let mut run = running();
    feed(&mut run, 0, &[&control(&[], None)]);
    let mut printed = Vec::new();
    for number in 0..41 {
        // As in `rule_11_reports_a_gap_if_a_stream_skips_a_file`.
        let s = if number == 40 { 6 } else { 1 };
        run.bytes(&stamped(at(s, number + 1), format!("{text}\n").as_bytes()));
        printed.push(&*text);
        run.now += Duration::from_millis(200);
    }
    run.bytes(&stamped(at(7, 0), format!("{}\n", control(&printed, Some(0))).as_bytes()));
    assert_eq!((run.lines().len(), run.gaps()), (41, 0));
}

#[test]
fn an_end_that_was_written_and_not_read_is_a_gap() {
    let log = Log::of_lines(&[(at(1, 1), &control(&[], None)), (at(1, 2), "one")]);
    let exited = |has_exited: bool| {
        let mut run = running();
        run.bytes(&log.read(LogRequest { follow: true, since_s: None }));
        if has_exited {
            run.reader.on_exited();
        }
        run.see(ContainerSeen::Terminated);
        run
    };
    let mut run = exited(true);
    run.read_without_end(&log);
    assert_eq!((run.is_complete(), losses(&run)), (Some(false), vec![(None, None)]));
    // The init program was killed with its container.
    let mut run = exited(false);
    run.serve(&log);
    run.close(LogEnd::Clean);
    assert_eq!((run.is_complete(), run.gaps()), (Some(true), 0));
}

#[test]
fn a_container_without_the_init_program_is_read_as_before() {
    let log = Log::of_lines(&[(at(1, 1), "one"), (at(1, 2), "two")]);
    let mut run = running();
    run.bytes(&log.read(LogRequest { follow: true, since_s: None }));
    run.reader.on_exited();
    run.finish(&log);
    assert_eq!((run.lines(), run.is_complete(), run.gaps()), (vec!["one", "two"], Some(true), 0));
}

#[test]
fn a_position_without_counts_is_saved_as_before() {
    let mut run = Run::running();
    run.open();
    feed(&mut run, 1, &["one"]);
    let text = serde_json::to_string(run.reader.position()).expect("it is plain data");
    assert!(!text.contains("counted"), "{text}");
}

/// The next thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// The agent prints lines, each this long after the one before, in ns.
    Print(usize, u64),
    /// So many bytes arrive.
    Deliver(usize),
    /// The kubelet skips these bytes of what it has not sent: a part of all of them, in 1,024ths.
    Lose(usize, usize),
    Break,
    /// New readers get what is printed from now on.
    Rotate,
    Save,
    CrashHost,
}

struct World {
    log: Log,
    now_ns: u64,
    printed: Count,
    uncounted: u64,
    now: Timestamp,
    reader: LogReader,
    request: Option<LogRequest>,
    body: Option<Body>,
    /// Lines that were delivered before the stream was opened: it repeats some of them, and what it repeats is whole.
    lines_before: u64,
    /// Delivered lines, lines reported as lost, gaps of unknown size.
    items: (u64, u64, u64),
    saved: (String, (u64, u64, u64)),
    ended: Option<bool>,
    may_lose: bool,
}

impl World {
    fn new() -> World {
        let saved = (serde_json::to_string(&Position::default()).expect("it is plain data"), (0, 0, 0));
        let mut world = World {
            log: Log::new(Kubelet::Modern, Vec::new()),
            now_ns: 36_000_400_000_000,
            printed: Count::default(),
            uncounted: 0,
            now: Timestamp::from_millis(1_000_000),
            reader: counted(Position::default()),
            request: None,
            body: None,
            lines_before: 0,
            items: (0, 0, 0),
            saved,
            ended: None,
            may_lose: false,
        };
        world.count(None);
        world.reader.on_container(world.now, ContainerSeen::Running);
        world.drain();
        world
    }

    fn write(&mut self, text: &[u8]) {
        let stamp = at((self.now_ns / 1_000_000_000).cast_signed(), (self.now_ns % 1_000_000_000) as u32);
        self.log.chunks.push(Chunk { stamp, text: text.to_vec(), is_last: true });
        self.log.written = self.log.chunks.len();
        if let Some(body) = &mut self.body {
            self.log.send(body);
        }
    }

    fn count(&mut self, exit_code: Option<i32>) {
        let end = exit_code.map(|exit_code| End { exit_code, is_terminated: true });
        self.write(ControlLine { count: self.printed, end }.text(TAG).as_bytes());
        self.uncounted = 0;
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Print(lines, after_ns) => {
                for _ in 0..*lines {
                    self.now_ns += after_ns;
                    let text = format!("{}", self.printed.lines / 2);
                    self.printed.add_line(text.as_bytes());
                    self.uncounted += 1;
                    self.write(text.as_bytes());
                    if self.uncounted == LINES {
                        self.count(None);
                    }
                }
            }
            Step::Deliver(bytes) => self.deliver(*bytes),
            Step::Lose(from, until) => self.lose(*from, *until),
            Step::Break => {
                if self.body.take().is_some() {
                    self.reader.on_closed(self.now, LogEnd::Broken("reset".to_owned()));
                }
            }
            Step::Rotate => {
                self.may_lose = true;
                self.log.rotate();
            }
            Step::Save => {
                let position = serde_json::to_string(self.reader.position()).expect("it is plain data");
                self.saved = (position, self.items);
            }
            Step::CrashHost => {
                (self.request, self.body, self.items) = (None, None, self.saved.1);
                self.reader = counted(serde_json::from_str(&self.saved.0).expect("it was written"));
                self.reader.on_container(self.now, ContainerSeen::Running);
            }
        }
        self.drain();
        self.accept();
    }

    fn accept(&mut self) {
        if self.request.is_none() && self.body.is_none() && self.ended.is_none() {
            self.now = self.now.max(self.reader.deadline().unwrap_or_default());
            self.reader.on_deadline(self.now);
            self.drain();
        }
        if let Some(request) = self.request.take() {
            let mut body = self.log.open(request);
            self.log.send(&mut body);
            self.body = Some(body);
            self.lines_before = self.reader.position().lines();
            self.reader.on_opened(self.now, false);
            self.drain();
        }
    }

    fn deliver(&mut self, bytes: usize) {
        let Some(body) = &mut self.body else { return };
        let piece: Vec<u8> = body.pending.drain(..bytes.min(body.pending.len())).collect();
        self.reader.on_bytes(self.now, &piece);
        self.drain();
    }

    /// Loses bytes anywhere. The runtime splits lines of over 16 KiB only, so no control line is cut within its prefix.
    fn lose(&mut self, from: usize, until: usize) {
        let is_replayed = self.lines_before == 0 || self.reader.position().lines() > self.lines_before;
        let Some(body) = self.body.as_mut().filter(|_| is_replayed) else { return };
        let all = body.pending.len();
        let (from, until) = (all * from.min(until) / 1024, all * from.max(until) / 1024);
        let prefix = control_prefix(TAG);
        let (before, after) = (&body.pending[..from], &body.pending[from..]);
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line_end = after.iter().position(|byte| *byte == b'\n').map_or(all, |at| from + at);
        let line = &body.pending[line_start..line_end];
        let control_at = line.windows(prefix.len()).position(|part| part == prefix.as_bytes());
        let is_in_prefix = control_at.is_some_and(|at| from - line_start < at + prefix.len());
        // The start of the stream may be the rest of a line of which a part was delivered.
        if (is_in_prefix && from > line_start) || (line_start == 0 && from > 0) {
            return;
        }
        self.may_lose |= until > from;
        body.pending.drain(from..until);
    }

    fn drain(&mut self) {
        while let Some(output) = self.reader.poll() {
            match output {
                LogOutput::Open(request) => self.request = Some(request),
                LogOutput::Close => (self.request, self.body) = (None, None),
                LogOutput::Lines(lines) => {
                    let is_output = |line: &Line| matches!(line, Line::Whole(text) | Line::Torn(text) if !text.starts_with("#paperclip"));
                    assert!(lines.iter().all(is_output), "{lines:?}");
                    self.items.0 += lines.len() as u64;
                }
                LogOutput::Gap { lost_lines: Some(lines), .. } => self.items.1 += lines,
                LogOutput::Gap { lost_lines: None, .. } => self.items.2 += 1,
                LogOutput::Ended { is_complete, .. } => self.ended = Some(is_complete),
                LogOutput::Interrupted { .. } | LogOutput::Resumed | LogOutput::Diagnostic(_) => {}
            }
        }
    }

    fn finish(&mut self) {
        self.now_ns += 1;
        self.count(Some(0));
        self.reader.on_exited();
        self.reader.on_container(self.now, ContainerSeen::Terminated);
        self.drain();
        for _ in 0..100 {
            if self.ended.is_some() {
                return;
            }
            self.accept();
            self.deliver(usize::MAX);
            if self.ended.is_none() && self.body.take().is_some() {
                self.reader.on_closed(self.now, LogEnd::Clean);
                self.drain();
            }
        }
        panic!("no end: {:?}", self.reader);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![Just(0_u64), Just(1_000), Just(300_000_000), Just(1_100_000_000)];
    let step = prop_oneof![
        8 => (1_usize..12, pause).prop_map(|(lines, after_ns)| Step::Print(lines, after_ns)),
        6 => (1_usize..600).prop_map(Step::Deliver),
        4 => Just(Step::Deliver(usize::MAX)),
        3 => (0_usize..1025, 0_usize..1025).prop_map(|(from, until)| Step::Lose(from, until)),
        2 => Just(Step::Break),
        1 => Just(Step::Rotate),
        3 => Just(Step::Save),
        1 => Just(Step::CrashHost),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lines_delivered_and_reported_lost_are_the_lines_printed(steps in steps()) {
        let mut world = World::new();
        world.accept();
        steps.iter().for_each(|step| world.step(step));
        world.finish();
        let (delivered, lost, unknown) = world.items;
        if world.ended == Some(true) {
            prop_assert_eq!(delivered + lost, world.printed.lines);
        } else {
            prop_assert!(unknown > 0 && world.may_lose);
            prop_assert!(delivered + lost <= world.printed.lines);
        }
        prop_assert!(world.may_lose || lost == 0 && unknown == 0, "a false gap");
    }
}
