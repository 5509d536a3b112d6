//! A follower that reconnects at random, while one host after another adopts the run without the journal of the one before: each line arrives
//! once, and without a reset as long as none is lost. Mutants of the cursor show that the check can fail.

use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use paperclip_engine::record::{Level, Record, SequencedRecord, Stream};
use serde_json::{Map, Value};

use super::super::cursor::Cursor;
use super::super::feed::{Feed, From};

const LINES: u64 = 12;
const HOSTS: u64 = 4;
const CONNECTIONS: u64 = 4;
const SEEDS: u64 = 300;

/// A defect of cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// A record that is no line does not say which lines came before it.
    LineForgotten,
    /// A number counts wherever it comes from.
    GenerationIgnored,
    /// A line is sought by its content alone: equal ones are the same.
    PositionIgnored,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Every third line is the same.
fn line(index: u64) -> String {
    if index.is_multiple_of(3) { "again".to_owned() } else { format!("line {index}") }
}

fn push(feed: &Feed, record: Record) {
    feed.push(&SequencedRecord { seq: feed.next_seq(), record }).expect("it is kept");
}

/// Shows the next lines of the container's log, with status records at random.
fn grow(feed: &Feed, random: &mut Random, shown: &mut u64, upto: u64) {
    while *shown < upto {
        if random.below(3) == 0 {
            push(feed, Record::Status { level: Level::Info, text: "waits".into() });
        }
        push(feed, Record::Log { stream: Stream::Stdout, index: *shown, text: line(*shown) });
        *shown += 1;
    }
}

fn mutate(mutant: Option<Mutant>, cursor: &str, record: &Value, feed: &Feed) -> Cursor {
    let mut cursor: Cursor = cursor.parse().expect("a cursor");
    match mutant {
        Some(Mutant::LineForgotten) if record["type"] != "log" => {
            cursor = Cursor { generation: feed.generation().to_owned(), seq: seq(record), line: None };
        }
        Some(Mutant::PositionIgnored) => {
            let first = (0..LINES).find(|index| Some(line(*index).as_str()) == record["text"].as_str());
            cursor.line = first.map(|index| super::Line::new(index, &line(index))).or(cursor.line);
        }
        Some(Mutant::LineForgotten | Mutant::GenerationIgnored) | None => {}
    }
    cursor
}

fn seq(record: &Value) -> u64 {
    record["seq"].as_u64().expect("a number")
}

/// Returns what is wrong with what a follower received.
fn journey(seed: u64, mutant: Option<Mutant>) -> Option<String> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let (mut received, mut cursor, mut written) = (0, None::<Cursor>, 0);
    for host in 0..HOSTS {
        let (feed, mut shown) = (Arc::new(Feed::new()), 0);
        push(&feed, Record::Status { level: Level::Info, text: "adopted".into() });
        for connection in 0..CONNECTIONS {
            let is_last = (host, connection) == (HOSTS - 1, CONNECTIONS - 1);
            written = if is_last { LINES } else { (written + random.below(3)).min(LINES) };
            // What is written is not always read yet: the node does not always answer.
            let upto = if is_last { LINES } else { random.below(written + 1).max(shown) };
            grow(&feed, &mut random, &mut shown, upto);
            if is_last {
                push(&feed, Record::Result(Map::new()));
                feed.close();
            }
            let from = match (&cursor, mutant) {
                (None, _) => From::Number(0),
                (Some(cursor), Some(Mutant::GenerationIgnored)) => {
                    From::After(Cursor { generation: feed.generation().to_owned(), ..cursor.clone() })
                }
                (Some(cursor), _) => From::After(cursor.clone()),
            };
            let mut left = if is_last { u64::MAX } else { random.below(6) };
            let mut chunks = feed.follow(&from);
            while let Some(Some(Ok(chunk))) = chunks.next().now_or_never() {
                for text in chunk.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
                    if left == 0 {
                        break;
                    }
                    left -= 1;
                    let record: Value = serde_json::from_slice(text).expect("a record");
                    match record["type"].as_str() {
                        Some("reset") if received > 0 => {
                            return Some("a reset, and no line is lost".to_owned());
                        }
                        Some("log") if record["index"] != received => {
                            return Some(format!("{record} came where {received} was next"));
                        }
                        Some("log") => received += 1,
                        _ => {}
                    }
                    if let Some(text) = record["cursor"].as_str() {
                        cursor = Some(mutate(mutant, text, &record, &feed));
                    }
                }
                if left == 0 {
                    break;
                }
            }
        }
    }
    (received != LINES).then(|| format!("{received} lines of {LINES}"))
}

#[tokio::test]
async fn every_line_arrives_once_whichever_hosts_a_follower_meets() {
    for seed in 0..SEEDS {
        assert_eq!(journey(seed, None), None, "seed {seed}");
    }
}

#[tokio::test]
async fn every_defect_of_cursors_is_caught() {
    for mutant in [Mutant::LineForgotten, Mutant::GenerationIgnored, Mutant::PositionIgnored] {
        assert!((0..SEEDS).any(|seed| journey(seed, Some(mutant)).is_some()), "{mutant:?}");
    }
}
