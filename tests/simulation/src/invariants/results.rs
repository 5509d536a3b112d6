//! The results of runs: each run has one, and it is true (S2, S3, S6, S9, S11).

use paperclip_contract::types::{Action, Command};
use paperclip_engine::journal::Entry;
use serde_json::{Map, Value};

use super::effects::{clock_ahead_ms, has_timed_out};
use super::no_secret;
use crate::cluster::{Actor, Job, Pod, Stage};
use crate::coverage_points::CoveragePoint;
use crate::fault::Fault;
use crate::script::Verdict;
use crate::world::{EPOCH_MS, World};

/// The shortest grace for a pod that does not start, in ms: the default for mounts, unless the run's queue timeout is shorter.
const SHORTEST_GRACE_MS: u64 = 120_000;
/// Most bytes of a result.
const MAX_RESULT_BYTES: usize = 256 << 10;

/// Checks a result: S2, S3, S6, S9 and S11.
pub(crate) fn result(world: &mut World, process: usize, run: usize, result: &Map<String, Value>) {
    let text = Value::Object(result.clone()).to_string();
    no_secret(world, "the result", &text);
    world.trace.note(world.now_ms, text.as_bytes());
    if world.runs[run].results.iter().any(|known| known != result) {
        return world.violate("S2", "a second, other result".to_owned());
    }
    let is_same_process_again =
        world.runs[run].result_at_ms.is_some() && world.processes[process].shown.has_result;
    if is_same_process_again {
        return world.violate("S2", "a second result".to_owned());
    }
    if world.processes[process].shown.is_cut {
        return world.violate("S4", "a result follows a piece of a line without a gap".to_owned());
    }
    world.processes[process].shown.has_result = true;
    super::output::counted(world, process);
    if world.runs[run].disk.durable().iter().all(|line| !line.starts_with("{\"end\":")) && !is_refusal(result)
    {
        world.violate("S6", "a result was shown that is not on disk".to_owned());
    }
    if text.len() > MAX_RESULT_BYTES {
        world.violate("S10", format!("a result of {} bytes", text.len()));
    }
    let is_first = world.runs[run].results.is_empty();
    world.runs[run].results.push(result.clone());
    if !is_first {
        return;
    }
    world.runs[run].result_at_ms = Some(world.now_ms);
    let code = result.get("errorCode").and_then(Value::as_str).map(str::to_owned);
    let is_success = code.is_none() && result.get("errorMessage").is_none_or(Value::is_null);
    cover_result(world, code.as_deref(), is_success);
    if text.contains("another host took the lease") {
        world.cover(CoveragePoint::GuardLost);
    }
    if pods_of_run(world, run).first().is_some_and(|pod| pod.log.reports > 1) {
        world.cover(CoveragePoint::ReportedTwice);
    }
    if !is_success && pods_of_run(world, run).first().is_some_and(|pod| pod.was_killed) {
        world.cover(CoveragePoint::Killed);
    }
    invariant_result_has_session_and_cause(world, process, run, result, code.as_deref());
    if is_success {
        invariant_success_is_true(world, process, run);
    } else {
        invariant_failure_is_true(world, process, run, code.as_deref().unwrap_or_default(), &text);
    }
}

/// S3: a result has the session and the cause of the end as far as they were seen.
fn invariant_result_has_session_and_cause(
    world: &mut World,
    process: usize,
    run: usize,
    result: &Map<String, Value>,
    code: Option<&str>,
) {
    let pod = pods_of_run(world, run).into_iter().next();
    let shown = &world.processes[process].shown;
    let is_session_shown = shown.has_session && shown.pod_uid == pod.map(|pod| pod.object.uid.clone());
    let is_session_dropped = result.get("clearSession") == Some(&Value::Bool(true))
        || code.is_some_and(|code| code.starts_with("plugin_") || code == "session_unavailable");
    let has_session = result.get("sessionId").is_some_and(Value::is_string);
    let grammar = world.plugin().grammar();
    let last = pod.and_then(|pod| pod.log.lines.last());
    let is_ended_by_turns = last.is_some_and(|last| grammar.turns.iter().any(|turns| turns.line == *last));
    let own_code = code.and_then(|code| grammar.own_code(code));
    let is_seen = pod.is_some_and(|pod| pod.stage != Stage::Removed);
    // The watch may be down, and the read instead of it may be refused.
    let may_be_seen = !world.swarm.has_struck(Fault::ApiForbidden);
    let is_oom = is_seen
        && may_be_seen
        && pod
            .and_then(|pod| pod.ended.as_ref())
            .is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"));
    let text = Value::Object(result.clone()).to_string();
    let text = match own_code {
        _ if is_session_shown && !is_session_dropped && !has_session => {
            "a result without the session that was shown"
        }
        _ if result.contains_key("usage")
            && result.contains_key("usageBasis") != grammar.has_usage_per_run =>
        {
            "usage without its basis"
        }
        Some("run_failed") if is_ended_by_turns => "the turns were used up, and the result does not say so",
        Some("truncated" | "exited" | "init_failed")
            if is_suspended_only(world, pod) && !text.contains("suspended") =>
        {
            "the Job was suspended, and the result does not say so"
        }
        Some("truncated" | "exited") if is_oom && !reports_out_of_memory(result) => {
            "the container was out of memory, and the result does not say so"
        }
        _ => return,
    };
    world.violate("S3", text.to_owned());
}

/// Whether a suspension of its Job ended a pod, and nothing else happened that could hide that.
fn is_suspended_only(world: &World, pod: Option<&Pod>) -> bool {
    let is_only = world.swarm.struck().iter().all(|(fault, _)| *fault == Fault::JobSuspended);
    is_only && pod.is_some_and(|pod| pod.is_suspended && pod.was_killed)
}

/// As the cause or, if the pod failed otherwise afterwards, as the reason of the container's end.
fn reports_out_of_memory(result: &Map<String, Value>) -> bool {
    let text = Value::Object(result.clone()).to_string();
    text.contains("oom_killed") || text.contains("reason=OOMKilled")
}

fn is_refusal(result: &Map<String, Value>) -> bool {
    result.get("errorCode").and_then(Value::as_str) == Some("config_invalid")
}

fn cover_result(world: &mut World, code: Option<&str>, is_success: bool) {
    let own_code = code.and_then(|code| world.plugin().grammar().own_code(code));
    let point = match code {
        Some(_) if own_code == Some("truncated") => CoveragePoint::Truncated,
        Some(_) if own_code == Some("run_failed") => CoveragePoint::AgentFailed,
        None if is_success => CoveragePoint::Succeeded,
        Some("cancelled") => CoveragePoint::Cancelled,
        Some("timeout") => CoveragePoint::TimedOut,
        Some("agent_quiet") => CoveragePoint::Quiet,
        Some("k8s_job_deleted_externally") => CoveragePoint::DeletedByOthers,
        Some("k8s_pod_schedule_failed") => CoveragePoint::ScheduleFailed,
        Some("k8s_concurrent_run_blocked") => CoveragePoint::Refused,
        Some("plugin_failed") => CoveragePoint::PluginBroke,
        Some("max_turns_exhausted") => CoveragePoint::AgentFailed,
        Some(_) | None => return,
    };
    world.cover(point);
}

/// The pods whose agents worked for a run, newest first.
fn pods_of_run(world: &World, run: usize) -> Vec<&Pod> {
    let is_of_run = |job: &&Job| job.has_been_of(&world.runs[run].plan.run_id);
    let jobs = world.cluster.jobs.values().filter(is_of_run);
    let mut pods: Vec<&Pod> = jobs
        .filter_map(|job| world.cluster.pods.values().find(|pod| pod.job_uid == job.object.uid))
        .collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.created_ms));
    pods
}

fn last_verdict(pod: &Pod) -> Option<Verdict> {
    pod.log.lines.iter().rev().find_map(|line| pod.script.grammar.verdict(line))
}

/// Exit codes of processes that a signal ended.
const SIGNAL_EXIT_CODES: std::ops::RangeInclusive<i32> = 129..=159;

/// Whether the run itself may have stopped the agent's container: how that ended then says nothing about the agent's work.
fn may_have_been_stopped(world: &World, run: usize, pod: &Pod) -> bool {
    let truth = &world.runs[run];
    let mut jobs = world.cluster.jobs.values().filter(|job| job.has_been_of(&truth.plan.run_id));
    let is_past_deadline =
        jobs.any(|job| job.conditions.iter().any(|c| c.reason.as_deref() == Some("DeadlineExceeded")));
    // Before there is a result, a run deletes the Job of its last attempt only to stop its agent.
    let job = world.cluster.jobs.get(&pod.job_uid);
    let is_stopped = job.is_some_and(|job| job.deleted_by == Some(Actor::Run(run)));
    // With a grace of 0 the request to stop it may still be on its way when the agent ends.
    let has_no_grace = truth.plan.config.result_grace_s == 0 && pod.log.reports > 0;
    let is_timed_out = has_timed_out(world, run, pod) || is_past_deadline;
    let may_be_stopped = is_stopped || has_no_grace || has_decided_to_stop(world, run, pod);
    truth.cancelled_at_ms.is_some() || is_timed_out || may_be_stopped
}

/// Whether the plugin has commanded that a pod's Job be deleted, which it does only to stop its agent. If the host dies before it carries
/// that out, the agent may end by itself before the next host does.
fn has_decided_to_stop(world: &World, run: usize, pod: &Pod) -> bool {
    let deletes = |command: &Command| matches!(&command.action, Action::DeleteJob(delete) if delete.job.uid == pod.job_uid);
    let decides = |line: &String| match Entry::parse(line) {
        Ok(Entry::Commands { commands, .. }) => commands.iter().any(deletes),
        Ok(_) | Err(_) => false,
    };
    world.runs[run].disk.durable().iter().any(decides)
}

/// S3: the agent reported success, and its container did not fail by itself afterwards.
fn invariant_success_is_true(world: &mut World, process: usize, run: usize) {
    let pods = pods_of_run(world, run);
    let Some(pod) = pods.first() else {
        return world.violate("S3", "success without a pod".to_owned());
    };
    let exit = pod.ended.as_ref().map(|ended| ended.exit_code);
    // Output behind a shown gap could not be read.
    let has_gap = world.processes[process].shown.has_gap;
    let grammar = &pod.script.grammar;
    let has_read_good = has_gap && pod.log.lines.contains(&grammar.success);
    let text = match (last_verdict(pod), exit) {
        (Some(Verdict::Failed), _) if has_read_good => String::new(),
        (None, _) => "success, and no result event was printed".to_owned(),
        (Some(Verdict::Failed), _) => "success, and the printed result event is a failure".to_owned(),
        (Some(Verdict::Good), Some(code))
            if code != 0
                && !SIGNAL_EXIT_CODES.contains(&code)
                && !pod.was_killed
                && !pod.is_lost
                && !may_have_been_stopped(world, run, pod) =>
        {
            format!("success, and the container exited with {code}")
        }
        (Some(Verdict::Good), _) => String::new(),
    };
    let shown = &world.processes[process].shown;
    let is_complete = shown.places.contains(&pod.log.lines.len());
    let may_lack_lines = shown.has_gap || pod.stage == Stage::Running;
    let lines = pod.log.lines.len();
    if !text.is_empty() {
        world.violate("S3", text);
    } else if !is_complete && !may_lack_lines {
        let places = world.processes[process].shown.places.first().copied().unwrap_or_default();
        world.violate("S4", format!("success, and {places} of {lines} lines were shown"));
    }
}

/// The text of a run whose Job was adopted by another run before it was unsuspended.
const TAKEN_OVER: &str = "another host took this run's Job over";

/// S3 and S11: a failure states what was true.
fn invariant_failure_is_true(world: &mut World, process: usize, run: usize, code: &str, text: &str) {
    let truth = &world.runs[run];
    let pods = pods_of_run(world, run);
    let pod = pods.first().copied();
    let jobs = || world.cluster.jobs.values().filter(|job| job.has_been_of(&truth.plan.run_id));
    let verdict = pod.and_then(last_verdict);
    let grammar = world.plugin().grammar();
    let has_gap = world.processes[process].shown.has_gap;
    let complaint = match code {
        "cancelled" | "timeout" if is_shown_success(world, process, pod) => {
            Some("stopped, and its agent had reported a success before")
        }
        "cancelled" if truth.cancelled_at_ms.is_none() => Some("cancelled, and nobody had asked for it"),
        "timeout" => {
            let is_due = pod.is_some_and(|pod| has_timed_out(world, run, pod));
            let by_deadline = jobs()
                .any(|job| job.conditions.iter().any(|c| c.reason.as_deref() == Some("DeadlineExceeded")));
            (!is_due && !by_deadline).then_some("timed out, and its time had not passed")
        }
        "agent_quiet" if truth.plan.config.quiet_timeout_s.is_none() => {
            Some("ended for its silence, and its config does not say so")
        }
        _ if grammar.own_code(code) == Some("truncated") => {
            let is_over = pod.is_some_and(|pod| {
                pod.stage >= Stage::Ended || pod.is_lost || pod.deleting_since_ms.is_some()
            });
            let may_be_unread = has_gap || pod.is_none();
            // A log that cannot be read is given up after a while, and the result says so.
            let is_unread_reported = text.contains("log could not be read");
            let may_be_silent = world.swarm.has_struck_any(&[
                Fault::LogSilent,
                Fault::LogBroken,
                Fault::LogRefused,
                Fault::LogKubeletText,
                Fault::LogEndsEarly,
            ]);
            let is_known_over = is_over || jobs().any(|job| job.is_removed || job.is_finished());
            if !is_known_over {
                Some("truncated, and the container runs")
            } else if verdict.is_some() && !may_be_unread && !(is_unread_reported && may_be_silent) {
                Some("truncated, and a result event was printed")
            } else {
                None
            }
        }
        "k8s_pod_schedule_failed" => {
            let created_ms = jobs().map(|job| job.created_ms).max().unwrap_or(world.now_ms);
            let waited_ms = world.now_ms.saturating_sub(created_ms) + clock_ahead_ms(world, run);
            let is_hopeless = pod.is_some_and(|pod| pod.reason.is_some() || pod.deleting_since_ms.is_some());
            let grace_ms = SHORTEST_GRACE_MS.min(truth.plan.config.queue_timeout_s * 1_000);
            (waited_ms < grace_ms && !is_hopeless).then_some("given up before its grace was over")
        }
        "k8s_concurrent_run_blocked" | "k8s_orphan_task_unknown" => {
            let waited_ms = world.now_ms - EPOCH_MS - truth.plan.starts_at_ms + clock_ahead_ms(world, run);
            let is_due = waited_ms >= truth.plan.config.queue_timeout_s * 1_000;
            (truth.plan.config.waits_when_busy && !is_due)
                .then_some("refused before its time to wait was over")
        }
        "k8s_job_deleted_externally" => {
            let is_true = jobs().any(|job| match job.deleted_by {
                Some(Actor::Somebody | Actor::Ttl) => true,
                Some(Actor::Run(other)) => other != run,
                None => false,
            });
            (!is_true).then_some("deleted by somebody else, and nobody did")
        }
        "k8s_concurrency_guard_unreachable" if text.contains(TAKEN_OVER) => {
            let is_true = jobs().any(|job| job.run_id() != Some(&truth.plan.run_id));
            (!is_true).then_some("its Job taken over, and nobody did")
        }
        "" => Some("a failure without an errorCode"),
        _ => None,
    };
    if let Some(complaint) = complaint {
        return world.violate(
            if code == "cancelled" || code == "timeout" { "S3" } else { "S11" },
            complaint.to_owned(),
        );
    }
    if let Some(complaint) = misjudged(world, process, pod, code) {
        return world.violate("S11", complaint);
    }
    // Without its lease a run starts nothing, though its Job may continue.
    let is_guard_lost = text.contains("another host took the lease") || text.contains(TAKEN_OVER);
    if let Some(complaint) = unfair(world, process, run, code).filter(|_| !is_guard_lost) {
        world.violate("S3", format!("{complaint}: {text:.300}"));
    }
}

/// Whether everything that the agent printed was shown, and it reported a success last.
fn is_shown_success(world: &World, process: usize, pod: Option<&Pod>) -> bool {
    pod.is_some_and(|pod| last_verdict(pod) == Some(Verdict::Good) && is_whole(world, process, pod))
}

/// Returns why the code of a run is wrong whose agent reported a failure last and ended by itself.
fn misjudged(world: &World, process: usize, pod: Option<&Pod>, code: &str) -> Option<String> {
    let pod = pod.filter(|pod| pod.ended.is_some() && !pod.was_killed && is_whole(world, process, pod))?;
    let failure = pod.script.grammar.failure(pod.log.lines.last()?)?;
    let is_of_agent = !["k8s_", "plugin_"].into_iter().any(|others| code.starts_with(others))
        && !matches!(code, "cancelled" | "timeout" | "agent_quiet");
    (is_of_agent && code != failure.code).then(|| format!("{code}, and the agent reported {}", failure.code))
}

/// Whether everything that the agent printed was shown.
fn is_whole(world: &World, process: usize, pod: &Pod) -> bool {
    let shown = &world.processes[process].shown;
    let is_whole =
        shown.pod_uid.as_ref() == Some(&pod.object.uid) && shown.places.contains(&pod.log.lines.len());
    is_whole && !shown.has_gap && !shown.is_cut
}

/// Returns why it is unfair that a run whose agent ended well is a failure, unless a fault explains it.
fn unfair(world: &World, process: usize, run: usize, code: &str) -> Option<&'static str> {
    let pods = pods_of_run(world, run);
    let pod = pods.first().copied()?;
    let exit = pod.ended.as_ref().map(|ended| ended.exit_code);
    let ended_well = exit == Some(0) && last_verdict(pod) == Some(Verdict::Good) && !pod.was_killed;
    let is_taken = pod.is_lost || pod.stage == Stage::Removed || pod.deleting_since_ms.is_some();
    let shown = &world.processes[process].shown;
    let is_excused = matches!(code, "cancelled" | "timeout")
        || code.starts_with("plugin_")
        || is_taken
        || shown.has_gap
        || pod.log.rotations > 0
        || world.swarm.has_struck_any(&[
            Fault::ApiForbidden,
            Fault::LogRefused,
            Fault::LogBroken,
            Fault::LogSilent,
            Fault::JobReplaced,
            Fault::JobDeleted,
        ]);
    (ended_well && !is_excused).then_some("the agent ended well, and the run failed")
}
