//! The logs of a run: one reader per log, one count of lines for all of them.

use std::collections::{BTreeMap, BTreeSet};

use paperclip_contract::types::{
    ContainerState, CutLine, Event, FollowLog, LogEnded, LogGap, LogInterrupted, LogLine, LogLines,
    PodSnapshot,
};

use crate::backoff;
use crate::ids::{CommandId, LogId};

use crate::log::{ContainerSeen, Line, LogEnd, LogLimits, LogOutput, LogReader, Position};
use crate::port::Effect;
use crate::record::{RecordSequencer, WholeLine};
use crate::redact::Redactor;
use crate::time::Timestamp;

/// How much a plugin receives of each end of a line that is too long for it, in bytes.
const GUEST_CUT_BYTES: usize = 256 << 10;

/// An output of a log reader, translated for the run.
#[derive(Debug)]
pub(crate) enum LogsOutput {
    Effect(Effect),
    Event(Event),
    /// Text of the kubelet instead of output.
    Diagnostic(String),
}

#[derive(Debug)]
struct Log {
    target: FollowLog,
    reader: LogReader,
    /// The stream that is open, or being opened.
    stream: Option<LogId>,
    /// The API's message, if the last request was refused because this host lacks the right.
    forbidden: Option<String>,
}

/// All logs of a run, by the command that follows them.
#[derive(Debug)]
pub(crate) struct Logs {
    seed: u64,
    last_stream: u64,
    /// Boxed: a node of the map allocates space for eleven values, and a run has one log.
    logs: BTreeMap<CommandId, Box<Log>>,
    /// The latest snapshot of each Pod, by UID, for readers that start later.
    pods: BTreeMap<String, Box<PodSnapshot>>,
    /// Whole text of lines that the plugin receives cut, until they are emitted.
    whole: Vec<WholeLine>,
}

impl Logs {
    pub(crate) fn new(seed: u64) -> Self {
        Logs { seed, last_stream: 0, logs: BTreeMap::new(), pods: BTreeMap::new(), whole: Vec::new() }
    }

    /// Starts to read a log after the lines that were delivered before.
    pub(crate) fn start(&mut self, now: Timestamp, command: CommandId, target: FollowLog, from: Position) {
        let mut reader = LogReader::resume(from, LogLimits::default(), backoff::draw(&mut self.seed));
        if let Some(tag) = &target.control_tag {
            reader = reader.counted_by(tag);
        }
        if let Some(pod) = self.pods.get(&target.pod.uid)
            && let Some(seen) = seen_in(pod, &target)
        {
            observe(&mut reader, now, pod, &target, seen);
        }
        self.logs.insert(command, Box::new(Log { target, reader, stream: None, forbidden: None }));
    }

    pub(crate) fn on_pod(&mut self, now: Timestamp, pod: &PodSnapshot) {
        for log in self.logs.values_mut().filter(|log| log.target.pod.uid == pod.pod.uid) {
            if let Some(seen) = seen_in(pod, &log.target) {
                observe(&mut log.reader, now, pod, &log.target, seen);
            }
        }
        self.pods.insert(pod.pod.uid.clone(), Box::new(pod.clone()));
    }

    pub(crate) fn on_pod_deleted(&mut self, now: Timestamp, uid: &str) {
        self.pods.remove(uid);
        for log in self.logs.values_mut().filter(|log| log.target.pod.uid == uid) {
            log.reader.on_container(now, ContainerSeen::PodDeleted);
        }
    }

    pub(crate) fn on_opened(&mut self, now: Timestamp, stream: LogId, keeps_unread: bool) {
        if let Some(log) = self.by_stream(stream) {
            log.forbidden = None;
            log.reader.on_opened(now, keeps_unread);
        }
    }

    pub(crate) fn on_bytes(&mut self, now: Timestamp, stream: LogId, bytes: &[u8]) {
        if let Some(log) = self.by_stream(stream) {
            log.reader.on_bytes(now, bytes);
        }
    }

    pub(crate) fn on_closed(&mut self, now: Timestamp, stream: LogId, end: LogEnd) {
        if let Some(log) = self.by_stream(stream) {
            log.stream = None;
            let is_missing = is_pod_missing(&end, &log.target);
            if let LogEnd::Refused { status: 403, message } = &end {
                log.forbidden = Some(message.clone());
            }
            log.reader.on_closed(now, end);
            if is_missing {
                log.reader.on_container(now, ContainerSeen::PodDeleted);
            }
        }
    }

    /// Bytes of this stream wait in this process to be read.
    pub(crate) fn on_held(&mut self, now: Timestamp, stream: LogId) {
        if let Some(log) = self.by_stream(stream) {
            log.reader.on_held(now);
        }
    }

    fn by_stream(&mut self, stream: LogId) -> Option<&mut Log> {
        self.logs.values_mut().find(|log| log.stream == Some(stream)).map(Box::as_mut)
    }

    pub(crate) fn stop(&mut self, command: CommandId) {
        if let Some(log) = self.logs.get_mut(&command) {
            log.reader.stop();
        }
    }

    pub(crate) fn stop_all(&mut self) {
        self.logs.values_mut().for_each(|log| log.reader.stop());
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.logs.values().filter_map(|log| log.reader.deadline()).min()
    }

    pub(crate) fn on_deadline(&mut self, now: Timestamp) {
        for log in self.logs.values_mut() {
            if log.reader.deadline().is_some_and(|at| at <= now) {
                log.reader.on_deadline(now);
            }
        }
    }

    /// Returns the whole text of lines that the plugin received cut since the last call.
    pub(crate) fn take_whole(&mut self) -> Vec<WholeLine> {
        std::mem::take(&mut self.whole)
    }

    /// Returns the positions of the logs that these events belong to.
    pub(crate) fn cursors(&self, events: &[Event]) -> Vec<(CommandId, Position)> {
        let moved: BTreeSet<CommandId> = events
            .iter()
            .filter_map(|event| match event {
                Event::LogLines(lines) => Some(CommandId::new(lines.command)),
                Event::LogGap(gap) => Some(CommandId::new(gap.command)),
                _ => None,
            })
            .collect();
        let logs = moved.into_iter().filter_map(|command| Some((command, self.logs.get(&command)?)));
        logs.map(|(command, log)| (command, log.reader.position().clone())).collect()
    }

    /// Returns the next output of any log. Lines are masked here, before anything else processes them.
    pub(crate) fn poll(
        &mut self,
        sequencer: &mut RecordSequencer,
        redactor: &Redactor,
        max_line_bytes: u32,
    ) -> Option<LogsOutput> {
        let (command, output) = self
            .logs
            .iter_mut()
            .find_map(|(command, log)| log.reader.poll().map(|output| (*command, output)))?;
        Some(self.translate(command, output, sequencer, redactor, max_line_bytes as usize))
    }

    fn translate(
        &mut self,
        command: CommandId,
        output: LogOutput,
        sequencer: &mut RecordSequencer,
        redactor: &Redactor,
        max_line_bytes: usize,
    ) -> LogsOutput {
        match output {
            LogOutput::Open(request) => {
                self.last_stream += 1;
                let stream = LogId::new(self.last_stream);
                let log = self.logs.get_mut(&command).expect("its reader has just returned this output");
                log.stream = Some(stream);
                LogsOutput::Effect(Effect::OpenLog {
                    log: stream,
                    pod: log.target.pod.clone(),
                    container: log.target.container.clone(),
                    request,
                })
            }
            LogOutput::Close => {
                let stream = self.logs.get_mut(&command).and_then(|log| log.stream.take());
                // No stream has the number 0.
                LogsOutput::Effect(Effect::CloseLog(stream.unwrap_or(LogId::new(0))))
            }
            LogOutput::Lines(lines) => {
                let first_index = sequencer.next_index();
                let lines = lines
                    .into_iter()
                    .map(|line| self.line(line, sequencer.take_index(), redactor, max_line_bytes))
                    .collect();
                LogsOutput::Event(Event::LogLines(LogLines { command: command.get(), first_index, lines }))
            }
            LogOutput::Gap { lost_lines, lost_bytes, reason } => {
                let next_index = sequencer.next_index();
                let reason = match self.forbidden(command) {
                    Some(_) => "this host lacks the right to read the log (verb get on pods/log)".to_owned(),
                    None => reason,
                };
                let command = command.get();
                LogsOutput::Event(Event::LogGap(LogGap {
                    command,
                    next_index,
                    lost_lines,
                    lost_bytes,
                    reason,
                }))
            }
            LogOutput::Interrupted { reason } => {
                LogsOutput::Event(Event::LogInterrupted(LogInterrupted { command: command.get(), reason }))
            }
            LogOutput::Resumed => LogsOutput::Event(Event::LogResumed(command.get())),
            LogOutput::Diagnostic(text) => LogsOutput::Diagnostic(text),
            LogOutput::Ended { lines, bytes, is_complete } => {
                let forbidden = self.forbidden(command).filter(|_| !is_complete).map(str::to_owned);
                let (command, line_count) = (command.get(), lines);
                LogsOutput::Event(Event::LogEnded(LogEnded {
                    command,
                    line_count,
                    bytes,
                    is_complete,
                    forbidden,
                }))
            }
        }
    }

    /// Returns why the API does not let this host read a log.
    fn forbidden(&self, command: CommandId) -> Option<&str> {
        self.logs.get(&command)?.forbidden.as_deref()
    }

    /// Returns a line as the plugin receives it. The whole text of a line that is cut is kept for the sink.
    fn line(&mut self, line: Line, index: u64, redactor: &Redactor, max_line_bytes: usize) -> LogLine {
        match line {
            Line::Whole(text) => self.masked_line(redactor.mask_line(text), index, max_line_bytes),
            Line::Torn(text) => {
                let (text, _) = redactor.mask_cut(text, String::new());
                self.masked_line(text, index, max_line_bytes)
            }
            Line::Cut { head, tail, bytes } => {
                let (head, tail) = redactor.mask_cut(head, tail);
                let shown = format!("{head}[paperclip: {bytes} bytes, the middle is left out]{tail}");
                self.whole.push(WholeLine { index, text: shown });
                let head = head[..head.floor_char_boundary(GUEST_CUT_BYTES)].to_owned();
                LogLine::Cut(CutLine { head, tail, line_bytes: bytes })
            }
        }
    }

    fn masked_line(&mut self, text: String, index: u64, max_line_bytes: usize) -> LogLine {
        if text.len() <= max_line_bytes {
            return LogLine::Whole(text);
        }
        let head = text[..text.floor_char_boundary(GUEST_CUT_BYTES)].to_owned();
        let tail = text[text.ceil_char_boundary(text.len() - GUEST_CUT_BYTES)..].to_owned();
        let line_bytes = text.len() as u64;
        self.whole.push(WholeLine { index, text });
        LogLine::Cut(CutLine { head, tail, line_bytes })
    }
}

/// Returns whether the API server itself says that the Pod does not exist. The message of a kubelet that does not know the Pod yet differs.
fn is_pod_missing(end: &LogEnd, target: &FollowLog) -> bool {
    let LogEnd::Refused { status: 404, message } = end else { return false };
    message.contains(&format!("pods \"{}\" not found", target.pod.name))
}

/// The exit code of a process that was killed, by SIGKILL.
const KILLED: i32 = 137;

/// Passes the state of a container to the reader of its log.
fn observe(
    reader: &mut LogReader,
    now: Timestamp,
    pod: &PodSnapshot,
    target: &FollowLog,
    seen: ContainerSeen,
) {
    let container = pod.containers.iter().find(|container| container.name == target.container);
    if let Some(ContainerState::Terminated(ended)) = container.map(|container| &container.state)
        && container.is_some_and(|container| container.restart_count == target.restart_count)
        && ended.exit_code != KILLED
        && ended.signal.is_none()
    {
        reader.on_exited();
    }
    reader.on_container(now, seen);
}

/// Returns what a Pod says about the container incarnation whose log is read.
fn seen_in(pod: &PodSnapshot, target: &FollowLog) -> Option<ContainerSeen> {
    let container = pod.containers.iter().find(|container| container.name == target.container)?;
    if container.restart_count > target.restart_count {
        return Some(ContainerSeen::Replaced);
    }
    let ended = if pod.is_deleting { ContainerSeen::PodTerminating } else { ContainerSeen::Terminated };
    Some(match container.state {
        ContainerState::Unknown | ContainerState::Waiting(_) => ContainerSeen::Waiting,
        ContainerState::Running(_) => ContainerSeen::Running,
        ContainerState::Terminated(_) => ended,
    })
}
