//! The Lease of a run with the answers of a server.

use super::*;
use crate::api::HostLease;

const HERE: &str = "paperclip-host-a";
const THERE: &str = "paperclip-host-b";

const fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn host_at(instance: &str, certain_until: Timestamp) -> HostState {
    HostState { instance: instance.to_owned(), certain_until }
}

/// The Lease of a run on a host that is known to live.
fn new_lease() -> RunLease {
    let mut lease = unjoined();
    lease.set_host(at(0), host_at(HERE, Timestamp::MAX));
    lease
}

/// The Lease of a run whose host has no instance yet.
fn unjoined() -> RunLease {
    RunLease::new(Identity { run_id: "run-1".to_owned(), host: "host-a".to_owned() })
}

fn request(wait_ms: u64) -> AcquireGuard {
    AcquireGuard { key: "agent".to_owned(), namespace: "ns".to_owned(), wait_ms }
}

/// A guard at version 5, of an instance that is named after the host.
fn lease(holder: &str, host: &str) -> Lease {
    let instance = if host.is_empty() { String::new() } else { format!("paperclip-{host}") };
    Lease {
        namespace: "ns".to_owned(),
        name: lease_name("agent"),
        uid: "u".to_owned(),
        resource_version: "5".to_owned(),
        key: "agent".to_owned(),
        holder: holder.to_owned(),
        host: host.to_owned(),
        instance,
        epoch: 7,
        duration_s: GUARD_S,
        renewed_at: at(0),
    }
}

/// A guard as an older version writes it.
fn old_lease(holder: &str, resource_version: &str) -> Lease {
    let resource_version = resource_version.to_owned();
    Lease { instance: String::new(), epoch: 0, duration_s: 60, resource_version, ..lease(holder, "host-b") }
}

fn found(lease: Lease) -> Result<ApiReply, ApiError> {
    Ok(ApiReply::Lease(Some(lease)))
}

fn conflict() -> ApiError {
    ApiError {
        status: Some(409),
        reason: Some("AlreadyExists".to_owned()),
        message: String::new(),
        retry_after_ms: None,
    }
}

fn silent() -> ApiError {
    ApiError { status: None, ..conflict() }
}

/// A contender whose creation found this Lease.
fn read(run_lease: &mut RunLease, now: Timestamp, lease: Lease) -> Vec<Outcome> {
    run_lease.on_answer(now, Err(conflict()));
    run_lease.on_answer(now, found(lease))
}

/// Reads the Lease again when that is due.
fn read_again(run_lease: &mut RunLease, now: Timestamp, lease: Lease) -> Vec<Outcome> {
    let due = run_lease.on_deadline(now);
    assert!(matches!(&due[..], [Outcome::Call(ApiCall::GetLease { .. })]), "{due:?}");
    run_lease.on_answer(now, found(lease))
}

fn updated(outcomes: &[Outcome]) -> &Lease {
    let [Outcome::Call(ApiCall::UpdateLease(lease))] = outcomes else { panic!("{outcomes:?}") };
    lease
}

/// A contender that has acquired a free key.
fn holder() -> RunLease {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(0));
    run_lease.on_answer(at(5), found(lease("run-1", "host-a")));
    run_lease
}

#[test]
fn acquires_a_free_key_with_one_request_and_never_writes_it_again() {
    let mut run_lease = new_lease();
    let created = run_lease.acquire(at(5_000), request(0));
    let [Outcome::Call(ApiCall::CreateLease(created))] = &created[..] else { panic!("{created:?}") };
    assert_eq!((created.instance.as_str(), created.epoch, created.duration_s), (HERE, 5, GUARD_S));
    let held = found(lease("run-1", "host-a"));
    assert_eq!(run_lease.on_answer(at(5_005), held), vec![Outcome::Acquired]);
    assert_eq!(run_lease.deadline(), None);
    assert_eq!(run_lease.epoch(), Some(7));
}

#[test]
fn a_guard_is_requested_once_the_host_has_an_instance() {
    let mut run_lease = unjoined();
    assert_eq!(run_lease.acquire(at(0), request(0)), vec![]);
    assert!(run_lease.is_undecided() && !run_lease.is_certain(at(0)));
    let joined = run_lease.set_host(at(9), host_at(HERE, at(25_009)));
    assert!(matches!(&joined[..], [Outcome::Call(ApiCall::CreateLease(_))]));
    let mut resumed = unjoined();
    assert_eq!(resumed.resume(at(0), request(0)), vec![]);
    let joined = resumed.set_host(at(9), host_at(HERE, at(25_009)));
    assert!(matches!(&joined[..], [Outcome::Call(ApiCall::GetLease { .. })]));
}

#[test]
fn a_guard_is_certain_only_while_its_instance_is() {
    let mut run_lease = new_lease();
    assert!(run_lease.is_certain(at(0)), "it was not requested");
    run_lease.acquire(at(0), request(0));
    assert!(!run_lease.is_certain(at(1)));
    run_lease.on_answer(at(5), found(lease("run-1", "host-a")));
    run_lease.set_host(at(6), host_at(HERE, at(25_000)));
    assert!(
        run_lease.is_certain(at(24_999)) && !run_lease.is_certain(at(25_000)) && run_lease.is_undecided()
    );
    run_lease.set_host(at(26_000), host_at(HERE, at(51_000)));
    assert!(run_lease.is_certain(at(26_000)), "the renewal was accepted: nobody has revoked the instance");
    run_lease.set_host(at(27_000), host_at("", at(0)));
    assert!(!run_lease.is_certain(at(27_000)));
}

#[test]
fn a_new_instance_of_the_host_moves_its_guard_or_learns_that_it_is_taken() {
    let moving = || {
        let mut run_lease = holder();
        let moves = run_lease.set_host(at(90_000), host_at("paperclip-host-a-2", Timestamp::MAX));
        let moved = updated(&moves).clone();
        assert_eq!((moved.instance.as_str(), moved.resource_version.as_str()), ("paperclip-host-a-2", "5"));
        assert!(!run_lease.is_certain(at(90_000)) && run_lease.is_undecided());
        (run_lease, moved)
    };
    let (mut kept, moved) = moving();
    assert_eq!(kept.on_answer(at(90_001), found(Lease { resource_version: "6".into(), ..moved })), vec![]);
    assert!(kept.is_certain(at(90_002)));

    let (mut away, _) = moving();
    assert_eq!(away.on_answer(at(90_001), Err(silent())), vec![]);
    assert_eq!(away.deadline(), Some(at(90_001) + BUSY_RETRY));
    updated(&away.on_deadline(at(90_001) + BUSY_RETRY));

    let (mut taken, _) = moving();
    assert!(matches!(
        &taken.on_answer(at(90_001), Err(conflict()))[..],
        [Outcome::Call(ApiCall::GetLease { .. })]
    ));
    let read = taken.on_answer(at(90_002), found(lease("run-1", "host-b")));
    assert!(matches!(&read[..], [Outcome::Call(ApiCall::GetHostLease { name, .. })] if name == THERE));
    let moved = taken.on_answer(at(90_003), Ok(ApiReply::HostLease(Some(host_lease()))));
    assert_eq!(moved, vec![Outcome::Moved { host: "host-b".into() }]);

    // The other host has the run's result, perhaps, and has left the rest to whoever adopts it.
    let (mut left, _) = moving();
    left.on_answer(at(90_001), Err(conflict()));
    let released = Lease { epoch: 90, ..lease("run-1", "") };
    assert_eq!(left.on_answer(at(90_002), found(released)), vec![Outcome::Moved { host: String::new() }]);

    let (mut lost, _) = moving();
    lost.on_answer(at(90_001), Err(conflict()));
    assert_eq!(lost.on_answer(at(90_002), found(lease("run-2", "host-b"))), vec![Outcome::Lost]);
}

fn host_lease() -> HostLease {
    HostLease {
        namespace: "ns".into(),
        name: THERE.into(),
        uid: "h".into(),
        resource_version: "9".into(),
        host: "host-b".into(),
        address: None,
        version: "1".into(),
        renewed_at: at(0),
    }
}

#[test]
fn reports_a_guard_of_another_run_once_as_busy() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(12_000));
    let busy = read(&mut run_lease, at(10), lease("run-0", "host-b"));
    assert!(matches!(&busy[..], [Outcome::Busy(b)] if !b.is_final && b.holder.as_deref() == Some("run-0")));
    assert_eq!(run_lease.deadline(), Some(at(10) + BUSY_RETRY));
    assert_eq!(read_again(&mut run_lease, at(5_011), lease("run-0", "host-b")), vec![]);
    let busy = read_again(&mut run_lease, at(12_001), lease("run-0", "host-b"));
    assert!(matches!(&busy[..], [Outcome::Busy(b)] if b.is_final));
}

#[test]
fn a_waiting_run_reads_the_guard_as_soon_as_it_changes() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(60_000));
    assert_eq!(run_lease.on_changed(), vec![], "a request is outstanding");
    read(&mut run_lease, at(10), lease("run-0", "host-b"));
    assert!(matches!(&run_lease.on_changed()[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let create = run_lease.on_answer(at(20), Ok(ApiReply::Lease(None)));
    assert!(matches!(&create[..], [Outcome::Call(ApiCall::CreateLease(_))]));
}

#[test]
fn a_guard_that_is_released_while_it_is_read_is_read_again_at_once() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(60_000));
    run_lease.on_answer(at(10), Err(conflict()));
    assert_eq!(run_lease.on_changed(), vec![], "a request is outstanding");
    let outcomes = run_lease.on_answer(at(20), found(lease("run-0", "host-b")));
    assert!(
        matches!(&outcomes[..], [Outcome::Busy(_), Outcome::Call(ApiCall::GetLease { .. })]),
        "{outcomes:?}"
    );
    assert_eq!(
        run_lease.on_answer(at(30), found(lease("run-0", "host-b"))),
        vec![],
        "it is read once a change"
    );
    assert_eq!(run_lease.deadline(), Some(at(30) + BUSY_RETRY));
}

#[test]
fn takes_the_guard_of_another_run_when_its_instance_is_deleted_and_no_host_adopts_it() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(600_000));
    read(&mut run_lease, at(10), lease("run-0", "host-b"));
    let mut now = at(10);
    while now < at(10) + UNADOPTED_PERIOD - BUSY_RETRY {
        now += BUSY_RETRY;
        assert_eq!(read_again(&mut run_lease, now, lease("run-0", "host-b")), vec![]);
    }
    let read_host = read_again(&mut run_lease, at(60_010), lease("run-0", "host-b"));
    assert!(matches!(&read_host[..], [Outcome::Call(ApiCall::GetHostLease { name, .. })] if name == THERE));
    assert_eq!(run_lease.on_answer(at(60_011), Ok(ApiReply::HostLease(Some(host_lease())))), vec![]);
    read_again(&mut run_lease, at(65_011), lease("run-0", "host-b"));
    let taken = run_lease.on_answer(at(65_012), Ok(ApiReply::HostLease(None)));
    let taken = updated(&taken);
    assert_eq!((taken.holder.as_str(), taken.resource_version.as_str()), ("run-1", "5"));
    assert_eq!(taken.epoch, 65, "it rises, also by the seconds since 1970");
}

#[test]
fn the_guard_that_an_older_version_renews_is_taken_once_it_was_not_changed_for_its_duration() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(3_600_000), request(600_000));
    // Its stamps are an hour old by this clock, and do not count.
    assert!(matches!(&read(&mut run_lease, at(3_600_000), old_lease("run-0", "5"))[..], [Outcome::Busy(_)]));
    assert_eq!(read_again(&mut run_lease, at(3_640_000), old_lease("run-0", "6")), vec![]);
    assert_eq!(read_again(&mut run_lease, at(3_699_000), old_lease("run-0", "6")), vec![]);
    let taken = read_again(&mut run_lease, at(3_704_000), old_lease("run-0", "6"));
    assert_eq!(updated(&taken).instance, HERE);
}

#[test]
fn resumes_the_guard_of_an_earlier_host_without_an_event_or_loses_it() {
    let mut run_lease = new_lease();
    run_lease.resume(at(100_000), request(0));
    let acquired = run_lease.on_answer(at(100_000), found(lease("run-1", "")));
    assert_eq!(updated(&acquired).epoch, 100);
    let held = Lease { epoch: 100, ..lease("run-1", "host-a") };
    assert_eq!(run_lease.on_answer(at(100_001), found(held)), vec![Outcome::EpochRaised(100)]);

    let mut run_lease = new_lease();
    run_lease.resume(at(100_000), request(0));
    let lost = run_lease.on_answer(at(100_000), found(lease("run-0", "host-b")));
    assert_eq!(lost, vec![Outcome::Lost]);
}

#[test]
fn the_next_process_of_the_same_host_keeps_the_epoch() {
    let mut run_lease = new_lease();
    run_lease.resume(at(100_000), request(0));
    let before = Lease { instance: "paperclip-host-before".into(), ..lease("run-1", "host-a") };
    let acquired = run_lease.on_answer(at(100_000), found(before));
    let taken = updated(&acquired).clone();
    assert_eq!((taken.epoch, taken.instance.as_str()), (7, HERE));
    assert_eq!(run_lease.on_answer(at(100_001), found(taken)), vec![]);
}

#[test]
fn keeps_a_resumed_guard_while_the_api_is_unavailable() {
    let mut run_lease = new_lease();
    run_lease.resume(at(0), request(0));
    let away = ApiError { status: Some(503), ..conflict() };
    assert_eq!(run_lease.on_answer(at(1_000), Err(away)), vec![]);
    assert_eq!(run_lease.deadline(), Some(at(1_000) + BUSY_RETRY));
    assert!(matches!(&run_lease.on_deadline(at(6_000))[..], [Outcome::Call(ApiCall::GetLease { .. })]));
}

#[test]
fn the_same_run_on_another_host_that_is_alive_has_moved_and_does_not_wait_for_itself() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(600_000));
    let read_host = read(&mut run_lease, at(1), lease("run-1", "host-b"));
    assert!(matches!(&read_host[..], [Outcome::Call(ApiCall::GetHostLease { .. })]));
    let moved = run_lease.on_answer(at(2), Ok(ApiReply::HostLease(Some(host_lease()))));
    assert_eq!(moved, vec![Outcome::Moved { host: "host-b".into() }]);
    assert!(!run_lease.is_certain(at(3)) && !run_lease.is_undecided());

    let mut older = new_lease();
    older.acquire(at(0), request(600_000));
    let first = read(&mut older, at(1), old_lease("run-1", "5"));
    assert_eq!(first, vec![], "it is not known yet whether it is renewed");
    let moved = read_again(&mut older, at(20_000), old_lease("run-1", "6"));
    assert_eq!(moved, vec![Outcome::Moved { host: "host-b".into() }]);
}

#[test]
fn releases_a_guard_that_is_acquired_after_its_release() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(0));
    assert_eq!(run_lease.release(), vec![]);
    let late = run_lease.on_answer(at(5), found(lease("run-1", "host-a")));
    assert!(matches!(&late[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    assert_eq!(run_lease.on_answer(at(6), Ok(ApiReply::Done)), vec![Outcome::Released]);
}

#[test]
fn a_stopping_host_hands_the_guard_over_to_the_same_run_only() {
    let calls = holder().hand_over(at(9));
    let released = updated(&calls).clone();
    assert_eq!((released.host.as_str(), released.instance.as_str(), released.epoch), ("", "", 7));
    for (run, is_acquired) in [("run-1", true), ("run-2", false)] {
        let identity = Identity { run_id: run.to_owned(), host: "host-b".to_owned() };
        let mut next = RunLease::new(identity);
        next.set_host(at(10), host_at(THERE, Timestamp::MAX));
        next.acquire(at(10), request(0));
        let answer = read(&mut next, at(10), released.clone());
        assert_eq!(
            matches!(&answer[..], [Outcome::Call(ApiCall::UpdateLease(_))]),
            is_acquired,
            "{answer:?}"
        );
    }
}

#[test]
fn an_api_without_an_answer_makes_the_guard_unreachable() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(0));
    assert_eq!(run_lease.on_answer(at(1), Err(silent())), vec![Outcome::Unreachable(silent())]);
}

#[test]
fn loses_a_resumed_guard_that_the_api_refuses_to_return() {
    let mut run_lease = new_lease();
    run_lease.resume(at(0), request(0));
    let forbidden = ApiError { status: Some(403), ..conflict() };
    assert_eq!(run_lease.on_answer(at(5), Err(forbidden)), vec![Outcome::Lost]);
}

#[test]
fn reads_a_guard_whose_move_has_no_answer_before_it_is_released() {
    let mut run_lease = holder();
    run_lease.set_host(at(6), host_at("paperclip-host-a-2", Timestamp::MAX));
    assert_eq!(run_lease.release(), Vec::new());
    assert!(matches!(
        &run_lease.on_answer(at(9), Err(silent()))[..],
        [Outcome::Call(ApiCall::GetLease { .. })]
    ));
    assert_eq!(run_lease.on_answer(at(10), Err(silent())), vec![Outcome::Released]);
}

#[test]
fn reads_an_unreachable_guard_when_it_is_released() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(0));
    assert_eq!(run_lease.on_answer(at(9), Err(silent())), vec![Outcome::Unreachable(silent())]);
    assert!(matches!(&run_lease.release()[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let found = run_lease.on_answer(at(10), found(lease("run-1", "host-a")));
    assert!(matches!(&found[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
}

#[test]
fn loses_a_resumed_guard_that_another_run_held_or_that_was_deleted() {
    for read in [Some(lease("run-0", "host-b")), None] {
        let mut run_lease = new_lease();
        run_lease.resume(at(0), request(0));
        assert_eq!(run_lease.on_answer(at(900_000), Ok(ApiReply::Lease(read))), vec![Outcome::Lost]);
    }
    let mut run_lease = new_lease();
    run_lease.resume(at(0), request(0));
    run_lease.on_answer(at(900_000), found(lease("run-1", "host-b")));
    let own = run_lease.on_answer(at(900_001), Ok(ApiReply::HostLease(None)));
    assert_eq!(updated(&own).holder, "run-1", "no other run acquired it");
}

#[test]
fn reads_a_guard_that_may_still_be_held_when_it_is_released() {
    let mut run_lease = new_lease();
    run_lease.resume(at(0), request(0));
    assert_eq!(run_lease.on_answer(at(1), Err(silent())), Vec::new());
    assert!(matches!(&run_lease.release()[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let own = found(lease("run-1", "host-a"));
    assert!(matches!(&run_lease.on_answer(at(2), own)[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
}

/// The request of an earlier host may have acquired it, although its answer was never seen.
#[test]
fn reads_a_guard_that_an_earlier_host_requested_if_this_one_is_not_known_yet() {
    let own = || found(lease("run-1", "host-a"));
    let mut released = unjoined();
    assert_eq!(released.acquire_again(at(0), request(0)), vec![]);
    assert!(matches!(&released.release()[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    assert!(matches!(&released.on_answer(at(1), own())[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    let mut handed_over = unjoined();
    handed_over.acquire_again(at(0), request(0));
    assert!(matches!(&handed_over.hand_over(at(1))[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    assert!(updated(&handed_over.on_answer(at(2), own())).is_released());
    let mut unsent = unjoined();
    unsent.acquire(at(0), request(0));
    assert_eq!(unsent.release(), vec![Outcome::Released], "nothing was requested");
}

/// A move that timed out for this host was applied nevertheless, after the deletion was requested.
#[test]
fn reads_a_guard_again_that_changed_while_it_was_released() {
    let mut run_lease = holder();
    assert!(matches!(&run_lease.release()[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    assert!(matches!(
        &run_lease.on_answer(at(9), Err(conflict()))[..],
        [Outcome::Call(ApiCall::GetLease { .. })]
    ));
    let changed = found(lease("run-1", "host-a"));
    assert!(matches!(&run_lease.on_answer(at(10), changed)[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    assert_eq!(run_lease.on_answer(at(11), Ok(ApiReply::Lease(None))), vec![Outcome::Released]);
}
