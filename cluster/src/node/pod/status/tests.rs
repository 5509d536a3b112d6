use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::container::tests::{BASE, containers, end};
use super::*;

fn facts() -> Facts {
    Facts { start_time: Timestamp::UNIX_EPOCH, is_prepared: true, ending: None, is_over: false }
}

fn look(containers: &[Container], facts: &Facts) -> Value {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": []},
    }))
    .unwrap();
    serde_json::to_value(status(&pod, containers, facts, None, Timestamp::UNIX_EPOCH)).unwrap()
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
}

#[test]
fn phases_follow_the_containers() {
    let mut pod = containers("Never");
    let now = Instant::now();
    let start = |container: &mut Container| container.started("id".to_owned(), Timestamp::UNIX_EPOCH, now);

    let pending = look(&pod, &Facts { is_prepared: false, ..facts() });
    assert_eq!(pending["phase"], "Pending");
    assert_eq!(pending["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    assert_eq!(pending["podIP"], Value::Null);
    assert_eq!(condition(&pending, "PodScheduled")["status"], "True");
    assert_eq!(
        condition(&pending, "Initialized")["message"],
        "containers with incomplete status: [init sidecar]"
    );

    start(&mut pod[0]);
    assert_eq!(look(&pod, &facts())["phase"], "Pending");
    pod[0].ended(end(0), now, BASE, false);
    for container in &mut pod[1..] {
        start(container);
    }
    let running = look(&pod, &facts());
    assert_eq!(running["phase"], "Running");
    assert_eq!(condition(&running, "Ready")["status"], "True");
    assert_eq!(running["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");

    for container in &mut pod[1..] {
        container.ended(end(0), now, BASE, true);
    }
    assert_eq!(look(&pod, &facts())["phase"], "Running", "not over until that is said");
    let over = Facts { is_over: true, ..facts() };
    let succeeded = look(&pod, &over);
    assert_eq!(succeeded["phase"], "Succeeded");
    assert_eq!(condition(&succeeded, "Ready")["reason"], "PodCompleted");
    pod[3].latest = Some(end(3));
    let failed = look(&pod, &over);
    assert_eq!(failed["phase"], "Failed");
    assert_eq!(condition(&failed, "ContainersReady")["reason"], "PodFailed");
    let ending = Some(Ending { reason: "DeadlineExceeded", message: "too long" });
    assert_eq!(look(&pod, &Facts { ending, ..over })["reason"], "DeadlineExceeded");
}

#[test]
fn a_container_that_waits_says_why_and_how_it_ended_before() {
    let mut pod = containers("Always");
    let now = Instant::now();
    for _ in 0..2 {
        pod[2].started("id".to_owned(), Timestamp::UNIX_EPOCH, now);
        pod[2].ended(end(3), now, BASE, false);
    }
    pod[3].state = State::Blocked { reason: "CreateContainerConfigError", message: "no secret".to_owned() };
    let status = look(&pod, &facts());
    let [one, two] = [&status["containerStatuses"][0], &status["containerStatuses"][1]];
    assert_eq!(
        one["state"]["waiting"],
        json!({"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container=one pod=p_n(u)"})
    );
    assert_eq!((&one["lastState"]["terminated"]["exitCode"], &one["restartCount"]), (&json!(3), &json!(1)));
    assert_eq!(
        two["state"]["waiting"],
        json!({"reason": "CreateContainerConfigError", "message": "no secret"})
    );
}

#[test]
fn conditions_of_others_and_times_of_standing_ones_stay() {
    let pod = Pod::default();
    let mut old = status(&pod, &[], &facts(), None, Timestamp::UNIX_EPOCH);
    let foreign = PodCondition { type_: "DisruptionTarget".to_owned(), ..PodCondition::default() };
    old.conditions.as_mut().unwrap().push(foreign);
    let later: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(status(&pod, &[], &facts(), Some(&old), later), old);
}
