//! The end of a log: its container's, its pod's, and the last read.

use super::run::Run;
use super::server::{MIDNIGHT_S, at, stamped, three};
use crate::log::timing::{DELETED_DRAIN, DRAIN_TIMEOUT, MAX_BROKEN_READS};
use crate::log::{ContainerSeen, Line, LogEnd, LogOutput, LogRequest};

#[test]
fn rule_13_the_containers_end_ends_the_log_after_one_plain_read() {
    let mut log = three();
    log.written = 1;
    let mut run = Run::running();
    run.serve(&log);
    log.written = 3;
    run.see(ContainerSeen::Terminated);
    assert_eq!(run.serve(&log), LogRequest { follow: false, since_s: Some(MIDNIGHT_S + 1) });
    run.close(LogEnd::Clean);
    assert_eq!(run.lines(), ["one", "two", "three"]);
    assert_eq!(run.outputs.last(), Some(&LogOutput::Ended { lines: 3, bytes: 14, is_complete: true }));
    assert_eq!(run.reader.deadline(), None);
}

/// The API server removes a deleted Pod within milliseconds of its container's end: a read instead of the stream would find nothing.
#[test]
fn rule_13_drains_the_stream_of_a_pod_that_is_being_deleted() {
    let mut log = three();
    log.written = 1;
    let mut run = Run::running();
    run.serve(&log);
    run.reader.on_container(run.now, ContainerSeen::PodTerminating);
    run.drain();
    run.bytes(&stamped(at(1, 6), b"last words\n"));
    run.reader.on_container(run.now, ContainerSeen::PodDeleted);
    run.drain();
    assert_eq!(run.request, None, "it keeps reading");
    run.close(LogEnd::Clean);
    assert_eq!(run.lines(), ["one", "last words"]);
    assert!(
        matches!(run.outputs.last(), Some(LogOutput::Ended { is_complete: true, .. })),
        "{:?}",
        run.outputs
    );

    let mut stuck = Run::running();
    stuck.serve(&log);
    stuck.reader.on_container(stuck.now, ContainerSeen::PodTerminating);
    stuck.drain();
    assert_eq!(stuck.wait(), DRAIN_TIMEOUT);
    assert_eq!(stuck.request.map(|request| request.follow), Some(false), "now the last read");
}

#[test]
fn repeats_a_broken_last_read_until_its_limit() {
    let mut run = Run::running();
    run.serve(&three());
    run.see(ContainerSeen::Terminated);
    for _ in 1..MAX_BROKEN_READS {
        run.open();
        run.break_stream();
        run.wait();
    }
    run.open();
    run.break_stream();
    assert_eq!(run.is_complete(), Some(false));
}

#[test]
fn a_deleted_pod_ends_the_log() {
    let mut open = Run::running();
    open.serve(&three());
    open.see(ContainerSeen::PodDeleted);
    assert_eq!(open.is_complete(), None, "the stream may have more");
    open.close(LogEnd::Clean);
    assert_eq!(open.is_complete(), Some(true));

    let mut silent = Run::running();
    silent.serve(&three());
    silent.bytes(&stamped(at(3, 0), b"partial"));
    silent.see(ContainerSeen::PodDeleted);
    assert_eq!(silent.wait(), DELETED_DRAIN);
    assert_eq!((silent.lines().last(), silent.is_complete()), (Some(&"partial"), Some(false)));

    let torn = Line::Torn("partial".to_owned());
    assert!(
        silent.outputs.contains(&LogOutput::Lines(vec![torn])),
        "a secret in it may be cut: {:?}",
        silent.outputs
    );

    let mut broken = Run::running();
    broken.serve(&three());
    broken.break_stream();
    broken.see(ContainerSeen::PodDeleted);
    assert_eq!(broken.is_complete(), Some(false));

    let mut reading = Run::running();
    reading.serve(&three());
    reading.see(ContainerSeen::Terminated);
    reading.see(ContainerSeen::PodDeleted);
    reading.refuse(404);
    assert_eq!(reading.is_complete(), Some(false));
}

/// A kubelet serves the newest container's log only.
#[test]
fn a_restarted_container_ends_the_log_with_a_gap() {
    let mut open = Run::running();
    open.serve(&three());
    open.see(ContainerSeen::Replaced);
    open.close(LogEnd::Clean);
    assert_eq!((open.lines().len(), open.is_complete(), open.gaps()), (3, Some(false), 1));

    for is_open in [true, false] {
        let mut asking = Run::running();
        asking.serve(&three());
        asking.break_stream();
        asking.wait();
        if is_open {
            asking.open();
        }
        asking.see(ContainerSeen::Terminated);
        asking.see(ContainerSeen::Replaced);
        assert_eq!(asking.is_complete(), Some(false), "an answer would be of the new container's log");
        assert_eq!((asking.lines().len(), asking.gaps()), (3, 1));
    }
}

#[test]
fn a_follow_that_ended_before_its_pod_terminated_is_complete() {
    let unable = b"unable to retrieve container logs for containerd://5c1d";
    let ended = |seen: ContainerSeen, before: &dyn Fn(&mut Run)| {
        let mut run = Run::running();
        run.serve(&three());
        run.close(LogEnd::Clean);
        before(&mut run);
        run.see(seen);
        while run.is_complete().is_none() {
            if run.request.is_some() {
                run.open();
                run.bytes(unable);
                run.close(LogEnd::Clean);
            } else {
                run.wait();
            }
        }
        (run.is_complete(), run.gaps())
    };
    assert_eq!(ended(ContainerSeen::PodTerminating, &|_| {}), (Some(true), 0));
    assert_eq!(ended(ContainerSeen::PodDeleted, &|_| {}), (Some(true), 0));
    assert_eq!(
        ended(ContainerSeen::Terminated, &|_| {}),
        (Some(false), 1),
        "the clean end may be the server's"
    );

    let followed_again = |run: &mut Run| {
        run.wait();
        run.serve(&three());
        run.break_stream();
    };
    assert_eq!(
        ended(ContainerSeen::PodTerminating, &followed_again),
        (Some(false), 1),
        "that follow was not the last"
    );
    let refused = |run: &mut Run| {
        run.wait();
        run.refuse(500);
    };
    assert_eq!(ended(ContainerSeen::PodTerminating, &refused), (Some(false), 1), "long ago");
}

#[test]
fn d8_accepts_a_last_line_without_line_feed_once_a_second_read_confirms_it() {
    let text = stamped(at(1, 0), b"the end");
    let mut held = Run::running();
    held.open();
    held.bytes(&text);
    held.see(ContainerSeen::Terminated);
    held.open();
    held.bytes(&text);
    held.close(LogEnd::Clean);
    assert_eq!(held.lines(), ["the end"]);
    assert_eq!(held.outputs.last(), Some(&LogOutput::Ended { lines: 1, bytes: 7, is_complete: true }));

    let mut unseen = Run::running();
    unseen.see(ContainerSeen::Terminated);
    unseen.open();
    unseen.bytes(&text[..text.len() - 2]);
    unseen.close(LogEnd::Clean);
    assert_eq!(unseen.lines(), [""; 0], "it may continue");
    for _ in 0..2 {
        unseen.wait();
        unseen.open();
        unseen.bytes(&text);
        unseen.close(LogEnd::Clean);
    }
    assert_eq!((unseen.lines(), unseen.is_complete()), (vec!["the end"], Some(true)));

    let mut again = Run::resume(unseen.reader.position().clone());
    assert_eq!((again.is_complete(), again.request.take()), (Some(true), None), "after a crash");
}
