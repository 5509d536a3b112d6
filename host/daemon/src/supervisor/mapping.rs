//! Continues a follower whose cursor is of another generation: where its line is found, else from the start after a `reset` record.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use serde::Deserialize;

use super::cursor::{Cursor, Line, MEMBER};
use super::feed::Feed;

/// Says that all records follow from the start: those that were received before are to be dropped.
pub(super) const RESET: &[u8] = b"{\"seq\":0,\"type\":\"reset\",\"reason\":\"another host drives the run, and where this follower was is not known there: all records follow from the start\"}\n";

type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// What is needed of a record.
#[derive(Deserialize)]
struct Seen {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    index: u64,
    #[serde(default)]
    text: String,
}

/// What a record says about the search for a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It comes before the line. Lines are known to the follower, other records are not.
    Before {
        is_known: bool,
    },
    Found,
    /// The line is not where it was.
    Lost,
}

fn judge(seen: &Seen, sought: Line) -> Verdict {
    match seen.kind.as_str() {
        "log" if seen.index < sought.index => Verdict::Before { is_known: true },
        "log" if Line::new(seen.index, &seen.text) == sought => Verdict::Found,
        "log" | "result" => Verdict::Lost,
        "gap" if seen.index > sought.index => Verdict::Lost,
        _ => Verdict::Before { is_known: false },
    }
}

/// Returns the records of a feed after a cursor of another generation. Records before the line is found have that cursor, too: it alone says
/// which lines the follower has.
pub(super) fn follow(feed: &Arc<Feed>, cursor: &Cursor) -> Chunks {
    // Whoever has no line yet misses none, and gets none twice.
    let Some(line) = cursor.line else { return feed.records(0) };
    let state = (Some(cursor.clone()), feed.records(0), Arc::clone(feed));
    let mapped = stream::try_unfold(state, move |(sought, mut chunks, feed)| async move {
        let Some(chunk) = chunks.next().await else { return Ok(None) };
        let chunk = chunk?;
        let Some(cursor) = sought else { return Ok(Some((chunk, (None, chunks, feed)))) };
        let mut passed = BytesMut::new();
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let record = rest.split_to(end + 1);
            match judge(&serde_json::from_slice(&record)?, line) {
                Verdict::Before { is_known: true } => {}
                Verdict::Before { is_known: false } => {
                    passed.extend_from_slice(without_cursor(&record));
                    passed.extend_from_slice(&cursor.as_member());
                }
                Verdict::Found => {
                    passed.extend_from_slice(&rest);
                    return Ok(Some((passed.freeze(), (None, chunks, feed))));
                }
                Verdict::Lost => return Ok(Some((Bytes::from_static(RESET), (None, feed.records(0), feed)))),
            }
        }
        Ok(Some((passed.freeze(), (Some(cursor), chunks, feed))))
    });
    mapped.boxed()
}

/// Returns a record up to its cursor, which is its last member.
fn without_cursor(record: &[u8]) -> &[u8] {
    let at = record.windows(MEMBER.len()).rposition(|bytes| bytes == MEMBER);
    &record[..at.unwrap_or(record.len())]
}

/// Returns all records of a feed after a `reset` record.
pub(super) fn from_start(feed: &Arc<Feed>) -> Chunks {
    stream::once(async { Ok(Bytes::from_static(RESET)) }).chain(feed.records(0)).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt as _;
    use paperclip_engine::record::{Level, Record, SequencedRecord, Stream as Source};
    use serde_json::Value;

    /// A feed with a status record, these lines and a result. `lost` lines come before them.
    fn feed(lost: u64, lines: &[&str]) -> Arc<Feed> {
        let feed = Arc::new(Feed::new());
        let push = |record| feed.push(&SequencedRecord { seq: feed.next_seq(), record }).expect("pushed");
        push(Record::Status { level: Level::Info, text: "adopted".into() });
        if lost > 0 {
            let reason = "rotated".into();
            push(Record::Gap { index: lost, lost_lines: Some(lost), lost_bytes: None, reason });
        }
        for (index, text) in (lost..).zip(lines) {
            push(Record::Log { stream: Source::Stdout, index, text: (*text).into() });
        }
        push(Record::Result(serde_json::Map::new()));
        feed.close();
        feed
    }

    fn cursor(index: u64, text: &str) -> Cursor {
        Cursor { generation: "of another host".into(), seq: 900, line: Some(Line::new(index, text)) }
    }

    async fn kinds(chunks: Chunks) -> Vec<String> {
        let all: Vec<Bytes> = chunks.try_collect().await.expect("good");
        let records = all.concat();
        let lines = records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let record: Value = serde_json::from_slice(line).expect("a record");
                let what = if record["type"] == "log" { &record["text"] } else { &record["type"] };
                what.as_str().expect("a text").to_owned()
            })
            .collect()
    }

    #[tokio::test]
    async fn a_follower_continues_after_its_line_at_another_host() {
        let feed = feed(0, &["a", "b", "c", "d"]);
        assert_eq!(kinds(follow(&feed, &cursor(1, "b"))).await, ["status", "c", "d", "result"]);
        assert_eq!(kinds(follow(&feed, &cursor(3, "d"))).await, ["status", "result"]);
    }

    #[tokio::test]
    async fn a_follower_whose_line_is_not_found_gets_a_reset_and_everything() {
        let all = ["reset", "status", "a", "b", "result"];
        for lost in [cursor(1, "x"), cursor(5, "b")] {
            let kinds = kinds(follow(&feed(0, &["a", "b"]), &lost)).await;
            let from = kinds.iter().position(|kind| kind == "reset").expect("it says so");
            assert_eq!(kinds[from..], all, "{lost:?}");
        }
        let rotated = kinds(follow(&feed(9, &["j", "k"]), &cursor(2, "c"))).await;
        assert_eq!(rotated, ["reset", "status", "gap", "j", "k", "result"], "never a silent skip");
    }

    #[tokio::test]
    async fn a_follower_without_a_line_gets_every_line_and_no_reset() {
        let early = Cursor { line: None, ..cursor(0, "") };
        assert_eq!(kinds(follow(&feed(0, &["a"]), &early)).await, ["status", "a", "result"]);
    }

    #[tokio::test]
    async fn records_before_the_line_keep_the_place_of_the_follower() {
        let feed = Arc::new(Feed::new());
        let status = Record::Status { level: Level::Info, text: "the node does not answer".into() };
        feed.push(&SequencedRecord { seq: 0, record: status }).expect("pushed");
        let cursor = cursor(11, "k");
        let chunk = follow(&feed, &cursor).next().await.expect("a record").expect("good");
        let record: Value = serde_json::from_slice(&chunk).expect("a record");
        assert_eq!(
            (&record["type"], record["cursor"].as_str()),
            (&"status".into(), Some(&*cursor.to_string()))
        );
    }
}

#[cfg(test)]
mod journeys;
