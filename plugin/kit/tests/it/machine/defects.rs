//! Defects of the former adapters, by their numbers in docs/differences.md.

use super::*;

/// A run that has adopted the Job of another one.
fn adopted() -> Driver {
    let mut driver = Driver::with_image();
    driver.step(&[Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(vec![orphan("T-1")])));
    driver.answer("AdoptJob", Ok(AnswerOk::Job(Some(orphan("T-1")))));
    driver
}

fn pod_of_orphan(phase: PodPhase, state: ContainerState) -> Event {
    let mut pod = agent_pod(phase, state);
    pod.job_uid = "uid-orphan".to_owned();
    Event::PodObserved(pod)
}

#[test]
fn d5_reads_the_end_of_the_attempt_before_deleting_anything() {
    let (mut driver, log) = Driver::with_image().running();
    driver.observe(PodPhase::Failed, ended(137, None));
    assert!(!driver.names().contains(&"DeleteJob".to_owned()), "{:?}", driver.names());
    driver.step(&[log_ended(log)]);
    let (result, finish) = driver.result();
    assert_eq!(result["exitCode"], 137);
    assert_eq!(finish.delete_jobs, [object("job")], "with the result and not before it");
}

#[test]
fn d6_d37_d40_an_api_failure_at_the_end_does_not_lose_a_finished_run() {
    let (mut driver, log) = Driver::with_image().running();
    driver.step(&[lines(log, &["all of it"])]);
    let mut deleting = agent_pod(PodPhase::Succeeded, ended(0, None));
    deleting.is_deleting = true;
    driver.step(&[Event::PodObserved(deleting), log_ended(log)]);
    let failed = || Err(refused(500, "etcdserver: leader changed"));
    let (job, pods) = (driver.id_of("GetJob"), driver.id_of("ListPods"));
    driver.step(&[Event::Answered(Answer { command: job, outcome: failed() })]);
    assert_eq!(driver.names(), Vec::<String>::new());
    driver.step(&[Event::Answered(Answer { command: pods, outcome: failed() })]);
    let (result, finish) = driver.result();
    assert_eq!((result["exitCode"].as_i64(), finish.ending), (Some(0), Ending::Succeeded));
    assert_eq!(result["summary"], "all of it");
}

#[test]
fn d21_an_adopted_job_can_be_cancelled() {
    let mut driver = adopted();
    driver.step(&[pod_of_orphan(PodPhase::Running, ContainerState::Running(Some(1)))]);
    let body = json!({"status": "cancelled"}).to_string();
    driver.step(&[Event::HttpAnswered(HttpAnswer { command: 0, status: 200, body })]);
    let deletion = driver.commands.iter().find_map(|command| match &command.action {
        Action::DeleteJob(deletion) => Some(deletion.job.clone()),
        _ => None,
    });
    assert_eq!(deletion, Some(object("orphan")));
}

#[test]
fn d21_an_adopted_job_has_the_timeout_of_the_run() {
    let mut driver = adopted();
    driver.step(&[pod_of_orphan(PodPhase::Running, ContainerState::Running(Some(1_000)))]);
    driver.now_ms += 60_000;
    driver.step(&[Event::TimerFired(TimerName::Run as u64)]);
    driver.id_of("DeleteJob");
}

#[test]
fn d21_a_job_that_cannot_be_adopted_is_not_deleted() {
    let mut driver = Driver::with_image();
    driver.step(&[Event::GuardAcquired]);
    driver.answer("ListJobs", Ok(AnswerOk::Jobs(vec![orphan("T-1")])));
    driver.answer("AdoptJob", Err(refused(403, "forbidden")));
    let (result, finish) = driver.result();
    assert_eq!(result["errorCode"], "k8s_pod_reattach_failed");
    assert_eq!(finish.delete_jobs, []);
}

#[test]
fn d23_waits_for_a_busy_agent() {
    let mut driver = Driver::with_image();
    let busy =
        |is_final| Event::GuardBusy(GuardBusy { holder: Some("run-0".to_owned()), position: 2, is_final });
    driver.step(&[busy(false)]);
    assert_eq!(driver.names(), ["EmitStatus"]);
    driver.step(&[busy(true)]);
    let (result, _) = driver.result();
    assert_eq!(result["errorMessage"], "Concurrent run blocked: run run-0 is still running for this agent");
}

#[test]
fn d25_emits_no_output_and_few_statuses_while_nothing_happens() {
    let (mut driver, _) = Driver::with_image().running();
    let mut names = Vec::new();
    for _ in 0..240 {
        driver.now_ms += 15_000;
        let body = json!({"status": "running"}).to_string();
        driver.step(&[Event::HttpAnswered(HttpAnswer { command: 0, status: 200, body })]);
        names.extend(driver.names());
    }
    names.retain(|name| name != "SetTimer");
    assert_eq!(names, ["EmitStatus"; 4], "an hour of silence");
}

#[test]
fn seed_3_a_host_that_stops_deletes_nothing() {
    let (mut driver, _) = Driver::with_image().running();
    driver.step(&[Event::HostStopping]);
    assert_eq!(driver.names(), Vec::<String>::new());
}
