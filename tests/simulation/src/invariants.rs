//! What must hold, phrased from the world's side (S1–S11, L1–L5 of `docs/simulation.md`).

use memchr::memmem;
use paperclip_contract::types::ObjectRef;
use paperclip_engine::Guest as _;
use paperclip_engine::api::ApiCall;
use serde_json::{Map, Value};

use crate::cluster::{Actor, Job, Pod, Stage};
use crate::fault::Fault;
use crate::marks::Mark;
use crate::script::{API_KEY, TOKEN, Verdict, masked, verdict};
use crate::world::{EPOCH_MS, HEALING_MS, World};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Such as `S1`.
    pub rule: &'static str,
    pub text: String,
}

/// What a process has shown of a log.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    next_index: u64,
    pod_uid: Option<String>,
    /// Places in the container's output after the last line shown: several where equal lines leave it open after a gap.
    places: Vec<usize>,
    has_gap: bool,
    /// The agent told its session.
    has_session: bool,
    /// The last line that was shown is a piece of one.
    is_cut: bool,
}

/// How long the end of a cancelled run may take beyond the agent's grace, in ms (L2): until it is asked again where the host was lost that
/// was told, and until the pod is given up.
const CANCEL_SLACK_MS: u64 = 50_000;
/// How long what a fault began may go on, in ms: an answer that never comes, and the longest wait before the next try.
const FAULT_TAIL_MS: u64 = 60_000;
/// The shortest time for which a pod that does not start is waited for, in ms: the default for mounts, unless it is queued.
const SHORTEST_GRACE_MS: u64 = 120_000;
/// Most bytes of a result.
const MAX_RESULT_BYTES: usize = 256 << 10;
/// How long a case may go on after its healing and the last cancel, in ms (L1).
const END_MS: u64 = 15 * 60_000;

impl Shown {
    pub(crate) fn reads(&mut self, pod_uid: &str) {
        if self.pod_uid.as_deref() != Some(pod_uid) {
            self.pod_uid = Some(pod_uid.to_owned());
            self.places = vec![0];
            self.has_session = false;
        }
    }
}

// ---------------------------------------------------------------------- after each step

pub(crate) fn after_step(world: &mut World) {
    invariant_one_live_job_a_guard_key(world);
    invariant_timers_and_limits_are_kept(world);
    invariant_a_cancelled_run_ends_soon(world);
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

// ---------------------------------------------------------------------- output

/// S4: line by line what the container printed, each once.
pub(crate) fn emitted_line(world: &mut World, process: usize, index: u64, text: &str) {
    no_secret(world, "the log", text);
    let run = world.processes[process].run;
    let shown = &mut world.processes[process].shown;
    if index != shown.next_index {
        let text = format!("line {index} follows line {}", shown.next_index.wrapping_sub(1));
        return world.violate("S4", text);
    }
    if shown.is_cut {
        let text = format!("line {index} follows a piece of a line without a word");
        return world.violate("S4", text);
    }
    let is_first = shown.next_index == 0 || shown.places == [0];
    shown.next_index += 1;
    let Some(pod) = shown.pod_uid.as_ref().and_then(|uid| world.cluster.pods.get(uid)) else {
        return world.violate("S4", format!("line {index} is shown before any log was read"));
    };
    let lines = &pod.log.lines;
    // Rule 11: what was rotated away before the first read cannot be known to be missing.
    let from_anywhere = is_first && pod.log.rotations > 0;
    let places: Vec<usize> = if from_anywhere { (0..lines.len()).collect() } else { shown.places.clone() };
    let is_same = |at: &usize| lines.get(*at).is_some_and(|line| line == text || masked(line) == text);
    let next: Vec<usize> = places.into_iter().filter(is_same).map(|at| at + 1).collect();
    let (is_masked, is_long) = (text.contains("[redacted:"), text.len() > 16 << 10);
    let is_cut = |at: &usize| {
        lines.get(*at).is_some_and(|line| line.starts_with(text) || masked(line).starts_with(text))
    };
    if next.is_empty() && !text.is_empty() && shown.places.iter().any(is_cut) {
        // All that could be had of it: what follows has to say so.
        shown.is_cut = true;
        return;
    }
    if next.is_empty() {
        let at = shown.places.first().copied().unwrap_or_default();
        let wanted = lines.get(at).map_or("(nothing)", String::as_str);
        let text = format!("line {index} is {text:.80}, and the agent printed {wanted:.80}");
        return world.violate("S4", text);
    }
    shown.places = next;
    shown.has_session |= text.contains(r#""subtype":"init""#);
    let count = shown.places[0];
    world.runs[run].shown = world.runs[run].shown.max(count);
    world.trace.note(world.now_ms, text.as_bytes());
    if is_masked {
        world.mark(Mark::Masked);
    }
    if is_long {
        world.mark(Mark::LongLine);
    }
}

/// S4: the tail of stderr comes after the output, as the termination message has it.
pub(crate) fn emitted_stderr(world: &mut World, process: usize, index: u64, text: &str) {
    no_secret(world, "stderr", text);
    let shown = &mut world.processes[process].shown;
    let is_next = index == shown.next_index;
    shown.next_index += 1;
    let is_known =
        world.cluster.pods.values().any(|pod| pod.script.stderr.lines().any(|line| masked(line) == text));
    if !is_next || !is_known {
        world.violate("S4", format!("stderr line {index} {text:?} is out of place"));
    }
    world.mark(Mark::StderrShown);
}

/// S4: after a gap any later place may follow.
pub(crate) fn emitted_gap(world: &mut World, process: usize, index: u64) {
    world.mark(Mark::Gap);
    let run = world.processes[process].run;
    world.runs[run].has_gap = true;
    let shown = &mut world.processes[process].shown;
    if index != shown.next_index {
        let text = format!("a gap before line {index}, and {} lines were shown", shown.next_index);
        return world.violate("S4", text);
    }
    shown.has_gap = true;
    shown.is_cut = false;
    let from = shown.places.first().copied().unwrap_or_default();
    let Some(pod) = shown.pod_uid.as_ref().and_then(|uid| world.cluster.pods.get(uid)) else { return };
    shown.places = (from..=pod.log.lines.len().max(from) + 4_096).collect();
}

/// S9.
pub(crate) fn no_secret(world: &mut World, place: &str, text: &str) {
    for canary in [TOKEN, API_KEY] {
        if memmem::find(text.as_bytes(), canary.as_bytes()).is_some() {
            world.violate("S9", format!("{place} holds {canary}"));
        }
    }
}

// ---------------------------------------------------------------------- effects

/// S10: each follow costs the node an inotify instance (rule 12b).
pub(crate) fn one_stream_a_container(world: &mut World, process: usize, pod_uid: &str) {
    if world.processes[process].streams.iter().any(|stream| stream.pod_uid == pod_uid) {
        world.violate("S10", format!("a second stream of the log of {pod_uid}"));
    }
}

/// S6: what changes the world has its cause on disk.
pub(crate) fn effect_has_durable_cause(world: &mut World, run: usize, request: &ApiCall) {
    let (cause, is_needed) = match request {
        ApiCall::CreateJob { .. } => ("CreateJob", true),
        ApiCall::CreateSecret(_) => ("CreateSecret", true),
        ApiCall::CreateConfigMap(_) => ("CreateConfigMap", true),
        ApiCall::CreateLease(_) => ("AcquireGuard", true),
        // One whose creation had no answer is known by its name alone.
        ApiCall::DeleteJob { job } => (job.name.as_str(), true),
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

/// S8: a deletion by a host reaches the server.
pub(crate) fn deletion_is_justified(world: &mut World, job: &ObjectRef) {
    let Some(run) = world.run_of_job(&job.uid) else {
        return world.violate("S8", format!("{} is no run's Job, and a host deleted it", job.name));
    };
    let truth = &world.runs[run];
    let Some(pod) = world.cluster.pods_of(&job.uid).next() else { return };
    let is_running = pod.stage == Stage::Running && !pod.is_lost && pod.deleting_since_ms.is_none();
    let is_cancelled = truth.cancelled_at_ms.is_some();
    let has_broken = world.swarm.has_broken_plugin();
    if is_running && !is_cancelled && !has_timed_out(world, run, pod) && !has_broken {
        world.violate("S8", format!("{} was deleted while its agent was running", job.name));
    }
}

fn has_timed_out(world: &World, run: usize, pod: &Pod) -> bool {
    let timeout_s = world.runs[run].plan.config.timeout_s;
    // The status has whole seconds, and the clocks of hosts and nodes differ.
    let ahead_ms = 1_000 + clock_ahead_ms(world, run);
    let since = |started_ms: u64| world.now_ms.saturating_sub(started_ms) + ahead_ms;
    timeout_s
        .zip(pod.started_ms)
        .is_some_and(|(timeout_s, started_ms)| since(started_ms) >= timeout_s * 1_000)
}

/// By how much the run's time may be ahead of the world's, in ms: it never goes back, and hosts' clocks add up.
fn clock_ahead_ms(world: &World, run: usize) -> u64 {
    let processes = world.processes.iter().filter(|process| process.run == run);
    processes.map(|process| process.clock_ahead_ms.max(0).unsigned_abs()).sum()
}

// ---------------------------------------------------------------------- the result

/// S2, S3, S6, S9 and S11, and what a truthful result would be.
pub(crate) fn result(world: &mut World, process: usize, run: usize, result: &Map<String, Value>) {
    let text = Value::Object(result.clone()).to_string();
    no_secret(world, "the result", &text);
    world.trace.note(world.now_ms, text.as_bytes());
    if world.runs[run].results.iter().any(|known| known != result) {
        return world.violate("S2", "a second, other result".to_owned());
    }
    let is_same_process_again =
        world.runs[run].result_at_ms.is_some() && world.processes[process].shown.has_result();
    if is_same_process_again {
        return world.violate("S2", "a second result".to_owned());
    }
    if world.processes[process].shown.is_cut {
        return world.violate("S4", "a result follows a piece of a line without a word".to_owned());
    }
    world.processes[process].shown.note_result();
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
    mark_result(world, code.as_deref(), is_success);
    if text.contains("another host took the lease") {
        world.mark(Mark::GuardLost);
    }
    if !is_success && pods_of_run(world, run).first().is_some_and(|pod| pod.was_killed) {
        world.mark(Mark::Killed);
    }
    invariant_result_has_what_was_told(world, process, run, result, code.as_deref());
    if is_success {
        invariant_success_is_true(world, process, run);
    } else {
        invariant_failure_is_true(world, process, run, code.as_deref().unwrap_or_default(), &text);
    }
}

/// S3: whatever a run came to, its session and the cause of its end are in the result as far as they were seen.
fn invariant_result_has_what_was_told(
    world: &mut World,
    process: usize,
    run: usize,
    result: &Map<String, Value>,
    code: Option<&str>,
) {
    let pod = pods_of_run(world, run).into_iter().next();
    let shown = &world.processes[process].shown;
    let is_session_told = shown.has_session && shown.pod_uid == pod.map(|pod| pod.object.uid.clone());
    let is_session_dropped = result.get("clearSession") == Some(&Value::Bool(true))
        || code.is_some_and(|code| code.starts_with("plugin_") || code == "session_unavailable");
    let has_session = result.get("sessionId").is_some_and(Value::is_string);
    let is_ended_by_turns =
        pod.and_then(|pod| pod.log.lines.last()).is_some_and(|line| line.contains("error_max_turns"));
    let is_seen = pod.is_some_and(|pod| pod.stage != Stage::Removed);
    let is_oom = is_seen
        && pod
            .and_then(|pod| pod.ended.as_ref())
            .is_some_and(|ended| ended.reason.as_deref() == Some("OOMKilled"));
    let text = match code {
        _ if is_session_told && !is_session_dropped && !has_session => {
            "a result without the session that was told"
        }
        _ if result.contains_key("usage") && !result.contains_key("usageBasis") => {
            "usage, and nobody tells of what"
        }
        Some("claude_run_failed") if is_ended_by_turns => {
            "the turns were used up, and the result does not say so"
        }
        Some("claude_truncated" | "claude_exited") if is_oom && !tells_of_memory(result) => {
            "the container was out of memory, and the result does not say so"
        }
        _ => return,
    };
    world.violate("S3", text.to_owned());
}

/// As the cause, or, where something else befell the pod afterwards, as the reason of the container's end.
fn tells_of_memory(result: &Map<String, Value>) -> bool {
    let text = Value::Object(result.clone()).to_string();
    text.contains("oom_killed") || text.contains("reason=OOMKilled")
}

impl Shown {
    fn note_result(&mut self) {
        self.places.shrink_to_fit();
        self.next_index |= RESULT_BIT;
    }

    fn has_result(&self) -> bool {
        self.next_index & RESULT_BIT != 0
    }
}

/// Set in the next index once the result was shown: no line has that index.
const RESULT_BIT: u64 = 1 << 63;

fn is_refusal(result: &Map<String, Value>) -> bool {
    result.get("errorCode").and_then(Value::as_str) == Some("config_invalid")
}

fn mark_result(world: &mut World, code: Option<&str>, is_success: bool) {
    let mark = match code {
        None if is_success => Mark::Succeeded,
        Some("cancelled") => Mark::Cancelled,
        Some("timeout") => Mark::TimedOut,
        Some("claude_truncated") => Mark::Truncated,
        Some("k8s_job_deleted_externally") => Mark::DeletedByOthers,
        Some("k8s_pod_schedule_failed") => Mark::ScheduleFailed,
        Some("k8s_concurrent_run_blocked") => Mark::Refused,
        Some("plugin_failed") => Mark::PluginBroke,
        Some("claude_run_failed" | "max_turns_exhausted") => Mark::AgentFailed,
        Some(_) | None => return,
    };
    world.mark(mark);
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
    pod.log.lines.iter().rev().find_map(|line| verdict(line))
}

/// S3: the agent reported success, and its container did not end otherwise.
fn invariant_success_is_true(world: &mut World, process: usize, run: usize) {
    let pods = pods_of_run(world, run);
    let Some(pod) = pods.first() else {
        return world.violate("S3", "success without a pod".to_owned());
    };
    let exit = pod.ended.as_ref().map(|ended| ended.exit_code);
    let text = match (last_verdict(pod), exit) {
        (None, _) => "success, and no result event was printed".to_owned(),
        (Some(Verdict::Failed), _) => "success, and the printed result event is a failure".to_owned(),
        (Some(Verdict::Good), Some(code)) if code != 0 && !pod.was_killed && !pod.is_lost => {
            format!("success, and the container exited with {code}")
        }
        (Some(Verdict::Good), _) => String::new(),
    };
    let shown = &world.processes[process].shown;
    let is_complete = shown.places.contains(&pod.log.lines.len());
    let may_lack_lines = shown.has_gap
        || pod.log.rotations > 0
        || pod.stage == Stage::Removed
        || pod.is_lost
        || pod.deleting_since_ms.is_some()
        || pod.stage == Stage::Running;
    let lines = pod.log.lines.len();
    if !text.is_empty() {
        world.violate("S3", text);
    } else if !is_complete && !may_lack_lines {
        let places = world.processes[process].shown.places.first().copied().unwrap_or_default();
        world.violate("S4", format!("success, and {places} of {lines} lines were shown"));
    }
}

/// S3 and S11: a failure says what was so.
fn invariant_failure_is_true(world: &mut World, process: usize, run: usize, code: &str, text: &str) {
    let truth = &world.runs[run];
    let pods = pods_of_run(world, run);
    let pod = pods.first().copied();
    let jobs = || world.cluster.jobs.values().filter(|job| job.has_been_of(&truth.plan.run_id));
    let verdict = pod.and_then(last_verdict);
    let has_gap = world.processes[process].shown.has_gap;
    let complaint = match code {
        "cancelled" if truth.cancelled_at_ms.is_none() => Some("cancelled, and nobody had asked for it"),
        "timeout" => {
            let is_due = pod.is_some_and(|pod| has_timed_out(world, run, pod));
            let by_deadline = jobs()
                .any(|job| job.conditions.iter().any(|c| c.reason.as_deref() == Some("DeadlineExceeded")));
            (!is_due && !by_deadline).then_some("timed out, and its time had not passed")
        }
        "claude_truncated" => {
            let is_over = pod.is_some_and(|pod| {
                pod.stage >= Stage::Ended || pod.is_lost || pod.deleting_since_ms.is_some()
            });
            let may_be_unread = has_gap
                || pod.is_none_or(|pod| {
                    pod.log.rotations > 0
                        || pod.stage == Stage::Removed
                        || pod.is_lost
                        || pod.deleting_since_ms.is_some()
                });
            let is_known_over = is_over || jobs().any(|job| job.is_removed || job.is_finished());
            if !is_known_over {
                Some("truncated, and the container runs")
            } else if verdict.is_some() && !may_be_unread {
                Some("truncated, and a result event was printed")
            } else {
                None
            }
        }
        "k8s_pod_schedule_failed" => {
            let began_ms = jobs().map(|job| job.created_ms).max().unwrap_or(world.now_ms);
            let waited_ms = world.now_ms.saturating_sub(began_ms) + clock_ahead_ms(world, run);
            let is_hopeless = pod.is_some_and(|pod| pod.reason.is_some() || pod.deleting_since_ms.is_some());
            let grace_ms = SHORTEST_GRACE_MS.min(truth.plan.config.queue_timeout_s * 1_000);
            (waited_ms < grace_ms && !is_hopeless).then_some("given up before its grace was over")
        }
        "k8s_concurrent_run_blocked" => {
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
        "" => Some("a failure without an errorCode"),
        _ => None,
    };
    if let Some(complaint) = complaint {
        return world.violate(
            if code == "cancelled" || code == "timeout" { "S3" } else { "S11" },
            complaint.to_owned(),
        );
    }
    // Without its guard a run begins nothing, though its Job may go on.
    let is_guard_lost = text.contains("another host took the lease");
    if let Some(complaint) = unfair(world, process, run, code).filter(|_| !is_guard_lost) {
        world.violate("S3", format!("{complaint}: {text:.300}"));
    }
}

/// A run whose agent ended well must not be called a failure, unless something that counts stood in the way.
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

/// L3.
fn invariant_nothing_is_left(world: &mut World) {
    let is_forbidden = world.swarm.has_struck_any(&[Fault::ApiForbidden, Fault::ApiConflict])
        || world.swarm.has_broken_plugin();
    let left = world.cluster.left_behind();
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
                fresh.start(step.at_ms, &request).ok().and_then(Result::ok)
            } else {
                fresh.step(step.at_ms, &step.events).ok()
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
