//! The logs that a run reads. Each has a queue of its own, so that nothing of a dropped stream is taken for its successor's.

use std::collections::BTreeMap;
use std::task::Poll;

use paperclip_contract::types::ObjectRef;
use paperclip_engine::log::{LogEnd, LogRequest};
use paperclip_engine::port::LogId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::connect::Cluster;
use crate::logs::{self, Piece, QUEUED_PIECES};

pub(super) struct Streams {
    cluster: Cluster,
    open: BTreeMap<LogId, Stream>,
}

struct Stream {
    pieces: mpsc::Receiver<Piece>,
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

    /// The next piece of any log. Cancel-safe.
    pub(super) async fn next(&mut self) -> (LogId, Piece) {
        let (log, piece) = std::future::poll_fn(|context| {
            for (log, stream) in &mut self.open {
                if let Poll::Ready(piece) = stream.pieces.poll_recv(context) {
                    return Poll::Ready((*log, piece));
                }
            }
            Poll::Pending
        })
        .await;
        (log, self.taken(log, piece))
    }

    /// The logs of which something waits to be taken.
    pub(super) fn held(&self) -> Vec<LogId> {
        self.open.iter().filter(|(_, stream)| !stream.pieces.is_empty()).map(|(log, _)| *log).collect()
    }

    /// The next piece of any log, if there is one already.
    pub(super) fn try_next(&mut self) -> Option<(LogId, Piece)> {
        let (log, piece) = self.open.iter_mut().find_map(|(log, stream)| match stream.pieces.try_recv() {
            Ok(piece) => Some((*log, Some(piece))),
            Err(TryRecvError::Disconnected) => Some((*log, None)),
            Err(TryRecvError::Empty) => None,
        })?;
        Some((log, self.taken(log, piece)))
    }

    /// A stream ends with its last piece; one that has none was broken off.
    fn taken(&mut self, log: LogId, piece: Option<Piece>) -> Piece {
        let piece = piece.unwrap_or_else(|| Piece::Closed(LogEnd::Broken("its reader broke off".to_owned())));
        if let Piece::Closed(_) = piece {
            self.close(log);
        }
        piece
    }
}
