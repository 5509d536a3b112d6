//! A Pod as the server stores it, and the agent in it.

use paperclip_contract::types::{
    Condition, ContainerRole, ContainerState, ContainerStatus, ContainerTerminated, ContainerWaiting,
    ObjectRef, PodPhase, PodSnapshot,
};

use super::container_log::ContainerLog;
use crate::script::Script;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Unscheduled,
    /// On a node: image, mounts, container.
    Starting,
    Running,
    /// The agent's container has ended.
    Ended,
    Removed,
}

/// A Pod with one agent.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) object: ObjectRef,
    pub(crate) job_uid: String,
    pub(crate) stage: Stage,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) deleting_since_ms: Option<u64>,
    pub(crate) created_ms: u64,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) is_gated: bool,
    /// Why the container does not start.
    pub(crate) waiting: Option<(&'static str, &'static str)>,
    pub(crate) started_ms: Option<u64>,
    pub(crate) ended: Option<ContainerTerminated>,
    pub(crate) has_sidecar: bool,
    /// Its node is lost: its state is no longer reported, and its log cannot be read.
    pub(crate) is_lost: bool,
    /// The end was the kubelet's or the cluster's doing, not the agent's.
    pub(crate) was_killed: bool,
    /// Its Job was suspended while it ran.
    pub(crate) is_suspended: bool,
    pub(crate) log: ContainerLog,
    pub(crate) script: Script,
    pub(crate) next_burst: usize,
    /// How often its container was restarted, and when it was last.
    pub(crate) restarts: u32,
    pub(crate) restarted_ms: Option<u64>,
    /// SIGTERM was sent.
    pub(crate) is_termed: bool,
}

impl Pod {
    pub(crate) fn new(object: ObjectRef, job_uid: String, script: Script, now_ms: u64) -> Self {
        Pod {
            object,
            job_uid,
            stage: Stage::Unscheduled,
            reason: None,
            message: None,
            deleting_since_ms: None,
            created_ms: now_ms,
            conditions: Vec::new(),
            is_gated: false,
            waiting: None,
            started_ms: None,
            ended: None,
            has_sidecar: false,
            is_lost: false,
            was_killed: false,
            is_suspended: false,
            log: ContainerLog::default(),
            script,
            next_burst: 0,
            restarts: 0,
            restarted_ms: None,
            is_termed: false,
        }
    }

    pub(crate) fn phase(&self) -> PodPhase {
        match self.stage {
            Stage::Unscheduled | Stage::Starting if self.reason.is_some() => PodPhase::Failed,
            Stage::Unscheduled | Stage::Starting => PodPhase::Pending,
            Stage::Running => PodPhase::Running,
            Stage::Ended | Stage::Removed => {
                let code = self.ended.as_ref().map(|ended| ended.exit_code);
                match code {
                    // The pod runs for as long as any of its containers does.
                    Some(_)
                        if self.has_sidecar && self.deleting_since_ms.is_none() && self.reason.is_none() =>
                    {
                        PodPhase::Running
                    }
                    Some(0) if self.reason.is_none() => PodPhase::Succeeded,
                    Some(_) | None => PodPhase::Failed,
                }
            }
        }
    }

    pub(crate) fn snapshot(&self) -> PodSnapshot {
        let scheduled = self.stage > Stage::Unscheduled;
        PodSnapshot {
            pod: self.object.clone(),
            job_uid: self.job_uid.clone(),
            phase: self.phase(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            is_deleting: self.deleting_since_ms.is_some(),
            node: scheduled.then(|| "node-a".to_owned()),
            created_at_ms: Some(self.created_ms / 1_000 * 1_000),
            started_at_ms: self.started_ms.map(|at| at / 1_000 * 1_000),
            conditions: self.conditions.clone(),
            is_gated: self.is_gated,
            containers: self.containers(),
        }
    }

    fn containers(&self) -> Vec<ContainerStatus> {
        let agent = ContainerStatus {
            name: self.script.grammar.container.clone(),
            role: ContainerRole::Main,
            state: self.agent_state(),
            restart_count: self.restarts,
        };
        let sidecar = self.has_sidecar.then(|| ContainerStatus {
            name: "proxy".to_owned(),
            role: ContainerRole::Main,
            state: match self.stage {
                Stage::Unscheduled | Stage::Starting => ContainerState::Unknown,
                Stage::Running | Stage::Ended | Stage::Removed => ContainerState::Running(self.started_ms),
            },
            restart_count: 0,
        });
        std::iter::once(agent).chain(sidecar).collect()
    }

    fn agent_state(&self) -> ContainerState {
        match (&self.ended, self.stage) {
            (Some(ended), _) => ContainerState::Terminated(ended.clone()),
            (None, Stage::Running) => {
                let started_ms = self.restarted_ms.or(self.started_ms);
                ContainerState::Running(started_ms.map(|at| at / 1_000 * 1_000))
            }
            (None, Stage::Starting) => ContainerState::Waiting(match self.waiting {
                Some((reason, message)) => {
                    ContainerWaiting { reason: Some(reason.to_owned()), message: Some(message.to_owned()) }
                }
                None => ContainerWaiting { reason: Some("ContainerCreating".to_owned()), message: None },
            }),
            // Evicted before it was seen: the status is lost with the kubelet's memory.
            (None, Stage::Unscheduled | Stage::Ended | Stage::Removed) => ContainerState::Unknown,
        }
    }

    pub(crate) fn set_condition(&mut self, kind: &str, is_true: bool, reason: &str, message: &str) {
        self.conditions.retain(|condition| condition.kind != kind);
        self.conditions.push(Condition {
            kind: kind.to_owned(),
            is_true,
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
            at_ms: None,
        });
    }
}
