//! Recorded sessions of the agent's CLI, from the context to the result.

use std::fs;

use serde_json::{Value, json};

use crate::host::{Place, TOKEN, recording};

/// Each recording, how the CLI ended, and what is to come of it.
const RECORDINGS: [(&str, &str, i32, Option<&str>); 4] = [
    ("ok", "exit 0", 0, None),
    ("tool", "exit 0", 0, None),
    ("401", "exit 1", 1, Some("claude_auth_required")),
    ("killed", "kill -9 $$", 1, Some("claude_truncated")),
];

#[test]
fn emits_every_line_of_a_recording_once_in_order_byte_for_byte() {
    for (name, end, code, error_code) in RECORDINGS {
        let output = recording(name);
        let place = Place::playing(&output, end);
        let run = place.run(json!({}));
        assert_eq!(run.lines("stdout"), output.lines().collect::<Vec<_>>(), "{name}");
        assert_eq!(run.code, Some(code), "{name}: {}", run.stderr);
        assert_eq!(run.result()["errorCode"].as_str(), error_code, "{name}: {}", run.result());
    }
}

#[test]
fn the_runs_token_is_found_nowhere() {
    // The agent itself prints it, and it is in a text of its own as well.
    let place = Place::new(
        "cat >/dev/null\nprintf '%s\\n' \"key $PAPERCLIP_API_KEY\" >&2\nprintf 'key %s\\n' \"$PAPERCLIP_API_KEY\"\nexit 3",
    );
    let run = place.run(json!({"env": {"OTHER": TOKEN}}));
    assert_eq!(run.lines("stdout"), ["key [redacted:authToken]"], "{}", run.stderr);
    assert_eq!(run.code, Some(1));
    assert!(!run.stdout.contains(TOKEN), "{}", run.stdout);
    assert_eq!(place.holds(TOKEN), None);
}

#[test]
fn the_token_of_paperclips_tools_reaches_the_agent_and_nothing_else() {
    let token = "canary-tools-token-0c4f1e";
    let place = Place::new("cat >/dev/null\necho \"tools $PAPERCLIP_RUNTIME_TOOLS_TOKEN\"");
    let path = place.context(json!({}));
    let mut context: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    context["context"]["paperclipRuntimeTools"] = json!({"guidance": "Search first.", "bearerToken": token});
    fs::write(&path, context.to_string()).unwrap();
    let run = ["run", "--cluster", "local", "--output", "ndjson", "--context"];
    let output = place.host(&run).arg(&path).output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(stdout.contains("tools [redacted:PAPERCLIP_RUNTIME_TOOLS_TOKEN]"), "{stdout}");
    assert!(!stdout.contains(token) && !stderr.contains(token), "{stdout}{stderr}");
    assert_eq!(place.holds(token), None, "neither the journal nor a spec has it");

    let output = place.host(&["manifest", "--context"]).arg(&path).output().unwrap();
    let manifest = String::from_utf8(output.stdout).unwrap();
    assert!(manifest.contains("config.env.PAPERCLIP_RUNTIME_TOOLS_TOKEN"), "{manifest}");
    assert!(!manifest.contains(token), "{manifest}");
}

#[test]
fn the_agent_gets_prompt_environment_and_folder() {
    let place = Place::new(
        "printf 'prompt: %s\\n' \"$(cat)\"\nprintf '%s\\n' \"$PAPERCLIP_RUN_ID\" \"$PAPERCLIP_TASK_ID\" \"$COLOUR\"",
    );
    let run = place
        .run(json!({"env": {"COLOUR": "green"}, "promptTemplate": "Hello {{agent.name}}, it's naïve ☕."}));
    assert_eq!(
        run.lines("stdout"),
        ["prompt: Hello Nova, it's naïve ☕.", "0b7c2f6e-1111-4222-8333-444455556666", "T-1", "green"],
        "{}",
        run.stderr
    );
}

#[test]
fn stderr_is_separate_and_explains_an_exit() {
    let place = Place::new("cat >/dev/null\necho 'something went wrong' >&2\nexit 3");
    let run = place.run(json!({}));
    assert_eq!(run.lines("stderr"), ["something went wrong"], "{:#?}", run.records);
    let result = run.result();
    assert_eq!((result["exitCode"].as_i64(), result["errorCode"].as_str()), (Some(3), Some("claude_exited")));
    let message = result["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("Claude exited with code 3: something went wrong"), "{message}");
}

#[test]
fn long_lines_and_control_bytes_come_whole() {
    let long = "☕".repeat(150_000);
    let output = format!("{long}\nx\u{1}y\r\n\nlast without an end");
    let place = Place::playing(&output, "exit 0");
    let run = place.run(json!({}));
    assert_eq!(run.lines("stdout"), [long.as_str(), "x\u{1}y\r", "", "last without an end"]);
}

#[test]
fn a_missing_agent_is_explained() {
    let place = Place::new("exit 0");
    std::fs::remove_file(place.path("bin/claude")).unwrap();
    let run = place.run(json!({"env": {"PATH": "/usr/bin:/bin"}}));
    assert_eq!(run.code, Some(1));
    let message = run.result()["errorMessage"].as_str().unwrap().to_owned();
    assert!(message.contains("not found"), "{message}");
}
