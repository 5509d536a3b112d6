use serde_json::json;

use super::bench::*;
use crate::resource::Resource;
use crate::store::{is_deleting, meta};

#[tokio::test]
async fn a_job_that_succeeds() {
    let bench = Bench::new().await;
    let job = bench.job("j", "echo hello; echo oops >&2", |_| ());
    let (done, condition_) = bench.finished("j").await;
    assert_eq!(condition_["type"], "Complete");
    assert_eq!(condition_["reason"], "CompletionsReached");
    assert_eq!(condition(&done, "SuccessCriteriaMet")["status"], "True");
    assert_eq!((&done["status"]["succeeded"], &done["status"]["active"]), (&json!(1), &json!(null)));
    assert!(done["status"]["completionTime"].is_string() && done["status"]["startTime"].is_string());

    let pod = bench.pod_until(|pod| pod["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)).await;
    assert_eq!(meta(&pod, "name").len(), "j-12345".len());
    let labels = &pod["metadata"]["labels"];
    assert_eq!((&labels["app"], &labels["batch.kubernetes.io/job-name"]), (&json!("test"), &json!("j")));
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&job["metadata"]["uid"], &json!(true)));
    assert_eq!(pod["status"]["phase"], "Succeeded");
    let end = &state(&pod, "main")["terminated"];
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(0), &json!("Completed")));
    let mut lines: Vec<String> = bench.log(&pod, "main").await.lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["hello", "oops"]);

    for (reason, kind) in [
        ("SuccessfulCreate", "Job"),
        ("Scheduled", "Pod"),
        ("Pulled", "Pod"),
        ("Created", "Pod"),
        ("Started", "Pod"),
        ("Completed", "Job"),
    ] {
        assert_eq!(bench.event(reason).await["involvedObject"]["kind"], kind, "{reason}");
    }
}

#[tokio::test]
async fn a_job_that_fails() {
    let bench = Bench::new().await;
    bench.job("j", "exit 3", |_| ());
    let (job, condition_) = bench.finished("j").await;
    assert_eq!(
        (&condition_["type"], &condition_["reason"]),
        (&json!("Failed"), &json!("BackoffLimitExceeded"))
    );
    assert_eq!(condition_["message"], "Job has reached the specified backoff limit");
    assert_eq!(condition(&job, "FailureTarget")["reason"], "BackoffLimitExceeded");
    assert_eq!(job["status"]["failed"], 1);
    let pod = bench.pod_until(is_over).await;
    assert_eq!(
        (exit_code(&pod, "main"), &state(&pod, "main")["terminated"]["reason"]),
        (Some(3), &json!("Error"))
    );
    assert_eq!(bench.event("BackoffLimitExceeded").await["type"], "Warning");
}

#[tokio::test]
async fn a_failed_pod_is_replaced_as_often_as_allowed() {
    let bench = Bench::new().await;
    bench.job("j", "exit 1", |job| job["spec"]["backoffLimit"] = json!(2));
    let (job, condition_) = bench.finished("j").await;
    assert_eq!(condition_["reason"], "BackoffLimitExceeded");
    assert_eq!(job["status"]["failed"], 3);
    assert_eq!(bench.store.list(Resource::Pods, Some(NAMESPACE)).1.len(), 3);
}

#[tokio::test]
async fn several_completions_run_side_by_side() {
    let bench = Bench::new().await;
    bench.job("j", "true", |job| {
        job["spec"]["completions"] = json!(4);
        job["spec"]["parallelism"] = json!(2);
    });
    let (job, condition_) = bench.finished("j").await;
    assert_eq!((&condition_["type"], &job["status"]["succeeded"]), (&json!("Complete"), &json!(4)));
}

#[tokio::test]
async fn a_deadline_ends_a_running_job() {
    let bench = Bench::new().await;
    bench.job("j", "trap 'exit 0' TERM; echo ready; sleep 1000 & wait", |job| {
        job["spec"]["activeDeadlineSeconds"] = json!(1);
    });
    let target = bench.until(Resource::Jobs, |job| !condition(job, "FailureTarget").is_null()).await;
    assert_eq!(condition(&target, "FailureTarget")["reason"], "DeadlineExceeded");
    let (job, condition_) = bench.finished("j").await;
    assert_eq!((&condition_["type"], &condition_["reason"]), (&json!("Failed"), &json!("DeadlineExceeded")));
    assert_eq!(condition_["message"], "Job was active longer than specified deadline");
    assert_eq!(job["status"]["failed"], 1);
    bench.event("DeadlineExceeded").await;
    bench.event("SuccessfulDelete").await;
}

#[tokio::test]
async fn a_suspended_job_waits_and_can_be_suspended_again() {
    let bench = Bench::new().await;
    bench.job("j", "sleep 1000", |job| job["spec"]["suspend"] = json!(true));
    let job = bench.until(Resource::Jobs, |job| condition(job, "Suspended")["status"] == "True").await;
    assert_eq!(job["status"]["startTime"], json!(null));
    assert!(bench.store.list(Resource::Pods, Some(NAMESPACE)).1.is_empty());
    bench.event("Suspended").await;

    bench.update(Resource::Jobs, "j", |job| job["spec"]["suspend"] = json!(false));
    let pod = bench.pod_until(is_running).await;
    let job = bench.until(Resource::Jobs, |job| condition(job, "Suspended")["status"] == "False").await;
    assert!(job["status"]["startTime"].is_string());
    bench.event("Resumed").await;

    bench.update(Resource::Jobs, "j", |job| job["spec"]["suspend"] = json!(true));
    bench.until_deleted(Resource::Pods, meta(&pod, "name")).await;
    let job = bench.until(Resource::Jobs, |job| job["status"]["terminating"] == 0).await;
    assert_eq!((&job["status"]["failed"], &job["status"]["startTime"]), (&json!(null), &json!(null)));
}

#[tokio::test]
async fn a_finished_job_goes_with_its_pods_after_its_time() {
    let bench = Bench::new().await;
    let job = bench.job("j", "true", |job| job["spec"]["ttlSecondsAfterFinished"] = json!(0));
    let secret = json!({"metadata": {"name": "s", "ownerReferences": [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job["metadata"]["uid"]},
    ]}});
    bench.create(Resource::Secrets, secret);
    bench.until_deleted(Resource::Jobs, "j").await;
    bench.until_deleted(Resource::Secrets, "s").await;
    assert!(bench.store.list(Resource::Pods, Some(NAMESPACE)).1.iter().all(|pod| is_deleting(pod)));
}

#[tokio::test]
async fn a_pod_that_somebody_deletes_fails_the_job_when_it_has_ended() {
    let bench = Bench::new().await;
    bench.job("j", "trap 'echo terminated; exit 0' TERM; echo ready; sleep 1000 & wait", |_| ());
    let pod = bench.pod_until(is_running).await;
    bench.until_logged(&pod, "main", "ready").await;
    bench.delete(Resource::Pods, meta(&pod, "name"), crate::store::Propagation::Background);
    let ended = bench.pod_until(is_over).await;
    assert!(is_deleting(&ended));
    assert_eq!(exit_code(&ended, "main"), Some(0), "it ended well, and yet its Job has failed");
    let (_, condition_) = bench.finished("j").await;
    assert_eq!(condition_["reason"], "BackoffLimitExceeded");
    bench.until_deleted(Resource::Pods, meta(&pod, "name")).await;
}
