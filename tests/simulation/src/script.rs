//! What the simulated agents print and how they end.

use std::sync::Arc;

use crate::entropy::Entropy;
use crate::grammar::{Failure, Grammar, Tasks};

/// The run's token: wherever it shows up, a secret has leaked.
pub(crate) const TOKEN: &str = "canary-token-8f14e45fceea167a5a36dedd4bea2543";
/// A value of `config.env`.
pub(crate) const API_KEY: &str = "canary-key-c9f0f895fb98ab9159f51fd0297e236d";
/// What is shown in their place.
const MASKS: [(&str, &str); 2] = [(TOKEN, "[redacted:authToken]"), (API_KEY, "[redacted:VENDOR_KEY]")];

/// Where a line is cut off, within the part of it that every message has.
const CUT_BYTES: usize = 30;

/// What an agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// What its type prints.
    pub(crate) grammar: Arc<Grammar>,
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

/// A text as it may be shown: with its secrets masked.
pub(crate) fn masked(text: &str) -> String {
    MASKS.iter().fold(
        text.to_owned(),
        |text, (secret, mask)| {
            if text.contains(secret) { text.replace(secret, mask) } else { text }
        },
    )
}

impl Script {
    /// Says hello, does its work and succeeds.
    pub fn healthy(grammar: &Arc<Grammar>) -> Self {
        let burst = |after_ms, lines| Burst { after_ms, lines };
        Script {
            grammar: Arc::clone(grammar),
            bursts: vec![
                burst(100, grammar.start.clone()),
                burst(900, vec![grammar.say(1, "on it"), grammar.use_tool(1)]),
                burst(1_500, vec![grammar.say(2, "done")]),
                burst(200, vec![grammar.success.clone()]),
            ],
            end: End::Exits { after_ms: 50, code: 0 },
            on_term: OnTerm::Exits { after_ms: 100 },
            stderr: String::new(),
        }
    }

    /// A resumed session is not there any more: nothing was done.
    pub(crate) fn without_session(grammar: &Arc<Grammar>) -> Self {
        let lost = &grammar.lost_session;
        let bursts = vec![Burst { after_ms: 400, lines: lost.line.iter().cloned().collect() }];
        let end = End::Exits { after_ms: 20, code: lost.exit };
        Script { bursts, end, stderr: lost.stderr.clone(), ..Script::healthy(grammar) }
    }

    /// Mostly healthy at first, then anything that agents have been seen to do.
    pub fn draw(grammar: &Arc<Grammar>, entropy: &mut Entropy) -> Self {
        let mut script = Script::healthy(grammar);
        let talk = entropy.below(8) as u32;
        for turn in 0..talk {
            let at = script.bursts.len() - 1;
            script.bursts.insert(at, draw_burst(grammar, turn + 10, entropy));
        }
        match entropy.below(14) {
            0..4 => {}
            4 => script.fail(grammar, &mut entropy.branch("failure")),
            // A CLI has been seen to exit with 0 after an error (D15).
            5 => script.end_with(&[&grammar.failures[0].line], 0),
            6 => {
                let Failure { line, exit, .. } = grammar.turns.as_ref().unwrap_or(&grammar.failures[0]);
                script.end_with(&[line], *exit);
            }
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
            _ => script.end_with(&[&grammar.success], 1),
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

    fn fail(&mut self, grammar: &Grammar, entropy: &mut Entropy) {
        let Failure { line, exit, .. } =
            &grammar.failures[entropy.below(grammar.failures.len() as u64) as usize];
        self.end_with(&[line], *exit);
    }

    /// What an agent does after its first result, if that is a success.
    fn draw_after_result(&mut self, entropy: &mut Entropy) {
        let grammar = Arc::clone(&self.grammar);
        let success = grammar.success.as_str();
        if self.bursts.last().and_then(|burst| burst.lines.last()).is_none_or(|line| line != success) {
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
                let closed = grammar.tasks.iter().map(|tasks| tasks.closed.as_str());
                self.bursts.push(later(&closed.chain([success]).collect::<Vec<_>>()));
            }
            // A task that never ends.
            7 => {
                self.open_task();
                self.end = End::Hangs;
            }
            // A second result, which is a failure.
            _ => self.bursts.push(later(&[&grammar.failures[0].line])),
        }
    }

    fn open_task(&mut self) {
        if let Some(burst) = self.bursts.last_mut()
            && let Some(Tasks { open, .. }) = &self.grammar.tasks
        {
            burst.lines.insert(0, open.clone());
        }
    }

    /// Whether it reports its end.
    pub(crate) fn has_result(&self) -> bool {
        self.bursts.iter().flat_map(|burst| &burst.lines).any(|line| self.grammar.verdict(line).is_some())
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
}

fn draw_burst(grammar: &Grammar, turn: u32, entropy: &mut Entropy) -> Burst {
    let after_ms = *entropy.choose(&[300, 5, 1_000, 4_000, 31_000, 0, 400_000, 70_000]);
    let lines = match entropy.below(10) {
        // What takes longest to carry is the rarest.
        5 if entropy.chance(170) => vec![grammar.say(turn, "a step")],
        0 => vec![grammar.say(turn, "a step")],
        // Several events of one message, and twice the same line: none of them may be lost (D2).
        1 => vec![grammar.use_tool(turn), grammar.use_tool(turn), grammar.say(turn, "both")],
        2 => vec!["plain text".to_owned(), String::new(), "plain text".to_owned()],
        3 => vec![grammar.say(turn, "grüße, 世界 🚀")],
        4 => vec![grammar.say(turn, &"x".repeat(20_000))],
        5 => vec![grammar.say(turn, &"é".repeat(200_000))],
        6 => vec![format!("the token is {TOKEN} and the key {API_KEY}")],
        // A line that is cut off.
        7 => vec![grammar.say(turn, "a step")[..CUT_BYTES].to_owned()],
        8 => (0..90).map(|n| grammar.say(turn, &format!("line {n}"))).collect(),
        _ => vec!["same".to_owned(); 70],
    };
    Burst { after_ms, lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_left_in_a_masked_text() {
        let text = masked(&format!("{TOKEN}{API_KEY}"));
        assert_eq!(text, "[redacted:authToken][redacted:VENDOR_KEY]");
    }
}
