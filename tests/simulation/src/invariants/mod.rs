//! The invariants, phrased from the world's side (S1–S11, L1–L6 of `docs/simulation.md`).
//!
//! This file has those that hold after each step and at the end; `output` has those of shown logs, `effects` those of changes to the
//! world, and `results` those of results.

mod effects;
mod output;
mod results;

use memchr::memmem;
use paperclip_engine::Guest as _;
use paperclip_engine::time::Timestamp;

use crate::cluster::{Job, Pod, Stage};
use crate::fault::Fault;
use crate::script::{API_KEY, TOKEN};
use crate::world::{EPOCH_MS, HEALING_MS, World};

pub(crate) use effects::{
    acknowledged_cancel_is_durable, deletion_is_justified, effect_has_durable_cause, logs_wait_for_the_sink,
    one_stream_a_container, shown_record_survives_the_process,
};
pub(crate) use output::{Shown, emitted_gap, emitted_line, emitted_stderr};
pub(crate) use results::result;

/// An invariant that was violated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Such as `S1`.
    pub rule: &'static str,
    pub text: String,
}

/// How long the end of a cancelled run may take beyond the agent's grace, in ms (L2): until the cancel is repeated after its host was
/// lost, and until the pod is given up.
const CANCEL_SLACK_MS: u64 = 50_000;
/// How long a fault has effects, in ms: an answer that never comes, and the longest wait before the next try.
const FAULT_TAIL_MS: u64 = 60_000;
/// How long it takes until a silent stream of a log is reopened, in ms.
const SILENT_LOG_MS: u64 = 5 * 60_000;
/// How long a case may take after its healing and the last cancel, in ms (L1).
const END_MS: u64 = 15 * 60_000;

/// S9.
pub(crate) fn no_secret(world: &mut World, place: &str, text: &str) {
    for canary in [TOKEN, API_KEY] {
        if memmem::find(text.as_bytes(), canary.as_bytes()).is_some() {
            world.violate("S9", format!("{place} holds {canary}"));
        }
    }
}

// ---------------------------------------------------------------------- after each step

pub(crate) fn after_step(world: &mut World) {
    invariant_one_live_job_a_guard_key(world);
    invariant_timers_and_limits_are_kept(world);
    invariant_a_cancelled_run_ends_soon(world);
    invariant_a_reported_run_ends_soon(world);
    invariant_the_case_ends(world);
}

/// S1.
fn invariant_one_live_job_a_guard_key(world: &mut World) {
    let mut live: Vec<(&str, &str)> = Vec::new();
    for job in world.cluster.jobs.values().filter(|job| world.cluster.is_live(job)) {
        let Some(run) = world.run_of_job(&job.object.uid) else { continue };
        let Some(key) = world.runs[run].plan.guard_key() else { continue };
        if let Some((_, other)) = live.iter().find(|(known, _)| *known == key) {
            let text = format!("2 live Jobs of agent {key}: {other} and {}", job.object.uid);
            return world.violate("S1", text);
        }
        live.push((key, &job.object.uid));
    }
}

/// S5, S10 and T1, as far as they show at the contract.
fn invariant_timers_and_limits_are_kept(world: &mut World) {
    let broken = world.processes.iter().find_map(|process| process.notes.borrow_mut().broken.take());
    if let Some(text) = broken {
        let rule = ["S5", "S10", "T1"].into_iter().find(|rule| text.starts_with(rule)).unwrap_or("S10");
        world.violate(rule, text);
    }
}

/// L1: every run has its result by then: the config's times are minutes, and an operator has cancelled what hangs.
fn invariant_the_case_ends(world: &mut World) {
    if world.now_ms < EPOCH_MS + HEALING_MS + END_MS {
        return;
    }
    if let Some(run) = world.runs.iter().position(|run| !run.is_closed) {
        world.violate("L1", format!("run {run} has not ended"));
    }
}

/// L2: counted from the cancel, from the last fault, or since a host has the run again.
fn invariant_a_cancelled_run_ends_soon(world: &mut World) {
    for run in 0..world.runs.len() {
        let truth = &world.runs[run];
        let Some(cancelled_at_ms) = truth.cancelled_at_ms.filter(|_| truth.results.is_empty()) else {
            continue;
        };
        let Some(process) = truth.process.filter(|_| !truth.is_closed) else { continue };
        let grace_ms = truth.plan.config.cancel_grace_s * 1_000;
        let since_ms = cancelled_at_ms.max(world.processes[process].since_ms);
        let from_ms = if world.swarm.struck().is_empty() {
            since_ms
        } else {
            since_ms.max(world.last_fault_ms) + FAULT_TAIL_MS
        };
        if world.now_ms > from_ms + grace_ms + CANCEL_SLACK_MS {
            let text =
                format!("no result {} ms after the cancel of run {run}", world.now_ms - cancelled_at_ms);
            world.violate("L2", text);
        }
    }
}

/// L6: a run whose agent has reported its end has its result soon after its grace, although the agent keeps running. Counted from the
/// agent's last event, from the last fault, or since a host has the run again.
fn invariant_a_reported_run_ends_soon(world: &mut World) {
    for run in 0..world.runs.len() {
        let truth = &world.runs[run];
        let Some(process) = truth.process.filter(|_| truth.results.is_empty() && !truth.is_closed) else {
            continue;
        };
        let Some(pod) = pod_after_report(world, run) else { continue };
        let since_ms = pod.log.last_event_ms.unwrap_or_default().max(world.processes[process].since_ms);
        let from_ms = if world.swarm.struck().is_empty() {
            since_ms
        } else {
            since_ms.max(world.last_fault_ms) + FAULT_TAIL_MS + SILENT_LOG_MS
        };
        let grace_ms = effects::ended_grace_ms(world, run, pod) + truth.plan.config.cancel_grace_s * 1_000;
        if world.now_ms > from_ms + grace_ms + CANCEL_SLACK_MS {
            let text = format!("no result {} ms after the last event of run {run}", world.now_ms - since_ms);
            world.violate("L6", text);
        }
    }
}

/// The pod of a run whose agent runs and has reported its end.
fn pod_after_report(world: &World, run: usize) -> Option<&Pod> {
    let run_id = &world.runs[run].plan.run_id;
    let mut running =
        world.cluster.pods.values().filter(|pod| pod.stage == Stage::Running && pod.log.reports > 0);
    running.find(|pod| world.cluster.jobs.get(&pod.job_uid).is_some_and(|job| job.run_id() == Some(run_id)))
}

// ---------------------------------------------------------------------- at the end

pub(crate) fn at_the_end(world: &mut World) {
    if let Some(run) = world.runs.iter().position(|run| !run.is_closed) {
        return world.violate("L1", format!("nothing is left to happen, and run {run} has not ended"));
    }
    invariant_nothing_is_left(world);
    invariant_replay_is_identical(world);
    let journal_bytes: u64 = world.runs.iter().map(|run| run.disk.bytes()).sum();
    let printed: usize =
        world.cluster.pods.values().flat_map(|pod| pod.log.lines.iter().map(String::len)).sum();
    if journal_bytes > 4_000_000 + 8 * printed as u64 {
        world.violate("S10", format!("{journal_bytes} bytes of journal for {printed} bytes of output"));
    }
}

/// L3: whoever has ended a run has deleted its Job, also if its plugin failed.
pub(crate) fn ended_run_has_no_live_job(world: &mut World, run: usize) {
    let truth = &world.runs[run];
    let is_excused =
        truth.is_api_away || world.swarm.has_struck_any(&[Fault::ApiForbidden, Fault::ApiConflict]);
    let is_of_run = |job: &&Job| job.run_id() == Some(truth.plan.run_id.as_str());
    let runs = |job: &&Job| {
        let mut pods = world.cluster.pods.values().filter(|pod| pod.job_uid == job.object.uid);
        world.cluster.is_live(job) && pods.any(|pod| pod.stage == Stage::Running)
    };
    // One whose agent has ended may be retained.
    let live = world.cluster.jobs.values().filter(is_of_run).find(runs);
    if let Some(job) = live.filter(|_| !is_excused) {
        let text = format!("run {run} has ended, and its Job {} runs", job.object.name);
        world.violate("L3", text);
    }
}

/// L3.
fn invariant_nothing_is_left(world: &mut World) {
    let is_forbidden = world.swarm.has_struck_any(&[Fault::ApiForbidden, Fault::ApiConflict])
        || world.swarm.has_broken_plugin();
    let mut left = world.cluster.left_behind();
    // A lease has no owner to go with; one that could not be given back expires.
    if world.runs.iter().any(|run| run.is_api_away) {
        left.retain(|object| !object.starts_with("Lease "));
    }
    if !left.is_empty() && !is_forbidden {
        world.violate("L3", format!("left behind: {}", left.join(", ")));
    }
}

/// S7: the same calls on a fresh instance, and from a snapshot in the middle on, have the same answers.
fn invariant_replay_is_identical(world: &mut World) {
    if world.mutant().is_some() || world.swarm.has_broken_plugin() {
        return;
    }
    for process in 0..world.processes.len() {
        let Some(steps) = world.processes[process].notes.borrow_mut().calls.take() else { continue };
        let request = world.runs[world.processes[process].run].request.clone();
        let middle = steps.len() / 2;
        let mut fresh = world.plugin().instantiate();
        let restored = world.processes[process].notes.borrow_mut().restored.take();
        if let Some(snapshot) = &restored
            && !matches!(fresh.restore(snapshot), Ok(Ok(())))
        {
            return world.violate("S7", format!("the snapshot of process {process} is not taken again"));
        }
        for (at, step) in steps.iter().enumerate() {
            let commands = if at == 0 && restored.is_none() {
                fresh.start(Timestamp::from_millis(step.at_ms), &request).ok().and_then(Result::ok)
            } else {
                fresh.step(Timestamp::from_millis(step.at_ms), &step.events).ok()
            };
            if commands.as_ref() != Some(&step.commands) {
                return world.violate(
                    "S7",
                    format!("step {at} of process {process} is answered otherwise in a replay"),
                );
            }
            if at == middle {
                let snapshot = fresh.snapshot().unwrap_or_default();
                fresh = world.plugin().instantiate();
                if !matches!(fresh.restore(&snapshot), Ok(Ok(()))) {
                    return world.violate("S7", format!("the snapshot after step {at} is not taken"));
                }
            }
        }
    }
}
