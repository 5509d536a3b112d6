//! The records of a run for any number of followers: the newest ones from memory, older ones from the run's journal.
//!
//! Each follower has a cursor of its own and asks for the next records. Nothing waits for a follower: a slow one falls behind the records
//! in memory and then reads the journal, which has all of them.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use paperclip_engine::record::{Record, RecordSequencer, SequencedRecord};
use paperclip_shell::Sink;
use paperclip_shell::journal::History;
use tokio::sync::{mpsc, watch};

use super::cursor::{Cursor, Cursors};
use super::mapping;

/// Records that a run keeps in memory, in bytes of their lines.
const KEPT_BYTES: usize = 16 << 10;
/// Most bytes of one chunk for a follower.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks of a journal that are read ahead of a follower.
const READ_AHEAD: usize = 2;

/// The records of one run.
#[derive(Debug)]
pub(crate) struct Feed {
    kept: Mutex<Kept>,
    grown: watch::Sender<()>,
    /// The folder of the run's journal, once it has one.
    journal: OnceLock<PathBuf>,
    /// What distinguishes these records from those of the same run on another host.
    generation: String,
    /// Records that the journal of a resumed run has: they are replayed.
    expected_seq: u64,
    /// The run had other records on another host.
    is_later: bool,
    /// The earlier records of the run are lost.
    is_recalled: bool,
}

/// Where a follower starts.
#[derive(Debug)]
pub(crate) enum From {
    Number(u64),
    After(Cursor),
}

#[derive(Debug, Default)]
struct Kept {
    /// Whole lines with their numbers, oldest first.
    lines: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// The number after the last record.
    next_seq: u64,
    /// No record follows.
    is_over: bool,
    cursors: Cursors,
}

/// What a follower gets next.
enum Found {
    Lines {
        bytes: Bytes,
        next_seq: u64,
    },
    /// The record is no longer in memory; the oldest one there has this number.
    Older(u64),
    /// The next record does not exist yet.
    Pending,
    Over,
}

impl Feed {
    /// Returns the feed of a run that starts here.
    pub(crate) fn new() -> Feed {
        Feed::of_generation(format!("{:012x}", RandomState::new().hash_one("generation") >> 16))
    }

    fn of_generation(generation: String) -> Feed {
        let (kept, grown, journal) = (Mutex::default(), watch::Sender::new(()), OnceLock::new());
        Feed { kept, grown, journal, generation, expected_seq: 0, is_later: false, is_recalled: false }
    }

    /// Returns the feed of a run whose journal is replayed, which has this many records.
    pub(crate) fn resumed(folder: PathBuf, generation: String, next_seq: u64) -> Feed {
        let feed = Feed { expected_seq: next_seq, ..Feed::of_generation(generation) };
        feed.set_journal(folder);
        feed
    }

    /// Returns the feed of a run that ended before this process started.
    pub(crate) fn of_journal(folder: PathBuf, generation: String, next_seq: u64) -> Feed {
        let feed = Feed::resumed(folder, generation, next_seq);
        *feed.kept() = Kept { next_seq, is_over: true, ..Kept::default() };
        feed
    }

    /// Returns the feed of a run whose earlier records are lost. A follower gets all of its records, whatever it has received before.
    pub(crate) fn recalled() -> Feed {
        Feed { is_recalled: true, ..Feed::new() }
    }

    pub(crate) fn set_journal(&self, folder: PathBuf) {
        // A run has one journal; it is set once.
        let _ = self.journal.set(folder);
    }

    /// Returns the feed as one of a run that had other records on another host.
    pub(crate) fn later(self, is_later: bool) -> Feed {
        Feed { is_later, ..self }
    }

    pub(crate) fn generation(&self) -> &str {
        &self.generation
    }

    pub(crate) fn push(&self, record: &SequencedRecord) -> io::Result<()> {
        let mut kept = self.kept();
        let line = kept.cursors.line(&self.generation, record)?;
        kept.bytes += line.len();
        // A boxed slice: a buffer that was extended has up to twice the capacity that it needs.
        kept.lines.push_back((record.seq, line.into_boxed_slice().into()));
        kept.next_seq = record.seq + 1;
        while kept.bytes > KEPT_BYTES && kept.lines.len() > 1 && self.journal.get().is_some() {
            if let Some((_, line)) = kept.lines.pop_front() {
                kept.bytes -= line.len();
            }
        }
        Ok(())
    }

    /// Wakes the followers that wait for more.
    pub(crate) fn flush(&self) {
        self.grown.send_replace(());
    }

    /// Ends the feed. Followers end when they have read everything.
    pub(crate) fn close(&self) {
        self.kept().is_over = true;
        self.flush();
    }

    /// Frees memory: from now on followers read the journal. Without a journal the records stay.
    pub(crate) fn forget(&self) {
        if self.journal.get().is_some() {
            let mut kept = self.kept();
            kept.lines = VecDeque::new();
            kept.bytes = 0;
        }
    }

    /// Returns the number of the next record.
    pub(crate) fn next_seq(&self) -> u64 {
        self.kept().next_seq
    }

    /// Returns the records from a number or after a cursor on as lines, until the run's last. A `reset` record comes first where the number
    /// cannot be of these records, or the cursor is not found in them.
    pub(crate) fn follow(self: &Arc<Self>, from: &From) -> BoxStream<'static, io::Result<Bytes>> {
        match from {
            From::Number(from) if self.is_foreign(*from) => mapping::from_start(self),
            From::Number(from) => self.records(*from),
            From::After(cursor) if cursor.generation == self.generation => self.records(cursor.seq + 1),
            From::After(cursor) => mapping::follow(self, cursor),
        }
    }

    /// Whether a follower cannot have received the records before this number from this feed.
    fn is_foreign(&self, from: u64) -> bool {
        let is_beyond = from > self.next_seq().max(self.expected_seq);
        from > 0 && (self.is_recalled || (self.is_later && is_beyond))
    }

    /// Returns the records from a number on as lines, until the run's last.
    pub(super) fn records(self: &Arc<Self>, from: u64) -> BoxStream<'static, io::Result<Bytes>> {
        let follower = Follower {
            feed: Arc::clone(self),
            grown: self.grown.subscribe(),
            cursor: from,
            older: None,
            journal_read_at: None,
        };
        let records = stream::try_unfold(follower, |mut follower| async move {
            Ok(follower.next().await?.map(|chunk| (chunk, follower)))
        });
        records.boxed()
    }

    fn find(&self, cursor: u64) -> Found {
        let kept = self.kept();
        if cursor >= kept.next_seq {
            return if kept.is_over { Found::Over } else { Found::Pending };
        }
        match kept.lines.front() {
            None => return Found::Older(kept.next_seq),
            Some((first, _)) if cursor < *first => return Found::Older(*first),
            Some(_) => {}
        }
        let from = kept.lines.partition_point(|(seq, _)| *seq < cursor);
        let mut bytes = BytesMut::new();
        let mut next_seq = cursor;
        for (seq, line) in kept.lines.range(from..) {
            if !bytes.is_empty() && bytes.len() + line.len() > CHUNK_BYTES {
                break;
            }
            bytes.extend_from_slice(line);
            next_seq = seq + 1;
        }
        Found::Lines { bytes: bytes.freeze(), next_seq }
    }

    /// Returns a gap record in place of the records before a number, as a line.
    fn gap(&self, first: u64) -> io::Result<Bytes> {
        let index_of =
            |line: &Bytes| serde_json::from_slice::<Indexed>(line).ok().and_then(|line| line.index);
        let index = self.kept().lines.iter().find_map(|(_, line)| index_of(line)).unwrap_or_default();
        let reason =
            "the journal of the run could not be written: older output is no longer in memory".to_owned();
        let record = Record::Gap { index, lost_lines: None, lost_bytes: None, reason };
        let record = SequencedRecord { seq: first.saturating_sub(1), record };
        Ok(Cursors::default().line(&self.generation, &record)?.into())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record that may be a line of output.
#[derive(serde::Deserialize)]
struct Indexed {
    index: Option<u64>,
}

struct Follower {
    feed: Arc<Feed>,
    grown: watch::Receiver<()>,
    cursor: u64,
    /// Chunks of the journal, each with the number after it.
    older: Option<mpsc::Receiver<Chunk>>,
    /// The cursor at which the journal was last opened.
    journal_read_at: Option<u64>,
}

impl Follower {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(older) = &mut self.older {
                match older.recv().await {
                    Some(chunk) => {
                        let (bytes, next_seq) = chunk?;
                        self.cursor = next_seq;
                        return Ok(Some(bytes));
                    }
                    None => self.older = None,
                }
            }
            // Marked as seen before the search, so that no change is missed in between.
            self.grown.borrow_and_update();
            match self.feed.find(self.cursor) {
                Found::Lines { bytes, next_seq } => {
                    self.cursor = next_seq;
                    return Ok(Some(bytes));
                }
                Found::Older(first) => {
                    let journal = self.feed.journal.get();
                    match journal.filter(|_| self.journal_read_at != Some(self.cursor)) {
                        Some(folder) => {
                            self.journal_read_at = Some(self.cursor);
                            let generation = self.feed.generation.clone();
                            self.older = Some(read_journal(folder.clone(), generation, self.cursor));
                        }
                        // The journal does not have it either: the disk was full.
                        None => {
                            self.cursor = first;
                            return self.feed.gap(first).map(Some);
                        }
                    }
                }
                Found::Over => return Ok(None),
                Found::Pending => {
                    if self.grown.changed().await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// A piece of a journal's records and the number after it.
type Chunk = io::Result<(Bytes, u64)>;

/// Reads the records of a journal from a number on, as far as it reaches now, on a thread of its own.
fn read_journal(folder: PathBuf, generation: String, from: u64) -> mpsc::Receiver<Chunk> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = replay_records(&folder, &generation, from, &sender) {
            // A follower that no longer reads does not need the error.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

fn replay_records(
    folder: &Path,
    generation: &str,
    from: u64,
    sender: &mpsc::Sender<Chunk>,
) -> io::Result<()> {
    let mut sequencer = RecordSequencer::default();
    let mut cursors = Cursors::default();
    let mut chunk = BytesMut::new();
    let mut next_seq = from;
    for entry in History::open(folder).map_err(io::Error::other)?.entries() {
        let (_, entry) = entry.map_err(io::Error::other)?;
        for record in sequencer.entry(entry) {
            let line = cursors.line(generation, &record)?;
            if record.seq < from {
                continue;
            }
            chunk.extend_from_slice(&line);
            next_seq = record.seq + 1;
            let is_unread = chunk.len() >= CHUNK_BYTES
                && sender.blocking_send(Ok((chunk.split().freeze(), next_seq))).is_err();
            if is_unread {
                return Ok(());
            }
        }
    }
    if !chunk.is_empty() {
        let _ = sender.blocking_send(Ok((chunk.freeze(), next_seq)));
    }
    Ok(())
}

/// The sink of a run that fills its feed.
#[derive(Debug)]
pub(crate) struct FeedSink<F> {
    pub(crate) feed: Arc<Feed>,
    /// Sees each record first.
    pub(crate) observe: F,
}

impl<F: FnMut(&SequencedRecord) + Send + 'static> Sink for FeedSink<F> {
    async fn take(&mut self, record: SequencedRecord) -> io::Result<()> {
        (self.observe)(&record);
        self.feed.push(&record)
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.feed.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;
    use paperclip_engine::record::{Level, Stream as Source};
    use serde_json::Value;

    fn log(seq: u64, text: &str) -> SequencedRecord {
        SequencedRecord {
            seq,
            record: Record::Log { stream: Source::Stdout, index: seq, text: text.to_owned() },
        }
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let record: Value = serde_json::from_slice(line).expect("a record");
                record["seq"].as_u64().expect("a number")
            })
            .collect()
    }

    #[tokio::test]
    async fn a_follower_reads_existing_records_and_then_new_ones() {
        let feed = Arc::new(Feed::new());
        for seq in 0..3 {
            feed.push(&log(seq, "x")).expect("pushed");
        }
        let mut follower = feed.follow(&From::Number(1));
        assert_eq!(numbers(&follower.next().await.expect("a chunk").expect("good")), [1, 2]);
        let ahead = feed.records(4);
        let status = Record::Status { level: Level::Info, text: "s".into() };
        let (next, ()) = tokio::join!(follower.next(), async {
            feed.push(&SequencedRecord { seq: 3, record: status }).expect("pushed");
            feed.flush();
        });
        assert_eq!(numbers(&next.expect("a chunk").expect("good")), [3]);
        feed.push(&log(4, "end")).expect("pushed");
        feed.close();
        assert_eq!(numbers(&follower.next().await.expect("a chunk").expect("good")), [4]);
        assert!(follower.next().await.is_none());
        let rest: Vec<Bytes> = ahead.try_collect().await.expect("good");
        assert_eq!(numbers(&rest.concat()), [4]);
    }

    #[tokio::test]
    async fn without_a_journal_everything_is_kept() {
        let feed = Arc::new(Feed::new());
        for seq in 0..40 {
            feed.push(&log(seq, &"x".repeat(2_000))).expect("pushed");
        }
        feed.close();
        feed.forget();
        let all: Vec<Bytes> = feed.follow(&From::Number(0)).try_collect().await.expect("good");
        assert!(all.len() > 1, "in chunks");
        assert_eq!(numbers(&all.concat()), (0..40).collect::<Vec<u64>>());
    }

    /// A full disk: the journal has its first file and no entry.
    #[tokio::test]
    async fn a_follower_of_records_that_the_journal_lost_gets_a_gap_record() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("journal-000001.ndjson"), "").expect("written");
        let feed = Arc::new(Feed::new());
        feed.set_journal(folder.path().to_owned());
        for seq in 0..40 {
            feed.push(&log(seq, &"x".repeat(2_000))).expect("pushed");
        }
        feed.close();
        let all: Vec<Bytes> = feed.follow(&From::Number(3)).try_collect().await.expect("good");
        let all = all.concat();
        let first: Value =
            serde_json::from_slice(all.split(|byte| *byte == b'\n').next().unwrap_or_default())
                .expect("a record");
        let numbers = numbers(&all);
        assert_eq!((&first["type"], first["seq"].as_u64()), (&Value::from("gap"), numbers.first().copied()));
        assert_eq!(first["index"].as_u64(), numbers.get(1).copied(), "the first line after it");
        let expected: Vec<u64> = (numbers[0]..40).collect();
        assert!(numbers == expected && numbers[0] > 3, "{numbers:?}");
    }

    #[tokio::test]
    async fn a_number_that_cannot_be_of_these_records_starts_again_and_says_so() {
        let feed = Arc::new(Feed::new().later(true));
        feed.push(&log(0, "x")).expect("pushed");
        feed.close();
        let text = |from| {
            let feed = Arc::clone(&feed);
            async move {
                let all: Vec<Bytes> = feed.follow(&from).try_collect().await.expect("good");
                String::from_utf8(all.concat()).expect("text")
            }
        };
        assert_eq!(text(From::Number(1)).await, "", "it has everything");
        let foreign = text(From::Number(2)).await;
        assert!(foreign.contains("\"reset\"") && foreign.contains("\"text\":\"x\""), "{foreign}");
        let whole = text(From::Number(0)).await;
        let cursor = whole.split("\"cursor\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let cursor: Cursor = cursor.expect("it has one").parse().expect("its own");
        assert_eq!(text(From::After(cursor)).await, "", "it is the last");
        // The records of a resumed run are being replayed.
        let resumed = Feed { expected_seq: 5, ..Feed::new().later(true) };
        assert!(!resumed.is_foreign(5) && resumed.is_foreign(6));
        assert!(!Feed::new().is_foreign(6), "it had no other records");
    }
}
