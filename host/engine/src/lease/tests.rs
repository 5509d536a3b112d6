//! The Lease of a run with the answers of a server.

use super::*;

const fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn new_lease() -> RunLease {
    RunLease::new(Identity { run_id: "run-1".to_owned(), host: "host-a".to_owned() })
}

fn request(wait_ms: u64) -> AcquireGuard {
    AcquireGuard { key: "agent".to_owned(), namespace: "ns".to_owned(), wait_ms }
}

fn lease(holder: &str, host: &str, renewed_at: Timestamp) -> Lease {
    Lease {
        namespace: "ns".to_owned(),
        name: lease_name("agent"),
        uid: "u".to_owned(),
        resource_version: "5".to_owned(),
        key: "agent".to_owned(),
        holder: holder.to_owned(),
        host: host.to_owned(),
        duration_s: LEASE_S,
        renewed_at,
    }
}

fn conflict() -> ApiError {
    ApiError {
        status: Some(409),
        reason: Some("AlreadyExists".to_owned()),
        message: String::new(),
        retry_after_ms: None,
    }
}

fn read(run_lease: &mut RunLease, now: Timestamp, lease: Lease) -> Vec<Outcome> {
    run_lease.on_answer(now, Err(conflict()));
    run_lease.on_answer(now, Ok(ApiReply::Lease(Some(lease))))
}

#[test]
fn acquires_a_free_key_with_one_request_and_renews_it() {
    let mut run_lease = new_lease();
    assert!(matches!(&run_lease.acquire(at(0), request(0))[..], [Outcome::Call(ApiCall::CreateLease(_))]));
    let held = lease("run-1", "host-a", at(0));
    assert_eq!(run_lease.on_answer(at(5), Ok(ApiReply::Lease(Some(held)))), vec![Outcome::Acquired]);
    assert_eq!(run_lease.deadline(), Some(at(5) + RENEW_INTERVAL));
    assert!(matches!(
        &run_lease.on_deadline(at(5) + RENEW_INTERVAL)[..],
        [Outcome::Call(ApiCall::UpdateLease(renewed))] if renewed.renewed_at == at(5) + RENEW_INTERVAL
    ));
    // Its own renewal may have been applied without an answer; a read shows it.
    assert!(matches!(
        &run_lease.on_answer(at(9), Err(conflict()))[..],
        [Outcome::Call(ApiCall::GetLease { .. })]
    ));
    let foreign = lease("run-0", "host-b", at(9));
    assert_eq!(run_lease.on_answer(at(10), Ok(ApiReply::Lease(Some(foreign)))), vec![Outcome::Lost]);
}

#[test]
fn reports_a_valid_lease_of_another_run_once_as_busy() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(12_000));
    let busy = read(&mut run_lease, at(10), lease("run-0", "host-b", at(0)));
    assert!(matches!(&busy[..], [Outcome::Busy(b)] if !b.is_final && b.holder.as_deref() == Some("run-0")));
    assert_eq!(run_lease.deadline(), Some(at(10) + BUSY_RETRY));
    run_lease.on_deadline(at(5_010));
    assert_eq!(
        run_lease.on_answer(at(5_011), Ok(ApiReply::Lease(Some(lease("run-0", "host-b", at(0)))))),
        vec![]
    );
    run_lease.on_deadline(at(12_000));
    let busy = run_lease.on_answer(at(12_001), Ok(ApiReply::Lease(Some(lease("run-0", "host-b", at(0))))));
    assert!(matches!(&busy[..], [Outcome::Busy(b)] if b.is_final));
}

#[test]
fn acquires_an_expired_lease_at_its_version() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(100_000), request(0));
    let acquired = read(&mut run_lease, at(100_000), lease("run-0", "host-b", at(0)));
    assert!(
        matches!(&acquired[..], [Outcome::Call(ApiCall::UpdateLease(l))] if l.resource_version == "5" && l.holder == "run-1")
    );
}

#[test]
fn resumes_the_lease_of_an_earlier_host_without_an_event_or_loses_it() {
    let mut run_lease = new_lease();
    assert!(matches!(&run_lease.resume(request(0))[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let own = lease("run-1", "", at(99_000));
    let acquired = run_lease.on_answer(at(100_000), Ok(ApiReply::Lease(Some(own.clone()))));
    assert!(matches!(&acquired[..], [Outcome::Call(ApiCall::UpdateLease(_))]));
    assert_eq!(run_lease.on_answer(at(100_001), Ok(ApiReply::Lease(Some(own)))), vec![]);
    assert_eq!(run_lease.deadline(), Some(at(100_001) + RENEW_INTERVAL));

    let mut run_lease = new_lease();
    run_lease.resume(request(0));
    let foreign = lease("run-0", "host-b", at(99_000));
    assert_eq!(run_lease.on_answer(at(100_000), Ok(ApiReply::Lease(Some(foreign)))), vec![Outcome::Lost]);
}

#[test]
fn keeps_a_resumed_lease_while_the_api_is_unavailable() {
    let mut run_lease = new_lease();
    run_lease.resume(request(0));
    let away = ApiError { status: Some(503), reason: None, message: String::new(), retry_after_ms: None };
    assert_eq!(run_lease.on_answer(at(1_000), Err(away)), vec![]);
    assert_eq!(run_lease.deadline(), Some(at(1_000) + BUSY_RETRY));
    assert!(matches!(&run_lease.on_deadline(at(6_000))[..], [Outcome::Call(ApiCall::GetLease { .. })]));
}

#[test]
fn the_same_run_on_another_host_that_is_alive_is_busy() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(0));
    assert!(matches!(&read(&mut run_lease, at(1), lease("run-1", "host-b", at(0)))[..], [Outcome::Busy(_)]));
}

#[test]
fn releases_a_lease_that_is_acquired_after_its_release() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(0));
    assert_eq!(run_lease.release(), vec![]);
    let late = run_lease.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    assert!(matches!(&late[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    assert_eq!(run_lease.on_answer(at(6), Ok(ApiReply::Done)), vec![Outcome::Released]);
}

#[test]
fn a_stopping_host_hands_the_lease_over_to_the_same_run_only() {
    let mut first = new_lease();
    first.acquire(at(0), request(0));
    first.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    let calls = first.hand_over(at(9));
    let [Outcome::Call(ApiCall::UpdateLease(released))] = &calls[..] else { panic!("{calls:?}") };
    for (run, is_acquired) in [("run-1", true), ("run-2", false)] {
        let mut next = RunLease::new(Identity { run_id: run.to_owned(), host: "host-b".to_owned() });
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
    let error = ApiError { status: None, reason: None, message: "refused".to_owned(), retry_after_ms: None };
    assert_eq!(run_lease.on_answer(at(1), Err(error.clone())), vec![Outcome::Unreachable(error)]);
}

#[test]
fn loses_a_resumed_lease_that_the_api_refuses_to_return() {
    let mut run_lease = new_lease();
    assert!(matches!(&run_lease.resume(request(0))[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let forbidden = ApiError { status: Some(403), ..conflict() };
    assert_eq!(run_lease.on_answer(at(5), Err(forbidden)), vec![Outcome::Lost]);
}

#[test]
fn reads_a_lease_whose_renewal_has_no_answer_before_it_is_released() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(0));
    run_lease.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    run_lease.on_deadline(at(5) + RENEW_INTERVAL);
    assert_eq!(run_lease.release(), Vec::new());
    let silent = || ApiError { status: None, ..conflict() };
    assert!(matches!(
        &run_lease.on_answer(at(9), Err(silent()))[..],
        [Outcome::Call(ApiCall::GetLease { .. })]
    ));
    assert_eq!(run_lease.on_answer(at(10), Err(silent())), vec![Outcome::Released]);
}

#[test]
fn a_lease_that_was_not_renewed_is_uncertain_long_before_it_expires() {
    let mut run_lease = new_lease();
    assert!(run_lease.is_certain(at(0)), "it was not requested");
    run_lease.acquire(at(0), request(0));
    assert!(!run_lease.is_certain(at(1)));
    run_lease.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    assert!(
        run_lease.is_certain(at(24_999)) && !run_lease.is_certain(at(25_000)) && run_lease.is_undecided()
    );
}

#[test]
fn reads_an_unreachable_lease_when_it_is_released() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(0));
    let silent = ApiError { status: None, ..conflict() };
    assert_eq!(run_lease.on_answer(at(9), Err(silent.clone())), vec![Outcome::Unreachable(silent)]);
    assert!(matches!(&run_lease.release()[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let found = run_lease.on_answer(at(10), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    assert!(matches!(&found[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
}

#[test]
fn loses_a_resumed_lease_that_another_run_held_even_if_it_expired_or_was_deleted() {
    for found in [Some(lease("run-0", "host-b", at(0))), None] {
        let mut run_lease = new_lease();
        run_lease.resume(request(0));
        assert_eq!(run_lease.on_answer(at(900_000), Ok(ApiReply::Lease(found))), vec![Outcome::Lost]);
    }
    let mut run_lease = new_lease();
    run_lease.resume(request(0));
    let own = run_lease.on_answer(at(900_000), Ok(ApiReply::Lease(Some(lease("run-1", "host-b", at(0))))));
    assert!(matches!(&own[..], [Outcome::Call(ApiCall::UpdateLease(_))]), "no other run acquired it");
}

#[test]
fn reads_a_lease_that_may_still_be_held_when_it_is_released() {
    let mut run_lease = new_lease();
    run_lease.resume(request(0));
    let silent = ApiError { status: None, ..conflict() };
    assert_eq!(run_lease.on_answer(at(1), Err(silent)), Vec::new());
    assert!(matches!(&run_lease.release()[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let own = lease("run-1", "host-a", at(0));
    assert!(matches!(
        &run_lease.on_answer(at(2), Ok(ApiReply::Lease(Some(own))))[..],
        [Outcome::Call(ApiCall::DeleteLease(_))]
    ));
}

/// A renewal that timed out for this host was applied nevertheless, after the deletion was requested.
#[test]
fn reads_a_lease_again_that_changed_while_it_was_released() {
    let mut run_lease = new_lease();
    run_lease.acquire(at(0), request(0));
    run_lease.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    assert!(matches!(&run_lease.release()[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    assert!(matches!(
        &run_lease.on_answer(at(9), Err(conflict()))[..],
        [Outcome::Call(ApiCall::GetLease { .. })]
    ));
    let renewed = Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(8)))));
    assert!(matches!(&run_lease.on_answer(at(10), renewed)[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    assert_eq!(run_lease.on_answer(at(11), Ok(ApiReply::Lease(None))), vec![Outcome::Released]);
}
