//! The log streams that a run reads.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use paperclip_contract::types::ObjectRef;
use paperclip_engine::driver::LogPiece;
use paperclip_engine::ids::LogId;
use paperclip_engine::log::LogRequest;

use crate::connect::Cluster;
use crate::logs::LogStream;

pub(super) struct Streams {
    cluster: Cluster,
    open: BTreeMap<LogId, Stream>,
}

struct Stream {
    log: LogStream,
    /// A piece that was read to find out whether there is one.
    held: Option<LogPiece>,
}

impl Stream {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<LogPiece> {
        match self.held.take() {
            Some(piece) => Poll::Ready(piece),
            None => self.log.poll_next(context),
        }
    }
}

impl Streams {
    pub(super) fn new(cluster: Cluster) -> Streams {
        Streams { cluster, open: BTreeMap::new() }
    }

    /// Opens a stream; an earlier one of that log is dropped first.
    pub(super) fn open(&mut self, log: LogId, pod: ObjectRef, container: String, request: LogRequest) {
        self.close(log);
        let stream = LogStream::open(&self.cluster, pod, container, request);
        self.open.insert(log, Stream { log: stream, held: None });
    }

    pub(super) fn close(&mut self, log: LogId) {
        self.open.remove(&log);
    }

    /// Waits for the next piece of any log. A stream is dropped after its last piece.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(LogId, LogPiece)> {
        for (log, stream) in &mut self.open {
            if let Poll::Ready(piece) = stream.poll_next(context) {
                let log = *log;
                if let LogPiece::Closed(_) = piece {
                    self.close(log);
                }
                return Poll::Ready((log, piece));
            }
        }
        Poll::Pending
    }

    /// Returns the logs of which pieces wait to be taken.
    pub(super) fn held(&mut self, context: &mut Context<'_>) -> Vec<LogId> {
        let mut held = Vec::new();
        for (log, stream) in &mut self.open {
            if let Poll::Ready(piece) = stream.poll_next(context) {
                stream.held = Some(piece);
                held.push(*log);
            }
        }
        held
    }
}
