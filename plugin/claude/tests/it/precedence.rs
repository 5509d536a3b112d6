//! Which rule decides where several hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use paperclip_kit::outcome::{ErrorCode, JobOutcome};
use serde_json::{Value, json};

use crate::story::Story;

type Change = fn(Story) -> Story;

/// What a failed result event may say, with the row that is about it.
fn failures() -> [(u8, Value); 9] {
    [
        (3, json!({"errors": ["No conversation found with session ID: abc"]})),
        (4, json!({"api_error_status": 401})),
        (5, json!({"errors": ["model not found: x"]})),
        (6, json!({"stop_reason": "max_turns"})),
        (7, json!({"errors": ["diagnostics.previous_message_id: must be an id (starts with `msg_`)"]})),
        (8, json!({"errors": ["usage limit reached"]})),
        (9, json!({"errors": ["Overloaded"]})),
        (10, json!({"errors": ["API returned an empty or malformed response (HTTP 200)"]})),
        (11, json!({"stopReason": "refusal"})),
    ]
}

/// One event that says both.
fn merged(one: &Value, other: &Value) -> Value {
    let mut both = one.as_object().cloned().unwrap_or_default();
    for (name, value) in other.as_object().into_iter().flatten() {
        match (both.get_mut(name), value) {
            (Some(Value::Array(texts)), Value::Array(more)) => texts.extend(more.clone()),
            _ => drop(both.insert(name.clone(), value.clone())),
        }
    }
    Value::Object(both)
}

fn results() -> Vec<Story> {
    let mut stories = vec![Story::new(), Story::new().succeeds()];
    let event = |more: &Value| Story::new().fails("", more);
    for (at, (_, one)) in failures().iter().enumerate() {
        stories.push(event(one));
        let as_success = merged(one, &json!({"subtype": "success", "is_error": false}));
        stories.push(event(&as_success));
        stories.extend(failures()[at + 1..].iter().map(|(_, other)| event(&merged(one, other))));
    }
    stories
}

/// Every story that can be told by one choice of each kind.
fn stories() -> Vec<Story> {
    let ends: [Change; 4] = [|s| s, |s| s.exits(0), |s| s.exits(1), Story::loses_its_job];
    let stops: [Change; 4] = [
        |s| s,
        |s| s.with(|e| e.is_cancelled = true),
        |s| s.with(|e| e.is_timed_out = true),
        |s| s.with(|e| e.job = JobOutcome::DeadlineExceeded),
    ];
    let messages: [Change; 4] =
        [|s| s, Story::gets_nothing, |s| s.says("hello"), |s| s.says("hello").gets_nothing()];
    let lines: [Change; 6] = [
        |s| s,
        |s| s.prints("Please run claude login"),
        |s| s.prints("unknown model x"),
        |s| s.prints("usage limit reached").prints("please log in"),
        |s| s.prints(r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected"}}"#),
        |s| s.prints("too many requests").prints("usage limit reached").prints("model not found"),
    ];
    let begins: [Change; 2] = [|s| s, Story::begins];
    let told = |stories: Vec<Story>, choices: &[Change]| -> Vec<Story> {
        stories.iter().flat_map(|story| choices.iter().map(|change| change(story.clone()))).collect()
    };
    // What came before a result event changes nothing: only runs without one need those choices.
    let begun = told(told(vec![Story::new()], &begins), &messages);
    let all = results().into_iter().chain(begun).collect();
    let mut stories = [&ends[..], &stops, &lines].into_iter().fold(all, told);
    stories.push(Story::new().with(|evidence| {
        evidence.is_cancelled = true;
        evidence.is_timed_out = true;
    }));
    stories
}

/// The codes of a row; of row 17 in their order.
fn codes(row: u8) -> &'static [Option<ErrorCode>] {
    match row {
        1 => &[Some(ErrorCode::Cancelled)],
        2 => &[Some(ErrorCode::Timeout)],
        3 => &[Some(ErrorCode::SessionUnavailable)],
        4 => &[Some(ErrorCode::ClaudeAuthRequired)],
        5 => &[Some(ErrorCode::ModelNotFound)],
        6 => &[Some(ErrorCode::MaxTurnsExhausted)],
        7 => &[Some(ErrorCode::ClaudePoisonedPreviousMessageId)],
        8 => &[Some(ErrorCode::ProviderQuota)],
        9 => &[Some(ErrorCode::ClaudeTransientUpstream)],
        10 | 15 => &[Some(ErrorCode::LlmApiError)],
        11 => &[Some(ErrorCode::ClaudeRefusal)],
        12 => &[Some(ErrorCode::ClaudeRunFailed)],
        13 => &[None],
        14 => &[Some(ErrorCode::K8sJobDeletedExternally)],
        16 => &[Some(ErrorCode::ClaudeTruncated)],
        17 => &[
            Some(ErrorCode::ClaudeAuthRequired),
            Some(ErrorCode::ModelNotFound),
            Some(ErrorCode::ProviderQuota),
            Some(ErrorCode::ClaudeTransientUpstream),
        ],
        18 => &[Some(ErrorCode::ClaudeInitFailed)],
        19 => &[Some(ErrorCode::ClaudeOutputUnparseable)],
        20 => &[Some(ErrorCode::ClaudeExited)],
        other => panic!("there is no row {other}"),
    }
}

#[test]
fn the_first_row_that_holds_decides() {
    let mut beaten: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
    for story in stories() {
        let rows = story.rows();
        let (first, others) = rows.split_first().expect("some row holds for every run");
        assert!(rows.is_sorted());
        assert!(codes(*first).contains(&story.code()), "{rows:?} {:?}", story.code());
        beaten.entry(*first).or_default().extend(others);
    }
    let mut table = String::new();
    for (row, others) in &beaten {
        let others: Vec<_> = others.iter().map(u8::to_string).collect();
        let others = if others.is_empty() { "nothing".to_owned() } else { others.join(" ") };
        writeln!(table, "{row} decides over {others}").unwrap();
    }
    insta::assert_snapshot!(table, @r"
    1 decides over 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
    2 decides over 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
    3 decides over 4 5 6 7 8 9 10 11 12
    4 decides over 5 6 7 8 9 10 11 12
    5 decides over 6 7 8 9 10 11 12
    6 decides over 7 8 9 10 11 12
    7 decides over 8 9 10 11 12
    8 decides over 9 10 11 12
    9 decides over 10 11 12
    10 decides over 11 12
    11 decides over 12 13
    12 decides over nothing
    13 decides over nothing
    14 decides over 15 16 17 20
    15 decides over 16 17 18 19 20
    16 decides over 17 18 19 20
    17 decides over 18 20
    18 decides over 20
    19 decides over 20
    20 decides over nothing
    ");
}

#[test]
fn each_failure_alone_is_its_own_row() {
    for (row, event) in failures() {
        assert_eq!(Story::new().fails("", &event).rows()[0], row, "{event}");
    }
}

#[test]
fn of_the_lines_login_comes_before_model_quota_and_overload() {
    let lines = [
        ("please log in", ErrorCode::ClaudeAuthRequired),
        ("model not found", ErrorCode::ModelNotFound),
        ("usage limit reached", ErrorCode::ProviderQuota),
        ("too many requests", ErrorCode::ClaudeTransientUpstream),
    ];
    for (at, (line, code)) in lines.iter().enumerate() {
        let weaker = lines[at..].iter().rev();
        let story = weaker.fold(Story::new().exits(1), |story, (line, _)| story.prints(line));
        assert_eq!(story.code(), Some(*code), "{line}");
    }
}
