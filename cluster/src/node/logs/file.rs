//! The log of one container instance on disk: written record by record, rotated by size, watched by readers.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::watch;

use super::record::{Output, Record, Splitter};

/// How much of a container's output is read at once.
const READ_BYTES: usize = 64 * 1024;

/// When a log file is put aside, and how many are kept.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// A file that has reached this size is put aside.
    pub file_bytes: u64,
    /// The current file and those put aside; at least 2.
    pub files: usize,
}

impl Default for Rotation {
    /// The kubelet's `containerLogMaxSize` and `containerLogMaxFiles`.
    fn default() -> Self {
        Rotation { file_bytes: 10 * 1024 * 1024, files: 5 }
    }
}

/// The state of the writer that a reader waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// How often the file was rotated.
    pub(super) rotations: u64,
    /// Everything that was written, in bytes, over all rotations.
    pub(super) bytes: u64,
    /// The container has ended and all of its output is written.
    pub(super) is_ended: bool,
}

/// A log that is being written. Clones write to the same file.
#[derive(Clone, Debug)]
pub(crate) struct LogFile {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: Mutex<Current>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: File,
    bytes: u64,
    rotation: Rotation,
    put_aside: VecDeque<PathBuf>,
}

impl LogFile {
    /// Creates the file at `path`, with its folders.
    ///
    /// # Errors
    /// A folder or the file can't be created.
    pub(super) fn create(path: &Path, rotation: Rotation) -> io::Result<LogFile> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let current = Current {
            path: path.to_owned(),
            file: File::create(path)?,
            bytes: 0,
            rotation,
            put_aside: VecDeque::new(),
        };
        let progress = watch::Sender::new(Progress::default());
        Ok(LogFile { shared: Arc::new(Shared { current: Mutex::new(current), progress }) })
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.shared.progress.subscribe()
    }

    /// Writes everything from `source` until its end. Bytes that can't be written (a full disk) are dropped, as
    /// the process must not hang for its log's sake; the loss is reported.
    pub(crate) async fn pump(self, output: Output, mut source: impl AsyncRead + Unpin) {
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = match source.read(&mut buffer).await {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(%error, "a container's output can't be read any further");
                    break;
                }
            };
            let mut records = Vec::with_capacity(read + read / 8);
            splitter.push(&buffer[..read], |tag, text| {
                Record { stamp: Timestamp::now(), output, tag, text }.write(&mut records);
            });
            self.append(&records);
        }
        let mut records = Vec::new();
        splitter
            .finish(|tag, text| Record { stamp: Timestamp::now(), output, tag, text }.write(&mut records));
        self.append(&records);
    }

    /// The container has ended, and its output with it.
    pub(crate) fn end(&self) {
        self.shared.progress.send_modify(|progress| progress.is_ended = true);
    }

    /// Whole records, in one write, so that a reader never sees half of one.
    fn append(&self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.append(records) {
            Ok(is_rotated) => self.shared.progress.send_modify(|progress| {
                progress.bytes += records.len() as u64;
                progress.rotations += u64::from(is_rotated);
            }),
            Err(error) => {
                tracing::error!(%error, file = %current.path.display(), bytes = records.len(), "log records lost");
            }
        }
    }
}

impl Current {
    /// Writes; returns whether the next record starts a new file.
    fn append(&mut self, records: &[u8]) -> io::Result<bool> {
        self.file.write_all(records)?;
        self.bytes += records.len() as u64;
        if self.bytes < self.rotation.file_bytes {
            return Ok(false);
        }
        self.rotate()?;
        Ok(true)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let aside = self.name_aside();
        let next = self.path.with_extension("next");
        let file = File::create(&next)?;
        // In this order, so that there is a file at the path whenever a reader comes.
        fs::hard_link(&self.path, &aside)?;
        fs::rename(&next, &self.path)?;
        self.put_aside.push_back(aside);
        self.file = file;
        self.bytes = 0;
        while self.put_aside.len() + 1 > self.rotation.files.max(2) {
            if let Some(oldest) = self.put_aside.pop_front() {
                fs::remove_file(oldest)?;
            }
        }
        Ok(())
    }

    /// `0.log.20260102-030405`, as the kubelet names it; with a number where the second is not enough.
    fn name_aside(&self) -> PathBuf {
        let second = Timestamp::now().strftime("%Y%m%d-%H%M%S");
        let stamped = PathBuf::from(format!("{}.{second}", self.path.display()));
        if !stamped.exists() {
            return stamped;
        }
        (1_u32..)
            .map(|number| PathBuf::from(format!("{}-{number}", stamped.display())))
            .find(|path| !path.exists())
            .unwrap_or(stamped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_file_is_put_aside_and_the_oldest_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pod/container/0.log");
        let log = LogFile::create(&path, Rotation { file_bytes: 100, files: 3 }).unwrap();
        let lines: String = (0..6).map(|n| format!("{n}{}\n", "x".repeat(80))).collect();
        for line in lines.split_inclusive('\n') {
            log.clone().pump(Output::Stdout, line.as_bytes()).await;
        }
        let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 3, "the current one and two put aside");
        assert_eq!(fs::read(&path).unwrap(), b"", "the last line filled its file");
        let progress = *log.subscribe().borrow();
        assert_eq!(progress.rotations, 6);
        assert!(!progress.is_ended);
    }

    #[tokio::test]
    async fn both_outputs_share_a_file_in_the_order_of_writing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let log = LogFile::create(&path, Rotation::default()).unwrap();
        log.clone().pump(Output::Stdout, b"one\nunfinished".as_slice()).await;
        log.clone().pump(Output::Stderr, b"two\n".as_slice()).await;
        log.end();
        let text = fs::read_to_string(&path).unwrap();
        let rest: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(rest, ["stdout F one", "stdout P unfinished", "stderr F two"]);
        assert!(log.subscribe().borrow().is_ended);
    }
}
