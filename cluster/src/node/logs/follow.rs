//! Serves a log file as a stream of bytes, to its end or for as long as the container writes.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use futures::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;

use super::file::Progress;
use super::select::Selection;

/// How much of the file is read at once.
const READ_BYTES: usize = 64 * 1024;

/// A reader of one container instance's log.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    file: File,
    selection: Selection,
    /// The writer's progress; `None` if the writer has ended, or the reader does not follow.
    writer: Option<Writer>,
    /// The start of a line whose end is not read yet.
    pending: Vec<u8>,
    is_over: bool,
}

#[derive(Debug)]
struct Writer {
    progress: watch::Receiver<Progress>,
    /// Up to where the writer was when the file was last read to its end.
    seen: Progress,
}

impl Follower {
    /// Serves the file at `path` from byte `start`; with a `progress` it continues until the container has ended.
    pub(super) async fn open(
        path: PathBuf,
        start: u64,
        selection: Selection,
        progress: Option<watch::Receiver<Progress>>,
    ) -> std::io::Result<Follower> {
        // Read before the file is opened: a rotation in between is then seen as one.
        let writer = progress.map(|mut progress| {
            let seen = *progress.borrow_and_update();
            Writer { progress, seen }
        });
        let mut file = File::open(&path).await?;
        file.seek(SeekFrom::Start(start)).await?;
        let is_over = selection.is_exhausted();
        Ok(Follower { path, file, selection, writer, pending: Vec::new(), is_over })
    }

    /// The served bytes, in pieces as they arrive.
    pub(super) fn into_stream(self) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
        futures::stream::try_unfold(self, |mut follower| async move {
            Ok(follower.next().await?.map(|bytes| (bytes, follower)))
        })
    }

    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let mut answer = Vec::new();
        while answer.is_empty() {
            if self.is_over {
                return Ok(None);
            }
            if !self.read_some(&mut answer).await? {
                self.at_end(&mut answer).await?;
            }
        }
        Ok(Some(Bytes::from(answer)))
    }

    /// Reads once; `false` at the end of the file.
    async fn read_some(&mut self, answer: &mut Vec<u8>) -> std::io::Result<bool> {
        let kept = self.pending.len();
        self.pending.resize(kept + READ_BYTES, 0);
        let read = self.file.read(&mut self.pending[kept..]).await?;
        self.pending.truncate(kept + read);
        let mut taken = 0;
        while let Some(newline) = self.pending[taken..].iter().position(|byte| *byte == b'\n') {
            let line = &self.pending[taken..=taken + newline];
            taken += newline + 1;
            if self.selection.push(line, answer).is_break() {
                self.is_over = true;
                break;
            }
        }
        self.pending.drain(..taken);
        Ok(read > 0)
    }

    /// At the end of the file: over, or the next file, or wait for the writer.
    async fn at_end(&mut self, answer: &mut Vec<u8>) -> std::io::Result<()> {
        let Some(writer) = self.writer.as_mut() else {
            self.finish(answer);
            return Ok(());
        };
        let now = *writer.progress.borrow_and_update();
        if now == writer.seen {
            if now.is_ended || writer.progress.changed().await.is_err() {
                self.finish(answer);
            }
            return Ok(());
        }
        let is_rotated = now.rotations != writer.seen.rotations;
        // The file was read to its end before `now` was: read it again, since bytes can have been added in between. Only
        // then is the next file due. Two rotations behind, what was between them is lost, as with the kubelet.
        if self.read_some(answer).await? || self.is_over {
            return Ok(());
        }
        if let Some(writer) = self.writer.as_mut() {
            writer.seen = now;
        }
        if is_rotated {
            self.open_next().await?;
        }
        Ok(())
    }

    /// Continues in the current file, unless that is the open one: the writer's progress is published a little after
    /// its rotation, so a rotation may be known only when it was already followed.
    async fn open_next(&mut self) -> std::io::Result<()> {
        let next = File::open(&self.path).await?;
        let (here, there) = (self.file.metadata().await?, next.metadata().await?);
        if (here.dev(), here.ino()) != (there.dev(), there.ino()) {
            self.file = next;
            self.pending.clear();
        }
        Ok(())
    }

    /// Serves a last line that has no newline, which only a broken file has.
    fn finish(&mut self, answer: &mut Vec<u8>) {
        self.is_over = true;
        if !self.pending.is_empty() {
            let line = std::mem::take(&mut self.pending);
            let _at_end_anyway = self.selection.push(&line, answer);
        }
    }
}
