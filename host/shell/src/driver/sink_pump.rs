//! Runs the sink in a task of its own: a terminal that does not read delays neither a cancel nor the renewal of a lease.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::task::AtomicWaker;
use paperclip_engine::driver::queued_bytes;
use paperclip_engine::record::SequencedRecord;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::sink::Sink;

pub(super) struct SinkPump {
    /// None once the sink is being closed.
    records: Option<mpsc::UnboundedSender<Vec<SequencedRecord>>>,
    progress: Arc<Progress>,
    task: JoinHandle<io::Result<()>>,
    has_failed: bool,
}

/// What the sink has taken and the driver has not counted yet.
#[derive(Default)]
struct Progress {
    bytes: AtomicUsize,
    waker: AtomicWaker,
}

impl SinkPump {
    pub(super) fn start<S: Sink>(sink: S) -> SinkPump {
        let (sender, queue) = mpsc::unbounded_channel();
        let progress = Arc::<Progress>::default();
        let task = tokio::spawn(pump(sink, queue, Arc::clone(&progress)));
        SinkPump { records: Some(sender), progress, task, has_failed: false }
    }

    /// Queues records behind those before them. Once the sink has failed, they are dropped.
    pub(super) fn show(&self, records: Vec<SequencedRecord>) {
        if let Some(queue) = &self.records {
            let _ = queue.send(records);
        }
    }

    /// Returns how many bytes of records the sink has taken since the last call.
    pub(super) fn take_progress(&self) -> usize {
        self.progress.bytes.swap(0, Ordering::Relaxed)
    }

    /// Waits until the sink has taken something.
    pub(super) fn poll_progress(&self, context: &Context<'_>) -> Poll<usize> {
        self.progress.waker.register(context.waker());
        match self.take_progress() {
            0 => Poll::Pending,
            bytes => Poll::Ready(bytes),
        }
    }

    /// Waits until the sink fails. Must not be called again once it has.
    pub(super) fn poll_failure(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let ended = ready!(Pin::new(&mut self.task).poll(context));
        self.has_failed = true;
        Poll::Ready(match ended {
            Ok(Ok(())) => io::Error::other("the sink ended before the run"),
            Ok(Err(error)) => error,
            Err(error) => io::Error::other(error),
        })
    }

    /// Waits until the sink has taken everything, but not longer than this, if it is limited.
    pub(super) async fn close(&mut self, within: Option<Duration>) -> io::Result<()> {
        if self.has_failed {
            return Ok(());
        }
        // Without a sender the task ends after the last record.
        self.records = None;
        let ended = match within {
            None => (&mut self.task).await,
            Some(within) => match tokio::time::timeout(within, &mut self.task).await {
                Ok(ended) => ended,
                Err(_elapsed) => {
                    self.task.abort();
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody reads it"));
                }
            },
        };
        ended.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

async fn pump<S: Sink>(
    mut sink: S,
    mut queue: mpsc::UnboundedReceiver<Vec<SequencedRecord>>,
    progress: Arc<Progress>,
) -> io::Result<()> {
    while let Some(records) = queue.recv().await {
        let bytes = records.iter().map(|record| queued_bytes(&record.record)).sum();
        for record in records {
            sink.take(record).await?;
        }
        if queue.is_empty() {
            sink.flush().await?;
        }
        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        progress.waker.wake();
    }
    sink.flush().await
}
