//! Serves a log file as a stream of bytes, to its end or for as long as the container writes.

use std::io::SeekFrom;

use bytes::Bytes;
use futures::Stream;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::watch;

use super::file::{Place, Progress};
use super::select::Selection;

/// How much of the file is read at once.
const READ_BYTES: usize = 256 * 1024;

/// A reader of one container instance's log.
#[derive(Debug)]
pub(super) struct Follower {
    place: Place,
    file: File,
    selection: Selection,
    writer: watch::Receiver<Progress>,
    /// Up to where the writer was when the file was last read to its end; `None` until then.
    seen: Option<Progress>,
    /// Whether it waits for more until the container has ended.
    is_following: bool,
    /// The start of a line whose end is not read yet.
    pending: Vec<u8>,
    is_over: bool,
}

impl Follower {
    /// Serves a log from byte `start` of `file`, which is the one at `place`, over all later files.
    pub(super) async fn open(
        place: Place,
        file: std::fs::File,
        start: u64,
        selection: Selection,
        is_following: bool,
    ) -> std::io::Result<Follower> {
        let mut file = File::from_std(file);
        file.seek(SeekFrom::Start(start)).await?;
        let (writer, is_over) = (place.subscribe(), selection.is_exhausted());
        Ok(Follower {
            place,
            file,
            selection,
            writer,
            seen: None,
            is_following,
            pending: Vec::new(),
            is_over,
        })
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
        let now = *self.writer.borrow_and_update();
        // The file was read to its end before `now` was: read it again, since bytes can have been added in between.
        if self.seen != Some(now) {
            self.seen = Some(now);
            let has_more = self.read_some(answer).await?;
            if has_more || self.is_over {
                return Ok(());
            }
        }
        if now.file > self.place.file() {
            self.file = File::from_std(self.place.advance()?);
            self.pending.clear();
        } else if !self.is_following || now.is_ended || self.writer.changed().await.is_err() {
            self.finish(answer);
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
