//! What the simulated agents print and how they end.

use crate::entropy::Entropy;

/// The run's token: wherever it shows up, a secret has leaked.
pub(crate) const TOKEN: &str = "canary-token-8f14e45fceea167a5a36dedd4bea2543";
/// A value of `config.env`.
pub(crate) const API_KEY: &str = "canary-key-c9f0f895fb98ab9159f51fd0297e236d";
/// What is shown in their place.
const MASKS: [(&str, &str); 2] = [(TOKEN, "[redacted:authToken]"), (API_KEY, "[redacted:VENDOR_KEY]")];

/// What an agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub bursts: Vec<Burst>,
    pub end: End,
    pub on_term: OnTerm,
    /// What it writes to stderr before it ends.
    pub stderr: String,
}

/// Lines that are printed at once, and so stamped alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Burst {
    pub after_ms: u64,
    pub lines: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Exits {
        after_ms: u64,
        code: i32,
    },
    /// It prints nothing more and does not end.
    Hangs,
}

/// What it does when it gets SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTerm {
    Exits {
        after_ms: u64,
    },
    /// It prints a last result event first.
    Reports {
        after_ms: u64,
    },
    Ignores,
}

/// What a printed line says about the run's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Failed,
}

/// The verdict of a line, if it is a result event.
pub(crate) fn verdict(line: &str) -> Option<Verdict> {
    let event: serde_json::Value =
        line.starts_with(r#"{"type":"result""#).then(|| serde_json::from_str(line).ok())??;
    let is_failed = event["is_error"] == true
        || event["subtype"].as_str().is_some_and(|subtype| subtype.starts_with("error"));
    Some(if is_failed { Verdict::Failed } else { Verdict::Good })
}

/// How many background tasks are open, if a line says so.
pub(crate) fn open_tasks(line: &str) -> Option<u64> {
    [TASKS_CLOSED, TASKS_OPEN].iter().position(|known| *known == line).map(|count| count as u64)
}

/// A text as it may be shown: with its secrets masked.
pub(crate) fn masked(text: &str) -> String {
    MASKS.iter().fold(
        text.to_owned(),
        |text, (secret, mask)| {
            if text.contains(secret) { text.replace(secret, mask) } else { text }
        },
    )
}

const INIT: &str = r#"{"type":"system","subtype":"init","session_id":"sess_new","model":"claude-sonnet-5","tools":["Bash"]}"#;
const RESULT: &str = r#"{"type":"result","subtype":"success","is_error":false,"result":"done","session_id":"sess_new","total_cost_usd":0.25,"usage":{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":7}}"#;
const RESULT_ERROR: &str = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"result":"it broke","session_id":"sess_new","usage":{"input_tokens":1,"output_tokens":1}}"#;
const RESULT_MAX_TURNS: &str = r#"{"type":"result","subtype":"error_max_turns","is_error":true,"session_id":"sess_new","usage":{"input_tokens":1,"output_tokens":1}}"#;
const NO_SESSION: &str = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"errors":["No conversation found with session ID: sess_old"]}"#;
/// The agent has started a task in the background.
pub(crate) const TASKS_OPEN: &str = r#"{"type":"system","subtype":"background_tasks_changed","tasks":[{"task_id":"b1","task_type":"local_bash","description":"sleep"}],"session_id":"sess_new"}"#;
/// It has ended.
pub(crate) const TASKS_CLOSED: &str =
    r#"{"type":"system","subtype":"background_tasks_changed","tasks":[],"session_id":"sess_new"}"#;
const SHUTDOWN: &str = r#"{"type":"result","subtype":"error_during_execution","is_error":true,"result":"interrupted","session_id":"sess_new"}"#;

fn say(id: u32, text: &str) -> String {
    format!(
        r#"{{"type":"assistant","message":{{"id":"msg_{id}","model":"claude-sonnet-5","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","usage":{{"input_tokens":3,"output_tokens":4}}}},"session_id":"sess_new"}}"#
    )
}

fn use_tool(id: u32) -> String {
    format!(
        r#"{{"type":"assistant","message":{{"id":"msg_{id}","content":[{{"type":"tool_use","id":"t{id}","name":"Bash","input":{{}}}}],"stop_reason":null,"usage":{{"input_tokens":3,"output_tokens":4}}}},"session_id":"sess_new"}}"#
    )
}

impl Script {
    /// Says hello, does its work and succeeds.
    pub fn healthy() -> Self {
        let burst = |after_ms, lines| Burst { after_ms, lines };
        Script {
            bursts: vec![
                burst(100, vec![INIT.to_owned()]),
                burst(900, vec![say(1, "on it"), use_tool(1)]),
                burst(1_500, vec![say(2, "done")]),
                burst(200, vec![RESULT.to_owned()]),
            ],
            end: End::Exits { after_ms: 50, code: 0 },
            on_term: OnTerm::Exits { after_ms: 100 },
            stderr: String::new(),
        }
    }

    /// A resumed session is not there any more: nothing was done.
    pub(crate) fn without_session() -> Self {
        let bursts = vec![Burst { after_ms: 400, lines: vec![NO_SESSION.to_owned()] }];
        Script { bursts, end: End::Exits { after_ms: 20, code: 1 }, ..Script::healthy() }
    }

    /// Mostly healthy at first, then anything that agents have been seen to do.
    pub fn draw(entropy: &mut Entropy) -> Self {
        let mut script = Script::healthy();
        let talk = entropy.below(8) as u32;
        for turn in 0..talk {
            let at = script.bursts.len() - 1;
            script.bursts.insert(at, draw_burst(turn + 10, entropy));
        }
        match entropy.below(14) {
            0..4 => {}
            4 => script.end_with(&[RESULT_ERROR], 1),
            // The CLI has been seen to exit with 0 after an error (D15).
            5 => script.end_with(&[RESULT_ERROR], 0),
            6 => script.end_with(&[RESULT_MAX_TURNS], 1),
            7 => script.end_with(&[], 137),
            8 => script.end_with(&[], 0),
            9 => {
                script.bursts.truncate(1);
                script.end_with_exit(1);
            }
            10 => {
                script.bursts.clear();
                script.stderr = format!("Error: spawn ENOMEM\nwith key {API_KEY}\n");
                script.end_with_exit(1);
            }
            11 => {
                script.bursts.pop();
                script.end = End::Hangs;
            }
            // A result, and then the process does not end.
            12 => script.end = End::Hangs,
            _ => script.end_with(&[RESULT], 1),
        }
        script.on_term = match entropy.below(4) {
            0 | 1 => OnTerm::Exits { after_ms: 100 },
            2 => OnTerm::Reports { after_ms: 300 },
            _ => OnTerm::Ignores,
        };
        if script.stderr.is_empty() && entropy.chance(40) {
            script.stderr = "warning: deprecated\n".to_owned();
        }
        // Drawn apart, so that seeds that were recorded before keep their meaning.
        script.draw_after_result(&mut entropy.branch("after-result"));
        script
    }

    /// What an agent does after its first result, if that is a success.
    fn draw_after_result(&mut self, entropy: &mut Entropy) {
        if self.bursts.last().and_then(|burst| burst.lines.last()).is_none_or(|line| line != RESULT) {
            return;
        }
        let later_ms = *entropy.choose(&[5_000, 25_000, 70_000, 400_000]);
        let later = |lines: &[&str]| Burst {
            after_ms: later_ms,
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        match entropy.below(9) {
            0..5 => {}
            // It stays.
            5 => self.end = End::Hangs,
            // A task in the background, and a second result when it has ended.
            6 => {
                self.open_task();
                self.bursts.push(later(&[TASKS_CLOSED, RESULT]));
            }
            // A task that never ends.
            7 => {
                self.open_task();
                self.end = End::Hangs;
            }
            // A second result, which is a failure.
            _ => self.bursts.push(later(&[RESULT_ERROR])),
        }
    }

    fn open_task(&mut self) {
        if let Some(burst) = self.bursts.last_mut() {
            burst.lines.insert(0, TASKS_OPEN.to_owned());
        }
    }

    /// Whether it reports its end.
    pub(crate) fn has_result(&self) -> bool {
        self.bursts.iter().flat_map(|burst| &burst.lines).any(|line| verdict(line).is_some())
    }

    /// How long it takes until its last lines are printed, in ms.
    pub(crate) fn printing_ms(&self) -> u64 {
        self.bursts.iter().map(|burst| burst.after_ms).sum()
    }

    fn end_with(&mut self, result: &[&str], code: i32) {
        let last = self.bursts.last_mut().expect("a script that talks");
        last.lines = result.iter().map(|line| (*line).to_owned()).collect();
        self.end_with_exit(code);
    }

    fn end_with_exit(&mut self, code: i32) {
        self.end = End::Exits { after_ms: 50, code };
    }

    /// What it prints after SIGTERM, unless it has reported its end.
    pub(crate) fn last_words() -> String {
        SHUTDOWN.to_owned()
    }
}

fn draw_burst(turn: u32, entropy: &mut Entropy) -> Burst {
    let after_ms = *entropy.choose(&[300, 5, 1_000, 4_000, 31_000, 0, 400_000, 70_000]);
    let lines = match entropy.below(10) {
        // What takes longest to carry is the rarest.
        5 if entropy.chance(170) => vec![say(turn, "a step")],
        0 => vec![say(turn, "a step")],
        // Several events of one message, and twice the same line: none of them may be lost (D2).
        1 => vec![use_tool(turn), use_tool(turn), say(turn, "both")],
        2 => vec!["plain text".to_owned(), String::new(), "plain text".to_owned()],
        3 => vec![say(turn, "grüße, 世界 🚀")],
        4 => vec![say(turn, &"x".repeat(20_000))],
        5 => vec![say(turn, &"é".repeat(200_000))],
        6 => vec![format!("the token is {TOKEN} and the key {API_KEY}")],
        7 => vec![r#"{"type":"assistant","message":{"id":"m","cont"#.to_owned()],
        8 => (0..90).map(|n| say(turn, &format!("line {n}"))).collect(),
        _ => vec!["same".to_owned(); 70],
    };
    Burst { after_ms, lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_result_events() {
        assert_eq!(verdict(RESULT), Some(Verdict::Good));
        for failed in [RESULT_ERROR, RESULT_MAX_TURNS, NO_SESSION, SHUTDOWN] {
            assert_eq!(verdict(failed), Some(Verdict::Failed), "{failed}");
        }
        assert_eq!(
            (open_tasks(TASKS_OPEN), open_tasks(TASKS_CLOSED), open_tasks(INIT)),
            (Some(1), Some(0), None)
        );
        for other in [INIT, TASKS_OPEN, "result", &say(1, "result"), &use_tool(2)] {
            assert_eq!(verdict(other), None, "{other}");
        }
    }

    #[test]
    fn no_secret_is_left_in_a_masked_text() {
        let text = masked(&format!("{TOKEN}{API_KEY}"));
        assert_eq!(text, "[redacted:authToken][redacted:VENDOR_KEY]");
    }
}
