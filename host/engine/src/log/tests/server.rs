//! The log endpoint of an API server and a kubelet, modelled on the kubelet's `ReadLogs`.

use crate::log::{LogRequest, Stamp};

/// 2026-03-01T00:00:00Z.
pub(super) const MIDNIGHT_S: i64 = 1_772_323_200;

/// Which chunks a kubelet stamps (rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kubelet {
    /// Each chunk.
    Old,
    /// The first chunk of a line.
    Modern,
}

/// An entry of the file that the container runtime writes.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub stamp: Stamp,
    pub text: Vec<u8>,
    /// `F`, not `P`.
    pub is_last: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Log {
    pub kubelet: Kubelet,
    pub chunks: Vec<Chunk>,
    /// Chunks that the container has printed so far.
    pub written: usize,
    /// The first chunk of the current file.
    pub file_start: usize,
}

/// An answer that is being sent.
#[derive(Debug, Clone)]
pub(super) struct Body {
    pub request: LogRequest,
    next: usize,
    is_new_line: bool,
    /// Sent by the kubelet, not yet delivered.
    pub pending: Vec<u8>,
}

impl Log {
    pub(super) fn new(kubelet: Kubelet, chunks: Vec<Chunk>) -> Self {
        Self { kubelet, chunks, written: 0, file_start: 0 }
    }

    /// Returns a written log with one chunk per line.
    pub(super) fn of_lines(lines: &[(Stamp, &str)]) -> Self {
        let chunks: Vec<Chunk> = lines
            .iter()
            .map(|(stamp, text)| Chunk { stamp: *stamp, text: text.as_bytes().to_vec(), is_last: true })
            .collect();
        Self { kubelet: Kubelet::Modern, written: chunks.len(), chunks, file_start: 0 }
    }

    pub(super) fn open(&self, request: LogRequest) -> Body {
        Body { request, next: self.file_start, is_new_line: true, pending: Vec::new() }
    }

    /// Sends what has been written since. A follow continues in the new file after the old one.
    pub(super) fn send(&self, body: &mut Body) {
        while body.next < self.written {
            let chunk = &self.chunks[body.next];
            if body.request.since_s.is_none_or(|since_s| chunk.stamp.s >= since_s) {
                if body.is_new_line || self.kubelet == Kubelet::Old {
                    body.pending.extend(prefix(chunk.stamp));
                }
                body.pending.extend(&chunk.text);
                if chunk.is_last {
                    body.pending.push(b'\n');
                }
            }
            body.is_new_line = chunk.is_last;
            body.next += 1;
        }
    }

    /// The whole answer to a read.
    pub(super) fn read(&self, request: LogRequest) -> Vec<u8> {
        let mut body = self.open(request);
        self.send(&mut body);
        body.pending
    }

    pub(super) fn rotate(&mut self) {
        self.file_start = self.written;
    }

    /// What the container printed, line by line.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = Vec::new();
        for chunk in &self.chunks {
            line.extend(&chunk.text);
            if chunk.is_last {
                lines.push(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        }
        if !line.is_empty() {
            lines.push(String::from_utf8_lossy(&line).into_owned());
        }
        lines
    }
}

/// An instant of the test's day.
pub(super) fn at(s: i64, ns: u32) -> Stamp {
    Stamp { s: MIDNIGHT_S + s, ns }
}

/// A line's stamp, as kubelets print it.
pub(super) fn prefix(stamp: Stamp) -> Vec<u8> {
    let s = stamp.s - MIDNIGHT_S;
    format!("2026-03-01T{:02}:{:02}:{:02}.{:09}Z ", s / 3600, s / 60 % 60, s % 60, stamp.ns).into_bytes()
}

/// A line as it is served.
pub(super) fn stamped(stamp: Stamp, text: &[u8]) -> Vec<u8> {
    [prefix(stamp), text.to_vec()].concat()
}

/// Three lines, the last two with one stamp.
pub(super) fn three() -> Log {
    Log::of_lines(&[(at(1, 5), "one"), (at(2, 7), "two"), (at(2, 7), "three")])
}
