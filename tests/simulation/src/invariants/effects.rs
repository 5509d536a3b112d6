//! What hosts do to the world: each effect has its cause on disk, and no working agent loses its Job (S6, S8, S10).

use paperclip_contract::types::ObjectRef;
use paperclip_engine::api::ApiCall;
use paperclip_engine::journal::Entry;

use crate::cluster::{Pod, Stage};
use crate::coverage_points::CoveragePoint;
use crate::fault::Fault;
use crate::world::{SINK_BYTES, World};

/// S10: each follow costs the node an inotify instance (rule 12b).
pub(crate) fn one_stream_a_container(world: &mut World, process: usize, pod_uid: &str) {
    if world.processes[process].streams.iter().any(|stream| stream.pod_uid == pod_uid) {
        world.violate("S10", format!("a second stream of the log of {pod_uid}"));
    }
}

/// S6: a request that changes the world has its cause on disk.
pub(crate) fn effect_has_durable_cause(world: &mut World, run: usize, request: &ApiCall) {
    let (cause, is_needed) = match request {
        ApiCall::CreateJob { .. } => ("CreateJob", true),
        ApiCall::CreateSecret(_) => ("CreateSecret", true),
        ApiCall::CreateConfigMap(_) => ("CreateConfigMap", true),
        ApiCall::AddOwner { name, .. } => (name.as_str(), true),
        ApiCall::CreateLease(_) => ("AcquireGuard", true),
        // One whose creation had no answer is known by its name alone.
        ApiCall::DeleteJob { job, .. } => (job.name.as_str(), true),
        ApiCall::PatchJob { job, .. } => (job.uid.as_str(), true),
        _ => ("", false),
    };
    let disk = &world.runs[run].disk;
    if !is_needed || disk.durable().iter().rev().any(|line| line.contains(cause)) {
        return;
    }
    let is_plugin_broken = world.swarm.has_broken_plugin();
    if !is_plugin_broken {
        world.violate("S6", format!("{} was sent, and its cause {cause} is not on disk", request.describe()));
    }
}

/// S6: a record that was shown is in the journal even if the process is killed.
pub(crate) fn shown_record_survives_the_process(world: &mut World, run: usize) {
    if world.runs[run].disk.has_unflushed() {
        world.violate(
            "S6",
            "a record was shown before its entry was handed to the operating system".to_owned(),
        );
    }
}

/// S6: an acknowledged cancel is not forgotten, whatever happens to the host.
pub(crate) fn acknowledged_cancel_is_durable(world: &mut World, run: usize) {
    let is_cause = |line: &String| line.contains("CancelRequested") || line.starts_with("{\"end\":");
    if !world.runs[run].disk.durable().iter().any(is_cause) {
        world.violate("S6", "a cancel was acknowledged that is not on disk".to_owned());
    }
}

/// S10: the memory of a process does not grow with what its sink does not take.
pub(crate) fn logs_wait_for_the_sink(world: &mut World, process: usize) {
    let bytes = world.processes[process].untaken_bytes;
    if bytes >= SINK_BYTES {
        world.violate("S10", format!("a log is read although {bytes} bytes wait for the sink"));
    }
}

/// S8: a deletion by a host reaches the server.
pub(crate) fn deletion_is_justified(world: &mut World, job: &ObjectRef) {
    let Some(run) = world.run_of_job(&job.uid) else {
        return world.violate("S8", format!("{} is not the Job of a run, and a host deleted it", job.name));
    };
    let truth = &world.runs[run];
    let Some(pod) = world.cluster.pods_of(&job.uid).next() else { return };
    let is_running = pod.stage == Stage::Running && !pod.is_lost && pod.deleting_since_ms.is_none();
    let is_cancelled = truth.cancelled_at_ms.is_some();
    let has_broken = world.swarm.has_broken_plugin();
    let has_reported = has_outlasted_its_report(world, run, pod);
    let is_quiet = is_quiet_for_too_long(world, run, pod);
    let may_stop = is_cancelled || has_timed_out(world, run, pod) || has_reported || is_quiet;
    let is_harm = is_running && !may_stop && !has_broken;
    if is_harm && !ended_before_agent_started(world, run, pod) {
        world.violate("S8", format!("{} was deleted while its agent was running", job.name));
    } else if is_running && has_reported && !is_cancelled {
        world.cover(CoveragePoint::StoppedAfterReport);
    }
}

/// Faults that keep a host from reading what an agent prints.
const LOG_FAULTS: [Fault; 6] = [
    Fault::LogEndsEarly,
    Fault::LogBroken,
    Fault::LogRefused,
    Fault::LogKubeletText,
    Fault::LogSilent,
    Fault::SinkSlow,
];

/// Whether an agent has reported its end, and has run for its grace since its last event. A host that could not read the last events knows
/// the report alone.
fn has_outlasted_its_report(world: &World, run: usize, pod: &Pod) -> bool {
    let config = &world.runs[run].plan.config;
    let has_outlasted = |has_open_tasks: bool, grace_s: u64| {
        let stay_ms = pod.log.longest_stay_ms(world.now_ms, has_open_tasks);
        stay_ms + clock_ahead_ms(world, run) >= grace_s * 1_000
    };
    // A grace of 0 passes at once, but not while a task is open.
    let has_no_task = config.result_grace_s > 0 || pod.log.open_tasks == 0;
    let has_outlasted_any = has_no_task && has_outlasted(false, config.result_grace_s)
        || has_outlasted(true, config.background_grace_s);
    pod.log.reports > 0 && (has_outlasted_any || world.swarm.has_struck_any(&LOG_FAULTS))
}

/// Whether an agent has printed nothing for as long as its config allows, or its host could not read what it printed.
fn is_quiet_for_too_long(world: &World, run: usize, pod: &Pod) -> bool {
    let Some(limit_s) = world.runs[run].plan.config.quiet_timeout_s else { return false };
    let first_ms =
        pod.log.last_line_ms.or(pod.started_ms).map_or(0, |last_ms| world.now_ms.saturating_sub(last_ms));
    let quiet_ms = pod.log.longest_silence_ms(world.now_ms).max(first_ms) + clock_ahead_ms(world, run);
    quiet_ms >= limit_s * 1_000 || world.swarm.has_struck_any(&LOG_FAULTS)
}

/// How long an agent that has reported its end may run after its last event, in ms.
pub(super) fn ended_grace_ms(world: &World, run: usize, pod: &Pod) -> u64 {
    let config = &world.runs[run].plan.config;
    1_000 * if pod.log.open_tasks > 0 { config.background_grace_s } else { config.result_grace_s }
}

/// Whether the step that ended the run was on disk before its agent started: its host died before the Job was deleted, and the next one
/// does that.
fn ended_before_agent_started(world: &World, run: usize, pod: &Pod) -> bool {
    let step_of = |line: &String| match Entry::parse(line) {
        Ok(Entry::Step { at, .. }) => Some(at.as_millis()),
        Ok(_) | Err(_) => None,
    };
    let ended_ms = world.runs[run].disk.durable().iter().rev().find_map(step_of);
    let started_ms = pod.started_ms.map(|started_ms| started_ms + clock_ahead_ms(world, run));
    ended_ms.zip(started_ms).is_some_and(|(ended_ms, started_ms)| ended_ms <= started_ms)
}

pub(super) fn has_timed_out(world: &World, run: usize, pod: &Pod) -> bool {
    let timeout_s = world.runs[run].plan.config.timeout_s;
    // The status has whole seconds, and the clocks of hosts and nodes differ.
    let ahead_ms = 1_000 + clock_ahead_ms(world, run);
    let since = |started_ms: u64| world.now_ms.saturating_sub(started_ms) + ahead_ms;
    timeout_s
        .zip(pod.started_ms)
        .is_some_and(|(timeout_s, started_ms)| since(started_ms) >= timeout_s * 1_000)
}

/// By how much more time may have passed for the run than for the world, in ms: the run's never goes back, hosts' clocks add up, and the
/// first one's may have been behind.
pub(super) fn clock_ahead_ms(world: &World, run: usize) -> u64 {
    let (mut ahead_ms, mut behind_ms) = (0, 0);
    for process in world.processes.iter().filter(|process| process.run == run) {
        // What the wall clock does while the process lives does not count.
        let off_ms = process.clock_off_ms;
        ahead_ms += off_ms.max(0);
        behind_ms = behind_ms.max(-off_ms);
    }
    (ahead_ms + behind_ms).unsigned_abs()
}
