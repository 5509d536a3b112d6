use paperclip_kit::machine::Agent as _;
use paperclip_kit::outcome::StreamEnd;

use super::*;
use crate::agent::Claude;

fn read(lines: &[&str]) -> Stream {
    let mut stream = Stream::default();
    lines.iter().for_each(|line| stream.push_line(line));
    stream
}

fn assistant(id: &str, rest: &str) -> String {
    format!(r#"{{"type":"assistant","session_id":"s","message":{{"id":"{id}",{rest}}}}}"#)
}

const SYNTHETIC: &str = r#""model":"<synthetic>","content":[{"type":"text","text":"API Error"}],"stop_reason":"stop_sequence","usage":{"output_tokens":0}"#;
const TEXT: &str = r#""content":[{"type":"text","text":"x"}]"#;

#[test]
fn blocks_of_one_message_are_all_kept() {
    let first = assistant("m", r#""content":[{"type":"text","text":"one"}],"usage":{"output_tokens":1}"#);
    let second = assistant("m", r#""content":[{"type":"text","text":"two"}],"usage":{"output_tokens":4}"#);
    let stream = read(&[&first, &second]);
    assert_eq!(stream.summary(), "one\n\ntwo");
    assert_eq!(stream.usage().unwrap().output_tokens, 4);
}

#[test]
fn a_line_may_end_with_a_carriage_return_and_start_with_a_byte_order_mark() {
    let init = "\u{feff}{\"type\":\"system\",\"subtype\":\"init\",\"model\":\"m\",\"claude_code_version\":\"2.1\"}\r";
    let stream = read(&[init, "\r", "", "\0"]);
    assert_eq!((stream.model(), stream.kept.cli_version.as_deref()), (Some("m"), Some("2.1")));
    assert_eq!(stream.kept.nonempty_lines, 1);
    assert_eq!(stream.kept.untyped.cause(), None);
}

#[test]
fn only_what_is_not_an_event_is_untyped() {
    for line in ["text", "[1]", "7", "null", "\"x\"", r#"{"a":1}"#, r#"{"type":""}"#, r#"{"type":5}"#] {
        assert!(read(&[line]).kept.untyped.cause().is_some(), "{line}");
    }
    for line in [r#"{"type":"x"#, "{", r#"{"type":"a"}{"type":"b"}"#, r#"{"type":"future_event"}"#] {
        assert!(read(&[line]).kept.untyped.cause().is_none(), "{line}");
    }
}

#[test]
fn events_are_found_beside_escapes_text_and_other_events() {
    let result = r#"{"subtype":"success","result":"done","type":"result"}"#;
    for line in [
        format!("\u{1b}[?2004h{result}"),
        format!("\u{1b}]0;title\u{7}{result}\u{1b}[0m"),
        format!("Now using node v20.1.0{result}"),
        format!("{result}{result}"),
        format!(r#"{{"type":"user"}}{result} bye"#),
        format!(r#"[{{"type":"system","subtype":"init"}},{result}]"#),
    ] {
        assert!(read(&[&line]).result.is_some(), "{line}");
    }
    for line in [
        format!(r#"{{"type":"user","content":"{result}"}}"#),
        format!(r#"{{"type":"user","content":"cut {result}"#),
        format!(r#"cut {{"type":"user","content":"{result}"#),
    ] {
        assert!(read(&[&line]).result.is_none(), "{line}");
    }
}

#[test]
fn a_result_of_any_size_and_order_of_members_counts() {
    let line = format!(r#"{{"result":"{}","is_error":false,"type":"result"}}"#, "x".repeat(15 << 20));
    let stream = read(&[&line]);
    assert!(stream.result.is_some());
    assert!(stream.summary().len() <= 32 * 1024);
}

#[test]
fn an_empty_response_counts_unless_something_follows() {
    let empty = assistant("m", r#""content":[],"stop_reason":null,"usage":{"output_tokens":0}"#);
    let full = assistant("n", r#""content":[],"stop_reason":null,"usage":{"output_tokens":5}"#);
    let thinking = assistant(
        "n",
        r#""content":[{"type":"thinking","thinking":"hm"}],"stop_reason":null,"usage":{"output_tokens":0}"#,
    );
    assert!(read(&[&empty]).kept.ends_empty && read(&[&thinking]).kept.ends_empty);
    assert!(!read(&[&empty, &full]).kept.ends_empty);
    assert!(read(&[&full, &empty]).kept.ends_empty);
    let stopped = assistant("m", r#""content":[],"stop_reason":"end_turn","usage":{"output_tokens":0}"#);
    assert!(!read(&[&empty, &stopped]).kept.ends_empty);
    let message_level =
        assistant("m", r#""content":[],"stop_reason":null,"output_tokens":0,"usage":{"output_tokens":5}"#);
    assert!(read(&[&message_level]).kept.ends_empty);
}

#[test]
fn content_is_judged_by_blocks_before_tokens() {
    let of = |rest: &str| read(&[&assistant("m", rest)]);
    let zero = r#""stop_reason":null,"usage":{"output_tokens":0}"#;
    for content in [
        r#""content":[{"type":"text","text":"x"}]"#.to_owned(),
        format!(r#""content":[{{"type":"text","text":"x"}}],{zero}"#),
        format!(r#""content":[{{"type":"tool_use","id":"t"}}],{zero}"#),
        format!(r#""content":[{{"type":"server_tool_use","id":"t"}}],{zero}"#),
        r#""content":[],"usage":{"output_tokens":1}"#.to_owned(),
    ] {
        let stream = of(&content);
        assert!(stream.kept.has_content && !stream.kept.ends_empty, "{content}");
    }
    for nothing in
        [r#""content":[{"type":"text","text":""}]"#, r#""content":"x""#, r#""content":[{"type":"thinking"}]"#]
    {
        assert!(!of(nothing).kept.has_content, "{nothing}");
    }
}

#[test]
fn a_message_of_the_cli_is_its_report_and_not_content() {
    let synthetic = assistant("m", SYNTHETIC);
    let stream = read(&[&synthetic]);
    assert!(!stream.kept.has_content && !stream.kept.ends_empty);
    assert_eq!(stream.usage(), None);
    assert_eq!(stream.failure.as_ref().unwrap().text, "API Error");
    let marked = r#"{"type":"assistant","is_api_error_message":true,"api_error_status":529,
        "message":{"content":[{"type":"text","text":"x"}]}}"#
        .replace('\n', "");
    assert_eq!(read(&[&marked]).failure.as_ref().unwrap().status(&LEXICON), Some(529));
    assert_eq!(read(&[&synthetic, &assistant("n", TEXT)]).failure, None);
    let of_sub_agent = marked.replacen('{', r#"{"parent_tool_use_id":"t","#, 1);
    assert_eq!(read(&[&of_sub_agent]).failure, None);
}

#[test]
fn a_retry_is_open_until_an_answer_or_a_result() {
    let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"error_status":529}"#;
    assert!(read(&[retry]).retry().is_some());
    for after in [assistant("m", TEXT), assistant("m", SYNTHETIC), r#"{"type":"result"}"#.to_owned()] {
        assert!(read(&[retry, &after]).retry().is_none());
    }
}

#[test]
fn a_rejected_limit_is_overtaken_by_content() {
    let rejected = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected"}}"#;
    assert!(read(&[rejected]).limits().is_rejected());
    assert!(read(&[rejected, &assistant("m", SYNTHETIC)]).limits().is_rejected());
    assert!(!read(&[rejected, &assistant("m", TEXT)]).limits().is_rejected());
}

#[test]
fn a_sub_agents_texts_are_not_the_runs() {
    let line =
        r#"{"type":"assistant","parent_tool_use_id":"t","message":{"content":[{"type":"text","text":"x"}]}}"#;
    let stream = read(&[line]);
    assert_eq!(stream.summary(), "");
    assert!(stream.kept.has_content);
}

#[test]
fn the_last_of_several_results_counts() {
    let stream = read(&[
        r#"{"type":"result","subtype":"error_during_execution","session_id":"a","result":"one"}"#,
        r#"{"session_id":"b","subtype":"success","result":"two","type":"result"}"#,
        &assistant("m", TEXT),
    ]);
    assert_eq!(stream.result().unwrap().subtype, "success");
    assert_eq!(stream.summary(), "one\n\ntwo");
    assert_eq!(stream.kept.session_id.as_deref(), Some("s"));
    assert_eq!(stream.kept.tail.kept(), "");
}

#[test]
fn an_agent_has_ended_after_its_report_and_may_have_open_tasks() {
    let tasks =
        |list: &str| format!(r#"{{"type":"system","subtype":"background_tasks_changed","tasks":{list}}}"#);
    let good = r#"{"type":"result","subtype":"success"}"#;
    let bad = r#"{"type":"result","subtype":"error_max_turns"}"#;
    let ended = |is_good, open_tasks| StreamEnd::Ended { is_good, open_tasks };
    for (lines, expected) in [
        (vec![], StreamEnd::Open),
        (vec![tasks("[{}]")], StreamEnd::Open),
        (vec![good.to_owned()], ended(true, 0)),
        (vec![bad.to_owned()], ended(false, 0)),
        (vec![tasks("[{},{}]"), good.to_owned()], ended(true, 2)),
        (vec![good.to_owned(), tasks("[{}]")], ended(true, 1)),
        (vec![tasks("[{}]"), good.to_owned(), tasks("[]")], ended(true, 0)),
        (vec![good.to_owned(), bad.to_owned()], ended(false, 0)),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(Claude.ended(&read(&lines)), expected, "{lines:?}");
    }
}

#[test]
fn what_the_agent_did_last_is_kept() {
    let tool = assistant("m", r#""content":[{"type":"tool_use","name":"Bash"}]"#);
    for (line, expected) in [
        ("", ""),
        (r#"{"type":"system","subtype":"init"}"#, "its start"),
        (&assistant("m", TEXT), "a message"),
        (&tool, "a call of the tool Bash"),
        (r#"{"type":"user"}"#, "the result of a tool"),
        (
            r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":2}"#,
            "API retry 1 of 2: no answer",
        ),
        (r#"{"type":"result"}"#, "its result"),
    ] {
        assert_eq!(read(&[line]).kept.last_activity, expected, "{line}");
    }
}

#[test]
fn unknown_types_are_counted() {
    let stream = read(&[r#"{"type":"a"}"#, r#"{"type":"a"}"#, r#"{"type":"stream_event"}"#]);
    assert_eq!(stream.kept.unknown_events.counts().iter().collect::<Vec<_>>(), [(&"a".to_owned(), &2)]);
}

#[test]
fn an_output_is_counted_to_its_last_byte() {
    for (output, bytes, lines) in
        [("", 0, 0), ("\n", 1, 0), ("é", 2, 1), ("a\r\n\nb", 5, 2), ("a\nb\n", 4, 2)]
    {
        let mut stream = Stream::default();
        stream.push_output(output);
        assert_eq!((stream.kept.stdout_bytes, stream.kept.nonempty_lines), (bytes, lines), "{output:?}");
    }
}

#[test]
fn of_a_line_that_is_too_long_its_type_counts() {
    let mut stream = Stream::default();
    stream.push_cut_line(
        r#"{"type":"assistant","message":{"content":[{"type":"text","text":"aaa"#,
        "aaa\"}]}}",
        5 << 20,
    );
    assert!(stream.kept.has_content);
    assert_eq!(stream.kept.stdout_bytes, (5 << 20) + 1);
    let mut stream = Stream::default();
    stream.push_cut_line("Error: aaa", "aaa", 5 << 20);
    assert_eq!(stream.kept.untyped.cause().as_deref(), Some("Error: aaa"));
    let mut stream = Stream::default();
    stream.push_cut_line(r#"{"result":"aaa"#, r#"aaa","type":"result","is_error":false}"#, 5 << 20);
    assert!(stream.result.is_none());
}
