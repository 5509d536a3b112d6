//! The destination of a run's records.

use std::io;

use paperclip_engine::record::SequencedRecord;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Takes a run's records, oldest first. While it does not return, no more output is read from the agent.
pub trait Sink: Send + 'static {
    /// Takes one record.
    ///
    /// # Errors
    /// An error is final: the run is left to a later host.
    fn take(&mut self, record: SequencedRecord) -> impl Future<Output = io::Result<()>> + Send;

    /// Shows buffered records: no further record is waiting.
    ///
    /// # Errors
    /// As of [`Sink::take`].
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// Writes one record per line, as JSON.
#[derive(Debug)]
pub struct NdjsonSink<W> {
    writer: W,
    /// Whole lines that were not written yet.
    lines: Vec<u8>,
}

/// Lines are written together up to this size, in bytes.
const BATCH_BYTES: usize = 256 << 10;

impl<W: AsyncWrite + Unpin + Send + 'static> NdjsonSink<W> {
    /// Returns a sink that writes to this writer.
    pub fn new(writer: W) -> Self {
        NdjsonSink { writer, lines: Vec::new() }
    }

    async fn write(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.lines).await?;
        self.lines.clear();
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> Sink for NdjsonSink<W> {
    async fn take(&mut self, record: SequencedRecord) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, &record.record)?;
        self.lines.push(b'\n');
        if self.lines.len() >= BATCH_BYTES { self.write().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.write().await?;
        self.writer.flush().await
    }
}
