//! Rule 11: the kubelet rotates a log's files and serves only the newest.

use std::time::Duration;

use super::run::Run;
use super::server::{Chunk, Kubelet, Log, at, prefix, stamped, three};
use crate::log::chunks::CHUNK_BYTES;
use crate::log::timing::{
    DRAIN_TIMEOUT, LAGGING_QUIET_PERIOD, MAX_SHORT_READS, QUIET_PERIOD, ROTATION_BYTES,
};
use crate::log::{ContainerSeen, LogEnd, LogOutput, Stamp};

#[test]
fn rule_11_a_rotation_within_the_second_loses_nothing() {
    for rotated_at in 1..=100 {
        let texts: Vec<String> = (0..120).map(|number| format!("{}", number / 7)).collect();
        let lines: Vec<(Stamp, &str)> = texts.iter().map(|text| (at(1, 1), text.as_str())).collect();
        let mut log = Log::of_lines(&lines);
        log.written = 110;
        let mut run = Run::running();
        run.serve(&log);
        log.file_start = rotated_at;
        log.written = 120;
        run.reconnect(&log);
        assert_eq!(
            (run.lines(), run.gaps()),
            (texts.iter().map(String::as_str).collect(), 0),
            "{rotated_at}"
        );
    }
}

#[test]
fn rule_11_a_rotation_after_the_second_is_a_gap() {
    let mut log = Log::of_lines(&[
        (at(1, 1), "a"),
        (at(1, 2), "b"),
        (at(1, 2), "lost"),
        (at(1, 2), "c"),
        (at(2, 0), "d"),
    ]);
    log.written = 2;
    let mut run = Run::running();
    run.serve(&log);
    log.file_start = 3;
    log.written = 5;
    run.reconnect(&log);
    assert_eq!((run.lines(), run.gaps()), (vec!["a", "b", "c", "d"], 1));
    run.reconnect(&log);
    run.finish(&log);
    assert_eq!((run.lines().len(), run.gaps(), run.is_complete()), (4, 1, Some(true)));
}

#[test]
fn rule_11_a_rotation_within_a_line_repeats_no_part_of_it() {
    let mut log = Log::new(
        Kubelet::Modern,
        vec![
            Chunk { stamp: at(1, 1), text: vec![b'a'; CHUNK_BYTES], is_last: false },
            Chunk { stamp: at(1, 2), text: b"rest".to_vec(), is_last: true },
            Chunk { stamp: at(1, 3), text: b"next".to_vec(), is_last: true },
            Chunk { stamp: at(1, 4), text: b"new".to_vec(), is_last: true },
        ],
    );
    log.written = 3;
    let mut run = Run::running();
    run.serve(&log);
    log.file_start = 1;
    log.written = 4;
    run.reconnect(&log);
    assert_eq!((run.lines()[1..].to_vec(), run.gaps()), (vec!["next", "new"], 0));
}

#[test]
fn rule_11_a_log_whose_end_was_rotated_away_is_incomplete() {
    let mut log = three();
    let mut run = Run::running();
    run.serve(&log);
    log.rotate();
    run.see(ContainerSeen::Terminated);
    run.read_without_end(&log);
    assert_eq!((run.lines().len(), run.is_complete()), (3, Some(false)));
}

/// A read instead of the stream would find an empty file, which proves nothing.
#[test]
fn rule_11_drains_the_stream_of_a_log_that_may_have_been_rotated() {
    let long = "x".repeat(usize::try_from(ROTATION_BYTES).expect("it is small"));
    let mut log = Log::of_lines(&[(at(1, 5), &long)]);
    let mut run = Run::running();
    run.serve(&log);
    log.rotate();
    run.see(ContainerSeen::Terminated);
    assert_eq!(run.request, None, "it keeps reading although it is quiet");
    run.close(LogEnd::Clean);
    run.serve(&log);
    run.close(LogEnd::Clean);
    assert_eq!((run.is_complete(), run.gaps()), (Some(true), 0));

    let mut broken = Run::running();
    log.file_start = 0;
    broken.serve(&log);
    log.rotate();
    broken.see(ContainerSeen::Terminated);
    assert_eq!(broken.wait(), DRAIN_TIMEOUT);
    broken.read_without_end(&log);
    assert_eq!((broken.is_complete(), broken.gaps()), (Some(false), 1), "it has not ended by itself");
}

/// The kubelet serves the rest of a rotated file only to a stream that has it open.
#[test]
fn rule_11_drains_a_stream_that_still_has_lines_before_the_last_read() {
    let mut log = three();
    log.written = 1;
    let mut run = Run::running();
    run.serve(&log);
    run.reader.on_container(run.now, ContainerSeen::Terminated);
    run.drain();
    assert_eq!(run.request, None, "it keeps reading");
    run.bytes(&stamped(at(1, 6), b"still\n"));
    run.now += QUIET_PERIOD - Duration::from_millis(1);
    // Bytes wait in this process: the server is not silent.
    run.reader.on_held(run.now);
    assert_eq!(run.wait(), QUIET_PERIOD);
    assert_eq!(run.lines().last(), Some(&"still"));
    assert_eq!(run.request.map(|request| request.follow), Some(false), "now the last read");

    let mut ended = Run::running();
    ended.serve(&log);
    ended.reader.on_container(ended.now, ContainerSeen::Terminated);
    ended.close(LogEnd::Clean);
    assert_eq!(ended.request.map(|request| request.follow), Some(false), "it does not wait any longer");
}

#[test]
fn rule_11_an_end_that_cannot_be_read_is_a_gap() {
    let mut run = Run::running();
    run.serve(&three());
    run.see(ContainerSeen::Terminated);
    for _ in 0..MAX_SHORT_READS {
        // The file was rotated after the last line: the new one is empty.
        run.open();
        run.close(LogEnd::Clean);
        if run.request.is_none() && run.is_complete().is_none() {
            run.wait();
        }
    }
    assert_eq!(run.is_complete(), Some(false));
    assert!(
        matches!(run.outputs.iter().rev().nth(1), Some(LogOutput::Gap { lost_lines: None, .. })),
        "{:?}",
        run.outputs
    );
}

#[test]
fn rule_11_reports_a_gap_if_a_stream_skips_a_file() {
    let text = "x".repeat(64 << 10);
    let line =
        |number: u32, s: i64| [prefix(at(s, number)), text.as_bytes().to_vec(), b"\n".to_vec()].concat();
    let mut run = Run::running();
    run.open();
    for number in 0..40 {
        // Printed within one second, read over eight: files are rotated meanwhile.
        run.bytes(&line(number, 1));
        run.now += Duration::from_millis(200);
    }
    assert_eq!(run.gaps(), 0);
    run.bytes(&line(40, 6));
    assert_eq!((run.lines().len(), run.gaps()), (41, 1));
    let last: Vec<&LogOutput> = run.outputs.iter().rev().take(2).collect();
    assert!(
        matches!(last[..], [LogOutput::Lines(_), LogOutput::Gap { .. }]),
        "the gap is before the first line after it"
    );
}

#[test]
fn rule_11_gives_a_lagging_stream_time_to_deliver() {
    let line = |number: u32| [prefix(at(1, number)), b"x\n".to_vec()].concat();
    let mut run = Run::running();
    run.open();
    run.bytes(&line(1));
    run.now += Duration::from_secs(3);
    run.bytes(&line(2));
    run.see(ContainerSeen::Terminated);
    assert_eq!(run.wait(), LAGGING_QUIET_PERIOD - QUIET_PERIOD, "a busy node pauses longer");
    assert_eq!(run.request.map(|request| request.follow), Some(false), "now the last read");
}
