//! One container of a Pod, and its state transitions.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod};
use tokio::time::Instant;

/// The longest wait before a container is started again.
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// A container that ran for so long has recovered: its next failure counts as its first.
const RECOVERED_AFTER: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs before the main containers, one after another.
    Init,
    /// An init container that is always restarted: it runs beside the main containers and ends after them.
    Sidecar,
    Main,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be started when its turn comes.
    Waiting,
    /// Can't be started until something outside changes.
    Blocked {
        reason: &'static str,
        message: String,
    },
    /// Has ended and is to be started again.
    BackOff {
        until: Instant,
        wait: Duration,
    },
    Running(Running),
    /// Over for good.
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) since: Instant,
    pub(super) started_at: Timestamp,
    /// It was asked to end.
    pub(super) is_signalled: bool,
    /// It was killed.
    pub(super) is_killed: bool,
}

/// How an instance of a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) exit_code: i32,
    pub(super) reason: &'static str,
    pub(super) message: Option<String>,
    /// The epoch for one that never ran, as the kubelet has it.
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Timestamp,
    pub(super) id: Option<String>,
}

/// A container and its history.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) spec: ContainerSpec,
    pub(super) role: Role,
    pub(super) policy: RestartPolicy,
    pub(super) state: State,
    /// A first event about it was written.
    pub(super) is_announced: bool,
    /// How often it was started.
    pub(super) attempts: u32,
    /// The `containerID` of the latest start.
    pub(super) id: Option<String>,
    /// The end of the latest instance that has ended.
    pub(super) latest: Option<End>,
    /// The end of the instance before it.
    pub(super) before: Option<End>,
    ends_in_a_row: u32,
}

impl Container {
    /// The containers of a Pod: first the init containers, in order, then the main ones.
    pub(super) fn all(pod: &Pod) -> Vec<Container> {
        let Some(spec) = &pod.spec else { return Vec::new() };
        let policy = match spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            Some(_) | None => RestartPolicy::Always,
        };
        let inits = spec.init_containers.iter().flatten().map(|container| {
            let is_sidecar = container.restart_policy.as_deref() == Some("Always");
            match (is_sidecar, policy) {
                (true, _) => Container::new(container, Role::Sidecar, RestartPolicy::Always),
                (false, RestartPolicy::Never) => Container::new(container, Role::Init, RestartPolicy::Never),
                // One that has succeeded is not run again.
                (false, RestartPolicy::Always | RestartPolicy::OnFailure) => {
                    Container::new(container, Role::Init, RestartPolicy::OnFailure)
                }
            }
        });
        let mains = spec.containers.iter().map(|container| Container::new(container, Role::Main, policy));
        inits.chain(mains).collect()
    }

    fn new(spec: &ContainerSpec, role: Role, policy: RestartPolicy) -> Container {
        Container {
            spec: spec.clone(),
            role,
            policy,
            state: State::Waiting,
            is_announced: false,
            attempts: 0,
            id: None,
            latest: None,
            before: None,
            ends_in_a_row: 0,
        }
    }

    pub(super) fn started(&mut self, id: String, started_at: Timestamp, now: Instant) {
        self.attempts += 1;
        self.id = Some(id);
        self.state =
            State::Running(Running { since: now, started_at, is_signalled: false, is_killed: false });
    }

    /// An instance has ended. It is started again if its policy says so and the Pod is not to end.
    pub(super) fn ended(&mut self, end: End, now: Instant, first_backoff: Duration, is_pod_ending: bool) {
        if let State::Running(running) = &self.state
            && now.duration_since(running.since) >= RECOVERED_AFTER
        {
            self.ends_in_a_row = 0;
        }
        let is_restarted = match self.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => end.exit_code != 0,
            RestartPolicy::Never => false,
        };
        self.before = self.latest.replace(end);
        if !is_restarted || is_pod_ending {
            self.state = State::Ended;
            return;
        }
        // The first restart is immediate, as the kubelet has it.
        let wait = match self.ends_in_a_row {
            0 => Duration::ZERO,
            again => first_backoff.saturating_mul(2_u32.saturating_pow(again - 1)).min(MAX_BACKOFF),
        };
        self.ends_in_a_row += 1;
        self.state = State::BackOff { until: now + wait, wait };
    }

    /// The attempt that counts as the current one; how often it was *re*started.
    pub(super) fn restarts(&self) -> u32 {
        self.attempts.saturating_sub(1)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    pub(super) fn has_succeeded(&self) -> bool {
        self.state == State::Ended && self.latest.as_ref().is_some_and(|end| end.exit_code == 0)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state == State::Ended && !self.has_succeeded()
    }

    /// `spec.containers{name}`: the part of the Pod that events about it name.
    pub(super) fn field_path(&self) -> String {
        let list = match self.role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::Main => "containers",
        };
        format!("spec.{list}{{{}}}", self.spec.name)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::node::pod) const BASE: Duration = Duration::from_secs(10);

    pub(in crate::node::pod) fn containers(policy: &str) -> Vec<Container> {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "restartPolicy": policy,
            "initContainers": [{"name": "init"}, {"name": "sidecar", "restartPolicy": "Always"}],
            "containers": [{"name": "one"}, {"name": "two"}],
        }}))
        .unwrap();
        Container::all(&pod)
    }

    pub(in crate::node::pod) fn end(exit_code: i32) -> End {
        End {
            exit_code,
            reason: if exit_code == 0 { "Completed" } else { "Error" },
            message: None,
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
            id: Some("id".to_owned()),
        }
    }

    #[test]
    fn what_is_started_again() {
        for (policy, index, code, is_restarted) in [
            ("Never", 2, 1, false),
            ("OnFailure", 2, 1, true),
            ("OnFailure", 2, 0, false),
            ("Always", 2, 0, true),
            ("Always", 0, 0, false),
            ("Always", 0, 1, true),
            ("Never", 1, 0, true),
        ] {
            let mut container = containers(policy)[index].clone();
            container.started("id".to_owned(), Timestamp::UNIX_EPOCH, Instant::now());
            container.ended(end(code), Instant::now(), BASE, false);
            let name = &container.spec.name;
            assert_eq!(
                matches!(container.state, State::BackOff { .. }),
                is_restarted,
                "{policy} {name} {code}"
            );
            container.ended(end(code), Instant::now(), BASE, true);
            assert_eq!(container.state, State::Ended);
        }
    }

    #[test]
    fn the_wait_grows_until_the_container_recovers() {
        let mut container = containers("Always")[2].clone();
        let mut waits = Vec::new();
        let mut run = |container: &mut Container, ran: Duration| {
            let now = Instant::now();
            container.started("id".to_owned(), Timestamp::UNIX_EPOCH, now);
            container.ended(end(1), now + ran, BASE, false);
            let State::BackOff { wait, .. } = container.state else { panic!("{:?}", container.state) };
            waits.push(wait.as_secs());
        };
        for _ in 0..8 {
            run(&mut container, Duration::from_secs(1));
        }
        run(&mut container, RECOVERED_AFTER);
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300, 0]);
        assert_eq!(container.restarts(), 8);
    }
}
