//! Records as lines.

use paperclip_engine::record::{Level, Record, SequencedRecord, Stream};
use paperclip_shell::{NdjsonSink, Sink};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn writes_each_record_as_a_line_at_the_latest_with_the_flush() {
    let (writer, mut reader) = tokio::io::duplex(1 << 20);
    let mut sink = NdjsonSink::new(writer);
    sink.take(sequenced(Record::Log { stream: Stream::Stdout, index: 0, text: "a \"b\"".into() }))
        .await
        .unwrap();
    sink.take(sequenced(Record::Status { level: Level::Info, text: "s".into() })).await.unwrap();
    sink.flush().await.unwrap();
    let mut bytes = vec![0; 1024];
    let read = reader.read(&mut bytes).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&bytes[..read]),
        "{\"type\":\"log\",\"stream\":\"stdout\",\"index\":0,\"text\":\"a \\\"b\\\"\"}\n{\"type\":\"status\",\"level\":\"info\",\"text\":\"s\"}\n"
    );
}

#[tokio::test]
async fn a_closed_reader_is_an_error() {
    let (writer, reader) = tokio::io::duplex(16);
    drop(reader);
    let mut sink = NdjsonSink::new(writer);
    sink.take(sequenced(Record::Status { level: Level::Info, text: "s".into() })).await.unwrap();
    assert_eq!(sink.flush().await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

fn sequenced(record: Record) -> SequencedRecord {
    SequencedRecord { seq: 0, record }
}
