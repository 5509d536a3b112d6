use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T00:01:40Z";
const FIRST_BACKOFF: Duration = Duration::from_secs(10);

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn job(spec: &Value, status: &Value) -> Job {
    let mut whole = json!({"completions": 1, "parallelism": 1, "backoffLimit": 0, "template": {}});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "j"}, "spec": whole, "status": status})).unwrap()
}

fn pod(phase: &str) -> Value {
    json!({
        "metadata": {"name": phase, "finalizers": ["batch.kubernetes.io/job-tracking"]},
        "spec": {"nodeName": "local", "containers": []},
        "status": {"phase": phase},
    })
}

#[expect(clippy::needless_pass_by_value, reason = "literals read better")]
fn look(spec: Value, status: Value, pods: &[Value]) -> Plan {
    let pods: Vec<Pod> = pods.iter().map(|pod| serde_json::from_value(pod.clone()).unwrap()).collect();
    plan(&job(&spec, &status), &pods, now(), FIRST_BACKOFF)
}

fn started() -> Value {
    json!({"startTime": "2026-01-01T00:00:00Z"})
}

fn with_condition(kind: &str, reason: &str) -> Value {
    json!({"startTime": "2026-01-01T00:00:00Z", "conditions": [
        {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": "2026-01-01T00:01:30Z"},
    ]})
}

fn conditions(plan: &Plan) -> Vec<(String, String, String)> {
    let conditions = plan.status.conditions.clone().unwrap_or_default();
    conditions.into_iter().map(|c| (c.type_, c.status, c.reason.unwrap_or_default())).collect()
}

fn condition(kind: &str, status: &str, reason: &str) -> (String, String, String) {
    (kind.to_owned(), status.to_owned(), reason.to_owned())
}

fn names(pods: &[Pod]) -> Vec<&str> {
    pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
}

#[test]
fn a_new_job_starts_and_makes_its_pods() {
    let plan = look(json!({"completions": 5, "parallelism": 3}), json!({}), &[]);
    assert_eq!(plan.create, 3);
    assert_eq!(plan.status.start_time, Some(Time(now())));
    assert_eq!(plan.status.active, Some(3));
}

#[test]
fn a_suspended_job_makes_no_pod_and_withdraws_those_it_has() {
    let plan = look(json!({"suspend": true}), json!({}), &[]);
    assert_eq!((plan.create, plan.status.start_time.clone()), (0, None));
    assert_eq!(conditions(&plan), [condition("Suspended", "True", "JobSuspended")]);
    assert_eq!(plan.news, [News::Suspended]);

    let plan = look(json!({"suspend": true}), started(), &[pod("Running")]);
    assert_eq!(names(&plan.withdraw), ["Running"]);
    assert_eq!((plan.status.active, plan.status.terminating), (None, Some(1)));
    assert_eq!(plan.status.start_time, None);
}

#[test]
fn resumed_job_starts_again() {
    let status = with_condition("Suspended", "JobSuspended");
    let plan = look(json!({"activeDeadlineSeconds": 50}), status, &[]);
    assert_eq!(plan.create, 1, "the deadline counts from now, not from the first start");
    assert_eq!(plan.status.start_time, Some(Time(now())));
    assert_eq!(conditions(&plan), [condition("Suspended", "False", "JobResumed")]);
    assert_eq!(plan.news, [News::Resumed]);
    assert_eq!(plan.look_again, Some(after(now(), 50)));
}

#[test]
fn success_is_reported_in_two_steps() {
    let first = look(json!({}), started(), &[pod("Succeeded")]);
    assert_eq!(conditions(&first), [condition("SuccessCriteriaMet", "True", "CompletionsReached")]);
    assert_eq!(first.status.succeeded, Some(1));
    assert_eq!(names(&first.release), ["Succeeded"]);
    assert!(first.news.is_empty());

    let status = with_condition("SuccessCriteriaMet", "CompletionsReached");
    let second = look(json!({}), status, &[]);
    assert_eq!(conditions(&second)[1], condition("Complete", "True", "CompletionsReached"));
    assert_eq!(second.status.completion_time, Some(Time(now())));
    assert_eq!(second.news, [News::Completed]);
}

#[test]
fn failure_waits_for_the_pods_that_still_end() {
    let first =
        look(json!({"parallelism": 2, "completions": 2}), started(), &[pod("Failed"), pod("Running")]);
    assert_eq!(conditions(&first), [condition("FailureTarget", "True", "BackoffLimitExceeded")]);
    assert_eq!(names(&first.delete), ["Running"]);
    assert_eq!((first.status.failed, first.status.terminating), (Some(1), Some(1)));

    let mut ending = pod("Running");
    ending["metadata"]["deletionTimestamp"] = json!(NOW);
    let status = with_condition("FailureTarget", "BackoffLimitExceeded");
    let waiting = look(json!({}), status.clone(), &[ending]);
    assert_eq!(conditions(&waiting).len(), 1);

    let last = look(json!({}), status, &[]);
    assert_eq!(conditions(&last)[1], condition("Failed", "True", "BackoffLimitExceeded"));
    assert_eq!(last.news, [News::Failed(Verdict::BackoffLimitExceeded)]);
    assert_eq!(last.status.completion_time, None);
}

#[test]
fn a_deadline_ends_the_job_whatever_its_pods_do() {
    let plan = look(json!({"activeDeadlineSeconds": 100}), started(), &[pod("Running")]);
    assert_eq!(conditions(&plan), [condition("FailureTarget", "True", "DeadlineExceeded")]);
    assert_eq!(names(&plan.delete), ["Running"]);

    let early = look(json!({"activeDeadlineSeconds": 101}), started(), &[pod("Running")]);
    assert_eq!(conditions(&early), []);
    assert_eq!(early.look_again, Some(after(now(), 1)));
}

#[test]
fn failed_pods_are_replaced_after_a_growing_wait() {
    let failed_at = |time: &str| {
        let mut pod = pod("Failed");
        pod["status"]["containerStatuses"] = json!([{
            "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "finishedAt": time}},
        }]);
        pod
    };
    let spec = || json!({"backoffLimit": 3});
    let one = look(spec(), started(), &[failed_at("2026-01-01T00:01:35Z")]);
    assert_eq!((one.create, one.look_again), (0, Some("2026-01-01T00:01:45Z".parse().unwrap())));
    let two = [failed_at("2026-01-01T00:01:00Z"), failed_at("2026-01-01T00:01:25Z")];
    let wait = look(spec(), started(), &two);
    assert_eq!((wait.create, wait.look_again), (0, Some("2026-01-01T00:01:45Z".parse().unwrap())));
    let over = look(spec(), started(), &[failed_at("2026-01-01T00:01:30Z")]);
    assert_eq!(over.create, 1);
}

#[test]
fn a_pod_under_deletion_is_replaced_only_when_it_has_ended() {
    let mut ending = pod("Running");
    ending["metadata"]["deletionTimestamp"] = json!(NOW);
    let plan = look(json!({"backoffLimit": 3}), started(), &[ending.clone()]);
    assert_eq!((plan.create, plan.status.failed), (0, None));
    assert!(plan.release.is_empty());

    ending["spec"] = json!({"containers": []});
    let plan = look(json!({"backoffLimit": 0}), started(), &[ending]);
    assert_eq!(plan.status.failed, Some(1), "no node will ever end it");
}

#[test]
fn a_finished_job_expires() {
    let status = || with_condition("Complete", "CompletionsReached");
    assert!(!look(json!({}), status(), &[]).is_expired);
    assert!(look(json!({"ttlSecondsAfterFinished": 10}), status(), &[]).is_expired);
    let later = look(json!({"ttlSecondsAfterFinished": 11}), status(), &[]);
    assert!(!later.is_expired);
    assert_eq!(later.look_again, Some(after(now(), 1)));
}

#[test]
fn restarts_of_containers_count_against_the_limit() {
    let mut restarting = pod("Running");
    restarting["status"]["containerStatuses"] =
        json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 2}]);
    let spec = |limit: i32| json!({"backoffLimit": limit, "template": {"spec": {"restartPolicy": "OnFailure", "containers": []}}});
    assert_eq!(conditions(&look(spec(3), started(), &[restarting.clone()])), []);
    assert_eq!(
        conditions(&look(spec(2), started(), &[restarting])),
        [condition("FailureTarget", "True", "BackoffLimitExceeded")]
    );
}

#[test]
fn a_job_of_another_manager_is_left_alone() {
    let plan = look(json!({"managedBy": "kueue.x-k8s.io/multikueue"}), json!({}), &[]);
    assert_eq!(plan, Plan::default());
}
