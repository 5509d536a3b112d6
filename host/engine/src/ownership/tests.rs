//! The protocol of one host with the answers of a server and the reports of watches.

use super::*;
use crate::api::EPOCH_ANNOTATION;

const NS: &str = "n";
const ME: &str = "paperclip-host-me";
const OTHER: &str = "paperclip-host-other";

const fn s(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1_000)
}

/// The wall clock is far ahead of the elapsed time.
const WALL_S: u64 = 1_700_000_000;

fn at(now: Timestamp) -> Clocks {
    Clocks { elapsed: now, wall: now + Duration::from_secs(WALL_S) }
}

struct Host {
    ownership: Ownership,
    now: Timestamp,
    is_settled: bool,
}

impl Host {
    fn new() -> Host {
        let ownership = Ownership::new(HostIdentity {
            namespace: NS.into(),
            host: "me".into(),
            nonce: "me".into(),
            address: Some("https://10.0.0.1:7400".into()),
            version: "1.0.0".into(),
        });
        Host { ownership, now: s(100), is_settled: false }
    }

    /// A host that adopts, lives, and knows these Jobs and Leases.
    fn adopting(jobs: Vec<JobView>, leases: Vec<LeaseView>) -> Host {
        let mut host = Host::new();
        host.take(Input::Needed);
        host.answer_instance();
        host.ownership.handle(at(host.now), Input::Adopts);
        host.ownership.handle(at(host.now), Input::LeasesListed(leases));
        host.ownership.handle(at(host.now), Input::JobsListed(jobs));
        host
    }

    fn take(&mut self, input: Input) -> Vec<Effect> {
        self.ownership.handle(at(self.now), input);
        self.effects()
    }

    fn effects(&mut self) -> Vec<Effect> {
        let effects = std::iter::from_fn(|| self.ownership.poll_effect());
        let (settled, others): (Vec<Effect>, _) = effects.partition(|effect| *effect == Effect::Settled);
        assert!(settled.len() <= usize::from(!self.is_settled), "it is settled once");
        self.is_settled |= !settled.is_empty();
        others
    }

    /// The state at a time, by ticks at the deadlines.
    fn until(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = self.effects();
        while let Some(deadline) = self.ownership.deadline().filter(|deadline| *deadline <= now) {
            self.now = self.now.max(deadline);
            effects.extend(self.take(Input::Tick));
        }
        self.now = now;
        effects.extend(self.take(Input::Tick));
        effects
    }

    /// Answers the outstanding creation or renewal of its Lease.
    fn answer_instance(&mut self) -> Vec<Effect> {
        let lease = instance(&self.ownership.instance.name(), "1");
        self.take(Input::Called { call: CallId::new(self.ownership.last_call), outcome: held(lease) })
    }

    fn fail(&mut self, status: Option<u16>) -> Vec<Effect> {
        self.take(Input::Called { call: CallId::new(self.ownership.last_call), outcome: Err(error(status)) })
    }
}

fn error(status: Option<u16>) -> ApiError {
    ApiError { status, reason: None, message: "no".into(), retry_after_ms: None }
}

fn held(lease: HostLease) -> Result<ApiReply, ApiError> {
    Ok(ApiReply::HostLease(Some(lease)))
}

fn instance(name: &str, resource_version: &str) -> HostLease {
    HostLease {
        namespace: NS.into(),
        name: name.into(),
        uid: format!("uid of {name}"),
        resource_version: resource_version.into(),
        host: "h".into(),
        address: None,
        version: "1".into(),
        renewed_at: Timestamp::EPOCH,
    }
}

fn guard(run: &str, instance: &str) -> Lease {
    Lease {
        namespace: NS.into(),
        name: format!("guard-of-{run}"),
        uid: format!("uid-{run}"),
        resource_version: "5".into(),
        key: run.into(),
        holder: run.into(),
        host: if instance.is_empty() { String::new() } else { "h".into() },
        instance: instance.into(),
        epoch: 7,
        duration_s: crate::lease::GUARD_S,
        renewed_at: Timestamp::EPOCH,
    }
}

fn job(run: &str) -> JobView {
    JobView {
        job: ObjectRef { namespace: NS.into(), name: format!("j-{run}"), uid: format!("uid-of-job-{run}") },
        run: run.into(),
        epoch: Some(9),
        has_ended: false,
        is_deleting: false,
        is_suspended: false,
    }
}

fn calls(effects: &[Effect]) -> Vec<String> {
    let calls = effects.iter().filter_map(|effect| match effect {
        Effect::Call { request, .. } => Some(request.describe()),
        _ => None,
    });
    calls.collect()
}

fn announced(effects: &[Effect]) -> Option<&HostState> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Announce(state) => Some(state),
        _ => None,
    })
}

fn prepared_jobs(effects: &[Effect]) -> Vec<String> {
    let prepared = effects.iter().filter_map(|effect| match effect {
        Effect::Prepare { run_id, .. } => Some(run_id.clone()),
        _ => None,
    });
    prepared.collect()
}

// ---------------------------------------------------------------------- the Lease of this host

#[test]
fn a_host_that_is_needed_creates_its_lease_and_renews_it_every_10_s() {
    let mut host = Host::new();
    assert_eq!(host.until(s(200)), vec![], "nobody needs it");
    let created = host.take(Input::Needed);
    let [Effect::Call { request: ApiCall::CreateHostLease(lease), .. }] = &created[..] else {
        panic!("{created:?}")
    };
    assert_eq!((lease.name.as_str(), lease.address.as_deref()), (ME, Some("https://10.0.0.1:7400")));
    assert_eq!(lease.renewed_at, s(200 + WALL_S), "people read the wall clock");
    let held = host.answer_instance();
    assert_eq!(
        held,
        [Effect::Announce(HostState { instance: ME.into(), certain_until: s(200) + CERTAIN_PERIOD })]
    );
    let mut writes = 0;
    for second in 200..260 {
        writes += calls(&host.until(s(second))).len();
        host.answer_instance();
    }
    assert_eq!(writes, 5, "6 a minute, of which the creation was one");
}

#[test]
fn certainty_counts_from_the_sending_of_the_last_accepted_renewal() {
    let mut host = Host::new();
    host.take(Input::Needed);
    host.now = s(103);
    assert_eq!(announced(&host.answer_instance()).expect("it lives").certain_until, s(125));
    host.until(s(110));
    host.now = s(118);
    assert_eq!(announced(&host.answer_instance()).expect("it lives").certain_until, s(135));
    assert_eq!(calls(&host.until(s(120))), ["update Lease paperclip-host-me"]);
    assert_eq!(announced(&host.fail(Some(503))), None, "nothing is certain any longer than before");
    assert_eq!(calls(&host.until(s(122))), ["update Lease paperclip-host-me"], "it is tried again");
}

#[test]
fn a_renewal_without_an_answer_is_read_and_a_revoked_instance_never_returns() {
    let mut host = Host::new();
    host.take(Input::Needed);
    host.answer_instance();
    host.until(s(110));
    assert_eq!(calls(&host.fail(Some(409))), ["get Lease paperclip-host-me"]);
    let read = host.take(Input::Called {
        call: CallId::new(host.ownership.last_call),
        outcome: held(instance(ME, "2")),
    });
    assert_eq!(calls(&read), ["update Lease paperclip-host-me"]);
    let revoked = host.fail(Some(404));
    assert_eq!(calls(&revoked), ["create Lease paperclip-host-me-2"]);
    assert_eq!(announced(&revoked), Some(&HostState::default()), "its runs change nothing meanwhile");
    let state = host.answer_instance();
    assert_eq!(announced(&state).expect("it lives again").instance, "paperclip-host-me-2");
}

#[test]
fn a_stopping_host_deletes_its_lease() {
    let mut host = Host::new();
    host.take(Input::Needed);
    host.answer_instance();
    let stopping = host.take(Input::Stop);
    assert_eq!(calls(&stopping), ["delete Lease paperclip-host-me"]);
    let stopped =
        host.take(Input::Called { call: CallId::new(host.ownership.last_call), outcome: Ok(ApiReply::Done) });
    assert!(stopped.contains(&Effect::Stopped), "{stopped:?}");
    assert_eq!(Host::new().take(Input::Stop), [Effect::Stopped], "it never had one");
}

// ---------------------------------------------------------------------- others

#[test]
fn revokes_an_instance_that_was_not_observed_to_change_for_40_s() {
    let mut host = Host::adopting(Vec::new(), vec![LeaseView::Host(instance(OTHER, "1"))]);
    host.until(s(130));
    host.answer_instance();
    host.take(Input::LeaseSeen(LeaseView::Host(instance(OTHER, "2"))));
    // The same version again is no change.
    host.until(s(160));
    host.answer_instance();
    host.take(Input::LeasesListed(vec![LeaseView::Host(instance(OTHER, "2"))]));
    let mut early = host.until(s(169));
    host.answer_instance();
    early.extend(host.until(Timestamp::from_millis(169_999)));
    assert!(!calls(&early).iter().any(|call| call.starts_with("delete")), "{early:?}");
    let revoked = host.until(s(171));
    let revocation = revoked.iter().find_map(|effect| match effect {
        Effect::Call { request: ApiCall::DeleteHostLease(lease), .. } => Some(lease),
        _ => None,
    });
    assert_eq!(revocation.expect("it expired").resource_version, "2");
}

#[test]
fn an_instance_whose_revocation_conflicts_has_40_s_again() {
    let mut host = Host::adopting(Vec::new(), vec![LeaseView::Host(instance(OTHER, "1"))]);
    let mut revoked = Vec::new();
    loop {
        let next = host.now + Duration::from_secs(1);
        let effects = host.until(next);
        revoked.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Call { call, request: ApiCall::DeleteHostLease(_) } => Some(call),
            _ => None,
        }));
        if !revoked.is_empty() {
            break;
        }
        host.answer_instance();
    }
    let failed_at = host.now;
    host.take(Input::Called { call: revoked[0], outcome: Err(error(Some(409))) });
    let calm = host.until(failed_at + Duration::from_secs(39));
    assert!(!calls(&calm).iter().any(|call| call.starts_with("delete")), "{calm:?}");
    let again = host.until(failed_at + Duration::from_secs(42));
    assert!(calls(&again).iter().any(|call| call.starts_with("delete Lease paperclip-host-other")));
}

// ---------------------------------------------------------------------- orphans

/// Prepares the run and takes its guard.
fn taken_over(host: &mut Host, run: &str) -> Lease {
    let prepared = host.until(host.now + Duration::from_secs(1));
    assert_eq!(prepared_jobs(&prepared), [run]);
    let job_uid = job(run).job.uid;
    let taken = host.take(Input::Prepared { job_uid, outcome: Ok(Prepared::FromCluster) });
    let [Effect::Call { request: ApiCall::UpdateLease(lease), .. }] = &taken[..] else { panic!("{taken:?}") };
    lease.clone()
}

#[test]
fn adopts_the_job_of_a_released_guard_within_a_second() {
    let mut host = Host::adopting(vec![job("r")], vec![LeaseView::Guard(guard("r", ""))]);
    let taken = taken_over(&mut host, "r");
    assert_eq!(
        (taken.host.as_str(), taken.instance.as_str(), taken.resource_version.as_str()),
        ("me", ME, "5")
    );
    assert!(taken.epoch > 9, "after that of the guard and that of the Job: {}", taken.epoch);
    assert_eq!(host.ownership.undriven(), 1);
    let taken = Lease { resource_version: "6".into(), ..taken };
    let driven = host.take(Input::Called {
        call: CallId::new(host.ownership.last_call),
        outcome: Ok(ApiReply::Lease(Some(taken))),
    });
    assert_eq!(driven, [Effect::Drive { job_uid: job("r").job.uid }]);
    host.take(Input::RunEntered { run_id: "r".into() });
    assert_eq!(host.ownership.undriven(), 0);
}

#[test]
fn a_takeover_continues_although_the_watch_reports_the_guard_before_the_answer() {
    let mut host = Host::adopting(vec![job("r")], vec![LeaseView::Guard(guard("r", ""))]);
    let taken = Lease { resource_version: "6".into(), ..taken_over(&mut host, "r") };
    assert_eq!(host.take(Input::LeaseSeen(LeaseView::Guard(taken.clone()))), []);
    let call = CallId::new(host.ownership.last_call);
    let driven = host.take(Input::Called { call, outcome: Ok(ApiReply::Lease(Some(taken))) });
    assert_eq!(driven, [Effect::Drive { job_uid: job("r").job.uid }]);
}

#[test]
fn adopts_the_job_of_a_revoked_instance_and_of_no_other() {
    let leases = vec![
        LeaseView::Host(instance(OTHER, "1")),
        LeaseView::Guard(guard("r", OTHER)),
        LeaseView::Guard(guard("dead", "paperclip-host-dead")),
    ];
    let mut host = Host::adopting(vec![job("r"), job("dead")], leases);
    assert_eq!(prepared_jobs(&host.until(s(101))), ["dead"]);
    assert_eq!(host.ownership.undriven(), 1);
    host.take(Input::LeaseDeleted { name: OTHER.into() });
    assert_eq!(prepared_jobs(&host.until(s(102))), ["r"]);
}

#[test]
fn adopts_the_job_of_an_older_version_once_its_guard_was_not_renewed_for_60_s() {
    let old = |version: &str| {
        LeaseView::Guard(Lease {
            instance: String::new(),
            duration_s: 60,
            resource_version: version.into(),
            ..guard("r", OTHER)
        })
    };
    let mut host = Host::adopting(vec![job("r")], vec![old("1")]);
    host.until(s(150));
    host.answer_instance();
    host.take(Input::LeaseSeen(old("2")));
    for second in 150..=209 {
        assert_eq!(prepared_jobs(&host.until(s(second))), Vec::<String>::new());
        host.answer_instance();
    }
    assert_eq!(prepared_jobs(&host.until(s(211))), ["r"]);
}

#[test]
fn a_run_whose_journal_is_here_takes_its_guard_itself() {
    let mut host = Host::adopting(vec![job("r")], vec![LeaseView::Guard(guard("r", ""))]);
    host.until(s(101));
    let job_uid = job("r").job.uid;
    let given = host.take(Input::Prepared { job_uid: job_uid.clone(), outcome: Ok(Prepared::FromJournal) });
    assert_eq!(given, [Effect::Drive { job_uid }]);
}

#[test]
fn a_job_that_ended_without_a_host_is_adopted_for_its_result() {
    let ended = JobView { has_ended: true, ..job("r") };
    let mut host = Host::adopting(vec![ended.clone()], vec![LeaseView::Guard(guard("r", ""))]);
    assert_eq!(prepared_jobs(&host.until(s(101))), ["r"]);
    let deleting = JobView { is_deleting: true, ..ended };
    let mut host = Host::adopting(vec![deleting], vec![LeaseView::Guard(guard("r", ""))]);
    assert_eq!(prepared_jobs(&host.until(s(101))), Vec::<String>::new());
}

#[test]
fn a_run_that_this_process_has_is_not_adopted() {
    let mut host = Host::adopting(vec![job("run-1")], vec![LeaseView::Guard(guard("run-1", ""))]);
    host.ownership.handle(at(s(100)), Input::RunEntered { run_id: "run-1".into() });
    assert_eq!(prepared_jobs(&host.until(s(103))), Vec::<String>::new());
    host.take(Input::RunLeft { run_id: "run-1".into() });
    assert_eq!(prepared_jobs(&host.until(s(104))), ["run-1"]);
}

#[test]
fn a_takeover_that_another_host_won_is_dropped() {
    let mut host = Host::adopting(vec![job("r")], vec![LeaseView::Guard(guard("r", ""))]);
    taken_over(&mut host, "r");
    let lost = host.fail(Some(409));
    assert_eq!(lost, [Effect::Discard { job_uid: job("r").job.uid }]);
    host.take(Input::LeaseSeen(LeaseView::Host(instance(OTHER, "1"))));
    let theirs = Lease { resource_version: "6".into(), ..guard("r", OTHER) };
    host.take(Input::LeaseSeen(LeaseView::Guard(theirs)));
    assert_eq!(host.ownership.undriven(), 0);
    assert_eq!(prepared_jobs(&host.until(s(110))), Vec::<String>::new());
}

#[test]
fn what_was_prepared_is_dropped_if_the_job_ended_or_another_host_has_it() {
    for change in [
        Input::JobDeleted { uid: job("r").job.uid },
        Input::LeaseSeen(LeaseView::Guard(Lease { resource_version: "6".into(), ..guard("r", OTHER) })),
    ] {
        let leases = vec![LeaseView::Host(instance(OTHER, "1")), LeaseView::Guard(guard("r", ""))];
        let mut host = Host::adopting(vec![job("r")], leases);
        assert_eq!(prepared_jobs(&host.until(s(101))), ["r"]);
        host.take(change);
        let job_uid = job("r").job.uid;
        let dropped =
            host.take(Input::Prepared { job_uid: job_uid.clone(), outcome: Ok(Prepared::FromCluster) });
        assert_eq!(dropped, [Effect::Discard { job_uid }]);
    }
}

#[test]
fn nothing_is_adopted_while_this_host_does_not_live_for_certain() {
    let mut host = Host::adopting(Vec::new(), Vec::new());
    host.until(s(130));
    host.take(Input::LeaseSeen(LeaseView::Guard(guard("r", ""))));
    host.take(Input::JobSeen(job("r")));
    assert_eq!(prepared_jobs(&host.until(s(131))), Vec::<String>::new());
    assert_eq!(prepared_jobs(&host.answer_instance()), ["r"], "the renewal was accepted");
}

#[test]
fn a_run_that_cannot_be_driven_is_reported_once_and_tried_again_ever_later() {
    let mut host = Host::adopting(vec![job("r")], vec![LeaseView::Guard(guard("r", ""))]);
    let (mut tries, mut reports) = (Vec::new(), Vec::new());
    for second in 100..400 {
        for effect in host.until(s(second)) {
            match effect {
                Effect::Prepare { job, .. } => {
                    tries.push(second);
                    let why = "no plugin".to_owned();
                    let obstacle = Obstacle { why, hint: "add it".into(), is_short: false };
                    let job_uid = job.job.uid;
                    let after = host.take(Input::Prepared { job_uid, outcome: Err(obstacle) });
                    reports.extend(after.into_iter().filter_map(|effect| match effect {
                        Effect::Report { why, hint, .. } => Some((second, why, hint)),
                        _ => None,
                    }));
                }
                effect => assert!(!matches!(effect, Effect::Report { .. }), "again: {effect:?}"),
            }
        }
        host.answer_instance();
    }
    assert_eq!(reports, [(101, "no plugin".to_owned(), "add it".to_owned())]);
    let waits: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(&waits[..], [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn the_state_is_settled_once_every_orphan_was_tried() {
    let mut host = Host::adopting(Vec::new(), Vec::new());
    host.effects();
    assert!(host.is_settled);
    let mut host = Host::adopting(vec![job("r")], vec![LeaseView::Guard(guard("r", ""))]);
    host.until(s(101));
    assert!(!host.is_settled);
    assert_eq!(host.ownership.left_alone().count(), 0, "it is being adopted");
    let obstacle = Obstacle { why: "no plugin".into(), hint: "add it".into(), is_short: false };
    host.take(Input::Prepared { job_uid: job("r").job.uid, outcome: Err(obstacle) });
    assert!(host.is_settled);
    assert_eq!(host.ownership.left_alone().collect::<Vec<_>>(), ["r"]);
}

#[test]
fn a_locked_folder_is_tried_again_every_half_second() {
    let mut host = Host::adopting(vec![job("r")], vec![LeaseView::Guard(guard("r", ""))]);
    let mut tries = 0;
    for tick in 0..100 {
        for effect in host.until(s(100) + Duration::from_millis(tick * 100)) {
            if let Effect::Prepare { job, .. } = effect {
                tries += 1;
                let obstacle = Obstacle { why: "locked".into(), hint: String::new(), is_short: true };
                host.take(Input::Prepared { job_uid: job.job.uid, outcome: Err(obstacle) });
            }
        }
        host.answer_instance();
    }
    assert!((17..=21).contains(&tries), "{tries} in 10 s");
}

#[test]
fn at_most_16_adoptions_are_under_way() {
    let runs: Vec<String> = (0..40).map(|run| format!("run-{run}")).collect();
    let jobs = runs.iter().map(|run| job(run)).collect();
    let leases = runs.iter().map(|run| LeaseView::Guard(guard(run, ""))).collect();
    let mut host = Host::adopting(jobs, leases);
    let first = prepared_jobs(&host.until(s(101)));
    assert_eq!(first.len(), MAX_ADOPTIONS);
    let next =
        host.take(Input::Prepared { job_uid: job(&first[0]).job.uid, outcome: Ok(Prepared::FromJournal) });
    assert_eq!(prepared_jobs(&next).len(), 1);
}

#[test]
fn a_job_without_a_guard_is_reported_if_a_host_has_ever_acted_for_it() {
    let foreign = JobView { epoch: None, ..job("foreign") };
    let kept = JobView { has_ended: true, ..job("kept") };
    let mut host = Host::adopting(vec![job("r"), foreign, kept], Vec::new());
    let effects = host.until(s(106));
    let reported: Vec<&str> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Report { job, .. } => Some(job.run.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!((reported, host.ownership.undriven()), (vec!["r"], 1));
}

// ---------------------------------------------------------------------- guards

#[test]
fn releases_a_guard_of_its_own_whose_run_it_does_not_have() {
    let leases = vec![LeaseView::Host(instance(ME, "1")), LeaseView::Guard(guard("r", ME))];
    let mut host = Host::adopting(vec![job("r")], leases);
    assert_eq!(calls(&host.until(s(104))), Vec::<String>::new());
    let released = host.until(s(105));
    let [Effect::Call { request: ApiCall::UpdateLease(lease), call }] = &released[..] else {
        panic!("{released:?}")
    };
    assert!(lease.is_released());
    assert_eq!(lease.renewed_at, s(105 + WALL_S), "older versions compare it with the wall clock");
    let lease = Lease { resource_version: "6".into(), ..lease.clone() };
    host.take(Input::Called { call: *call, outcome: Ok(ApiReply::Lease(Some(lease))) });
    assert_eq!(prepared_jobs(&host.until(s(106))), ["r"]);
}

#[test]
fn deletes_its_own_guard_without_a_job_soon_and_that_of_a_dead_host_after_15_min() {
    let own = vec![LeaseView::Host(instance(ME, "1")), LeaseView::Guard(guard("r", ME))];
    let mut host = Host::adopting(Vec::new(), own);
    assert_eq!(calls(&host.until(s(105))), ["delete Lease guard-of-r"]);

    let mut host = Host::adopting(Vec::new(), vec![LeaseView::Guard(guard("r", "paperclip-host-dead"))]);
    let mut deleted_at = None;
    for second in 100..1_100 {
        let effects = calls(&host.until(s(second)));
        if effects.iter().any(|call| call == "delete Lease guard-of-r") {
            assert_eq!(deleted_at.replace(second), None, "once");
        }
        host.answer_instance();
    }
    assert_eq!(deleted_at, Some(100 + COLLECT_AFTER.as_secs()));
}

#[test]
fn a_snapshot_of_a_job_is_read_with_its_epoch() {
    let label =
        |key: &str, value: &str| paperclip_contract::types::Label { key: key.into(), value: value.into() };
    let mut snapshot = JobSnapshot {
        job: job("r").job,
        labels: vec![label(RUN_LABEL, "r"), label(COMPONENT_LABEL, AGENT_JOB)],
        annotations: vec![label(EPOCH_ANNOTATION, "9")],
        is_suspended: false,
        is_deleting: false,
        created_at_ms: None,
        started_at_ms: None,
        active_pods: 0,
        succeeded_pods: 0,
        failed_pods: 0,
        conditions: Vec::new(),
    };
    assert_eq!(JobView::of(&snapshot), Some(job("r")));
    snapshot.is_deleting = true;
    assert!(JobView::of(&snapshot).expect("of a run").is_deleting);
    snapshot.labels.remove(0);
    assert_eq!(JobView::of(&snapshot), None);
}
