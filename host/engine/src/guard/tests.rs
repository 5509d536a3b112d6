//! The guard against what a server answers.

use super::*;

const fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn guard() -> Guard {
    Guard::new(Identity { run_id: "run-1".to_owned(), host: "host-a".to_owned() })
}

fn wanted(wait_ms: u64) -> AcquireGuard {
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

fn read(guard: &mut Guard, now: Timestamp, lease: Lease) -> Vec<Outcome> {
    guard.on_answer(now, Err(conflict()));
    guard.on_answer(now, Ok(ApiReply::Lease(Some(lease))))
}

#[test]
fn a_free_key_is_taken_with_one_request_and_renewed() {
    let mut guard = guard();
    assert!(matches!(&guard.acquire(at(0), wanted(0))[..], [Outcome::Call(ApiCall::CreateLease(_))]));
    let held = lease("run-1", "host-a", at(0));
    assert_eq!(guard.on_answer(at(5), Ok(ApiReply::Lease(Some(held)))), vec![Outcome::Acquired]);
    assert_eq!(guard.deadline(), Some(at(5) + RENEW_INTERVAL));
    assert!(matches!(
        &guard.on_deadline(at(5) + RENEW_INTERVAL)[..],
        [Outcome::Call(ApiCall::UpdateLease(renewed))] if renewed.renewed_at == at(5) + RENEW_INTERVAL
    ));
    // Its own renewal may have been applied without an answer: only a look tells.
    assert!(matches!(
        &guard.on_answer(at(9), Err(conflict()))[..],
        [Outcome::Call(ApiCall::GetLease { .. })]
    ));
    let foreign = lease("run-0", "host-b", at(9));
    assert_eq!(guard.on_answer(at(10), Ok(ApiReply::Lease(Some(foreign)))), vec![Outcome::Lost]);
}

#[test]
fn a_live_foreign_lease_is_busy_and_told_once() {
    let mut guard = guard();
    guard.acquire(at(0), wanted(12_000));
    let busy = read(&mut guard, at(10), lease("run-0", "host-b", at(0)));
    assert!(matches!(&busy[..], [Outcome::Busy(b)] if !b.is_final && b.holder.as_deref() == Some("run-0")));
    assert_eq!(guard.deadline(), Some(at(10) + BUSY_RETRY));
    guard.on_deadline(at(5_010));
    assert_eq!(
        guard.on_answer(at(5_011), Ok(ApiReply::Lease(Some(lease("run-0", "host-b", at(0)))))),
        vec![]
    );
    guard.on_deadline(at(12_000));
    let busy = guard.on_answer(at(12_001), Ok(ApiReply::Lease(Some(lease("run-0", "host-b", at(0))))));
    assert!(matches!(&busy[..], [Outcome::Busy(b)] if b.is_final));
}

#[test]
fn an_expired_lease_is_taken_at_its_version() {
    let mut guard = guard();
    guard.acquire(at(100_000), wanted(0));
    let taken = read(&mut guard, at(100_000), lease("run-0", "host-b", at(0)));
    assert!(
        matches!(&taken[..], [Outcome::Call(ApiCall::UpdateLease(l))] if l.resource_version == "5" && l.holder == "run-1")
    );
}

#[test]
fn what_an_earlier_host_held_is_taken_up_silently_or_is_lost() {
    let mut guard = guard();
    assert!(matches!(&guard.retake(wanted(0))[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let own = lease("run-1", "", at(99_000));
    let taken = guard.on_answer(at(100_000), Ok(ApiReply::Lease(Some(own.clone()))));
    assert!(matches!(&taken[..], [Outcome::Call(ApiCall::UpdateLease(_))]));
    assert_eq!(guard.on_answer(at(100_001), Ok(ApiReply::Lease(Some(own)))), vec![]);
    assert_eq!(guard.deadline(), Some(at(100_001) + RENEW_INTERVAL));

    let mut guard = super::tests::guard();
    guard.retake(wanted(0));
    let foreign = lease("run-0", "host-b", at(99_000));
    assert_eq!(guard.on_answer(at(100_000), Ok(ApiReply::Lease(Some(foreign)))), vec![Outcome::Lost]);
}

#[test]
fn while_the_api_is_away_what_was_held_is_neither_lost_nor_given_up() {
    let mut guard = guard();
    guard.retake(wanted(0));
    let away = ApiError { status: Some(503), reason: None, message: String::new(), retry_after_ms: None };
    assert_eq!(guard.on_answer(at(1_000), Err(away)), vec![]);
    assert_eq!(guard.deadline(), Some(at(1_000) + BUSY_RETRY));
    assert!(matches!(&guard.on_deadline(at(6_000))[..], [Outcome::Call(ApiCall::GetLease { .. })]));
}

#[test]
fn the_same_run_on_another_live_host_is_busy() {
    let mut guard = guard();
    guard.acquire(at(0), wanted(0));
    assert!(matches!(&read(&mut guard, at(1), lease("run-1", "host-b", at(0)))[..], [Outcome::Busy(_)]));
}

#[test]
fn a_lease_that_comes_after_nobody_wants_it_is_given_back() {
    let mut guard = guard();
    guard.acquire(at(0), wanted(0));
    assert_eq!(guard.release(), vec![]);
    let late = guard.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    assert!(matches!(&late[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    assert_eq!(guard.on_answer(at(6), Ok(ApiReply::Done)), vec![Outcome::Released]);
}

#[test]
fn a_host_that_stops_hands_the_lease_to_the_next_one_of_the_same_run_only() {
    let mut first = guard();
    first.acquire(at(0), wanted(0));
    first.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    let handed = first.hand_over(at(9));
    let [Outcome::Call(ApiCall::UpdateLease(left))] = &handed[..] else { panic!("{handed:?}") };
    for (run, is_taken) in [("run-1", true), ("run-2", false)] {
        let mut next = Guard::new(Identity { run_id: run.to_owned(), host: "host-b".to_owned() });
        next.acquire(at(10), wanted(0));
        let answer = read(&mut next, at(10), left.clone());
        assert_eq!(matches!(&answer[..], [Outcome::Call(ApiCall::UpdateLease(_))]), is_taken, "{answer:?}");
    }
}

#[test]
fn an_api_that_does_not_answer_closes_the_guard() {
    let mut guard = guard();
    guard.acquire(at(0), wanted(0));
    let error = ApiError { status: None, reason: None, message: "refused".to_owned(), retry_after_ms: None };
    assert_eq!(guard.on_answer(at(1), Err(error.clone())), vec![Outcome::Unreachable(error)]);
}

#[test]
fn what_was_held_is_lost_where_the_api_refuses_to_tell() {
    let mut guard = guard();
    assert!(matches!(&guard.retake(wanted(0))[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let forbidden = ApiError { status: Some(403), ..conflict() };
    assert_eq!(guard.on_answer(at(5), Err(forbidden)), vec![Outcome::Lost]);
}

#[test]
fn a_lease_whose_renewal_has_no_answer_is_looked_for_before_it_is_left() {
    let mut guard = guard();
    guard.acquire(at(0), wanted(0));
    guard.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    guard.on_deadline(at(5) + RENEW_INTERVAL);
    assert_eq!(guard.release(), Vec::new());
    let silent = || ApiError { status: None, ..conflict() };
    assert!(matches!(&guard.on_answer(at(9), Err(silent()))[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    assert_eq!(guard.on_answer(at(10), Err(silent())), vec![Outcome::Released]);
}

#[test]
fn a_lease_that_was_not_renewed_is_no_certainty_well_before_it_expires() {
    let mut guard = guard();
    assert!(guard.is_sure(at(0)), "nobody wanted it");
    guard.acquire(at(0), wanted(0));
    assert!(!guard.is_sure(at(1)));
    guard.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    assert!(guard.is_sure(at(24_999)) && !guard.is_sure(at(25_000)) && guard.is_open());
}

#[test]
fn a_lease_that_was_not_to_be_had_is_looked_for_at_the_end() {
    let mut guard = guard();
    guard.acquire(at(0), wanted(0));
    let silent = ApiError { status: None, ..conflict() };
    assert_eq!(guard.on_answer(at(9), Err(silent.clone())), vec![Outcome::Unreachable(silent)]);
    assert!(matches!(&guard.release()[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let found = guard.on_answer(at(10), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    assert!(matches!(&found[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
}

#[test]
fn what_somebody_else_had_meanwhile_is_lost_even_if_it_has_expired_or_is_gone() {
    for found in [Some(lease("run-0", "host-b", at(0))), None] {
        let mut guard = guard();
        guard.retake(wanted(0));
        assert_eq!(guard.on_answer(at(900_000), Ok(ApiReply::Lease(found))), vec![Outcome::Lost]);
    }
    let mut guard = guard();
    guard.retake(wanted(0));
    let own = guard.on_answer(at(900_000), Ok(ApiReply::Lease(Some(lease("run-1", "host-b", at(0))))));
    assert!(matches!(&own[..], [Outcome::Call(ApiCall::UpdateLease(_))]), "nobody took it");
}

#[test]
fn a_lease_that_may_be_held_still_is_looked_for_at_the_end() {
    let mut guard = guard();
    guard.retake(wanted(0));
    let silent = ApiError { status: None, ..conflict() };
    assert_eq!(guard.on_answer(at(1), Err(silent)), Vec::new());
    assert!(matches!(&guard.release()[..], [Outcome::Call(ApiCall::GetLease { .. })]));
    let own = lease("run-1", "host-a", at(0));
    assert!(matches!(
        &guard.on_answer(at(2), Ok(ApiReply::Lease(Some(own))))[..],
        [Outcome::Call(ApiCall::DeleteLease(_))]
    ));
}

/// A renewal that timed out for this host was applied all the same, after the deletion was asked for.
#[test]
fn a_lease_that_changed_while_it_was_given_back_is_looked_for_once_more() {
    let mut guard = guard();
    guard.acquire(at(0), wanted(0));
    guard.on_answer(at(5), Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(0))))));
    assert!(matches!(&guard.release()[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    assert!(matches!(
        &guard.on_answer(at(9), Err(conflict()))[..],
        [Outcome::Call(ApiCall::GetLease { .. })]
    ));
    let renewed = Ok(ApiReply::Lease(Some(lease("run-1", "host-a", at(8)))));
    assert!(matches!(&guard.on_answer(at(10), renewed)[..], [Outcome::Call(ApiCall::DeleteLease(_))]));
    assert_eq!(guard.on_answer(at(11), Ok(ApiReply::Lease(None))), vec![Outcome::Released]);
}
