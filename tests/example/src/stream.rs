//! What the program prints: a start, texts, tools with their results, and an end.

use paperclip_kit::json::{count, pick, some_text, text};
use paperclip_kit::judge::Rule;
use paperclip_kit::outcome::Usage;
use paperclip_kit::phrases::{Lexicon, OTHER_PARTIES};
use paperclip_kit::stream::{AgentStream, AgentWords, Event, Kept, Report, Verdict};
use serde::{Deserialize, Serialize};

use crate::rules::RULES;

/// How this agent type is spoken of.
pub(crate) const WORDS: AgentWords = AgentWords {
    name: "Example",
    codes: paperclip_kit::agent_codes!("example"),
    lexicon: Lexicon {
        program: "example",
        unknown_session: &[&["no such session"]],
        other_parties: OTHER_PARTIES,
        ..Lexicon::NONE
    },
};

/// Everything that is kept of a run's output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    kept: Kept,
    verdict: Verdict,
    failure: Option<Report>,
    usage: Option<Usage>,
}

impl AgentStream for Stream {
    type Event<'a> = Event<'a>;

    const WORDS: &'static AgentWords = &WORDS;
    const RULES: &'static [Rule<Stream>] = RULES;

    fn kept(&self) -> &Kept {
        &self.kept
    }

    fn kept_mut(&mut self) -> &mut Kept {
        &mut self.kept
    }

    fn read_event(&mut self, event: &Event<'_>) {
        match event.kind.as_ref() {
            "start" => {
                let [session, model] = pick(event.json, &["session", "model"]).unwrap_or_default();
                self.kept.note_session(&some_text(session).unwrap_or_default());
                self.kept.note_model(&some_text(model).unwrap_or_default());
                self.kept.has_init = true;
                self.kept.note_activity("its start");
            }
            "text" => {
                let [said] = pick(event.json, &["text"]).unwrap_or_default();
                self.kept.note_text(&text(said).unwrap_or_default());
            }
            "tool" => {
                let [name] = pick(event.json, &["name"]).unwrap_or_default();
                self.kept.note_tool(&some_text(name).unwrap_or_default());
            }
            "tool_result" => self.kept.note_activity("the result of a tool"),
            "done" => {
                let [usage] = pick(event.json, &["usage"]).unwrap_or_default();
                let counts = usage.and_then(|usage| pick(usage.get(), &["input", "cached", "output"]));
                self.usage = counts.map(|[input, cached, output]| Usage {
                    input_tokens: count(input),
                    cached_input_tokens: count(cached),
                    output_tokens: count(output),
                });
                self.end(Verdict::Success);
            }
            "failed" => {
                let [status, message] = pick(event.json, &["status", "message"]).unwrap_or_default();
                let status = u16::try_from(count(status)).ok().filter(|status| (400..600).contains(status));
                self.failure = Some(Report::new(&text(message).unwrap_or_default(), status));
                self.end(Verdict::Failure);
            }
            kind => self.kept.unknown_events.record(kind),
        }
    }

    fn verdict(&self) -> Verdict {
        self.verdict
    }

    fn report(&self) -> Option<&Report> {
        self.failure.as_ref()
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }
}

impl Stream {
    fn end(&mut self, verdict: Verdict) {
        self.verdict = verdict;
        self.kept.is_reported = true;
        self.kept.note_activity("its end");
    }
}
