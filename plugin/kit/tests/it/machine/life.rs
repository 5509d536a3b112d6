//! The life of a run, from the guard to its result.

use super::*;

/// Up to the running agent of the second attempt, with the command that follows its log.
fn retried() -> (Driver, u64) {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[lines(log, &["no session"]), log_ended(log)]);
    driver.observe(PodPhase::Failed, ended(1, None));
    driver.step(&[Event::PodDeleted(deletion("pod", true)), Event::JobDeleted(deletion("job", true))]);
    driver.answer("DryRunPod", Ok(AnswerOk::Warnings(Vec::new())));
    driver.create().into_running()
}

#[test]
fn runs_from_guard_to_result() {
    let driver = Driver::with_image().live();
    assert!(driver.names().contains(&"PollHttp".to_owned()), "{:?}", driver.names());
    let (mut driver, log) = driver.into_running();
    driver.step(&[lines(log, &["hello"])]);
    assert_eq!(driver.names(), Vec::<String>::new());
    driver.observe(PodPhase::Succeeded, ended(0, None));
    assert!(!driver.names().contains(&"Finish".to_owned()), "the rest of the output is missing");
    driver.step(&[lines(log, &["world"]), log_ended(log)]);
    let (result, finish) = driver.result();
    assert_eq!(result["summary"], "hello\nworld");
    assert_eq!(finish.ending, Ending::Succeeded);
    assert_eq!(finish.delete_jobs, [object("job")]);
    driver.step(&[Event::JobDeleted(deletion("job", true))]);
    assert_eq!(driver.names(), Vec::<String>::new(), "nothing follows a result");
}

#[test]
fn what_the_agent_type_noticed_is_counted_at_the_end() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[lines(log, &["version 1.2"])]);
    assert_eq!(driver.names(), Vec::<String>::new());
    driver.step(&[log_ended(log)]);
    driver.observe(PodPhase::Succeeded, ended(0, None));
    assert_eq!(driver.names(), ["CountObservation", "Finish"]);
}

#[test]
fn emits_the_tail_of_stderr_after_the_output() {
    let (mut driver, log) = Driver::with_image().running();
    let message = format!("{}\nboom\n", paperclip_kit::manifest::termination::MARKER);
    driver.step(&[log_ended(log)]);
    driver.observe(PodPhase::Failed, ended(3, Some(&message)));
    assert_eq!(driver.names(), ["EmitLog", "Finish"]);
    let (result, finish) = driver.result();
    assert_eq!((result["exitCode"].as_i64(), finish.ending), (Some(3), Ending::Failed));
    assert_eq!(result["summary"], "boom");
}

#[test]
fn seed_18_silence_does_not_end_a_run_while_its_container_runs() {
    let (mut driver, log) = Driver::start(&json!({"image": "echo:1"})).running();
    let interrupted = || Event::LogInterrupted(LogInterrupted { command: log, reason: "EOF".to_owned() });
    // Far longer than any grace, with and without a stream.
    for silence_ms in [200, 30_000, 61_000, 10 * 60_000, 12 * 3_600_000] {
        driver.now_ms += silence_ms;
        driver.step(&[interrupted()]);
        driver.now_ms += silence_ms;
        driver.step(&[Event::LogResumed(log)]);
        driver.observe(PodPhase::Running, ContainerState::Running(Some(1_000)));
        driver.step(&[Event::TimerFired(TimerName::Settle as u64)]);
        let names = driver.names();
        assert!(
            !names.iter().any(|name| name == "Finish" || name == "DeleteJob"),
            "{silence_ms} ms: {names:?}"
        );
    }
    driver.step(&[lines(log, &["late"])]);
    driver.observe(PodPhase::Succeeded, ended(0, None));
    driver.step(&[log_ended(log)]);
    let (result, finish) = driver.result();
    assert_eq!((finish.ending, &result["summary"]), (Ending::Succeeded, &json!("late")));
}

#[test]
fn seed_18_a_run_ends_although_its_log_is_still_read() {
    let (mut driver, _) = Driver::with_image().running();
    driver.observe(PodPhase::Succeeded, ended(0, None));
    assert!(!driver.names().contains(&"Finish".to_owned()), "the rest of the output may come");
    driver.now_ms += 59_000;
    driver.step(&[Event::TimerFired(TimerName::Settle as u64)]);
    assert!(!driver.names().contains(&"Finish".to_owned()), "{:?}", driver.names());
    driver.now_ms += 2_000;
    driver.step(&[Event::TimerFired(TimerName::Settle as u64)]);
    assert_eq!(driver.result().1.ending, Ending::Succeeded, "no stream has to end first");
}

#[test]
fn seed_21_a_failed_pod_ends_the_run() {
    // The pod failed before the kubelet had reported anything of its container.
    let mut driver = Driver::with_image().live();
    driver.observe(PodPhase::Failed, ContainerState::Unknown);
    let (result, _) = driver.result();
    assert_eq!(result["errorCode"], "k8s_pod_schedule_failed");
    // It failed while the agent worked, and the kubelet does not say how the container ended.
    let (mut driver, log) = Driver::with_image().running();
    driver.observe(PodPhase::Failed, ContainerState::Unknown);
    driver.step(&[log_ended(log)]);
    driver.verify(Ok(AnswerOk::Pods(vec![agent_pod(PodPhase::Failed, ContainerState::Unknown)])));
    let (result, finish) = driver.result();
    assert_eq!(finish.ending, Ending::Failed);
    assert!(result["errorMessage"].as_str().unwrap().contains("pod phase=Failed"), "{result}");
}

#[test]
fn a_pod_that_a_late_watch_reports_does_not_hide_the_end_of_its_container() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[lines(log, &["reported"])]);
    driver.observe(PodPhase::Failed, ended(1, None));
    let waiting = ContainerWaiting { reason: Some("ContainerCreating".to_owned()), message: None };
    driver.observe(PodPhase::Pending, ContainerState::Waiting(waiting));
    driver.step(&[log_ended(log)]);
    assert_eq!(driver.result().1.ending, Ending::Failed, "it exited with 1 after its report");
}

#[test]
fn seed_4_the_traces_of_a_deletion_are_collected() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[lines(log, &["working"])]);
    let suspended = testing::condition("Suspended", false, Some("JobResumed"), None);
    driver.step(&[Event::JobObserved(JobSnapshot { conditions: vec![suspended], ..job("job") })]);
    driver.now_ms += 42_000;
    driver.step(&[
        Event::PodDeleted(deletion("pod", false)),
        Event::JobDeleted(deletion("job", false)),
        log_ended(log),
    ]);
    let trace = driver.machine.evidence(driver.now_ms).deletion;
    assert_eq!(
        trace.describe(8, 1),
        "[detected_via=watch-deleted, job=job, ns=agents, elapsed_since_pod_running=42s, completion_polls=1, \
         last_job_conditions=[Suspended=False(JobResumed)], stdout_bytes=8, stdout_nonempty_lines=1]"
    );
}

#[test]
fn seed_22_with_reattachment_disabled_an_orphan_blocks_and_is_left_alone() {
    let config = json!({"image": "echo:1", "reattachOrphanedJobs": false, "whenBusy": "fail"});
    let mut driver = Driver::start(&config);
    driver.step(&[Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(vec![orphan("T-1")])));
    let (result, finish) = driver.result();
    assert_eq!(result["errorCode"], "k8s_concurrent_run_blocked");
    assert_eq!(
        result["errorMessage"],
        "Concurrent run blocked: orphaned Job(s) still running for this agent (reattach disabled)"
    );
    assert!(finish.delete_jobs.is_empty(), "the Job is another run's");
}

#[test]
fn seed_2_only_cancelled_and_cancelling_cancel() {
    for (status, cancels) in [
        ("running", false),
        ("queued", false),
        ("succeeded", false),
        ("failed", false),
        ("completed", false),
        ("", false),
        ("unknown", false),
        ("cancelled", true),
        ("cancelling", true),
    ] {
        let (mut driver, _) = Driver::with_image().running();
        let body = json!({"status": status}).to_string();
        driver.step(&[Event::HttpAnswered(HttpAnswer { command: 0, status: 200, body })]);
        assert_eq!(driver.names().contains(&"DeleteJob".to_owned()), cancels, "{status}");
    }
}

#[test]
fn drains_the_output_before_a_cancelled_run_finishes() {
    let (mut driver, log) = Driver::with_image().running();
    let cancel = CancelRequest { source: CancelSource::Operator, reason: None };
    driver.step(&[Event::CancelRequested(cancel)]);
    driver.id_of("DeleteJob");
    driver.step(&[Event::JobDeleted(deletion("job", true))]);
    assert_eq!(
        driver.names(),
        ["SetTimer"],
        "the pod has its grace, and the rest of the output is still read"
    );
    driver.step(&[lines(log, &["last words"])]);
    driver.observe(PodPhase::Failed, ended(143, None));
    driver.step(&[log_ended(log)]);
    let (result, finish) = driver.result();
    assert_eq!((result["errorCode"].as_str(), finish.ending), (Some("cancelled"), Ending::Cancelled));
    assert_eq!(result["summary"], "last words");
}

#[test]
fn finishes_a_cancelled_run_whose_pod_was_deleted_unobserved() {
    let (mut driver, log) = Driver::with_image().running();
    let cancel = CancelRequest { source: CancelSource::Operator, reason: None };
    driver.step(&[Event::CancelRequested(cancel)]);
    driver.step(&[Event::JobDeleted(deletion("job", true))]);
    driver.step(&[Event::HostStopping]);
    driver.now_ms += 20_000;
    // The next host finds neither Job nor pod, and the log answers that there is none.
    driver.step(&[Event::HostResumed(20_000), Event::JobDeleted(deletion("job", true))]);
    driver.step(&[log_ended(log)]);
    let pods = driver.id_of("ListPods");
    driver.answer("GetJob", Ok(AnswerOk::Job(None)));
    driver.step(&[Event::Answered(Answer { command: pods, outcome: Ok(AnswerOk::Pods(Vec::new())) })]);
    assert_eq!(driver.result().1.ending, Ending::Cancelled);
}

#[test]
fn cancelling_a_timed_out_run_does_not_extend_its_grace() {
    let mut driver = Driver::start(&json!({"image": "echo:1", "timeoutSec": 60, "cancelGraceSec": 5})).live();
    driver.observe(PodPhase::Running, ContainerState::Running(Some(driver.now_ms)));
    driver.now_ms += 60_000;
    driver.step(&[Event::TimerFired(TimerName::Run as u64)]);
    driver.answer("DeleteJob", Err(refused(403, "jobs is forbidden")));
    driver.now_ms += 2_000;
    let cancel = CancelRequest { source: CancelSource::Operator, reason: None };
    driver.step(&[Event::CancelRequested(cancel)]);
    driver.now_ms += 18_000;
    driver.step(&[Event::TimerFired(TimerName::Stop as u64)]);
    assert_eq!(driver.result().1.ending, Ending::Cancelled);
}

#[test]
fn a_stopped_agent_has_its_grace_and_fifteen_seconds_to_end() {
    let (mut driver, log) = Driver::start(&json!({"image": "echo:1", "cancelGraceSec": 20})).running();
    let cancel = CancelRequest { source: CancelSource::Operator, reason: None };
    driver.step(&[Event::CancelRequested(cancel)]);
    let stopped_ms = driver.now_ms;
    driver.now_ms += 34_900;
    driver.step(&[lines(log, &["still busy"])]);
    assert!(!driver.names().contains(&"Finish".to_owned()), "{:?}", driver.names());
    driver.now_ms = stopped_ms + 35_000;
    driver.step(&[Event::TimerFired(TimerName::Stop as u64)]);
    let (result, finish) = driver.result();
    assert_eq!((finish.ending, &result["summary"]), (Ending::Cancelled, &json!("still busy")));
}

#[test]
fn a_cancel_before_anything_was_created_creates_nothing() {
    let mut driver = Driver::with_image();
    let cancel = CancelRequest { source: CancelSource::Operator, reason: None };
    driver.step(&[Event::CancelRequested(cancel.clone())]);
    assert_eq!(driver.names(), ["Finish"]);
    assert_eq!(driver.result().1.ending, Ending::Cancelled);

    let mut listing = Driver::with_image();
    listing.step(&[Event::GuardAcquired]);
    let mut preflight = Driver::with_image();
    preflight.step(&[Event::GuardAcquired]);
    preflight.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
    for mut driver in [listing, preflight] {
        driver.step(&[Event::CancelRequested(cancel.clone())]);
        assert_eq!(driver.names(), ["Finish"], "the answer is not waited for");
    }
}

/// The node's clock may lag behind the host's by minutes, or be ahead of it.
#[test]
fn d35_the_timeout_starts_with_the_container_by_the_hosts_clock() {
    for behind_ms in [0, 90_000, 900_000, -90_000_i64] {
        let mut driver = Driver::with_image().live();
        driver.now_ms += 1_000_000;
        let stamp_ms = driver.now_ms.saturating_add_signed(-behind_ms);
        driver.observe(PodPhase::Running, ContainerState::Running(Some(stamp_ms)));
        let timer = driver.commands.iter().find_map(|command| match &command.action {
            Action::SetTimer(timer) if timer.timer == TimerName::Run as u64 => Some(timer.after_ms),
            _ => None,
        });
        assert_eq!(timer, Some(60_000), "{behind_ms}");
        driver.now_ms += 59_000;
        driver.step(&[Event::TimerFired(TimerName::Run as u64)]);
        assert_eq!(driver.stop_cause(), None, "{behind_ms}");
        driver.now_ms += 1_000;
        driver.step(&[Event::TimerFired(TimerName::Run as u64)]);
        driver.id_of("DeleteJob");
        driver.step(&[Event::JobDeleted(deletion("job", true)), Event::PodDeleted(deletion("pod", false))]);
        assert!(!driver.names().contains(&"Finish".to_owned()), "the output is still read");
    }
}

#[test]
fn rule_23_a_stalled_pod_fails_with_its_cause_after_its_grace() {
    let mut driver = Driver::with_image().live();
    let waiting = || {
        ContainerState::Waiting(ContainerWaiting {
            reason: Some("ImagePullBackOff".to_owned()),
            message: Some("Back-off pulling image".to_owned()),
        })
    };
    driver.observe(PodPhase::Pending, waiting());
    assert!(driver.names().contains(&"EmitStatus".to_owned()));
    driver.now_ms += 179_000;
    driver.observe(PodPhase::Pending, waiting());
    assert_eq!(driver.names(), Vec::<String>::new());
    driver.now_ms += 1_000;
    driver.step(&[Event::TimerFired(TimerName::Stall as u64)]);
    driver.verify(Ok(AnswerOk::Pods(vec![agent_pod(PodPhase::Pending, waiting())])));
    let (result, _) = driver.result();
    assert_eq!(result["errorCode"], "k8s_pod_schedule_failed");
    assert_eq!(
        result["errorMessage"],
        "Pod scheduling failed: Image pull failed for \"echo\": Back-off pulling image (waited 180 s)"
    );
}

#[test]
fn rule_30_verifies_a_stall_before_the_run_fails_for_it() {
    let stalled = || {
        let mut driver = Driver::with_image().live();
        driver.now_ms += 600_000;
        driver.step(&[Event::TimerFired(TimerName::Stall as u64)]);
        driver
    };
    let mut running = stalled();
    let agent = agent_pod(PodPhase::Running, ContainerState::Running(Some(running.now_ms - 590_000)));
    running.verify(Ok(AnswerOk::Pods(vec![agent])));
    assert!(running.names().contains(&"FollowLog".to_owned()), "{:?}", running.names());

    let mut unverified = stalled();
    let unavailable = ApiError { status: None, ..refused(0, "no answer within 30 s") };
    unverified.verify(Err(unavailable));
    assert_eq!(unverified.names(), ["GetJob", "ListPods"], "both reads are requested again");
    unverified.verify(Ok(AnswerOk::Pods(Vec::new())));
    let (result, _) = unverified.result();
    assert!(result["errorMessage"].as_str().unwrap().ends_with("has no pod yet (waited 600 s)"), "{result}");
}

#[test]
fn seed_4_a_deletion_is_verified_before_it_is_reported() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[Event::PodDeleted(deletion("pod", false)), log_ended(log)]);
    assert!(driver.names().contains(&"GetJob".to_owned()), "{:?}", driver.names());
    let pods = driver.id_of("ListPods");
    driver.answer("GetJob", Ok(AnswerOk::Job(None)));
    driver.step(&[Event::Answered(Answer { command: pods, outcome: Ok(AnswerOk::Pods(Vec::new())) })]);
    let (result, _) = driver.result();
    assert!(result["errorMessage"].as_str().unwrap().starts_with("pod is gone"), "{result}");
}

#[test]
fn reports_the_message_of_an_api_that_refuses_the_pod() {
    let mut driver = Driver::with_image();
    driver.step(&[Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
    driver.answer("DryRunPod", Err(refused(403, "violates PodSecurity \"restricted:latest\"")));
    let (result, finish) = driver.result();
    assert_eq!(result["errorCode"], "k8s_job_create_failed");
    assert_eq!(
        result["errorMessage"],
        "Failed to create Kubernetes Job: violates PodSecurity \"restricted:latest\" (HTTP 403)"
    );
    assert!(finish.delete_jobs.is_empty());
}

#[test]
fn rule_24_waits_for_a_quota_that_is_used_up() {
    let mut driver = Driver::with_image();
    driver.step(&[Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
    let text = "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5";
    driver.answer("DryRunPod", Err(refused(403, text)));
    driver.id_of("CreateJob");
}

const SECRET_QUOTA: &str = "secrets \"s\" is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=9, limited: secrets=9";

#[test]
fn rule_24_waits_for_a_quota_on_secrets() {
    let mut driver = Driver::with_image().preflight();
    driver.answer("CreateJob", Ok(AnswerOk::Created(object("job"))));
    for _ in 0..3 {
        driver.answer("CreateSecret", Err(refused(403, SECRET_QUOTA)));
        driver.id_of("SetTimer");
        driver.now_ms += 5_000;
        driver.step(&[Event::TimerFired(TimerName::Stall as u64)]);
        assert_eq!(driver.names(), ["CreateSecret"], "and the Job stays suspended");
    }
    driver.answer("CreateSecret", Ok(AnswerOk::Created(object("secret"))));
    assert_eq!(driver.names(), ["UnsuspendJob"]);
}

#[test]
fn rule_24_fails_when_the_quota_on_secrets_stays_used_up() {
    let mut driver = Driver::with_image().preflight();
    driver.answer("CreateJob", Ok(AnswerOk::Created(object("job"))));
    driver.answer("CreateSecret", Err(refused(403, SECRET_QUOTA)));
    assert_eq!(driver.names(), ["SetTimer", "EmitStatus"]);
    driver.now_ms += 300_000;
    driver.step(&[Event::TimerFired(TimerName::Stall as u64)]);
    driver.answer("CreateSecret", Err(refused(403, SECRET_QUOTA)));
    let (result, finish) = driver.result();
    assert_eq!(result["errorCode"], "k8s_prompt_secret_create_failed");
    assert!(result["errorMessage"].as_str().unwrap().contains("exceeded quota: q"), "{result}");
    assert_eq!(finish.delete_jobs, [object("job")]);
}

#[test]
fn a_log_that_the_host_has_no_right_to_read_has_a_code_of_its_own() {
    let forbidden = |line_count| {
        let (mut driver, command) = Driver::with_image().running();
        driver.observe(PodPhase::Failed, ended(1, None));
        let message = "pods \"p\" is forbidden: User \"u\" cannot get resource \"pods/log\"".to_owned();
        let is_complete = false;
        driver.step(&[Event::LogEnded(LogEnded {
            command,
            line_count,
            bytes: line_count,
            is_complete,
            forbidden: Some(message),
        })]);
        driver.result().0
    };
    let result = forbidden(0);
    assert_eq!(result["errorCode"], "k8s_logs_forbidden");
    assert_eq!(
        result["errorMessage"],
        "The agent ran, but this host is not allowed to read its log: pods \"p\" is forbidden: User \"u\" cannot get resource \"pods/log\". Add the verb `get` on `pods/log` to the Role of the host's service account in namespace agents"
    );
    assert_eq!(forbidden(1)["errorCode"], "echo_exited", "what was read is judged");
}

#[test]
fn a_refused_poll_is_reported_once_and_so_is_its_end() {
    let (mut driver, _) = Driver::with_image().running();
    let mut answered = |status: u16, body: &str| {
        let answer = HttpAnswer { command: 1, status, body: body.to_owned() };
        driver.step(&[Event::HttpAnswered(answer)]);
        let text = |command: &Command| match &command.action {
            Action::EmitStatus(status) => Some(status.text.clone()),
            _ => None,
        };
        driver.commands.iter().filter_map(text).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(answered(503, "busy"), "", "it passes");
    assert!(answered(401, "expired").contains("HTTP 401"));
    assert_eq!(answered(404, "unknown"), "", "it still refuses");
    assert_eq!(answered(500, "busy"), "");
    assert!(answered(200, r#"{"status":"running"}"#).contains("says again"));
    assert!(answered(404, "unknown").contains("HTTP 404"));
}

#[test]
fn retries_once_without_an_unavailable_session() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[lines(log, &["no session"]), log_ended(log)]);
    driver.observe(PodPhase::Failed, ended(1, None));
    driver.id_of("DeleteJob");
    driver.step(&[Event::JobDeleted(deletion("job", true))]);
    assert_eq!(driver.names(), Vec::<String>::new(), "the pod still exists");
    driver.step(&[Event::PodDeleted(deletion("pod", false))]);
    assert_eq!(driver.names(), ["DryRunPod"]);
    driver.answer("DryRunPod", Ok(AnswerOk::Warnings(Vec::new())));
    let Some(Action::CreateJob(job)) = driver.commands.last().map(|command| command.action.clone()) else {
        panic!("{:?}", driver.names())
    };
    assert!(job.manifest_json.contains("-2\""));
}

#[test]
fn follows_the_log_of_a_pod_that_was_deleted_without_a_host() {
    let mut driver = Driver::with_image().live();
    driver.step(&[
        Event::PodObserved(agent_pod(PodPhase::Running, ContainerState::Running(Some(1_000)))),
        Event::PodDeleted(deletion("pod", false)),
        Event::JobDeleted(deletion("job", false)),
    ]);
    let log = driver.id_of("FollowLog");
    driver.step(&[log_ended(log)]);
    let pods = driver.id_of("ListPods");
    driver.answer("GetJob", Ok(AnswerOk::Job(None)));
    driver.step(&[Event::Answered(Answer { command: pods, outcome: Ok(AnswerOk::Pods(Vec::new())) })]);
    assert_eq!(driver.result().0["errorCode"], "echo_exited");
}

#[test]
fn there_is_no_third_attempt() {
    let (mut driver, log) = retried();
    driver.step(&[lines(log, &["working"]), log_ended(log)]);
    driver.step(&[Event::PodDeleted(deletion("pod", false)), Event::JobDeleted(deletion("job", false))]);
    driver.step(&[
        Event::Answered(Answer { command: driver.id_of("GetJob"), outcome: Ok(AnswerOk::Job(None)) }),
        Event::Answered(Answer {
            command: driver.id_of("ListPods"),
            outcome: Ok(AnswerOk::Pods(Vec::new())),
        }),
    ]);
    assert_eq!(driver.result().0["errorCode"], "echo_exited");
}

#[test]
fn an_agent_that_has_ended_does_not_time_out() {
    let (mut driver, log) = Driver::with_image().running();
    driver.observe(PodPhase::Succeeded, ended(0, None));
    driver.now_ms += 59_975;
    driver.step(&[Event::TimerFired(TimerName::Run as u64)]);
    driver.step(&[lines(log, &["done"]), log_ended(log)]);
    assert_eq!(driver.result().0["exitCode"], 0);
}

#[test]
fn time_without_a_host_does_not_count_for_a_grace() {
    let (mut driver, log) = Driver::with_image().running();
    driver.observe(PodPhase::Succeeded, ended(0, None));
    driver.now_ms += 600_000;
    driver.step(&[Event::HostResumed(600_000)]);
    assert!(!driver.names().contains(&"Finish".to_owned()), "the output can still be read");
    driver.step(&[lines(log, &["done"]), log_ended(log)]);
    assert_eq!(driver.result().0["summary"], "done");

    let mut driver = Driver::with_image().live();
    let waiting = ContainerWaiting { reason: Some("ImagePullBackOff".to_owned()), message: None };
    driver.observe(PodPhase::Pending, ContainerState::Waiting(waiting));
    driver.now_ms += 600_000;
    driver.step(&[Event::HostResumed(600_000)]);
    assert_eq!(driver.names(), Vec::<String>::new(), "the image may be there by now");
}

#[test]
fn adopts_an_orphan_of_the_same_task_and_waits_for_one_of_another() {
    let mut driver = Driver::with_image();
    driver.step(&[Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(vec![orphan("T-1")])));
    let run = Label { key: "paperclip.io/run-id".to_owned(), value: "run-1".to_owned() };
    assert_eq!(driver.adopts(), [run], "whoever looks for the run finds its Job");
    driver.answer("AdoptJob", Ok(AnswerOk::Job(Some(orphan("T-1")))));
    assert!(driver.names().contains(&"FollowJob".to_owned()));

    let mut driver = Driver::with_image();
    driver.step(&[Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(vec![orphan("T-2")])));
    assert_eq!(driver.names(), ["EmitStatus", "FollowJob", "SetTimer"]);
    driver.step(&[Event::JobDeleted(deletion("orphan", false))]);
    assert_eq!(driver.names(), ["CancelTimer", "ListJobs"]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(Vec::new())));
    assert_eq!(driver.names(), ["DryRunPod"]);
}

#[test]
fn seed_13_ignores_a_job_that_is_being_deleted() {
    let mut driver = Driver::with_image();
    driver.step(&[Event::GuardAcquired]);
    let deleting = JobSnapshot { is_deleting: true, ..job("old") };
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(vec![deleting])));
    assert_eq!(driver.names(), ["DryRunPod"]);
}

#[test]
fn a_job_that_runs_was_unsuspended_even_if_the_answer_is_lost() {
    let mut driver = Driver::with_image().preflight().create_dependents();
    let unsuspend = driver.id_of("UnsuspendJob");
    let mut observed = JobSnapshot { job: object("job"), is_suspended: true, ..orphan("T-1") };
    driver.step(&[Event::JobObserved(observed.clone())]);
    assert!(!driver.names().contains(&"EmitStatus".to_owned()), "it is still suspended");
    observed.is_suspended = false;
    driver.step(&[Event::JobObserved(observed)]);
    driver.observe(PodPhase::Running, ContainerState::Running(Some(1_000)));
    let log = driver.id_of("FollowLog");
    let lost = Err(ApiError { status: None, ..refused(500, "no answer within 30 s") });
    driver.step(&[Event::Answered(Answer { command: unsuspend, outcome: lost })]);
    assert_eq!(driver.names(), Vec::<String>::new(), "the agent keeps running");
    driver.observe(PodPhase::Succeeded, ended(0, None));
    driver.step(&[log_ended(log)]);
    assert_eq!(driver.result().1.ending, Ending::Succeeded);
}

#[test]
fn reports_a_log_that_could_not_be_read_to_its_end() {
    let (mut driver, _) = Driver::with_image().running();
    driver.observe(PodPhase::Failed, ended(1, None));
    driver.now_ms += 60_000;
    driver.step(&[Event::TimerFired(TimerName::Settle as u64)]);
    let (result, _) = driver.result();
    let message = result["errorMessage"].as_str().unwrap();
    assert!(message.ends_with("the agent's log could not be read to its end]"), "{message}");

    let (mut driver, command) = Driver::with_image().running();
    driver.observe(PodPhase::Failed, ended(1, None));
    driver.step(&[Event::LogEnded(LogEnded {
        command,
        line_count: 0,
        bytes: 0,
        is_complete: false,
        forbidden: None,
    })]);
    assert_eq!(driver.result().0["errorMessage"], message);
}

#[test]
fn an_illegal_transition_is_an_error_with_region_and_states() {
    let mut driver = Driver::with_image();
    let illegal = driver.try_step(&[Event::GuardLost]).unwrap_err();
    assert_eq!(illegal, IllegalTransition { region: "GuardState", from: "Requested", to: "Lost" });
}

#[test]
fn fails_when_the_prompt_of_the_second_attempt_is_too_long() {
    let mut request = request(&json!({
        "image": "echo:1",
        "bootstrapPromptTemplate": "x".repeat(paperclip_kit::prompt::PROMPT_MAX_BYTES),
    }));
    request.runtime.session_id = Some("s-1".to_owned());
    let (mut driver, log) = Driver::of(&request).running();
    driver.step(&[lines(log, &["no session"]), log_ended(log)]);
    driver.observe(PodPhase::Failed, ended(1, None));
    driver.step(&[Event::PodDeleted(deletion("pod", true)), Event::JobDeleted(deletion("job", true))]);
    let (result, finish) = driver.result();
    assert_eq!(result["errorCode"], "k8s_job_create_failed");
    assert!(result["errorMessage"].as_str().unwrap().starts_with("bootstrapPromptTemplate: "), "{result}");
    assert!(finish.delete_jobs.is_empty());
}
