//! A log reader driven step by step, with a log as a kubelet stores it.

use std::time::Duration;

use super::server::Log;
use crate::log::timing::{MAX_SHORT_READS, QUIET_PERIOD};
use crate::log::{ContainerSeen, Line, LogEnd, LogLimits, LogOutput, LogReader, LogRequest, Position};
use crate::time::Timestamp;

/// A reader and its outputs.
pub(super) struct Run {
    pub(super) reader: LogReader,
    pub(super) now: Timestamp,
    pub(super) request: Option<LogRequest>,
    pub(super) outputs: Vec<LogOutput>,
}

impl Run {
    pub(super) fn new() -> Self {
        Self::resume(Position::default())
    }

    pub(super) fn resume(position: Position) -> Self {
        Self::of(LogReader::resume(position, LogLimits::default(), 7))
    }

    pub(super) fn of(reader: LogReader) -> Self {
        let mut run = Self { reader, now: Timestamp::from_millis(1_000), request: None, outputs: Vec::new() };
        run.drain();
        run
    }

    pub(super) fn running() -> Self {
        let mut run = Self::new();
        run.see(ContainerSeen::Running);
        run
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.reader.poll() {
            match output {
                LogOutput::Open(request) => self.request = Some(request),
                other => self.outputs.push(other),
            }
        }
    }

    pub(super) fn see(&mut self, seen: ContainerSeen) {
        if seen == ContainerSeen::Terminated {
            // Its stream has usually been quiet for a while by then.
            self.now += QUIET_PERIOD;
        }
        self.reader.on_container(self.now, seen);
        self.drain();
    }

    pub(super) fn open(&mut self) -> LogRequest {
        let request = self.request.take().expect("it requests a stream");
        self.reader.on_opened(self.now, false);
        self.drain();
        request
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.reader.on_bytes(self.now, bytes);
        self.drain();
    }

    pub(super) fn close(&mut self, end: LogEnd) {
        self.reader.on_closed(self.now, end);
        self.drain();
    }

    pub(super) fn break_stream(&mut self) {
        self.close(LogEnd::Broken("reset".to_owned()));
    }

    pub(super) fn refuse(&mut self, status: u16) {
        self.request = None;
        self.close(LogEnd::Refused { status, message: "ContainerCreating".to_owned() });
    }

    /// Waits for the next deadline and returns how long.
    pub(super) fn wait(&mut self) -> Duration {
        let deadline = self.reader.deadline().expect("it has a deadline");
        let waited = deadline.since(self.now);
        self.now += waited;
        self.reader.on_deadline(self.now);
        self.drain();
        waited
    }

    /// Breaks the stream and serves the whole log on a new one, which stays open.
    pub(super) fn reconnect(&mut self, log: &Log) -> LogRequest {
        self.break_stream();
        self.wait();
        self.serve(log)
    }

    pub(super) fn serve(&mut self, log: &Log) -> LogRequest {
        let request = self.open();
        self.bytes(&log.read(request));
        request
    }

    /// Terminates the container and serves the last read without a fault.
    pub(super) fn finish(&mut self, log: &Log) {
        self.see(ContainerSeen::Terminated);
        self.serve(log);
        self.close(LogEnd::Clean);
    }

    /// Serves last reads that end cleanly but prove nothing, until the reader gives up.
    pub(super) fn read_without_end(&mut self, log: &Log) {
        for attempt in 1..=MAX_SHORT_READS {
            self.serve(log);
            self.close(LogEnd::Clean);
            if attempt < MAX_SHORT_READS {
                self.wait();
            }
        }
    }

    pub(super) fn lines(&self) -> Vec<&str> {
        let batches = self.outputs.iter().filter_map(|output| match output {
            LogOutput::Lines(lines) => Some(lines),
            _ => None,
        });
        batches
            .flatten()
            .map(|line| match line {
                Line::Whole(text) | Line::Torn(text) => text.as_str(),
                Line::Cut { .. } => panic!("no line is over the limit"),
            })
            .collect()
    }

    pub(super) fn gaps(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output, LogOutput::Gap { .. })).count()
    }

    pub(super) fn diagnostics(&self) -> Vec<&str> {
        let texts = self.outputs.iter().filter_map(|output| match output {
            LogOutput::Diagnostic(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    pub(super) fn is_complete(&self) -> Option<bool> {
        match self.outputs.last() {
            Some(LogOutput::Ended { is_complete, .. }) => Some(*is_complete),
            _ => None,
        }
    }
}
