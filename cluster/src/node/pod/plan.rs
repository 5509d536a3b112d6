//! Decides the next actions for a Pod's containers, without I/O: the order of starting and of ending.

use tokio::time::Instant;

use super::container::{Container, Role, State};

/// Why a Pod is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its main containers are over; only sidecars are left.
    MainsEnded,
    Deleted,
    DeadlineExceeded,
    /// The node shuts down. It reports nothing.
    NodeDown,
}

/// The Pod is to end: until `by` on its own, then it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) cause: Cause,
    pub(super) by: Instant,
}

/// A step, with the index of the container it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start(usize),
    /// Ask it to end.
    Terminate(usize),
    Kill(usize),
    /// The main containers are over: the sidecars are to end as well.
    Close,
    /// Nothing runs any more, and nothing will.
    Finish,
}

/// The actions for now, and when to plan again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) actions: Vec<Action>,
    pub(super) wake: Option<Instant>,
}

pub(super) fn plan(containers: &[Container], stop: Option<Stop>, now: Instant) -> Plan {
    match stop {
        Some(stop) => plan_end(containers, stop, now),
        None => plan_run(containers, now),
    }
}

fn plan_run(containers: &[Container], now: Instant) -> Plan {
    let mut plan = Plan::default();
    let first_main = containers.iter().filter(|container| container.role != Role::Main).count();
    for (index, container) in containers[..first_main].iter().enumerate() {
        plan.start_if_due(index, container, now);
        let is_passed = match container.role {
            Role::Init => container.has_succeeded(),
            Role::Sidecar | Role::Main => container.attempts > 0,
        };
        if container.role == Role::Init && container.has_failed() {
            return end_of_run(containers);
        }
        if !is_passed {
            return plan;
        }
    }
    let mains = &containers[first_main..];
    if mains.iter().all(|container| container.state == State::Ended) {
        return end_of_run(containers);
    }
    for (offset, container) in mains.iter().enumerate() {
        plan.start_if_due(first_main + offset, container, now);
    }
    plan
}

fn end_of_run(containers: &[Container]) -> Plan {
    let is_anything_running = containers.iter().any(Container::is_running);
    let action = if is_anything_running { Action::Close } else { Action::Finish };
    Plan { actions: vec![action], wake: None }
}

/// Sidecars end last and in reverse order, so that they serve the others to the end.
fn plan_end(containers: &[Container], stop: Stop, now: Instant) -> Plan {
    let mut plan = Plan::default();
    let is_last_running = |index: usize| !containers[index + 1..].iter().any(Container::is_running);
    for (index, container) in containers.iter().enumerate() {
        let State::Running(running) = &container.state else { continue };
        let is_its_turn = container.role != Role::Sidecar || is_last_running(index);
        if now >= stop.by {
            if !running.is_killed {
                plan.actions.push(Action::Kill(index));
            }
        } else if is_its_turn && !running.is_signalled {
            plan.actions.push(Action::Terminate(index));
        }
    }
    if containers.iter().any(Container::is_running) {
        plan.wake = (now < stop.by).then_some(stop.by);
    } else {
        plan.actions.push(Action::Finish);
    }
    plan
}

impl Plan {
    fn start_if_due(&mut self, index: usize, container: &Container, now: Instant) {
        match container.state {
            State::Waiting => self.actions.push(Action::Start(index)),
            State::BackOff { until, .. } if until <= now => self.actions.push(Action::Start(index)),
            State::BackOff { until, .. } => {
                self.wake = Some(self.wake.map_or(until, |wake| wake.min(until)));
            }
            State::Blocked { .. } | State::Running(_) | State::Ended => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::super::container::tests::{BASE, containers, end};
    use super::*;

    const INIT: usize = 0;
    const SIDECAR: usize = 1;
    const ONE: usize = 2;
    const TWO: usize = 3;

    fn start(containers: &mut [Container], index: usize, now: Instant) {
        containers[index].started("id".to_owned(), Timestamp::UNIX_EPOCH, now);
    }

    fn finish(containers: &mut [Container], index: usize, code: i32, now: Instant) {
        containers[index].ended(end(code), now, BASE, false);
    }

    fn actions(containers: &[Container], stop: Option<Stop>, now: Instant) -> Vec<Action> {
        plan(containers, stop, now).actions
    }

    #[test]
    fn containers_start_in_their_order() {
        let now = Instant::now();
        let mut pod = containers("Never");
        assert_eq!(actions(&pod, None, now), [Action::Start(INIT)]);
        start(&mut pod, INIT, now);
        assert_eq!(actions(&pod, None, now), []);
        finish(&mut pod, INIT, 0, now);
        assert_eq!(actions(&pod, None, now), [Action::Start(SIDECAR)]);
        start(&mut pod, SIDECAR, now);
        assert_eq!(actions(&pod, None, now), [Action::Start(ONE), Action::Start(TWO)]);
        for main in [ONE, TWO] {
            start(&mut pod, main, now);
        }
        finish(&mut pod, ONE, 0, now);
        assert_eq!(actions(&pod, None, now), []);
        finish(&mut pod, SIDECAR, 1, now);
        assert_eq!(actions(&pod, None, now), [Action::Start(SIDECAR)], "a sidecar is always restarted");
        start(&mut pod, SIDECAR, now);
        finish(&mut pod, TWO, 3, now);
        assert_eq!(actions(&pod, None, now), [Action::Close]);
        pod[SIDECAR].ended(end(0), now, BASE, true);
        assert_eq!(actions(&pod, None, now), [Action::Finish]);
    }

    #[test]
    fn a_failed_init_container_ends_the_pod() {
        let now = Instant::now();
        let mut pod = containers("Never");
        start(&mut pod, INIT, now);
        finish(&mut pod, INIT, 1, now);
        assert_eq!(actions(&pod, None, now), [Action::Finish]);
    }

    #[test]
    fn a_failed_container_waits_for_its_restart() {
        let now = Instant::now();
        let mut pod = containers("OnFailure");
        for _ in 0..2 {
            start(&mut pod, INIT, now);
            finish(&mut pod, INIT, 1, now);
        }
        assert_eq!(plan(&pod, None, now), Plan { actions: vec![], wake: Some(now + BASE) });
        assert_eq!(actions(&pod, None, now + BASE), [Action::Start(INIT)]);
    }

    #[test]
    fn a_pod_ends_gently_and_then_by_force() {
        let now = Instant::now();
        let mut pod = containers("Never");
        start(&mut pod, INIT, now);
        finish(&mut pod, INIT, 0, now);
        for index in [SIDECAR, ONE, TWO] {
            start(&mut pod, index, now);
        }
        let by = now + Duration::from_secs(3);
        let stop = Some(Stop { cause: Cause::Deleted, by });
        let terminations = vec![Action::Terminate(ONE), Action::Terminate(TWO)];
        assert_eq!(plan(&pod, stop, now), Plan { actions: terminations, wake: Some(by) });
        for main in [ONE, TWO] {
            let State::Running(running) = &mut pod[main].state else { panic!("not running") };
            running.is_signalled = true;
        }
        assert_eq!(actions(&pod, stop, now), []);
        for main in [ONE, TWO] {
            pod[main].ended(end(143), now, BASE, true);
        }
        assert_eq!(actions(&pod, stop, now), [Action::Terminate(SIDECAR)]);
        assert_eq!(actions(&pod, stop, by), [Action::Kill(SIDECAR)]);
        pod[SIDECAR].ended(end(137), now, BASE, true);
        assert_eq!(actions(&pod, stop, by), [Action::Finish]);
    }

    #[test]
    fn a_pod_that_has_not_started_ends_at_once() {
        let now = Instant::now();
        let stop = Stop { cause: Cause::Deleted, by: now + BASE };
        assert_eq!(actions(&containers("Never"), Some(stop), now), [Action::Finish]);
    }
}
