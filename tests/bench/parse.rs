//! How fast a plugin reads an agent's output, and in how much memory.
//!
//! The recordings are read in the same batches by the plugin's component under the real host (lines lifted through the
//! contract, metered) and by the same parser compiled natively; then a gigabyte goes through one instance. `cargo xtask
//! bench parse` runs this.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use claude_k8s::stream::Stream;
use cpu_time::ThreadTime;
use paperclip_contract::types::{
    Action, Answer, AnswerOk, Command, ContainerRole, ContainerState, ContainerStatus, Event, LogLine,
    LogLines, ObjectRef, PodPhase, PodSnapshot,
};
use paperclip_engine::Guest as _;
use paperclip_engine::intake::{self, IntakeFacts};
use paperclip_engine::time::Timestamp;
use paperclip_guest::{Instance, Plugin, Runtime, RuntimeOptions};
use paperclip_kit::stream::AgentStream as _;
use serde_json::json;

/// What the guest has to reach of the native parser's speed, over all recordings. Of one it may be less: where lines are short and full
/// of numbers, a call is never far.
const RATIO_MIN: f64 = 0.55;
/// What an instance may have after a gigabyte of output.
const MEMORY_MAX_BYTES: u64 = 4 << 20;
const RECORDINGS: [&str; 4] = ["401", "killed", "ok", "tool"];
const BATCH_LINES: usize = 64;
const BATCH_BYTES: usize = 64 << 10;
/// Measured in turns by the thread's CPU time, the best of each counts: other work on the machine only ever slows one down.
const ROUNDS: usize = 12;
const ROUND_BYTES: usize = 32 << 20;
const SYNTHETIC_BYTES: u64 = 1 << 30;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the host is in the workspace");
    let file = root.join("dist/plugins/claude_k8s.wasm");
    let runtime =
        Runtime::new(&RuntimeOptions { max_instances: 4, ..RuntimeOptions::default() }).expect("a runtime");
    let plugin = Plugin::load_file(&runtime, &file).expect("a built plugin");
    let recordings = RECORDINGS.map(|name| {
        let path = root.join(format!("tests/fixtures/claude-cli-2.1.330/{name}.ndjson"));
        (name, std::fs::read_to_string(path).expect("a recording"))
    });
    for (name, recording) in &recordings {
        ratio(name, recording, &plugin);
    }
    let all: String = recordings.iter().map(|(_, recording)| recording.as_str()).collect();
    let mut is_good = ratio("all in turn", &all, &plugin) >= RATIO_MIN;
    let (memory_bytes, speed) = synthetic(&plugin);
    println!(
        "1 GB synthetic: {speed:.0} MB/s, {:.2} MiB of guest memory at the end (at most {} MiB)",
        memory_bytes as f64 / f64::from(1 << 20),
        MEMORY_MAX_BYTES >> 20
    );
    is_good &= memory_bytes < MEMORY_MAX_BYTES;
    assert!(is_good, "below the target: a ratio of {RATIO_MIN} over all recordings, and the memory");
}

/// Measures a recording, prints the result, and returns the guest's speed as a share of the native one.
fn ratio(name: &str, recording: &str, plugin: &std::sync::Arc<Plugin>) -> f64 {
    let (native, guest) = speeds(&batches(recording), plugin);
    let ratio = guest / native;
    println!(
        "{name}: native {native:.0} MB/s, guest {guest:.0} MB/s, ratio {ratio:.2}, {} bytes a line",
        recording.len() / recording.lines().count()
    );
    ratio
}

/// The lines of a recording, over and over, in batches as the host makes them of a busy agent's output.
fn batches(recording: &str) -> Vec<Vec<LogLine>> {
    let mut batches = vec![Vec::new()];
    let (mut batch_bytes, mut all_bytes) = (0, 0);
    for line in recording.lines().cycle() {
        let batch = batches.last_mut().expect("there is one");
        if batch.len() == BATCH_LINES || batch_bytes + line.len() > BATCH_BYTES {
            if all_bytes > ROUND_BYTES {
                break;
            }
            batches.push(Vec::new());
            batch_bytes = 0;
        }
        batches.last_mut().expect("there is one").push(LogLine::Whole(line.to_owned()));
        batch_bytes += line.len();
        all_bytes += line.len();
    }
    batches
}

/// Megabytes a second, natively and in the guest.
fn speeds(batches: &[Vec<LogLine>], plugin: &std::sync::Arc<Plugin>) -> (f64, f64) {
    let bytes: usize = batches.iter().flatten().map(text).map(str::len).sum();
    let (mut native, mut guest) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let start = ThreadTime::now();
        let mut stream = Stream::default();
        for batch in batches {
            batch.iter().map(text).for_each(|line| stream.push_line(line));
        }
        black_box(&stream);
        native = native.min(start.elapsed());

        let (mut instance, command) = following(plugin);
        let events: Vec<[Event; 1]> = batches.iter().map(|batch| [event(command, batch.clone())]).collect();
        let start = ThreadTime::now();
        for event in &events {
            black_box(instance.step(Timestamp::from_millis(2_000), event).expect("a step"));
        }
        guest = guest.min(start.elapsed());
    }
    let speed = |took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    (speed(native), speed(guest))
}

/// A gigabyte of messages of all sizes, each with its own id. Memory at the end, and megabytes a second.
fn synthetic(plugin: &std::sync::Arc<Plugin>) -> (u64, f64) {
    let (mut instance, command) = following(plugin);
    let (mut sent, mut index) = (0_u64, 0_usize);
    let mut took = Duration::ZERO;
    while sent < SYNTHETIC_BYTES {
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        while batch.len() < BATCH_LINES && batch_bytes < BATCH_BYTES {
            index += 1;
            let text = "word ".repeat(index * 37 % 2_000);
            let line = match index % 3 {
                0 => json!({"type": "assistant", "session_id": "s", "message": {"id": format!("msg_{index}"),
                    "content": [{"type": "text", "text": text}], "usage": {"output_tokens": 7}}}),
                1 => {
                    json!({"type": "user", "message": {"content": [{"type": "tool_result", "content": text}]}})
                }
                _ => json!({"type": "stream_event", "event": {"delta": {"text": text}}}),
            };
            let line = line.to_string();
            batch_bytes += line.len();
            batch.push(LogLine::Whole(line));
        }
        sent += batch_bytes as u64;
        let event = [event(command, batch)];
        let start = ThreadTime::now();
        black_box(instance.step(Timestamp::from_millis(2_000), &event).expect("a step"));
        took += start.elapsed();
    }
    (instance.usage().memory_bytes, sent as f64 / 1e6 / took.as_secs_f64())
}

fn text(line: &LogLine) -> &str {
    match line {
        LogLine::Whole(text) => text,
        LogLine::Cut(_) => unreachable!("no line here is too long"),
    }
}

fn event(command: u64, lines: Vec<LogLine>) -> Event {
    Event::LogLines(LogLines { command, first_index: 0, lines })
}

/// A run that has come to following its agent's log, and the command that its lines belong to.
fn following(plugin: &std::sync::Arc<Plugin>) -> (Instance, u64) {
    let context = json!({"runId": "r", "agent": {"id": "a"}, "config": {"image": "local/agent:1"}});
    let facts = IntakeFacts::bare(Some("default"));
    let (request, _) = intake::split(&context, "claude_k8s", facts).expect("a good context");
    let mut instance = plugin.instantiate().expect("an instance");
    let mut commands =
        instance.start(Timestamp::from_millis(1_000), &request).expect("a start").expect("no refusal");
    loop {
        let command = commands.last().expect("a running run has a command");
        if let Some(log) = commands.iter().find(|command| matches!(command.action, Action::FollowLog(_))) {
            return (instance, log.id);
        }
        let events = answers(command, &commands);
        commands = instance.step(Timestamp::from_millis(1_000), &events).expect("a step");
    }
}

/// What a cluster where all goes well says.
fn answers(last: &Command, commands: &[Command]) -> Vec<Event> {
    if matches!(last.action, Action::AcquireGuard(_)) {
        return vec![Event::GuardAcquired];
    }
    let object =
        || ObjectRef { namespace: "default".to_owned(), name: "job".to_owned(), uid: "u".to_owned() };
    let answer = |command: &Command| {
        let ok = match &command.action {
            Action::ListJobs(_) => AnswerOk::Jobs(Vec::new()),
            Action::DryRunPod(_) => AnswerOk::Warnings(Vec::new()),
            Action::CreateJob(_) | Action::CreateSecret(_) => AnswerOk::Created(object()),
            Action::UnsuspendJob(_) => AnswerOk::Done,
            _ => return None,
        };
        Some(Event::Answered(Answer { command: command.id, outcome: Ok(ok) }))
    };
    let answered: Vec<Event> = commands.iter().filter_map(answer).collect();
    if answered.is_empty() { vec![Event::PodObserved(running(object()))] } else { answered }
}

fn running(pod: ObjectRef) -> PodSnapshot {
    let state = ContainerState::Running(Some(1_000));
    let agent =
        ContainerStatus { name: "claude".to_owned(), role: ContainerRole::Main, state, restart_count: 0 };
    PodSnapshot {
        job_uid: pod.uid.clone(),
        pod,
        phase: PodPhase::Running,
        reason: None,
        message: None,
        is_deleting: false,
        node: None,
        created_at_ms: None,
        started_at_ms: None,
        conditions: Vec::new(),
        is_gated: false,
        containers: vec![agent],
    }
}
