//! What Kubernetes does to Jobs and pods, and how a run reacts.

use super::*;

/// The agent's container among others.
fn pod_of(
    phase: PodPhase,
    agent: ContainerState,
    others: &[(&str, ContainerRole, ContainerState)],
) -> PodSnapshot {
    let mut pod = agent_pod(phase, agent);
    for (name, role, state) in others {
        pod.containers.push(container(name, *role, state.clone()));
    }
    pod
}

fn job_with(kind: &str, reason: Option<&str>) -> Event {
    Event::JobObserved(JobSnapshot { conditions: vec![condition(kind, true, reason, None)], ..job("job") })
}

#[test]
fn rule_14_the_end_of_the_container_ends_the_run_before_the_jobs_condition() {
    for early in ["SuccessCriteriaMet", "FailureTarget"] {
        let (mut driver, log) = Driver::with_image().running();
        driver.step(&[job_with(early, None)]);
        assert_eq!(driver.names(), Vec::<String>::new(), "{early} comes while the agent may still print");
        driver.observe(PodPhase::Running, ended(0, None));
        driver.step(&[log_ended(log)]);
        assert_eq!(driver.result().1.ending, Ending::Succeeded);
    }
}

#[test]
fn rule_15_a_running_sidecar_does_not_delay_the_end_of_a_run() {
    let (mut driver, log) = Driver::with_image().running();
    let mesh = ("mesh", ContainerRole::Main, ContainerState::Running(Some(1)));
    driver.step(&[Event::PodObserved(pod_of(PodPhase::Running, ended(0, None), &[mesh]))]);
    driver.step(&[log_ended(log)]);
    let (_, finish) = driver.result();
    assert_eq!(finish.ending, Ending::Succeeded);
    assert_eq!(finish.delete_jobs, [object("job")], "which ends the sidecar");
}

#[test]
fn rule_15_does_not_retain_a_job_whose_sidecar_keeps_running() {
    let retained = |sidecar: ContainerState| {
        let (mut driver, log) = Driver::start(&json!({"image": "echo:1", "retainJobs": true})).running();
        let mesh = ("mesh", ContainerRole::Main, sidecar);
        driver.step(&[Event::PodObserved(pod_of(PodPhase::Running, ended(0, None), &[mesh]))]);
        driver.step(&[log_ended(log)]);
        driver.result().1.delete_jobs.is_empty()
    };
    assert!(retained(ended(0, None)));
    assert!(!retained(ContainerState::Running(Some(1))), "it would never be deleted");
}

#[test]
fn rule_15_the_end_of_a_sidecar_is_not_the_agents() {
    let (mut driver, _) = Driver::with_image().running();
    let mesh = ("mesh", ContainerRole::Main, ended(1, None));
    let working = ContainerState::Running(Some(1));
    driver.step(&[Event::PodObserved(pod_of(PodPhase::Running, working, &[mesh]))]);
    assert_eq!(driver.names(), Vec::<String>::new());
}

#[test]
fn rule_16_a_failing_native_sidecar_is_not_a_failed_init_container() {
    let waiting = || ContainerState::Waiting(ContainerWaiting { reason: None, message: None });
    let mut driver = Driver::with_image().live();
    let sidecar = ("proxy", ContainerRole::Sidecar, ended(1, None));
    driver.step(&[Event::PodObserved(pod_of(PodPhase::Pending, waiting(), &[sidecar]))]);
    assert!(!driver.names().contains(&"Finish".to_owned()), "{:?}", driver.names());

    let init = ("clone", ContainerRole::Init, ended(128, Some("no such branch")));
    driver.step(&[Event::PodObserved(pod_of(PodPhase::Pending, waiting(), &[init]))]);
    let (result, _) = driver.result();
    assert_eq!(
        result["errorMessage"],
        "Pod scheduling failed: Init container \"clone\" failed with exit code 128: Error: no such branch"
    );
}

#[test]
fn rule_17_ignores_a_pod_of_another_job_with_the_same_name() {
    let mut driver = Driver::with_image().live();
    let mut stranger = agent_pod(PodPhase::Failed, ended(9, None));
    stranger.job_uid = "uid-of-an-earlier-job".to_owned();
    driver.step(&[Event::PodObserved(stranger)]);
    assert_eq!(driver.names(), Vec::<String>::new());
}

#[test]
fn rule_18_a_job_under_deletion_is_not_deleted_yet() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[Event::JobObserved(JobSnapshot { is_deleting: true, ..job("job") })]);
    assert_eq!(driver.names(), Vec::<String>::new(), "its pod still has its grace");
    driver.step(&[lines(log, &["last words"])]);
    let mut deleting = agent_pod(PodPhase::Failed, ended(143, None));
    deleting.is_deleting = true;
    driver.step(&[Event::PodObserved(deleting), log_ended(log)]);
    let get = driver.id_of("GetJob");
    let pods = driver.id_of("ListPods");
    let missing = |command, answer| Event::Answered(Answer { command, outcome: Ok(answer) });
    driver.step(&[missing(get, AnswerOk::Job(None)), missing(pods, AnswerOk::Pods(Vec::new()))]);
    let (result, _) = driver.result();
    assert_eq!(result["exitCode"], 143, "the last snapshot counts");
    assert_eq!(result["summary"], "last words");
}

#[test]
fn rule_19_the_cluster_never_restarts_an_agent() {
    let mut driver = Driver::with_image();
    driver.step(&[Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
    driver.answer("DryRunPod", Ok(AnswerOk::Warnings(Vec::new())));
    let Some(Action::CreateJob(new)) = driver.commands.last().map(|command| command.action.clone()) else {
        panic!("{:?}", driver.names())
    };
    let manifest: Value = serde_json::from_str(&new.manifest_json).unwrap();
    assert_eq!(manifest["spec"]["backoffLimit"], 0);
    assert_eq!(manifest["spec"].get("podFailurePolicy"), None);
    assert_eq!(manifest["spec"]["template"]["spec"]["restartPolicy"], "Never");

    let (mut driver, _) = driver.create().into_running();
    let mut second = agent_pod(PodPhase::Running, ContainerState::Running(Some(9)));
    second.pod = object("pod-2");
    driver.step(&[Event::PodObserved(second)]);
    assert_eq!(driver.names(), Vec::<String>::new(), "its output is not read as that of the first pod");
}

#[test]
fn rule_20_reports_the_jobs_deadline_as_the_cause() {
    let (mut driver, log) = Driver::with_image().running();
    let mut deleting = agent_pod(PodPhase::Failed, ended(143, None));
    deleting.is_deleting = true;
    driver.step(&[
        job_with("FailureTarget", Some("DeadlineExceeded")),
        Event::PodObserved(deleting),
        log_ended(log),
    ]);
    driver.step(&[job_with("Failed", Some("DeadlineExceeded"))]);
    let evidence = driver.machine.evidence(driver.now_ms);
    assert_eq!(evidence.cause(), Some(InfraCause::Deadline));
}

#[test]
fn rule_20_a_suspended_or_gated_job_is_queued() {
    let mut driver = Driver::start(&json!({"image": "echo:1", "queueTimeoutSec": 7200})).live();
    driver.now_ms += 6_000;
    driver.step(&[Event::JobObserved(JobSnapshot { is_suspended: true, active_pods: 0, ..job("job") })]);
    assert!(driver.names().contains(&"EmitStatus".to_owned()), "{:?}", driver.names());
    let mut gated = agent_pod(PodPhase::Pending, ContainerState::Unknown);
    gated.is_gated = true;
    driver.now_ms += 3_000_000;
    driver.step(&[Event::PodObserved(gated.clone())]);
    assert!(!driver.names().contains(&"Finish".to_owned()), "longer than any other grace");
    driver.now_ms += 4_300_000;
    driver.step(&[Event::PodObserved(gated.clone())]);
    driver.verify(Ok(AnswerOk::Pods(vec![gated])));
    let (result, _) = driver.result();
    assert_eq!(
        result["errorMessage"],
        "Pod scheduling failed: Pod pod is held back by a scheduling gate (waited 7300 s)"
    );
}

fn suspended_job() -> Event {
    Event::JobObserved(JobSnapshot { is_suspended: true, active_pods: 0, ..job("job") })
}

/// A run whose agent runs in a Job that was observed as active.
fn active() -> (Driver, u64) {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[Event::JobObserved(job("job"))]);
    (driver, log)
}

fn deleting_pod(exit_code: i32) -> Event {
    let mut deleting = agent_pod(PodPhase::Failed, ended(exit_code, None));
    deleting.is_deleting = true;
    Event::PodObserved(deleting)
}

#[test]
fn rule_20_a_job_that_is_suspended_in_its_run_is_the_cause() {
    let cause = |events: Vec<Event>| {
        let (mut driver, log) = active();
        driver.step(&events);
        driver.step(&[log_ended(log)]);
        driver.machine.evidence(driver.now_ms).cause()
    };
    assert_eq!(cause(vec![suspended_job(), deleting_pod(143)]), Some(InfraCause::Suspended));
    assert_eq!(cause(vec![deleting_pod(143), suspended_job()]), Some(InfraCause::Suspended));
    let deleted = Event::PodDeleted(deletion("pod", false));
    assert_eq!(cause(vec![suspended_job(), deleted]), Some(InfraCause::Suspended));
    let resumed = Event::JobObserved(job("job"));
    assert_eq!(cause(vec![suspended_job(), resumed, deleting_pod(143)]), Some(InfraCause::Suspended));
    assert_eq!(cause(vec![deleting_pod(143)]), Some(InfraCause::Deleted), "nobody suspended it");
    assert_eq!(cause(vec![suspended_job(), deleting_pod(0)]), None, "its agent had ended by itself");
}

#[test]
fn rule_20_a_late_snapshot_of_the_new_job_is_not_a_suspension() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[suspended_job(), deleting_pod(143), log_ended(log)]);
    assert_eq!(driver.machine.evidence(driver.now_ms).cause(), Some(InfraCause::Deleted));
}

#[test]
fn a_made_up_exit_code_is_unknown() {
    let (mut driver, log) = active();
    let ContainerState::Terminated(mut lost) = ended(137, None) else { panic!("it has ended") };
    lost.reason = Some("ContainerStatusUnknown".to_owned());
    driver.observe(PodPhase::Failed, ContainerState::Terminated(lost));
    driver.step(&[log_ended(log)]);
    let (result, _) = driver.result();
    assert_eq!(result["exitCode"], Value::Null);
    assert_eq!(result["errorMessage"], " [pod: exit code unknown, reason=ContainerStatusUnknown]");
}

#[test]
fn rule_21_reports_a_disruption_as_an_infrastructure_cause() {
    for (own, disruption, expected) in [
        (None, Some("PreemptionByScheduler"), InfraCause::Preempted),
        (None, Some("EvictionByEvictionAPI"), InfraCause::Evicted),
        (None, Some("DeletionByTaintManager"), InfraCause::NodeLost),
        (None, Some("TerminationByKubelet"), InfraCause::Evicted),
        (Some("NodeShutdown"), Some("TerminationByKubelet"), InfraCause::NodeShutdown),
        (Some("Evicted"), None, InfraCause::Evicted),
    ] {
        let (mut driver, log) = Driver::with_image().running();
        let mut deleting = agent_pod(PodPhase::Failed, ended(137, None));
        deleting.is_deleting = true;
        deleting.reason = own.map(str::to_owned);
        deleting.conditions = disruption
            .map(|reason| condition("DisruptionTarget", true, Some(reason), None))
            .into_iter()
            .collect();
        driver.step(&[Event::PodObserved(deleting), log_ended(log)]);
        let cause = driver.machine.evidence(driver.now_ms).cause();
        assert_eq!(cause, Some(expected), "{own:?} {disruption:?}");
        assert!(!expected.is_of_the_job());
    }
}

#[test]
fn rule_22_only_the_reason_shows_that_memory_ran_out() {
    let (mut driver, _) = Driver::with_image().running();
    driver.observe(PodPhase::Failed, ended(137, None));
    assert_eq!(driver.machine.evidence(driver.now_ms).cause(), None, "another process may have killed it");

    let (mut driver, _) = Driver::with_image().running();
    let ContainerState::Terminated(mut killed) = ended(137, None) else { unreachable!() };
    killed.reason = Some("OOMKilled".to_owned());
    driver.observe(PodPhase::Failed, ContainerState::Terminated(killed));
    assert_eq!(driver.machine.evidence(driver.now_ms).cause(), Some(InfraCause::OomKilled));
}

#[test]
fn rule_22_a_pod_on_a_lost_node_is_neither_ended_nor_replaced() {
    let (mut driver, _) = Driver::with_image().running();
    driver.observe(PodPhase::Unknown, ContainerState::Unknown);
    assert_eq!(driver.names(), Vec::<String>::new());
    driver.now_ms += 30_000;
    driver.observe(PodPhase::Running, ContainerState::Running(Some(1)));
    assert_eq!(driver.names(), Vec::<String>::new(), "the node is back, and the agent kept running");
}

#[test]
fn rule_24_shows_the_events_of_a_job_without_a_pod() {
    let mut driver = Driver::with_image().live();
    driver.step(&[Event::JobObserved(JobSnapshot { active_pods: 0, ..job("job") })]);
    driver.now_ms += 20_000;
    driver.step(&[Event::TimerFired(TimerName::Stall as u64)]);
    let query = driver.id_of("ListEvents");
    let event = ClusterEvent {
        is_warning: true,
        reason: "FailedCreate".to_owned(),
        message: "exceeded quota: q, requested: pods=1".to_owned(),
        about: "job/job".to_owned(),
        count: 1,
        last_seen_at_ms: None,
    };
    driver.step(&[Event::Answered(Answer { command: query, outcome: Ok(AnswerOk::Events(vec![event])) })]);
    let Some(Action::EmitStatus(status)) = driver.commands.first().map(|command| command.action.clone())
    else {
        panic!("{:?}", driver.names())
    };
    assert_eq!(
        status.text,
        "[paperclip] Waiting: job/job: exceeded quota: q, requested: pods=1 (FailedCreate)"
    );
    driver.now_ms += 3_600_000;
    driver.step(&[Event::TimerFired(TimerName::Stall as u64)]);
    driver.verify(Ok(AnswerOk::Pods(Vec::new())));
    let (result, _) = driver.result();
    assert!(result["errorMessage"].as_str().unwrap().contains("exceeded quota: q"), "{result}");
}

/// Host A hung while it created the Secret of its Job; host B adopted the Job, ran it and deleted it.
#[test]
fn a_job_that_another_host_ran_is_not_judged_by_output_that_was_never_read() {
    let mut driver = Driver::with_image().preflight();
    driver.answer("CreateJob", Ok(AnswerOk::Created(object("job"))));
    driver.observe(PodPhase::Running, ContainerState::Running(Some(driver.now_ms)));
    driver.step(&[Event::JobDeleted(deletion("job", false))]);
    let (result, _) = driver.result();
    assert_eq!(result["errorCode"], "k8s_concurrency_guard_unreachable");
    assert_eq!(
        result["errorMessage"],
        "Concurrency guard unreachable: another host took this run's Job over and ran it"
    );
}

/// After its run has ended, nothing unsuspends or ends a suspended Job.
#[test]
fn deletes_an_adopted_job_that_cannot_be_unsuspended_and_keeps_one_that_was_not_adopted() {
    let lost = || Err(ApiError { status: None, ..refused(0, "no answer within 30 s") });
    let adopting = || {
        let mut driver = Driver::with_image();
        driver.step(&[Event::GuardAcquired]);
        let jobs = vec![JobSnapshot { is_suspended: true, ..orphan("T-1") }];
        driver.answer("ListJobs", Ok(AnswerOk::Jobs(jobs)));
        driver
    };
    let names_of_deleted = |driver: &Driver| {
        let (_, finish) = driver.result();
        finish.delete_jobs.into_iter().map(|job| job.name).collect::<Vec<_>>()
    };

    let mut adopted = adopting();
    adopted.answer("AdoptJob", Ok(AnswerOk::Done));
    adopted.answer("CreateSecret", lost());
    assert_eq!(names_of_deleted(&adopted), ["orphan"]);

    let mut missed = adopting();
    missed.answer("AdoptJob", lost());
    assert!(names_of_deleted(&missed).is_empty());
}

/// The pod was preempted while the deletion of its Job had no answer.
#[test]
fn starts_the_second_attempt_once_the_first_job_is_being_deleted() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[lines(log, &["no session"]), log_ended(log)]);
    driver.observe(PodPhase::Failed, ended(1, None));
    let delete = driver.id_of("DeleteJob");
    driver.step(&[Event::PodDeleted(deletion("pod", false))]);
    assert_eq!(driver.names(), Vec::<String>::new(), "the first Job may still be there");
    driver.step(&[Event::Answered(Answer { command: delete, outcome: Ok(AnswerOk::Done) })]);
    assert_eq!(driver.names(), ["DryRunPod"]);
}
