//! What holds for any output.

use claude_k8s::outcome::{classify_document, judge};
use claude_k8s::stream::Stream;
use claude_k8s::transcript::entries_json;
use paperclip_kit::outcome::{Evidence, RESULT_JSON_BYTES, Termination};
use paperclip_kit::stream::AgentStream as _;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::judgement::story::{INIT, Story, assistant};
use crate::recordings::recordings_of_330;

/// Lines as agents, shells and broken pipes print them.
fn line() -> impl Strategy<Value = String> {
    let result = |subtype: &'static str| json!({"type": "result", "subtype": subtype, "result": "x", "is_error": false});
    prop_oneof![
        Just(INIT.to_owned()),
        Just(assistant("m", "text", 5).to_string()),
        Just(assistant("n", "", 0).to_string()),
        Just(result("success").to_string()),
        Just(result("error_max_turns").to_string()),
        Just(
            r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1e300}}"#
                .to_owned()
        ),
        Just("5-hour limit reached, resets 3pm (Europe/Berlin)".to_owned()),
        Just("Please run /login at https://claude.ai/".to_owned()),
        Just(format!("\u{1b}[?25h{INIT}")),
        Just(format!("banner{INIT}{INIT}")),
        Just(format!("[{INIT},{INIT}]")),
        Just(r#"{"type":"system","subtype":"api_retry","attempt":1,"error_status":529}"#.to_owned()),
        "\\PC{0,40}",
        "[\\x00-\\x7f]{0,40}",
        "\\{\"type\":\"(assistant|user|result|system)\",\"[a-z]{1,4}\":[0-9\\[\\]{}\"]{0,8}\\}?",
    ]
}

fn evidence() -> impl Strategy<Value = Evidence> {
    (any::<bool>(), prop::option::of(0..3), any::<i64>()).prop_map(|(is_cancelled, exit, at_ms)| Evidence {
        is_cancelled,
        container: exit.map(|code| Termination { exit_code: Some(code), ..Termination::default() }),
        at_ms: Some(at_ms),
        ..Evidence::default()
    })
}

fn read(lines: &[String]) -> Stream {
    let mut stream = Stream::default();
    lines.iter().for_each(|line| stream.push_line(line));
    stream
}

proptest! {
    #[test]
    fn a_restored_stream_is_judged_the_same(lines in prop::collection::vec(line(), 0..20), at in 0_usize..20, evidence in evidence()) {
        let at = at.min(lines.len());
        let snapshot = serde_json::to_string(&read(&lines[..at])).unwrap();
        let mut restored: Stream = serde_json::from_str(&snapshot).unwrap();
        lines[at..].iter().for_each(|line| restored.push_line(line));
        let whole = read(&lines);
        prop_assert_eq!(&restored, &whole);
        prop_assert_eq!(judge(&evidence, &restored), judge(&evidence, &whole));
    }

    #[test]
    fn a_result_keeps_its_promises(lines in prop::collection::vec(line(), 0..20), evidence in evidence()) {
        let result = judge(&evidence, &read(&lines));
        prop_assert_eq!(result.error_code.is_some(), result.error_message.is_some());
        prop_assert_eq!(result.error_code.is_none(), result.is_success());
        prop_assert!(result.error_message.as_ref().is_none_or(|text| !text.is_empty()));
        let json = serde_json::to_string(&result).unwrap();
        prop_assert!(!json.contains("\\u0000"));
        prop_assert!(serde_json::to_string(&result.result_json).unwrap().len() <= RESULT_JSON_BYTES);
        let again: paperclip_kit::outcome::AdapterResult = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(again, result);
    }

    #[test]
    fn every_line_has_its_entries(line in line()) {
        let entries: Value = serde_json::from_str(&entries_json(&line, "ts")).unwrap();
        let is_blank = line.trim_matches(|c: char| c.is_whitespace() || c.is_control()).is_empty();
        prop_assert_eq!(entries.as_array().unwrap().is_empty(), is_blank);
    }

    #[test]
    fn without_a_result_event_there_is_no_success(lines in prop::collection::vec(line(), 0..20), evidence in evidence()) {
        let lines: Vec<_> = lines.into_iter().filter(|line| !line.contains("result")).collect();
        prop_assert!(!judge(&evidence, &read(&lines)).is_success());
    }

    #[test]
    fn refuses_what_is_not_a_document(json in "\\PC{0,80}") {
        let _ = classify_document(0, &json);
    }
}

#[test]
fn no_prefix_of_a_recording_is_a_success() {
    for recording in recordings_of_330() {
        let mut before = Stream::default();
        for line in recording.text.lines() {
            for cut in cuts(line) {
                let mut stream = before.clone();
                stream.push_line(&cut);
                for exit in [None, Some(0)] {
                    let container =
                        exit.map(|code| Termination { exit_code: Some(code), ..Termination::default() });
                    let result = judge(&Evidence { container, ..Evidence::default() }, &stream);
                    assert!(!result.is_success(), "{}: {cut}", recording.name);
                }
            }
            before.push_line(line);
        }
    }
}

/// The line cut after some of its bytes, after all of the last ones, broken characters replaced.
fn cuts(line: &str) -> impl Iterator<Item = String> {
    let step = 1 + line.len() / 1000;
    let ends = (0..line.len()).filter(move |end| end % step == 0 || end + 100 > line.len());
    ends.map(|end| String::from_utf8_lossy(&line.as_bytes()[..end]).into_owned())
}

#[test]
fn output_without_an_end_is_kept_in_bounded_space() {
    let mut story = Story::new().starts();
    let long = "x".repeat(3000);
    for index in 0..5_000 {
        story.stream.push_line(&assistant(&format!("msg_{index}"), &long, 1).to_string());
        story.stream.push_line(&long);
    }
    let snapshot = serde_json::to_string(&story.stream).unwrap();
    assert!(snapshot.len() < 200_000, "{} bytes", snapshot.len());
    assert_eq!(story.result().usage.unwrap().output_tokens, 5_000);
}
