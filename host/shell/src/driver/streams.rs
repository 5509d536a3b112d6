//! The log streams that a run reads. Each has a queue of its own, so that no piece of a dropped stream is taken for its successor's.

use std::collections::BTreeMap;
use std::task::{Context, Poll};

use paperclip_contract::types::ObjectRef;
use paperclip_engine::driver::LogPiece;
use paperclip_engine::ids::LogId;
use paperclip_engine::log::{LogEnd, LogRequest};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::connect::Cluster;
use crate::logs::{self, QUEUED_PIECES};

pub(super) struct Streams {
    cluster: Cluster,
    open: BTreeMap<LogId, Stream>,
}

struct Stream {
    pieces: mpsc::Receiver<LogPiece>,
    task: JoinHandle<()>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Streams {
    pub(super) fn new(cluster: Cluster) -> Streams {
        Streams { cluster, open: BTreeMap::new() }
    }

    /// Opens a stream; an earlier one of that log is dropped first.
    pub(super) fn open(&mut self, log: LogId, pod: ObjectRef, container: String, request: LogRequest) {
        self.close(log);
        let (sender, pieces) = mpsc::channel(QUEUED_PIECES);
        let cluster = self.cluster.clone();
        let reading = async move { logs::read(&cluster, &pod, &container, request, &sender).await };
        let task = tokio::spawn(reading.in_current_span());
        self.open.insert(log, Stream { pieces, task });
    }

    pub(super) fn close(&mut self, log: LogId) {
        self.open.remove(&log);
    }

    /// Waits for the next piece of any log.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<(LogId, LogPiece)> {
        for (log, stream) in &mut self.open {
            if let Poll::Ready(piece) = stream.pieces.poll_recv(context) {
                let log = *log;
                return Poll::Ready((log, self.taken(log, piece)));
            }
        }
        Poll::Pending
    }

    /// The logs of which pieces wait to be taken.
    pub(super) fn held(&self) -> Vec<LogId> {
        self.open.iter().filter(|(_, stream)| !stream.pieces.is_empty()).map(|(log, _)| *log).collect()
    }

    /// A stream ends with its last piece; a stream without one was broken off.
    fn taken(&mut self, log: LogId, piece: Option<LogPiece>) -> LogPiece {
        let piece =
            piece.unwrap_or_else(|| LogPiece::Closed(LogEnd::Broken("its reader broke off".to_owned())));
        if let LogPiece::Closed(_) = piece {
            self.close(log);
        }
        piece
    }
}
