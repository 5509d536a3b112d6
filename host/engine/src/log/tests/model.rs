//! A model of a container, a server with every fault and a host that crashes, and a check of what the reader guarantees.

use std::time::Duration;

use proptest::prelude::*;

use super::server::{Body, Chunk, Kubelet, Log, at, prefix};
use crate::log::chunks::CHUNK_BYTES;
use crate::log::{ContainerSeen, Line, LogEnd, LogLimits, LogOutput, LogReader, LogRequest, Position};
use crate::time::Timestamp;

const FSNOTIFY: &str = "failed to create fsnotify watcher: too many open files";

/// The next thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Accept,
    Deliver(usize),
    DeliverAll,
    Break,
    EndCleanly,
    EndWithText,
    Refuse(u16),
    Wait(u64),
    Container(ContainerSeen),
    /// The sink has all items so far.
    Save,
    CrashHost,
    Rotate,
}

/// A fault of a last read.
#[derive(Debug, Clone)]
enum Fault {
    Break(usize),
    /// A clean end in the middle of a line.
    EndCleanly(usize),
    Refuse(u16),
    Text,
    CrashHost,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Line(String),
    Gap,
}

struct World {
    log: Log,
    reader: LogReader,
    seed: u64,
    now: Timestamp,
    request: Option<LogRequest>,
    body: Option<Body>,
    /// The delivered part of the stream's last line.
    partial: Vec<u8>,
    /// The same of the previous stream.
    partial_before: Vec<u8>,
    items: Vec<Item>,
    saved: (String, usize),
    is_interrupted: bool,
    has_ended_cleanly: bool,
    /// Lines were returned while interrupted: the rest of a log that the reader gives up.
    has_stray_lines: bool,
    /// The gap in place of the rest was returned.
    is_given_up: bool,
    ended: Option<bool>,
    was_rotated: bool,
}

impl World {
    fn new(log: Log, seed: u64) -> Self {
        let saved = (serde_json::to_string(&Position::default()).unwrap(), 0);
        let reader = LogReader::new(LogLimits::default(), seed);
        let mut world = Self {
            log,
            reader,
            seed,
            now: Timestamp::from_millis(1_000_000),
            request: None,
            body: None,
            partial: Vec::new(),
            partial_before: Vec::new(),
            items: Vec::new(),
            saved,
            is_interrupted: false,
            has_ended_cleanly: false,
            has_stray_lines: false,
            is_given_up: false,
            ended: None,
            was_rotated: false,
        };
        world.drain();
        world
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(count) => self.write(*count),
            Step::Accept => self.accept(),
            Step::Deliver(count) => self.deliver(*count),
            Step::DeliverAll => self.deliver(usize::MAX),
            Step::Break => self.close(LogEnd::Broken("connection reset".to_owned())),
            Step::EndCleanly => self.close(LogEnd::Clean),
            Step::EndWithText => self.end_with_text(),
            Step::Refuse(status) => self.refuse(*status),
            Step::Wait(ms) => self.wait(*ms),
            Step::Container(seen) => self.reader.on_container(self.now, *seen),
            Step::Save => self.save(),
            Step::CrashHost => self.crash(),
            Step::Rotate => self.rotate(),
        }
        self.drain();
    }

    fn write(&mut self, count: usize) {
        self.log.written = self.log.written.saturating_add(count).min(self.log.chunks.len());
        if let Some(body) = self.body.as_mut().filter(|body| body.request.follow) {
            self.log.send(body);
        }
    }

    fn accept(&mut self) {
        if let Some(request) = self.request.take() {
            let mut body = self.log.open(request);
            self.log.send(&mut body);
            self.body = Some(body);
            self.partial_before = std::mem::take(&mut self.partial);
            self.reader.on_opened(self.now, false);
        }
    }

    fn deliver(&mut self, count: usize) {
        let Some(body) = &mut self.body else { return };
        let piece: Vec<u8> = body.pending.drain(..count.min(body.pending.len())).collect();
        self.hand_over(&piece);
    }

    fn hand_over(&mut self, piece: &[u8]) {
        if !piece.is_empty() {
            self.partial.extend(piece);
            if let Some(at) = self.partial.iter().rposition(|byte| *byte == b'\n') {
                self.partial.drain(..=at);
            }
            self.reader.on_bytes(self.now, piece);
        }
    }

    fn close(&mut self, end: LogEnd) {
        if self.body.take().is_some() {
            self.has_ended_cleanly = end == LogEnd::Clean;
            self.reader.on_closed(self.now, end);
        }
    }

    fn end_with_text(&mut self) {
        if self.body.is_some() {
            self.deliver(usize::MAX);
            self.hand_over(FSNOTIFY.as_bytes());
            self.close(LogEnd::Clean);
        }
    }

    fn refuse(&mut self, status: u16) {
        if self.request.take().is_some() {
            let end = LogEnd::Refused { status, message: "container is waiting to start".to_owned() };
            self.reader.on_closed(self.now, end);
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.reader.on_deadline(self.now);
    }

    fn save(&mut self) {
        self.saved = (serde_json::to_string(self.reader.position()).unwrap(), self.items.len());
    }

    fn crash(&mut self) {
        (self.request, self.body, self.is_interrupted) = (None, None, false);
        self.items.truncate(self.saved.1);
        self.seed += 1;
        let position = serde_json::from_str(&self.saved.0).unwrap();
        self.reader = LogReader::resume(position, LogLimits::default(), self.seed);
    }

    /// Rotates where a line ends.
    fn rotate(&mut self) {
        while self.log.written > 0 && !self.log.chunks[self.log.written - 1].is_last {
            if self.log.written == self.log.chunks.len() {
                return;
            }
            self.write(1);
        }
        self.was_rotated = true;
        self.log.rotate();
    }

    fn drain(&mut self) {
        while let Some(output) = self.reader.poll() {
            assert_eq!(self.ended, None, "{output:?} after the end");
            let is_end = matches!(output, LogOutput::Ended { is_complete: false, .. });
            assert!(is_end || !self.is_given_up, "{output:?} after the rest was given up");
            // If the rest is given up, a gap replaces it, and the end follows.
            self.is_given_up = self.has_stray_lines && matches!(output, LogOutput::Gap { .. });
            assert!(
                is_end || self.is_given_up || !self.has_stray_lines,
                "lines before the resumption was reported"
            );
            match output {
                LogOutput::Open(request) => {
                    assert!(self.request.is_none() && self.body.is_none(), "D1: a second stream");
                    self.request = Some(request);
                }
                LogOutput::Close => {
                    assert!(self.request.is_some() || self.body.is_some(), "nothing to close");
                    (self.request, self.body) = (None, None);
                }
                LogOutput::Lines(lines) => self.take_lines(lines),
                LogOutput::Gap { .. } => self.items.push(Item::Gap),
                LogOutput::Interrupted { .. } => {
                    assert!(!std::mem::replace(&mut self.is_interrupted, true), "interrupted twice");
                }
                LogOutput::Resumed => {
                    assert!(std::mem::replace(&mut self.is_interrupted, false), "resumed out of nothing");
                }
                LogOutput::Diagnostic(text) => {
                    let is_of_server = text == FSNOTIFY || text.starts_with("the server refused");
                    // A clean answer with nothing but the rest of a line (rule 5) looks like the kubelet's text.
                    assert!(is_of_server || self.has_ended_cleanly, "rule 9: {text}");
                }
                LogOutput::Ended { lines, bytes, is_complete } => {
                    let lines_seen = self.items.iter().filter(|item| **item != Item::Gap).count();
                    assert_eq!(lines, lines_seen as u64);
                    assert_eq!(bytes, self.reader.position().bytes());
                    self.ended = Some(is_complete);
                }
            }
        }
        let is_waiting_for_nothing = self.reader.deadline().is_none();
        assert_eq!(is_waiting_for_nothing, self.ended.is_some());
    }

    fn take_lines(&mut self, lines: Vec<Line>) {
        self.has_stray_lines = self.is_interrupted;
        for line in lines {
            let (Line::Whole(text) | Line::Torn(text)) = line else { panic!("no line is over the limit") };
            self.items.push(Item::Line(text));
        }
        let lines_seen = self.items.iter().filter(|item| **item != Item::Gap).count();
        assert_eq!(self.reader.position().lines(), lines_seen as u64);
    }

    /// Terminates the container. The reader ends the log, whatever fails.
    fn finish(&mut self, faults: &[Fault]) {
        self.write(usize::MAX);
        self.reader.on_container(self.now, ContainerSeen::Terminated);
        self.drain();
        let mut faults = faults.iter();
        for _ in 0..200 {
            if self.ended.is_some() {
                return;
            }
            if self.request.is_none() {
                self.now = self.now.max(self.reader.deadline().unwrap_or_default());
                self.reader.on_deadline(self.now);
                self.drain();
                continue;
            }
            let fault = faults.next();
            if let Some(Fault::Refuse(status)) = fault {
                self.refuse(*status);
            } else {
                self.accept();
                self.read_last(fault);
            }
            self.drain();
        }
        panic!("no end in 200 steps: {:?}", self.reader);
    }

    fn read_last(&mut self, fault: Option<&Fault>) {
        let pending = self.body.as_ref().map_or(0, |body| body.pending.len());
        match fault {
            Some(Fault::Break(at)) => {
                self.deliver(at % (pending + 1));
                self.close(LogEnd::Broken("connection reset".to_owned()));
            }
            Some(Fault::EndCleanly(at)) => {
                self.deliver(at % (pending + 1));
                // A clean end between two lines, or twice at one byte, looks like the true end.
                if self.partial.is_empty() || self.partial == self.partial_before {
                    self.close(LogEnd::Broken("connection reset".to_owned()));
                } else {
                    self.close(LogEnd::Clean);
                }
            }
            Some(Fault::Text) => {
                self.deliver(usize::MAX);
                // After an unterminated line, the same text twice looks like the agent's.
                if self.partial.is_empty() {
                    self.hand_over(FSNOTIFY.as_bytes());
                }
                self.close(LogEnd::Broken("connection reset".to_owned()));
            }
            Some(Fault::CrashHost) => {
                self.deliver(pending / 2);
                self.drain();
                self.crash();
                self.drain();
                self.reader.on_container(self.now, ContainerSeen::Terminated);
            }
            Some(Fault::Refuse(_)) | None => {
                self.deliver(usize::MAX);
                self.close(LogEnd::Clean);
            }
        }
    }

    /// Checks that each printed line was returned once and in order, or that a gap is in its place.
    fn check(&self) {
        let printed = self.log.lines();
        if !self.was_rotated {
            let all: Vec<Item> = printed.into_iter().map(Item::Line).collect();
            assert_eq!(self.items.len(), all.len());
            assert_eq!(self.items, all);
            assert_eq!(self.ended, Some(true));
            return;
        }
        let mut next = 0;
        let mut is_gap = false;
        for (place, item) in self.items.iter().enumerate() {
            let Item::Line(text) = item else {
                is_gap = true;
                continue;
            };
            // If the rest cannot be read, the last line is returned as far as it was delivered.
            let is_last = self.items[place + 1..].iter().all(|item| *item == Item::Gap);
            let is_rest = self.ended == Some(false) && is_last;
            let index = printed.iter().position(|line| line == text);
            let partial = || (next..printed.len()).find(|at| is_rest && printed[*at].starts_with(text));
            let index = index.or_else(partial);
            let index = index.unwrap_or_else(|| panic!("not printed: {text:.40}"));
            assert!(index >= next, "line {index} again or out of order, {next} is next");
            assert!(index == next || is_gap || next == 0, "lines {next}..{index} are missing without a gap");
            (next, is_gap) = (index + 1, false);
        }
        let may_miss_the_end = (self.ended == Some(false) && is_gap) || next == 0;
        assert!(
            next == printed.len() || may_miss_the_end,
            "lines {next}.. are missing at the end without a gap"
        );
    }
}

#[derive(Clone)]
struct Printed {
    /// Nanoseconds since the last chunk.
    after_ns: u64,
    chunks: usize,
    text: String,
}

impl std::fmt::Debug for Printed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "+{}ns {} {:?}", self.after_ns, self.chunks, self.text)
    }
}

/// How many different lines there are, and how dense.
fn printed(texts: &'static str, is_dense: bool) -> impl Strategy<Value = Printed> {
    let pause = if is_dense {
        prop_oneof![6 => Just(0_u64), 3 => 1_u64..1_000, 1 => Just(20_000_000)].boxed()
    } else {
        prop_oneof![Just(0_u64), 1_u64..1_000, Just(300_000_000), Just(1_000_000_000), Just(2_700_000_000)]
            .boxed()
    };
    let chunks = prop_oneof![30 => Just(1_usize), 1 => 2_usize..4];
    (pause, chunks, texts).prop_map(|(after_ns, chunks, text)| Printed { after_ns, chunks, text })
}

fn chunks(lines: &[Printed], is_unique: bool, is_terminated: bool) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut now_ns = 36_000_400_000_000_u64;
    for (index, line) in lines.iter().enumerate() {
        let text = if is_unique { format!("{index} {}", line.text) } else { line.text.clone() };
        for chunk in 0..line.chunks {
            now_ns += line.after_ns;
            let stamp = at((now_ns / 1_000_000_000).cast_signed(), (now_ns % 1_000_000_000) as u32);
            let is_last = chunk + 1 == line.chunks;
            let fill = if is_last { 0 } else { CHUNK_BYTES - text.len() };
            let text = [text.as_bytes(), &vec![b'x'; fill]].concat();
            chunks.push(Chunk { stamp, text, is_last });
        }
    }
    if let Some(last) = chunks.last_mut().filter(|chunk| !is_terminated && !chunk.text.is_empty()) {
        last.is_last = false;
    }
    chunks
}

fn steps(is_rotated: bool) -> impl Strategy<Value = Vec<Step>> {
    let seen = prop_oneof![4 => Just(ContainerSeen::Running), 1 => Just(ContainerSeen::Waiting)];
    let step = prop_oneof![
        8 => (1_usize..30).prop_map(Step::Write),
        8 => Just(Step::Accept),
        6 => (1_usize..400).prop_map(Step::Deliver),
        2 => (1_usize..40_000).prop_map(Step::Deliver),
        4 => Just(Step::DeliverAll),
        4 => Just(Step::Break),
        3 => Just(Step::EndCleanly),
        1 => Just(Step::EndWithText),
        2 => prop_oneof![Just(204), Just(400), Just(404), Just(429), Just(500)].prop_map(Step::Refuse),
        8 => (1_u64..3_000).prop_map(Step::Wait),
        1 => Just(Step::Wait(400_000)),
        2 => seen.prop_map(Step::Container),
        3 => Just(Step::Save),
        1 => Just(Step::CrashHost),
        1 => Just(if is_rotated { Step::Rotate } else { Step::Save }),
    ];
    prop::collection::vec(step, 0..120)
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        (0_usize..100_000).prop_map(Fault::Break),
        (0_usize..100_000).prop_map(Fault::EndCleanly),
        prop_oneof![Just(400), Just(500)].prop_map(Fault::Refuse),
        Just(Fault::Text),
        Just(Fault::CrashHost),
    ];
    // One less than the reader forgives.
    prop::collection::vec(fault, 0..3)
}

fn kubelet() -> impl Strategy<Value = Kubelet> {
    prop_oneof![3 => Just(Kubelet::Modern), 1 => Just(Kubelet::Old)]
}

fn run(log: Log, steps: &[Step], faults: &[Fault], seed: u64) {
    let mut world = World::new(log, seed);
    for step in steps {
        world.step(step);
    }
    world.finish(faults);
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_1_to_13_every_line_once_without_rotation(
        kubelet in kubelet(),
        lines in prop_oneof![
            prop::collection::vec(printed("[ab]?", true), 0..250),
            prop::collection::vec(printed("[aé]{0,3}\r?", false), 0..60),
        ],
        is_terminated: bool,
        steps in steps(false),
        faults in faults(),
        seed: u64,
    ) {
        run(Log::new(kubelet, chunks(&lines, false, is_terminated)), &steps, &faults, seed);
    }

    #[test]
    fn rule_11_no_line_is_missing_without_a_gap(
        kubelet in kubelet(),
        lines in prop_oneof![
            prop::collection::vec(printed("[a-z]{0,9}", true), 0..250),
            prop::collection::vec(printed("[a-z]{0,9}", false), 0..60),
        ],
        is_terminated: bool,
        steps in steps(true),
        faults in faults(),
        seed: u64,
    ) {
        run(Log::new(kubelet, chunks(&lines, true, is_terminated)), &steps, &faults, seed);
    }
}

#[test]
fn the_model_prints_stamps_as_kubelets_do() {
    assert_eq!(prefix(at(36_000, 5)), b"2026-03-01T10:00:00.000000005Z ");
}
