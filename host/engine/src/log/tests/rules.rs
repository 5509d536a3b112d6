//! One test per rule, except for rotation and the end of a log.

use std::time::Duration;

use super::run::Run;
use super::server::{Body, Chunk, Kubelet, Log, MIDNIGHT_S, at, prefix, stamped, three};
use crate::log::chunks::CHUNK_BYTES;
use crate::log::timing::{
    ANSWER_TIMEOUT, CLEAN_END_WAIT, ESTABLISHED_AFTER, MAX_SHORT_READS, RETRY_CAP, SILENCE_TIMEOUT,
    WAITING_RETRY,
};
use crate::log::{
    BATCH_BYTES, BATCH_LINES, ContainerSeen, Line, LogEnd, LogLimits, LogOutput, LogReader, LogRequest,
};
use crate::time::Timestamp;

#[test]
fn rule_1_a_cut_at_any_byte_loses_and_repeats_nothing() {
    let log = Log::of_lines(&[
        (at(1, 0), "a"),
        (at(1, 9), "é"),
        (at(2, 0), ""),
        (at(2, 1), "b\r"),
        (at(3, 0), "c"),
    ]);
    let all = log.lines();
    let whole = log.read(LogRequest { follow: true, since_s: None });
    for cut in 0..=whole.len() {
        let mut run = Run::running();
        run.open();
        run.bytes(&whole[..cut]);
        run.reconnect(&log);
        assert_eq!((run.lines(), run.gaps()), (all.iter().map(String::as_str).collect(), 0), "cut at {cut}");
    }
}

#[test]
fn rule_2_since_is_the_whole_second() {
    let mut run = Run::running();
    assert_eq!(run.open(), LogRequest { follow: true, since_s: None });
    run.bytes(&stamped(at(5, 700_000_000), b"x\n"));
    run.break_stream();
    run.wait();
    assert_eq!(run.open().since_s, Some(MIDNIGHT_S + 5));
}

#[test]
fn rule_3_equal_lines_with_one_stamp_are_counted() {
    for count in [2, 64, 65, 100, 1000] {
        let mut log = Log::of_lines(&vec![(at(1, 1), "same"); count]);
        log.written = count / 2;
        let mut run = Run::running();
        run.serve(&log);
        log.written = count;
        run.reconnect(&log);
        assert_eq!((run.lines().len(), run.gaps()), (count, 0));
    }
}

#[test]
fn rule_4_joins_the_chunks_of_a_long_line_from_any_kubelet() {
    let text = |fill| vec![fill; CHUNK_BYTES];
    for kubelet in [Kubelet::Old, Kubelet::Modern] {
        let mut log = Log::new(
            kubelet,
            vec![
                Chunk { stamp: at(1, 1), text: text(b'a'), is_last: false },
                Chunk { stamp: at(1, 2), text: text(b'b'), is_last: false },
                Chunk { stamp: at(1, 3), text: b"end".to_vec(), is_last: true },
                Chunk { stamp: at(1, 4), text: b"next".to_vec(), is_last: true },
            ],
        );
        for written in 0..=4 {
            log.written = written;
            let mut run = Run::running();
            run.serve(&log);
            log.written = 4;
            run.reconnect(&log);
            assert_eq!(run.lines(), log.lines(), "{kubelet:?}");
            assert_eq!(run.reader.position().bytes(), 2 * CHUNK_BYTES as u64 + 4 + 5);
        }
    }
}

#[test]
fn rule_4_an_agent_may_print_a_stamp_after_16_kib() {
    let mut text = vec![b'a'; CHUNK_BYTES + 10];
    let mut run = Run::running();
    run.open();
    run.bytes(&[stamped(at(1, 0), &text), b"\n".to_vec()].concat());
    text.splice(CHUNK_BYTES.., prefix(at(2, 0)));
    run.bytes(&[stamped(at(2, 0), &text), b"\n".to_vec()].concat());
    assert_eq!(run.lines()[1].as_bytes(), text);
}

#[test]
fn rule_5_drops_the_rest_of_a_line_that_started_before_the_second() {
    for kubelet in [Kubelet::Old, Kubelet::Modern] {
        let mut log = Log::new(
            kubelet,
            vec![
                Chunk { stamp: at(1, 1), text: vec![b'a'; CHUNK_BYTES], is_last: false },
                Chunk { stamp: at(2, 2), text: vec![b'b'; CHUNK_BYTES], is_last: false },
                Chunk { stamp: at(3, 3), text: b"rest".to_vec(), is_last: true },
                Chunk { stamp: at(3, 4), text: b"next".to_vec(), is_last: true },
                Chunk { stamp: at(3, 5), text: b"last".to_vec(), is_last: true },
            ],
        );
        log.written = 4;
        let mut run = Run::running();
        run.serve(&log);
        log.written = 5;
        assert_eq!(run.reconnect(&log).since_s, Some(MIDNIGHT_S + 3));
        run.finish(&log);
        assert_eq!((run.lines().len(), run.gaps(), run.diagnostics().len()), (3, 0, 0), "{kubelet:?}");
        assert_eq!(run.is_complete(), Some(true));
    }
}

#[test]
fn rule_8_a_clean_end_while_the_container_runs_resumes_the_stream() {
    let mut log = three();
    log.written = 2;
    let mut run = Run::running();
    run.serve(&log);
    run.close(LogEnd::Clean);
    assert_eq!(run.outputs.len(), 1, "the container may have ended: nothing is reported yet");
    assert!(run.wait() >= CLEAN_END_WAIT);
    assert!(matches!(run.outputs.last(), Some(LogOutput::Interrupted { .. })));
    log.written = 3;
    run.serve(&log);
    assert_eq!(
        run.outputs[2..],
        [LogOutput::Resumed, LogOutput::Lines(vec![Line::Whole("three".to_owned())])]
    );
}

#[test]
fn rule_8_a_clean_end_of_a_terminated_container_is_not_an_interruption() {
    let mut run = Run::running();
    run.serve(&three());
    run.close(LogEnd::Clean);
    run.finish(&three());
    assert_eq!(run.lines(), ["one", "two", "three"]);
    assert!(!run.outputs.iter().any(|output| matches!(output, LogOutput::Interrupted { .. })));
    assert_eq!(run.is_complete(), Some(true));
}

#[test]
fn rule_9_text_of_the_kubelet_is_a_diagnostic() {
    const TEXT: &str = "failed to create fsnotify watcher: too many open files";
    for held in ["", "2026-03-01T00:00:01.000000005Z on"] {
        let mut run = Run::running();
        run.open();
        run.bytes(held.as_bytes());
        run.bytes(TEXT.as_bytes());
        run.close(LogEnd::Clean);
        run.wait();
        run.serve(&three());
        assert_eq!(run.lines(), ["one", "two", "three"]);
        assert_eq!(run.diagnostics().len(), usize::from(held.is_empty()));
    }
    let mut run = Run::running();
    run.open();
    run.bytes(&[&stamped(at(1, 5), b"one\n"), TEXT.as_bytes(), b"\n"].concat());
    run.see(ContainerSeen::Terminated);
    for attempt in 1..=MAX_SHORT_READS {
        assert_eq!(run.is_complete(), None, "attempt {attempt}");
        run.open();
        run.bytes(b"unable to retrieve container logs for containerd://1234");
        run.close(LogEnd::Clean);
        run.reader.deadline().map(|_| run.wait());
    }
    assert_eq!(run.is_complete(), Some(false));
    assert_eq!(run.lines(), ["one"]);
    assert_eq!(run.diagnostics(), [TEXT, "unable to retrieve container logs for containerd://1234"]);
}

#[test]
fn rule_10_reads_a_waiting_container_again_when_it_runs() {
    let mut run = Run::new();
    run.refuse(400);
    assert!(run.wait() <= RETRY_CAP, "its state is not known");
    run.see(ContainerSeen::Waiting);
    run.refuse(400);
    assert_eq!(run.wait(), WAITING_RETRY);
    run.open();
    run.close(LogEnd::Clean);
    run.see(ContainerSeen::Running);
    run.serve(&three());
    assert_eq!((run.lines().len(), run.diagnostics().len()), (3, 1));

    let mut reader = LogReader::new(LogLimits::default(), 1);
    reader.on_container(Timestamp::from_millis(5), ContainerSeen::Waiting);
    assert_eq!((reader.poll(), reader.deadline()), (None, Some(Timestamp::from_millis(5) + WAITING_RETRY)));
}

#[test]
fn rule_12_reopens_a_silent_stream() {
    let mut run = Run::running();
    run.serve(&three());
    assert_eq!(run.wait(), SILENCE_TIMEOUT);
    assert_eq!(run.outputs.pop(), Some(LogOutput::Close));
    run.serve(&three());
    assert_eq!((run.lines().len(), run.outputs.len()), (3, 1), "it is not reported");
}

#[test]
fn rule_12_retries_a_server_that_does_not_answer() {
    let mut run = Run::running();
    run.wait();
    assert_eq!(run.wait(), ANSWER_TIMEOUT);
    assert_eq!(run.outputs[0], LogOutput::Close);
    assert!(matches!(run.outputs[1], LogOutput::Interrupted { .. }));
    run.wait();
    run.serve(&three());
    assert_eq!(run.lines().len(), 3);
}

#[test]
fn rule_12b_and_d1_there_is_one_stream_at_a_time() {
    let mut run = Run::running();
    run.serve(&three());
    run.see(ContainerSeen::Running);
    assert_eq!(run.request, None);
    run.see(ContainerSeen::Terminated);
    assert_eq!(run.outputs.last(), Some(&LogOutput::Close), "before the last read is opened");
    assert!(run.request.is_some());
    run.see(ContainerSeen::Terminated);
    assert_eq!(run.outputs.len(), 2);
}

#[test]
fn d2_returns_all_equal_lines() {
    let mut run = Run::running();
    run.serve(&Log::of_lines(&[(at(1, 0), "{}"), (at(1, 1), "{}"), (at(2, 0), "{}")]));
    assert_eq!(run.lines(), ["{}"; 3]);
}

#[test]
fn d31_characters_survive_any_cut_and_invalid_bytes_are_replaced() {
    let text = [stamped(at(1, 0), "añ€😀\r\n".as_bytes()), stamped(at(1, 1), b"\xff\xc3\n")].concat();
    for cut in 0..text.len() {
        let mut run = Run::running();
        run.open();
        run.bytes(&text[..cut]);
        run.bytes(&text[cut..]);
        assert_eq!(run.lines(), ["añ€😀\r", "\u{fffd}\u{fffd}"]);
    }
}

#[test]
fn returns_a_line_over_the_limit_once_with_its_ends_and_size() {
    let limits =
        LogLimits { max_line_bytes: 1000, cut_head_bytes: 131, cut_tail_bytes: 50, ..LogLimits::default() };
    let long = [vec![b'a'; 99], "é".repeat(1000).into_bytes(), vec![b'z'; 49]].concat();
    let bytes = [stamped(at(1, 0), &long), b"\n".to_vec(), stamped(at(1, 1), b"next\n")].concat();
    let mut run = Run::of(LogReader::new(limits, 1));
    run.open();
    bytes.chunks(77).for_each(|piece| run.bytes(piece));
    run.break_stream();
    run.wait();
    run.open();
    bytes.chunks(500).for_each(|piece| run.bytes(piece));
    let lines: Vec<&Line> = run
        .outputs
        .iter()
        .filter_map(|output| if let LogOutput::Lines(lines) = output { Some(lines) } else { None })
        .flatten()
        .collect();
    let cut = Line::Cut { head: "a".repeat(99), tail: "z".repeat(49), bytes: 2148 };
    assert_eq!(lines, [&cut, &Line::Whole("next".to_owned())]);
    assert_eq!((run.reader.position().lines(), run.reader.position().bytes()), (2, 2149 + 5));
}

#[test]
fn returns_lines_in_batches_within_the_limits() {
    let line = [stamped(at(1, 0), &[b'x'; 1000]), b"\n".to_vec()].concat();
    let mut run = Run::running();
    run.open();
    run.bytes(&line.repeat(200));
    run.bytes(&stamped(at(1, 0), b"\n").repeat(3000));
    let batches = run.outputs.iter().map(|output| {
        let LogOutput::Lines(lines) = output else { panic!("only lines") };
        (
            lines.len(),
            lines.iter().map(|line| if let Line::Whole(text) = line { text.len() } else { 0 }).sum(),
        )
    });
    let batches: Vec<(usize, usize)> = batches.collect();
    assert_eq!(batches.iter().map(|(lines, _)| lines).sum::<usize>(), 3200);
    assert!(
        batches.iter().all(|(lines, bytes)| *lines <= BATCH_LINES && *bytes <= BATCH_BYTES),
        "{batches:?}"
    );
}

#[test]
fn the_position_is_that_of_the_lines_that_were_polled() {
    let line = [stamped(at(1, 0), &[b'x'; 1000]), b"\n".to_vec()].concat();
    let mut reader = LogReader::new(LogLimits::default(), 1);
    reader.poll();
    reader.on_opened(Timestamp::EPOCH, false);
    reader.on_bytes(Timestamp::EPOCH, &line.repeat(200));
    let mut lines = 0;
    while let Some(LogOutput::Lines(batch)) = reader.poll() {
        lines += batch.len() as u64;
        assert_eq!(reader.position().lines(), lines);
    }
    assert_eq!(lines, 200);
    let saved = serde_json::to_string(reader.position()).unwrap();
    assert!(saved.len() < 1600, "{} bytes", saved.len());
}

#[test]
fn reports_an_interruption_once_and_a_lasting_stream_as_resumed() {
    let mut run = Run::running();
    run.serve(&three());
    run.outputs.clear();
    for _ in 0..9 {
        run.break_stream();
        assert!(run.wait() <= RETRY_CAP);
        run.serve(&three());
    }
    assert_eq!(run.outputs, [LogOutput::Interrupted { reason: "reset".to_owned() }]);
    assert_eq!(run.wait(), ESTABLISHED_AFTER);
    assert_eq!(run.outputs[1..], [LogOutput::Resumed]);
    run.break_stream();
    assert!(run.wait() <= Duration::from_millis(200), "the backoff is reset");
}

#[test]
fn a_clock_that_is_set_back_while_the_stream_runs_loses_nothing() {
    let mut log = Log::of_lines(&[
        (at(8, 0), "a"),
        (at(9, 0), "b"),
        (at(10, 0), "c"),
        (at(9, 5), "d"),
        (at(9, 6), "e"),
        (at(9, 7), "f"),
        (at(11, 0), "g"),
    ]);
    for cut in 0..=7 {
        let mut run = Run::running();
        log.written = 7;
        let mut body: Body = log.open(run.open());
        log.written = cut.max(5);
        log.send(&mut body);
        run.bytes(&body.pending);
        log.written = 7;
        run.reconnect(&log);
        assert_eq!(
            (run.lines(), run.gaps()),
            (vec!["a", "b", "c", "d", "e", "f", "g"], 0),
            "cut after {cut}"
        );
    }
}

#[test]
fn a_stopped_reader_returns_nothing_more() {
    let mut reader = LogReader::new(LogLimits::default(), 1);
    reader.poll();
    reader.on_opened(Timestamp::EPOCH, false);
    reader.on_bytes(Timestamp::EPOCH, &stamped(at(1, 0), b"x\n"));
    reader.stop();
    assert_eq!((reader.poll(), reader.poll(), reader.deadline()), (Some(LogOutput::Close), None, None));
    let later = Timestamp::from_millis(1);
    reader.on_bytes(later, &stamped(at(1, 0), b"y\n"));
    reader.on_container(later, ContainerSeen::Terminated);
    assert_eq!(reader.poll(), None);
}
