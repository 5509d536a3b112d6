//! What is done with bytes from outside, a function per kind: no bytes cause a panic or a wrong record.
//!
//! `fuzz/` calls the same functions with bytes of libFuzzer.

use std::sync::LazyLock;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use paperclip_engine::intake::{self, IntakeFacts};
use paperclip_engine::journal::Entry;
use paperclip_engine::log::{ContainerSeen, LogEnd, LogLimits, LogOutput, LogReader};
use paperclip_engine::time::Timestamp;
use paperclip_guest::{Plugin, Runtime, RuntimeOptions, Source};
use paperclip_kit::machine::Agent;
use paperclip_kit::plugin::AgentPlugin as _;
use paperclip_shell::journal::History;
use paperclip_shell::snapshot;

type Stream = <claude_k8s::Claude as Agent>::Stream;

/// A kind of bytes, and what is done with them.
pub(crate) type Kind = (&'static str, fn(&[u8]));

pub(crate) const KINDS: &[Kind] = &[
    ("stream_lines", stream_lines),
    ("log_framing", log_framing),
    ("journal_files", journal_files),
    ("contexts", contexts),
    ("plugin_files", plugin_files),
    ("kubernetes_objects", kubernetes_objects),
    ("http_bodies", http_bodies),
];

/// What an agent prints.
pub(crate) fn stream_lines(bytes: &[u8]) {
    let agent = claude_k8s::Claude;
    let mut stream = Stream::default();
    for line in String::from_utf8_lossy(bytes).lines() {
        agent.read_line(&mut stream, line);
        agent.read_stderr_line(&mut stream, line);
        agent.read_cut_line(&mut stream, line, line, line.len() as u64);
        let entries = claude_k8s::Claude::transcript(line, "2027-01-15T08:00:00Z");
        assert!(serde_json::from_str::<Vec<serde_json::Value>>(&entries).is_ok(), "{entries}");
    }
    let kept = serde_json::to_vec(&stream).expect("plain data");
    let again: Stream = serde_json::from_slice(&kept).expect("what was kept is read");
    assert_eq!(serde_json::to_vec(&again).expect("plain data"), kept);
}

/// A log as the API server streams it: in two pieces, the second one after a break. The first byte says where.
pub(crate) fn log_framing(bytes: &[u8]) {
    let Some((at, bytes)) = bytes.split_first() else { return };
    let (first, second) = bytes.split_at(bytes.len() * usize::from(*at) / 256);
    let mut reader = LogReader::new(LogLimits::default(), 1);
    let now = Timestamp::from_millis(1);
    let mut lines = 0;
    for (piece, end) in [(first, LogEnd::Broken("reset".to_owned())), (second, LogEnd::Clean)] {
        lines += drain(&mut reader);
        reader.on_opened(now, false);
        reader.on_bytes(now, piece);
        reader.on_closed(now, end);
        lines += drain(&mut reader);
        reader.on_deadline(Timestamp::from_millis(10_000));
    }
    reader.on_container(Timestamp::from_millis(20_000), ContainerSeen::PodDeleted);
    lines += drain(&mut reader);
    assert_eq!(reader.position().lines(), lines, "what was delivered is what is counted");
}

fn drain(reader: &mut LogReader) -> u64 {
    let mut lines = 0;
    while let Some(output) = reader.poll() {
        if let LogOutput::Lines(batch) = output {
            lines += batch.len() as u64;
        }
    }
    lines
}

/// The journal of a run, as a disk gives it back.
pub(crate) fn journal_files(bytes: &[u8]) {
    for line in String::from_utf8_lossy(bytes).lines() {
        if let Ok(entry) = Entry::parse(line) {
            assert_eq!(Entry::parse(&entry.to_line()), Ok(entry));
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal-000001.ndjson");
    std::fs::write(&path, bytes).expect("a file");
    let history = History::open(&path).expect("it is there");
    let entries = history.entries().take_while(Result::is_ok).count();
    assert!(entries <= bytes.len());
}

/// Paperclip's execution context.
pub(crate) fn contexts(bytes: &[u8]) {
    let Ok(context) = serde_json::from_slice(bytes) else { return };
    let facts = IntakeFacts::bare(Some("agents"));
    if let Err(error) = intake::split(&context, "claude_k8s", facts) {
        assert!(!error.to_string().is_empty());
    }
}

/// A file in the folder of plugins.
pub(crate) fn plugin_files(bytes: &[u8]) {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Runtime::new(&RuntimeOptions::default()).expect("a runtime"));
    if let Err(error) = Plugin::load(&RUNTIME, Source::Builtin("outside".to_owned()), bytes) {
        assert!(!error.to_string().is_empty());
    }
}

/// What the API server and its watches deliver.
pub(crate) fn kubernetes_objects(bytes: &[u8]) {
    if let Ok(job) = serde_json::from_slice::<Job>(bytes) {
        snapshot::job(&job);
    }
    if let Ok(pod) = serde_json::from_slice::<Pod>(bytes) {
        snapshot::pod(&pod);
    }
    if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
        snapshot::event(&event);
    }
}

/// Documents that come over HTTP: evidence to judge, stored sessions, skills and checks.
pub(crate) fn http_bodies(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(judged) = claude_k8s::Claude::classify(1_800_000_000_000, &text) {
        assert!(serde_json::from_str::<serde_json::Value>(&judged).is_ok(), "{judged}");
    }
    if let Some(session) = claude_k8s::Claude::decode_session(&text) {
        claude_k8s::Claude::encode_session(&session);
    }
}
