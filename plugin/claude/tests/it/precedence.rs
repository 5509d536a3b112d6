//! Which rule decides where several hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use paperclip_kit::outcome::{ErrorCode, JobOutcome};
use serde_json::{Value, json};

use crate::judgement::story::{CODES, Story};

type Change = fn(Story) -> Story;

/// The rows in the order of the page.
const ROWS: [&str; 25] = [
    "1", "2", "3", "3b", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18",
    "19", "20", "21", "22", "23", "24",
];

fn place(row: &str) -> usize {
    ROWS.iter().position(|known| *known == row).expect("a row of the page")
}

/// What a failed result event may say, with the row that is about it.
fn failures() -> [(&'static str, Value); 11] {
    [
        ("5", json!({"errors": ["No conversation found with session ID: abc"]})),
        ("6", json!({"stop_reason": "max_turns"})),
        ("7", json!({"subtype": "error_max_budget_usd"})),
        ("8", json!({"errors": ["API Error: prompt is too long"]})),
        ("9", json!({"errors": ["API Error: model not found: x"]})),
        ("10", json!({"errors": ["API Error: Invalid API key"]})),
        ("11", json!({"errors": ["API Error: usage limit reached"]})),
        ("12", json!({"stopReason": "refusal"})),
        ("13", json!({"errors": ["API Error: Overloaded"]})),
        ("14", json!({"errors": ["API Error: API returned an empty or malformed response"]})),
        ("15", json!({"terminal_reason": "aborted_streaming"})),
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

/// Stories with a result event: a success, each failure alone, and each pair of them.
fn results() -> Vec<Story> {
    let mut stories = vec![Story::new().succeeds(), Story::new().fails("x", &json!({}))];
    let event = |more: &Value| Story::new().fails("", more);
    for (at, (_, one)) in failures().iter().enumerate() {
        stories.push(event(one));
        let as_success = merged(one, &json!({"subtype": "success", "is_error": false}));
        stories.push(event(&as_success));
        stories.extend(failures()[at + 1..].iter().map(|(_, other)| event(&merged(one, other))));
    }
    stories
}

/// Stories without a result event.
fn unreported() -> Vec<Story> {
    let messages: [Change; 7] = [
        |s| s,
        Story::gets_nothing,
        |s| s.says("hello"),
        |s| s.says("hello").gets_nothing(),
        |s| s.shows_an_error("Prompt is too long", &json!({})),
        |s| s.says("hello").shows_an_error("Invalid API key", &json!({"stop_reason": "refusal"})),
        |s| s.shows_an_error("model not found: usage limit reached, overloaded, empty response", &json!({})),
    ];
    let lines: [Change; 6] = [
        |s| s,
        |s| s.prints("Please run claude login"),
        |s| s.prints("unknown model x").prints("sh: claude: not found"),
        |s| s.prints("usage limit reached").prints("No conversation found with session ID: x"),
        |s| s.gets_rejected().retries(Some(401), "x"),
        |s| s.retries(Some(529), "overloaded").prints("too many requests"),
    ];
    let starts: [Change; 2] = [|s| s, Story::starts];
    [&starts[..], &messages, &lines].into_iter().fold(vec![Story::new()], each_with)
}

fn each_with(stories: Vec<Story>, choices: &[Change]) -> Vec<Story> {
    stories.into_iter().flat_map(|story| choices.iter().map(move |change| change(story.clone()))).collect()
}

/// Every story that one choice of each kind makes.
fn stories() -> Vec<Story> {
    let ends: [Change; 6] =
        [|s| s, |s| s.exits(0), |s| s.exits(1), |s| s.exits(127), |s| s.exits(143), Story::loses_its_job];
    let stops: [Change; 6] = [
        |s| s,
        |s| s.with(|e| e.is_cancelled = true),
        |s| s.with(|e| e.is_timed_out = true),
        |s| s.with(|e| e.quiet_sec = Some(900)),
        |s| s.with(|e| e.is_stopped_after_report = true),
        |s| s.with(|e| e.job = JobOutcome::DeadlineExceeded),
    ];
    let all = results().into_iter().chain(unreported()).collect();
    let mut stories = [&ends[..], &stops].into_iter().fold(all, each_with);
    stories.push(Story::new().with(|evidence| {
        evidence.is_cancelled = true;
        evidence.is_timed_out = true;
        evidence.quiet_sec = Some(1);
    }));
    stories
}

/// The codes of a row.
fn codes(row: &str) -> &'static [Option<ErrorCode>] {
    match row {
        "1" => &[None],
        "2" => &[Some(ErrorCode::CANCELLED)],
        "3" => &[Some(ErrorCode::TIMEOUT)],
        "3b" => &[Some(ErrorCode::AGENT_QUIET)],
        "4" | "16" => &[Some(CODES.run_failed)],
        "5" => &[Some(ErrorCode::SESSION_UNAVAILABLE)],
        "6" => &[Some(ErrorCode::MAX_TURNS_EXHAUSTED)],
        "7" => &[Some(ErrorCode::BUDGET_EXHAUSTED)],
        "8" => &[Some(ErrorCode::CONTEXT_EXCEEDED), Some(ErrorCode::SESSION_UNUSABLE)],
        "9" => &[Some(ErrorCode::MODEL_NOT_FOUND)],
        "10" => &[Some(CODES.auth_required)],
        "11" => &[Some(ErrorCode::PROVIDER_QUOTA)],
        "12" => &[Some(CODES.refusal)],
        "13" => &[Some(CODES.transient_upstream)],
        "14" | "18" => &[Some(ErrorCode::LLM_API_ERROR)],
        "15" => &[Some(CODES.aborted)],
        "17" => &[Some(ErrorCode::K8S_JOB_DELETED_EXTERNALLY)],
        "19" => &[Some(CODES.truncated)],
        "20" => &[
            Some(ErrorCode::MODEL_NOT_FOUND),
            Some(CODES.auth_required),
            Some(ErrorCode::PROVIDER_QUOTA),
            Some(CODES.transient_upstream),
        ],
        "21" => &[Some(ErrorCode::AGENT_NOT_FOUND)],
        "22" => &[Some(CODES.init_failed)],
        "23" => &[Some(CODES.output_unparseable)],
        "24" => &[Some(CODES.exited)],
        other => panic!("there is no row {other}"),
    }
}

#[test]
fn the_first_row_that_holds_decides() {
    let mut overruled: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for story in stories() {
        let rows = story.rows();
        let (first, others) = rows.split_first().expect("some row holds for every run");
        assert!(codes(first).contains(&story.code()), "{rows:?} {:?}", story.code());
        let others = others.iter().filter(|row| *row != first).map(|row| place(row));
        overruled.entry(place(first)).or_default().extend(others);
    }
    let mut table = String::new();
    for (row, others) in &overruled {
        let others: Vec<_> = others.iter().map(|row| ROWS[*row]).collect();
        let others = if others.is_empty() { "nothing".to_owned() } else { others.join(" ") };
        writeln!(table, "{} decides over {others}", ROWS[*row]).unwrap();
    }
    assert_eq!(overruled.len(), ROWS.len(), "each row decides some story");
    insta::assert_snapshot!(table);
}

#[test]
fn each_failure_alone_is_its_own_row() {
    for (row, event) in failures() {
        assert_eq!(Story::new().fails("", &event).rows()[0], row, "{event}");
    }
}

#[test]
fn of_two_failures_the_earlier_row_decides_and_a_refusal_before_row_8() {
    let order = ["5", "6", "7", "12", "8", "9", "10", "11", "13", "14", "15"];
    let rank = |row: &str| order.iter().position(|known| *known == row);
    for (at, (one_row, one)) in failures().iter().enumerate() {
        for (other_row, other) in &failures()[at + 1..] {
            let story = Story::new().fails("", &merged(one, other));
            let expected = if rank(one_row) < rank(other_row) { one_row } else { other_row };
            assert_eq!(&story.rows()[0], expected, "{one} {other}");
        }
    }
}

#[test]
fn of_the_lines_a_model_comes_before_credentials_quota_and_overload() {
    let lines = [
        ("model not found", ErrorCode::MODEL_NOT_FOUND),
        ("please log in", CODES.auth_required),
        ("usage limit reached", ErrorCode::PROVIDER_QUOTA),
        ("too many requests", CODES.transient_upstream),
    ];
    for (at, (line, code)) in lines.iter().enumerate() {
        let weaker = lines[at..].iter().rev();
        let story = weaker.fold(Story::new().exits(1), |story, (line, _)| story.prints(line));
        assert_eq!(story.code(), Some(*code), "{line}");
    }
}
