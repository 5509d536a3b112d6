//! The shared watches against a scripted server. Time is paused and advances only for what the watches wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt as _;
use http::Response;
use paperclip_contract::types::{Label, ObjectRef};
use paperclip_engine::driver::WatchEvent;
use paperclip_shell::Cluster;
use paperclip_shell::watches::Subscription;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::server::{Seen, Server, failure, json, open, pieces, text};

fn object(uid: &str) -> ObjectRef {
    ObjectRef { namespace: "n".into(), name: "j".into(), uid: uid.into() }
}

fn job(uid: &str, version: u32, active: u32) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "status": {"active": active},
        "metadata": {"namespace": "n", "name": "j", "uid": uid, "resourceVersion": version.to_string()}})
}

fn pod(uid: &str, job_uid: &str, version: u32, phase: &str) -> Value {
    let owner =
        json!({"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": job_uid, "controller": true});
    json!({"apiVersion": "v1", "kind": "Pod", "status": {"phase": phase},
        "metadata": {"namespace": "n", "name": uid, "uid": uid, "resourceVersion": version.to_string(),
            "ownerReferences": [owner]}})
}

fn list(items: &[Value]) -> Response<Body> {
    json(200, &json!({"metadata": {"resourceVersion": "10"}, "items": items}))
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn expired(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
        "message": "too old resource version", "code": code})
}

fn follow(cluster: &Cluster, uid: &str) -> Subscription {
    let mut subscription = cluster.watches().subscribe();
    subscription.follow(&object(uid));
    subscription
}

/// The next change in short; fails the test where none comes in a minute.
async fn next(subscription: &mut Subscription) -> String {
    let change =
        timeout(Duration::from_secs(60), subscription.next()).await.expect("a change within a minute");
    match change {
        WatchEvent::JobSeen(job) => format!("job {} active {}", job.job.uid, job.active_pods),
        WatchEvent::JobDeleted(deletion) => format!("job {} {}", deletion.object.uid, deletion.detected_via),
        WatchEvent::PodSeen(pod) => format!("pod {} {:?}", pod.pod.uid, pod.phase),
        WatchEvent::PodDeleted(deletion) => format!("pod {} {}", deletion.object.uid, deletion.detected_via),
        WatchEvent::Host(state) => format!("host {}", state.instance),
        WatchEvent::GuardChanged => "guard".to_owned(),
        WatchEvent::Refused(text) => text,
    }
}

/// Jobs by this script, Pods that never change.
fn jobs_only(script: impl Fn(&Seen) -> Response<Body> + Send + Sync + 'static) -> Server {
    Server::new(move |seen| match (seen.path.ends_with("/jobs"), seen.is_watch()) {
        (true, _) => script(&seen),
        (false, true) => open(""),
        (false, false) => list(&[]),
    })
}

fn is_jobs(seen: &Seen) -> bool {
    seen.path.ends_with("/jobs")
}

#[tokio::test(start_paused = true)]
async fn runs_share_two_watches_and_each_receives_its_own_job() {
    let server = Server::new(|seen| match (seen.path.ends_with("/jobs"), seen.is_watch()) {
        (true, false) => list(&[job("a", 1, 0), job("b", 2, 0)]),
        (true, true) => open(&event("MODIFIED", &job("a", 11, 1))),
        (false, false) => list(&[]),
        (false, true) => open(
            &(event("ADDED", &pod("p", "a", 12, "Running"))
                + &event("DELETED", &pod("p", "a", 13, "Failed"))),
        ),
    });
    let cluster = server.in_process();
    let (mut a, mut b) = (follow(&cluster, "a"), follow(&cluster, "b"));
    let mut changes = Vec::new();
    while changes.last().map(String::as_str) != Some("pod p watch-deleted") {
        changes.push(next(&mut a).await);
    }
    assert!(changes.contains(&"job a active 1".to_owned()), "{changes:?}");
    assert!(changes.contains(&"pod p Failed".to_owned()), "{changes:?}");
    assert_eq!(next(&mut b).await, "job b active 0");
    assert_eq!(b.next().now_or_never(), None);
    // A later subscription receives the known state without another request.
    let mut late = follow(&cluster, "b");
    assert_eq!(next(&mut late).await, "job b active 0");
    assert_eq!(server.seen().len(), 4);
    for seen in server.seen() {
        assert!(seen.asks("labelSelector=app.kubernetes.io%2Fmanaged-by%3Dpaperclip"), "{seen:?}");
        assert!(!seen.is_watch() || seen.asks("timeoutSeconds=45"), "{seen:?}");
    }
    drop((a, b));
    assert_eq!(cluster.watches().namespaces(), ["n"]);
    drop(late);
    assert!(cluster.watches().namespaces().is_empty());
}

#[tokio::test(start_paused = true)]
async fn rules_29_and_30_a_list_precedes_a_watch_that_is_renewed_within_a_minute() {
    let server = jobs_only(|seen| if seen.is_watch() { open("") } else { list(&[job("a", 10, 1)]) });
    let cluster = server.in_process();
    let mut subscription = follow(&cluster, "a");
    assert_eq!(next(&mut subscription).await, "job a active 1");
    let seen: Vec<Seen> = server.seen().into_iter().filter(is_jobs).collect();
    assert!(!seen[0].is_watch());
    assert!(seen[0].query.split('&').all(|pair| !pair.starts_with("sendInitialEvents")), "{seen:?}");
    // The second watch sends nothing more, like one whose connection was lost without a close.
    assert!(timeout(Duration::from_secs(180), subscription.next()).await.is_err());
    let watches: Vec<Seen> =
        server.seen().into_iter().filter(|seen| is_jobs(seen) && seen.is_watch()).collect();
    assert!(watches.iter().all(|watch| watch.asks("timeoutSeconds=45")), "{watches:?}");
    assert!((3..=5).contains(&watches.len()), "{} watches in 3 minutes", watches.len());
}

#[tokio::test(start_paused = true)]
async fn rule_27_an_http_410_at_the_start_of_a_watch_makes_a_new_list() {
    let lists = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lists);
    let server = jobs_only(move |seen| {
        if !seen.is_watch() {
            let lists = counted.fetch_add(1, Ordering::SeqCst);
            return list(&[job("a", 10, u32::try_from(lists).unwrap())]);
        }
        if counted.load(Ordering::SeqCst) == 1 { json(410, &expired(410)) } else { open("") }
    });
    let cluster = server.in_process();
    let mut subscription = follow(&cluster, "a");
    assert_eq!(next(&mut subscription).await, "job a active 0");
    assert_eq!(next(&mut subscription).await, "job a active 1");
    assert_eq!(server.count(|seen| is_jobs(seen) && !seen.is_watch()), 2);
}

#[tokio::test(start_paused = true)]
async fn rule_27_a_410_within_a_watch_causes_a_new_list_and_missing_objects_are_deleted() {
    let lists = Arc::new(AtomicUsize::new(0));
    let server = jobs_only(move |seen| {
        if seen.is_watch() {
            return if lists.load(Ordering::SeqCst) == 1 {
                open(&event("ERROR", &expired(410)))
            } else {
                open("")
            };
        }
        if lists.fetch_add(1, Ordering::SeqCst) == 0 { list(&[job("a", 10, 1)]) } else { list(&[]) }
    });
    let cluster = server.in_process();
    let mut subscription = follow(&cluster, "a");
    assert_eq!(next(&mut subscription).await, "job a active 1");
    assert_eq!(next(&mut subscription).await, "job a relist-missing");
}

#[tokio::test(start_paused = true)]
async fn rule_28_watches_that_close_at_once_are_rate_limited() {
    let server = jobs_only(|seen| if seen.is_watch() { text(200, "") } else { list(&[job("a", 10, 1)]) });
    let cluster = server.in_process();
    let mut subscription = follow(&cluster, "a");
    assert_eq!(next(&mut subscription).await, "job a active 1");
    assert!(timeout(Duration::from_secs(30), subscription.next()).await.is_err());
    let watches = server.count(|seen| is_jobs(seen) && seen.is_watch());
    assert!((28..=32).contains(&watches), "{watches} watches in 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_server_is_watched_within_the_capped_backoff() {
    let down_until = Instant::now() + Duration::from_secs(60);
    let server = jobs_only(move |seen| match (Instant::now() < down_until, seen.is_watch()) {
        (true, _) => text(503, "down"),
        (false, true) => open(""),
        (false, false) => list(&[job("a", 10, 1)]),
    });
    let cluster = server.in_process();
    let mut subscription = follow(&cluster, "a");
    let change = timeout(Duration::from_secs(70), subscription.next()).await;
    assert!(matches!(change, Ok(WatchEvent::JobSeen(_))), "{change:?}");
    assert!(down_until.elapsed() <= Duration::from_millis(1_600), "{:?}", down_until.elapsed());
    let lists = server.count(|seen| is_jobs(seen) && !seen.is_watch());
    assert!(lists < 45, "{lists} lists in 60 s");
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_continues_from_its_last_resource_version() {
    let watches = Arc::new(AtomicUsize::new(0));
    let server = jobs_only(move |seen| match (seen.is_watch(), watches.load(Ordering::SeqCst)) {
        (false, _) => list(&[job("a", 10, 0)]),
        (true, 0) => {
            watches.fetch_add(1, Ordering::SeqCst);
            let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            pieces(vec![Ok(event("MODIFIED", &job("a", 11, 1)).into_bytes()), Err(broken)])
        }
        (true, _) if seen.asks("resourceVersion=11") => open(&event("MODIFIED", &job("a", 12, 2))),
        (true, _) => text(500, "another version was asked for"),
    });
    let cluster = server.in_process();
    let mut subscription = follow(&cluster, "a");
    let mut changes = Vec::new();
    while changes.last().map(String::as_str) != Some("job a active 2") {
        changes.push(next(&mut subscription).await);
    }
    assert_eq!(server.count(|seen| is_jobs(seen) && !seen.is_watch()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_watch_is_reported_to_its_followers() {
    let server = jobs_only(|_| failure(403, "Forbidden", "jobs.batch is forbidden: cannot list"));
    let cluster = server.in_process();
    let mut subscription = follow(&cluster, "a");
    let text = next(&mut subscription).await;
    assert!(text.contains("jobs in namespace n") && text.contains("grant list and watch on jobs"), "{text}");
    assert!(timeout(Duration::from_secs(30), subscription.next()).await.is_err(), "reported once");
}

#[tokio::test(start_paused = true)]
async fn the_watch_answers_for_the_list_only_where_it_proves_that_there_is_nothing() {
    let labelled = |uid: &str| {
        let mut job = job(uid, 1, 1);
        job["metadata"]["labels"] = json!({"paperclip.io/agent-id": "busy"});
        job
    };
    let is_away = Arc::new(AtomicUsize::new(0));
    let away = Arc::clone(&is_away);
    let cluster = Server::new(move |seen: Seen| match away.load(Ordering::Relaxed) {
        0 if seen.is_watch() => open(""),
        0 if seen.path.ends_with("/jobs") => list(&[labelled("a")]),
        0 => list(&[]),
        _ => failure(503, "ServiceUnavailable", "down"),
    })
    .in_process();
    let label = |value: &str| [Label { key: "paperclip.io/agent-id".into(), value: value.into() }];
    let watches = cluster.watches();
    assert!(!watches.has_no_job("n", &label("idle")).await, "nobody watches");
    let mut subscription = watches.subscribe();
    subscription.watch("n");
    assert!(watches.has_no_job("n", &label("idle")).await);
    assert!(!watches.has_no_job("n", &label("busy")).await);
    is_away.store(1, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert!(!watches.has_no_job("n", &label("idle")).await, "no answer for a minute");
}
