//! The scenario of a case: runs, their configs, their agents, and what people do meanwhile.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::entropy::Entropy;
use crate::grammar::Grammar;
use crate::script::{API_KEY, End, Script, TOKEN};

pub(crate) const NAMESPACE: &str = "agents";
/// The session that runs resume, if they resume one.
const OLD_SESSION: &str = "sess_old";

/// Everything in a case except its faults and delays.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub runs: Vec<RunPlan>,
}

/// One run.
#[derive(Debug, Clone)]
pub struct RunPlan {
    pub run_id: String,
    pub agent_id: String,
    /// The host that it is given to.
    pub host: usize,
    pub starts_at_ms: u64,
    pub config: Config,
    /// A Job of another task is not taken over.
    pub task_id: &'static str,
    pub resumes_session: bool,
    /// For how long after the start there is a Job that nobody can say the task of: an earlier run of the agent left it behind.
    pub orphan_ms: Option<u64>,
    /// Whether the agent gets a skill. All runs with it share its ConfigMap.
    pub has_skill: bool,
    /// By attempt.
    pub scripts: [Script; 2],
    pub cancels: Vec<Cancel>,
    /// When its host is asked to stop.
    pub stop_at_ms: Option<u64>,
}

/// What a config says, in seconds where it is a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    pub timeout_s: Option<u64>,
    pub cancel_grace_s: u64,
    pub queue_timeout_s: u64,
    pub retain_jobs: bool,
    pub waits_when_busy: bool,
    pub excludes_others: bool,
    pub retries_fresh: bool,
    pub reattaches: bool,
    /// How long an agent may run after it has reported its end, and how long while a task of it is open.
    pub result_grace_s: u64,
    pub background_grace_s: u64,
    /// How long an agent may print nothing.
    pub quiet_timeout_s: Option<u64>,
}

/// Somebody cancels a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel {
    pub at_ms: u64,
    pub way: CancelWay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelWay {
    /// The host is asked directly.
    Host,
    /// The run's status changes in Paperclip.
    Paperclip,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            timeout_s: None,
            cancel_grace_s: 3,
            queue_timeout_s: 600,
            retain_jobs: false,
            waits_when_busy: true,
            excludes_others: true,
            retries_fresh: true,
            reattaches: true,
            result_grace_s: 60,
            background_grace_s: 900,
            quiet_timeout_s: None,
        }
    }
}

impl Scenario {
    /// Returns one healthy run, and nobody interferes.
    pub fn calm(grammar: &Arc<Grammar>) -> Self {
        Scenario { runs: vec![RunPlan::new(0, Script::healthy(grammar))] }
    }

    pub fn draw(grammar: &Arc<Grammar>, entropy: &mut Entropy) -> Self {
        let count = *entropy.choose(&[1, 1, 1, 2, 1, 3, 1, 2]);
        let shares_agent = entropy.chance(192);
        let mut runs: Vec<RunPlan> =
            (0..count).map(|index| RunPlan::draw(grammar, index, shares_agent, entropy)).collect();
        if shares_agent {
            // The scope is the agent's, not the run's.
            let excludes_others = runs[0].config.excludes_others;
            runs.iter_mut().for_each(|run| run.config.excludes_others = excludes_others);
        }
        Scenario { runs }
    }
}

impl RunPlan {
    fn new(index: usize, script: Script) -> Self {
        RunPlan {
            run_id: format!("0b7c2f6e-1111-4222-8333-44445555000{index}"),
            agent_id: "nova".to_owned(),
            host: 0,
            starts_at_ms: 0,
            config: Config::default(),
            task_id: "T-1",
            resumes_session: false,
            orphan_ms: None,
            has_skill: false,
            scripts: [script.clone(), script],
            cancels: Vec::new(),
            stop_at_ms: None,
        }
    }

    fn draw(grammar: &Arc<Grammar>, index: usize, shares_agent: bool, entropy: &mut Entropy) -> Self {
        let mut plan = RunPlan::new(index, Script::draw(grammar, entropy));
        if !shares_agent {
            plan.agent_id = format!("nova-{index}");
        }
        plan.host = entropy.below(2) as usize;
        plan.starts_at_ms = if index == 0 { 0 } else { entropy.skewed(0, 20_000) };
        plan.resumes_session = entropy.chance(64);
        if plan.resumes_session && entropy.chance(160) {
            plan.scripts[0] = Script::without_session(grammar);
        }
        plan.config = Config {
            timeout_s: *entropy.choose(&[None, Some(30), Some(3), Some(600)]),
            cancel_grace_s: *entropy.choose(&[3, 0, 20]),
            queue_timeout_s: *entropy.choose(&[600, 20]),
            retain_jobs: entropy.chance(32),
            waits_when_busy: !entropy.chance(48),
            excludes_others: !entropy.chance(32),
            retries_fresh: !entropy.chance(24),
            reattaches: !entropy.chance(24),
            ..Config::default()
        };
        if entropy.chance(64) {
            plan.task_id = "T-2";
        }
        for _ in 0..*entropy.choose(&[0, 0, 0, 1, 0, 0, 1, 2]) {
            let way = *entropy.choose(&[CancelWay::Host, CancelWay::Paperclip]);
            plan.cancels.push(Cancel { at_ms: plan.starts_at_ms + entropy.skewed(0, 90_000), way });
        }
        if entropy.chance(24) {
            plan.stop_at_ms = Some(plan.starts_at_ms + entropy.skewed(0, 20_000));
        }
        // Drawn apart, so that seeds that were recorded before keep their meaning.
        plan.draw_graces(&mut entropy.branch("graces"));
        plan.has_skill = entropy.branch("skill").chance(96);
        let mut orphan = entropy.branch("orphan");
        plan.orphan_ms = orphan.chance(24).then(|| *orphan.choose(&[5_000, 60_000, 900_000]));
        plan
    }

    fn draw_graces(&mut self, entropy: &mut Entropy) {
        self.config.result_grace_s = *entropy.choose(&[60, 5, 60, 600, 0]);
        self.config.background_grace_s = *entropy.choose(&[900, 60, 200]);
        self.config.quiet_timeout_s = *entropy.choose(&[None, None, None, Some(60), Some(350)]);
        // Somebody cancels an agent that stays, at about the time at which it is stopped.
        if self.scripts[0].end == End::Hangs && entropy.chance(96) {
            let grace_s = match self.config.quiet_timeout_s {
                Some(quiet_timeout_s) if !self.scripts[0].has_result() => quiet_timeout_s,
                Some(_) | None => self.config.result_grace_s,
            };
            let stays_ms = self.scripts[0].printing_ms() + grace_s * 1_000;
            let at_ms = self.starts_at_ms + stays_ms + entropy.skewed(0, 20_000);
            self.cancels.push(Cancel { at_ms, way: CancelWay::Host });
        }
    }

    /// Paperclip's execution context.
    pub(crate) fn context(&self) -> Value {
        let session = if self.resumes_session { Some(OLD_SESSION) } else { None };
        let runtime = session
            .map_or_else(|| json!({}), |id| json!({"sessionId": id, "sessionParams": {"sessionId": id}}));
        let config = &self.config;
        let grammar = &self.scripts[0].grammar;
        let mut context = json!({
            "runId": self.run_id,
            "agent": {"id": self.agent_id, "companyId": "acme", "name": "Nova", "adapterType": grammar.adapter_type},
            "runtime": runtime,
            "config": {
                "image": "registry.example/agent:1",
                "promptTemplate": "work on {{taskId}}",
                "timeoutSec": config.timeout_s.unwrap_or(0),
                "cancelGraceSec": config.cancel_grace_s,
                "queueTimeoutSec": config.queue_timeout_s,
                "retainJobs": config.retain_jobs,
                "whenBusy": if config.waits_when_busy { "wait" } else { "fail" },
                "concurrencyScope": if config.excludes_others { "agent" } else { "none" },
                "retryFreshSession": config.retries_fresh,
                "reattachOrphanedJobs": config.reattaches,
                "resultGraceSec": config.result_grace_s,
                "backgroundGraceSec": config.background_grace_s,
                "quietTimeoutSec": config.quiet_timeout_s.unwrap_or(0),
                "env": {"VENDOR_KEY": API_KEY},
            },
            "context": {"taskId": self.task_id},
            "authToken": TOKEN,
        });
        for (key, value) in &grammar.config {
            context["config"][key] = value.clone();
        }
        context
    }

    /// Runs with the same key exclude one another.
    pub(crate) fn guard_key(&self) -> Option<&str> {
        self.config.excludes_others.then_some(self.agent_id.as_str())
    }
}
