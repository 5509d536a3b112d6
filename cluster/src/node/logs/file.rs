//! The log of one container instance on disk: written record by record, rotated by size, watched by readers.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::{Notify, watch};

use super::record::{Output, Record, Splitter};

/// How much of a container's output is read at once.
const READ_BYTES: usize = 64 * 1024;

/// When a log file is put aside, and how many are kept.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// A file that has reached this size is put aside.
    pub file_bytes: u64,
    /// The current file and those put aside; at least 2. Up to twenty times as many are kept for readers that have not come
    /// so far, and until the first reader comes. A container that prints more than its readers read then waits for them.
    pub files: usize,
}

impl Default for Rotation {
    /// The kubelet's `containerLogMaxSize` and `containerLogMaxFiles`.
    fn default() -> Self {
        Rotation { file_bytes: 10 * 1024 * 1024, files: 5 }
    }
}

/// How many times [`Rotation::files`] a log keeps of what is not read yet: a container can print faster than a reader comes or reads.
const UNREAD_FACTOR: usize = 20;

/// The state of the writer that a reader waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The number of the file that is written; each rotation adds one.
    pub(super) file: u64,
    /// Everything that was written, in bytes, over all files.
    pub(super) bytes: u64,
    /// The container has ended and all of its output is written.
    pub(super) is_ended: bool,
}

/// The log of one container instance. Clones write to the same file.
#[derive(Clone, Debug)]
pub(crate) struct LogFile {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: Mutex<Files>,
    progress: watch::Sender<Progress>,
    /// A reader has come further or left, or the container has ended.
    freed: Notify,
}

#[derive(Debug)]
struct Files {
    /// Where the current file is.
    path: PathBuf,
    /// The current file, until the container has ended.
    file: Option<File>,
    /// Its size.
    bytes: u64,
    rotation: Rotation,
    /// The numbers of the files from the oldest to the current one.
    kept: RangeInclusive<u64>,
    /// The number of the file that each reader reads.
    readers: Vec<Weak<AtomicU64>>,
    /// Whether a reader has ever come.
    is_read: bool,
    /// The container prints nothing more: what is left of its output waits for no reader.
    is_ending: bool,
}

/// A reader's place: the files from here on are kept for it.
#[derive(Debug)]
pub(super) struct Place {
    log: LogFile,
    file: Arc<AtomicU64>,
}

/// The file of the log at which a reader starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Oldest,
    Current,
}

impl Place {
    /// The number of the file that is read.
    pub(super) fn file(&self) -> u64 {
        self.file.load(Ordering::Relaxed)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Progress> {
        self.log.shared.progress.subscribe()
    }

    /// Continues with the next file.
    ///
    /// # Errors
    /// It can't be opened.
    pub(super) fn advance(&self) -> io::Result<File> {
        let files = self.log.files();
        let next = self.file() + 1;
        let file = File::open(files.path_of(next))?;
        self.file.store(next, Ordering::Relaxed);
        drop(files);
        self.log.free();
        Ok(file)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What the reader had still to read is kept for others only.
        self.file.store(u64::MAX, Ordering::Relaxed);
        self.log.free();
    }
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
        Ok(LogFile::over(path, Some(File::create(path)?), rotation, 0..=0))
    }

    /// Opens the log of an instance that has ended, as an earlier process has left it.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn reopen(path: &Path, rotation: Rotation) -> io::Result<LogFile> {
        fs::metadata(path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let asides = fs::read_dir(folder)?.flatten().filter_map(|entry| number_aside(path, &entry.path()));
        let (oldest, newest) = asides.fold((u64::MAX, None), |(oldest, newest), number| {
            (oldest.min(number), newest.max(Some(number)))
        });
        let current = newest.map_or(0, |newest| newest + 1);
        Ok(LogFile::over(path, None, rotation, oldest.min(current)..=current))
    }

    fn over(path: &Path, file: Option<File>, rotation: Rotation, kept: RangeInclusive<u64>) -> LogFile {
        let progress = watch::Sender::new(Progress { file: *kept.end(), bytes: 0, is_ended: file.is_none() });
        let (path, readers) = (path.to_owned(), Vec::new());
        let is_ending = file.is_none();
        let files = Files { path, file, bytes: 0, rotation, kept, readers, is_read: false, is_ending };
        LogFile { shared: Arc::new(Shared { files: Mutex::new(files), progress, freed: Notify::new() }) }
    }

    /// Opens a file for a reader, which from then on misses nothing.
    ///
    /// # Errors
    /// The file can't be opened.
    pub(super) fn read_from(&self, start: Start) -> io::Result<(Place, File)> {
        let mut files = self.files();
        let number = match start {
            Start::Oldest => *files.kept.start(),
            Start::Current => *files.kept.end(),
        };
        let file = File::open(files.path_of(number))?;
        let number = Arc::new(AtomicU64::new(number));
        files.readers.push(Arc::downgrade(&number));
        files.is_read = true;
        Ok((Place { log: self.clone(), file: number }, file))
    }

    /// Writes everything from `source` until its end, and reads no more of it while the readers are too far behind: the process then
    /// waits on its pipe. Bytes that can't be written (a full disk) are dropped, as the process must not hang for its log's sake; the
    /// loss is reported.
    pub(crate) async fn pump(self, output: Output, mut source: impl AsyncRead + Unpin) {
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            self.wait_for_readers().await;
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

    /// Returns once the readers are not too far behind.
    async fn wait_for_readers(&self) {
        loop {
            let freed = self.shared.freed.notified();
            if !self.files().is_full() {
                return;
            }
            freed.await;
        }
    }

    /// The container's processes have ended: the rest of their output, which is no more than a pipe contains, is written without waiting
    /// for a reader.
    pub(crate) fn write_rest(&self) {
        self.files().is_ending = true;
        self.shared.freed.notify_waiters();
    }

    /// Lets the container print more after a reader has come further or left, if it waits for that.
    fn free(&self) {
        let mut files = self.files();
        if !files.is_full() {
            return;
        }
        if let Err(error) = files.remove_outdated() {
            tracing::warn!(%error, file = %files.path.display(), "an old log can't be removed");
        }
        drop(files);
        self.shared.freed.notify_waiters();
    }

    /// The container has ended, and its output with it.
    pub(crate) fn end(&self) {
        self.files().file = None;
        self.shared.progress.send_modify(|progress| progress.is_ended = true);
    }

    /// Whole records, in one write, so that a reader never sees half of one.
    fn append(&self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        let mut files = self.files();
        match files.append(records) {
            Ok(()) => self.shared.progress.send_modify(|progress| {
                progress.bytes += records.len() as u64;
                progress.file = *files.kept.end();
            }),
            Err(error) => {
                tracing::error!(%error, file = %files.path.display(), bytes = records.len(), "log records lost");
            }
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.shared.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the container has ended"))?;
        file.write_all(records)?;
        self.bytes += records.len() as u64;
        if self.bytes < self.rotation.file_bytes {
            return Ok(());
        }
        self.rotate()
    }

    fn rotate(&mut self) -> io::Result<()> {
        let number = *self.kept.end();
        let next = self.path.with_extension("next");
        let file = File::create(&next)?;
        // In this order, so that there is a file at the path whenever a reader comes.
        fs::hard_link(&self.path, self.path_aside(number))?;
        fs::rename(&next, &self.path)?;
        self.file = Some(file);
        self.bytes = 0;
        self.kept = *self.kept.start()..=number + 1;
        self.remove_outdated()
    }

    /// Removes the oldest files, but none that a reader has still to come to. What it reads is open and may be removed.
    fn remove_outdated(&mut self) -> io::Result<()> {
        self.readers.retain(|reader| reader.strong_count() > 0);
        let limit = self.rotation.files.max(2) * if self.is_read { 1 } else { UNREAD_FACTOR };
        let last_reader =
            self.readers.iter().filter_map(Weak::upgrade).map(|file| file.load(Ordering::Relaxed)).min();
        let (mut oldest, current) = (*self.kept.start(), *self.kept.end());
        while current - oldest + 1 > limit as u64 && last_reader.is_none_or(|file| oldest <= file) {
            fs::remove_file(self.path_aside(oldest))?;
            oldest += 1;
            self.kept = oldest..=current;
        }
        Ok(())
    }

    /// Whether as many files are kept for readers as may be.
    fn is_full(&self) -> bool {
        let kept = self.kept.end() - self.kept.start() + 1;
        let has_readers = self.readers.iter().any(|reader| reader.strong_count() > 0);
        has_readers && !self.is_ending && kept >= (self.rotation.files.max(2) * UNREAD_FACTOR) as u64
    }

    fn path_of(&self, number: u64) -> PathBuf {
        if number == *self.kept.end() { self.path.clone() } else { self.path_aside(number) }
    }

    /// `0.log.00000012`: the numbers, unlike the kubelet's times, show the order of files that are filled in the same second.
    fn path_aside(&self, number: u64) -> PathBuf {
        PathBuf::from(format!("{}.{number:08}", self.path.display()))
    }
}

/// The number of a file that was put aside for `path`; `None` for other files.
fn number_aside(path: &Path, aside: &Path) -> Option<u64> {
    let rest = aside.to_str()?.strip_prefix(path.to_str()?)?;
    rest.strip_prefix('.')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll};

    use futures::poll;
    use tokio::io::ReadBuf;

    use super::*;

    /// Writes lines that fill a file each.
    async fn fill(log: &LogFile, lines: u64) {
        let text: String = (0..lines).map(|n| format!("{n}{}\n", "x".repeat(80))).collect();
        for line in text.split_inclusive('\n') {
            log.clone().pump(Output::Stdout, line.as_bytes()).await;
        }
    }

    fn files_beside(path: &Path) -> usize {
        fs::read_dir(path.parent().unwrap()).unwrap().count()
    }

    #[tokio::test]
    async fn a_full_file_is_put_aside_and_the_oldest_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pod/container/0.log");
        let log = LogFile::create(&path, Rotation { file_bytes: 100, files: 3 }).unwrap();
        drop(log.read_from(Start::Oldest).unwrap());
        fill(&log, 6).await;
        assert_eq!(files_beside(&path), 3, "the current one and two put aside");
        assert_eq!(fs::read(&path).unwrap(), b"", "the last line filled its file");
        let (place, _) = log.read_from(Start::Oldest).unwrap();
        let progress = *place.subscribe().borrow();
        assert_eq!((place.file(), progress.file, progress.is_ended), (4, 6, false));
    }

    #[tokio::test]
    async fn nothing_is_dropped_that_a_reader_has_still_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let log = LogFile::create(&path, Rotation { file_bytes: 100, files: 2 }).unwrap();
        let (place, _) = log.read_from(Start::Oldest).unwrap();
        fill(&log, 6).await;
        for number in 1..=6 {
            place.advance().unwrap();
            assert_eq!(place.file(), number);
        }
        fill(&log, 1).await;
        assert_eq!(files_beside(&path), 2, "what is read goes");
    }

    /// Prints a line that fills a file at each read, and counts them.
    struct Printer<'a> {
        printed: &'a AtomicU64,
        lines: u64,
    }

    impl AsyncRead for Printer<'_> {
        fn poll_read(
            self: Pin<&mut Self>,
            _context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.printed.load(Ordering::Relaxed) < self.lines {
                self.printed.fetch_add(1, Ordering::Relaxed);
                buffer.put_slice(&[b"x".repeat(80).as_slice(), b"\n"].concat());
            }
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_container_waits_for_a_reader_that_is_too_far_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let log = LogFile::create(&path, Rotation { file_bytes: 100, files: 2 }).unwrap();
        let limit = 2 * UNREAD_FACTOR as u64;
        let printed = AtomicU64::new(0);
        let (slow, _) = log.read_from(Start::Oldest).unwrap();
        let (leaving, _) = log.read_from(Start::Oldest).unwrap();
        let mut pump = pin!(log.clone().pump(Output::Stdout, Printer { printed: &printed, lines: 200 }));
        let is_waiting =
            |lines| (printed.load(Ordering::Relaxed), files_beside(&path)) == (lines, limit as usize);
        assert!(poll!(&mut pump).is_pending() && is_waiting(limit));
        slow.advance().unwrap();
        slow.advance().unwrap();
        assert!(poll!(&mut pump).is_pending() && is_waiting(limit), "the other reader has not advanced");
        drop(leaving);
        assert!(poll!(&mut pump).is_pending() && is_waiting(limit + 2));
        log.write_rest();
        assert!(poll!(&mut pump).is_ready());
        assert_eq!(printed.load(Ordering::Relaxed), 200, "after the end nothing waits");
        for number in 3..=200 {
            slow.advance().unwrap();
            assert_eq!(slow.file(), number, "nothing is lost");
        }
    }

    #[tokio::test]
    async fn a_log_that_nobody_has_read_keeps_more_and_not_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let log = LogFile::create(&path, Rotation { file_bytes: 100, files: 2 }).unwrap();
        fill(&log, 30).await;
        assert_eq!(files_beside(&path), 31);
        fill(&log, 30).await;
        assert_eq!(files_beside(&path), 2 * UNREAD_FACTOR);
    }

    #[tokio::test]
    async fn a_log_of_an_earlier_process_is_read_from_its_oldest_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let rotation = Rotation { file_bytes: 100, files: 3 };
        let log = LogFile::create(&path, rotation).unwrap();
        drop(log.read_from(Start::Oldest).unwrap());
        fill(&log, 6).await;
        drop(log);
        let log = LogFile::reopen(&path, rotation).unwrap();
        let (place, _) = log.read_from(Start::Oldest).unwrap();
        let progress = *place.subscribe().borrow();
        assert_eq!((progress.file - place.file(), progress.is_ended), (2, true));
        place.advance().unwrap();
        place.advance().unwrap();
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
        assert!(log.shared.progress.borrow().is_ended);
    }
}
