//! The sink in a task of its own: a terminal that stands still delays neither a cancel nor the renewal of a lease.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use paperclip_engine::record::{Record, SequencedRecord};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use crate::sink::Sink;

/// Bytes of records that wait for the sink before no more logs are read.
const QUEUED_BYTES: usize = 64 << 10;
/// What a record counts besides its text.
const RECORD_BYTES: usize = 64;

pub(super) struct Screen {
    records: mpsc::UnboundedSender<SequencedRecord>,
    queue: Arc<Queue>,
    task: JoinHandle<io::Result<()>>,
    has_failed: bool,
}

/// What a screen has to say.
pub(super) enum Changed {
    Failed(io::Error),
    /// It has taken something.
    Room,
}

#[derive(Default)]
struct Queue {
    bytes: AtomicUsize,
    has_room: Notify,
}

impl Screen {
    pub(super) fn open<S: Sink>(sink: S) -> Screen {
        let (sender, records) = mpsc::unbounded_channel();
        let queue = Arc::<Queue>::default();
        let task = tokio::spawn(show_all(sink, records, Arc::clone(&queue)));
        Screen { records: sender, queue, task, has_failed: false }
    }

    /// Shows a record after those before it. Once the sink has failed, nothing is shown.
    pub(super) fn show(&mut self, told: SequencedRecord) {
        self.queue.bytes.fetch_add(size(&told.record), Ordering::Relaxed);
        let _ = self.records.send(told);
    }

    /// Whether logs may be read.
    pub(super) fn has_room(&self) -> bool {
        self.has_failed || self.queue.bytes.load(Ordering::Relaxed) < QUEUED_BYTES
    }

    /// Waits until the sink fails, which is told once, or until there may be room again, if that is of interest. Cancel-safe.
    pub(super) async fn changed(&mut self, wants_room: bool) -> Changed {
        let Screen { queue, task, has_failed, .. } = self;
        tokio::select! {
            biased;
            ended = task, if !*has_failed => {
                *has_failed = true;
                Changed::Failed(match ended {
                    Ok(Ok(())) => io::Error::other("the sink ended before the run"),
                    Ok(Err(error)) => error,
                    Err(error) => io::Error::other(error),
                })
            }
            () = queue.has_room.notified(), if wants_room => Changed::Room,
            () = std::future::pending() => Changed::Room,
        }
    }

    /// Waits until all is shown, but not longer than this, if it is limited.
    pub(super) async fn close(self, patience: Option<Duration>) -> io::Result<()> {
        let Screen { records, mut task, has_failed, .. } = self;
        drop(records);
        if has_failed {
            return Ok(());
        }
        let ended = match patience {
            None => (&mut task).await,
            Some(patience) => match tokio::time::timeout(patience, &mut task).await {
                Ok(ended) => ended,
                Err(_elapsed) => {
                    task.abort();
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it"));
                }
            },
        };
        ended.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

async fn show_all<S: Sink>(
    mut sink: S,
    mut records: mpsc::UnboundedReceiver<SequencedRecord>,
    queue: Arc<Queue>,
) -> io::Result<()> {
    while let Some(told) = records.recv().await {
        let size = size(&told.record);
        sink.take(told).await?;
        if records.is_empty() {
            sink.flush().await?;
        }
        queue.bytes.fetch_sub(size, Ordering::Relaxed);
        queue.has_room.notify_one();
    }
    sink.flush().await
}

fn size(record: &Record) -> usize {
    let text = match record {
        Record::Log { text, .. } | Record::Status { text, .. } => text.len(),
        Record::Gap { .. } | Record::Meta(_) | Record::Result(_) => 0,
    };
    RECORD_BYTES + text
}
