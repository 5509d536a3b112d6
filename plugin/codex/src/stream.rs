//! What Codex prints with `exec --json`: a thread, its turns and their items, and errors, of which some are only progress.

use paperclip_kit::json::{count, pick, pick_from_cut, some_text, text};
use paperclip_kit::judge::Rule;
use paperclip_kit::machine::Watch;
use paperclip_kit::outcome::{Usage, UsageBasis, head};
use paperclip_kit::phrases::{Lexicon, OTHER_PARTIES, status_after};
use paperclip_kit::stream::{AgentStream, AgentWords, Event, Kept, Report, TEXT_BYTES, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::rules::RULES;

/// How this agent type is spoken of.
pub const WORDS: AgentWords = AgentWords {
    name: "Codex",
    codes: paperclip_kit::agent_codes!("codex"),
    lexicon: Lexicon {
        program: "codex",
        unknown_session: &[
            &["no rollout found for thread id"],
            &["missing rollout path for thread"],
            &["state db", "thread"],
        ],
        context: &[&["ran out of", "in the model", "context window"], &["context length exceeded"]],
        credentials: &[
            &["missing environment variable"],
            &["unauthorized"],
            &["refresh token"],
            &["invalid grant"],
            &["missing bearer"],
            &["token expired"],
        ],
        quota: &[&["check your plan and billing"], &["usage limit*"], &["model is at capacity"]],
        transient: &[
            &["stream disconnected before completion"],
            &["stream closed before response"],
            &["connection failed"],
            &["failed to lookup address"],
            &["exceeded retry limit"],
        ],
        other_parties: OTHER_PARTIES,
        status_in: |text| status_after(text, &["unexpected status ", "last status: ", "status code "]),
        ..Lexicon::NONE
    },
};

/// How an error starts that is only progress.
const RECONNECTING: &str = "Reconnecting...";
/// How it says that there is no network, in which state Codex stays for ever.
const WAITING: &str = "Reconnecting... waiting for network";
/// After how many such lines in a row the agent is stopped. They come at growing intervals of up to a minute.
const WAITING_LINES: u32 = 30;
const RETRY_BYTES: usize = 512;

/// Everything that is kept of an agent's output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    kept: Kept,
    /// The end of the last turn.
    verdict: Verdict,
    /// The last error that is not progress: that of a failed turn, else one without a turn's end.
    failure: Option<Report>,
    /// The last progress of a failed request, until something else follows.
    retry: Option<String>,
    /// How many lines in a row say that there is no network.
    waiting_lines: u32,
    /// The last message of the agent.
    last_text: String,
    /// The turn has a message or an item of a tool.
    has_answer: bool,
    usage: Option<Usage>,
}

impl AgentStream for Stream {
    type Event<'a> = Event<'a>;

    const WORDS: &'static AgentWords = &WORDS;
    const RULES: &'static [Rule<Stream>] = RULES;
    /// It counts over the whole thread: the server takes the difference.
    const USAGE_BASIS: Option<UsageBasis> = None;
    const SESSION_IS_STABLE: bool = true;
    const MODEL_IS_CONFIGURED: bool = true;

    fn kept(&self) -> &Kept {
        &self.kept
    }

    fn kept_mut(&mut self) -> &mut Kept {
        &mut self.kept
    }

    fn read_event(&mut self, event: &Event<'_>) {
        let names = ["thread_id", "item", "usage", "error", "message"];
        let [thread, item, usage, error, message] = pick(event.json, &names).unwrap_or_default();
        if event.kind != "error" {
            self.retry = None;
            self.waiting_lines = 0;
        }
        match event.kind.as_ref() {
            "thread.started" => {
                self.kept.note_session(&some_text(thread).unwrap_or_default());
                self.kept.has_init = true;
                self.kept.note_activity("its start");
            }
            "turn.started" => {
                self.verdict = Verdict::Open;
                self.failure = None;
                self.has_answer = false;
                self.kept.is_reported = false;
                self.kept.note_activity("the start of a turn");
            }
            "turn.completed" => {
                self.read_usage(usage);
                self.end(Verdict::Success);
            }
            "turn.failed" => {
                let [message] = error.and_then(|error| pick(error.get(), &["message"])).unwrap_or_default();
                self.failure = Some(Report::new(&text(message).unwrap_or_default(), None));
                self.end(Verdict::Failure);
            }
            "item.started" | "item.updated" | "item.completed" => {
                self.read_item(event.kind == "item.completed", item.map_or("{}", RawValue::get));
            }
            "error" => self.read_error(&text(message).unwrap_or_default()),
            kind => self.kept.unknown_events.record(kind),
        }
    }

    fn read_cut_event(&mut self, start: &str) {
        let [kind] = pick_from_cut(start, &["type"]);
        if some_text(kind).is_some_and(|kind| kind.starts_with("item.")) {
            self.has_answer = true;
            self.retry = None;
            self.kept.note_tool("");
        }
    }

    fn verdict(&self) -> Verdict {
        self.verdict
    }

    fn report(&self) -> Option<&Report> {
        self.failure.as_ref()
    }

    fn failed_request(&self) -> Option<&Report> {
        self.failure.as_ref().filter(|_| self.verdict != Verdict::Success)
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn summary(&self) -> String {
        self.last_text.trim().to_owned()
    }

    fn result_object(&self) -> Option<Map<String, Value>> {
        let end = match self.verdict {
            Verdict::Open => return None,
            Verdict::Success => json!({"type": "turn.completed"}),
            Verdict::Failure => {
                json!({"type": "turn.failed", "error": {"message": self.failure.as_ref().map(|failure| &failure.text)}})
            }
        };
        end.as_object().cloned()
    }

    fn retry(&self) -> Option<String> {
        self.retry.clone()
    }

    fn watch(&self) -> Watch {
        match &self.retry {
            Some(_) if self.waiting_lines >= WAITING_LINES => {
                Watch::Stop("it waits for a network that has not come back".to_owned())
            }
            Some(retry) => Watch::Status(retry.clone()),
            None => Watch::Fine,
        }
    }
}

impl Stream {
    fn end(&mut self, verdict: Verdict) {
        self.verdict = verdict;
        self.kept.is_reported = true;
        self.kept.note_activity("the end of a turn");
    }

    /// Tokens from the cache are among those of the input.
    fn read_usage(&mut self, usage: Option<&RawValue>) {
        let names = ["input_tokens", "cached_input_tokens", "output_tokens"];
        if let Some([input, cached, output]) = usage.and_then(|usage| pick(usage.get(), &names)) {
            let cached = count(cached);
            self.usage = Some(Usage {
                input_tokens: count(input).saturating_sub(cached),
                cached_input_tokens: cached,
                output_tokens: count(output),
            });
        }
    }

    fn read_item(&mut self, is_completed: bool, item: &str) {
        let [kind, said, server, tool] = pick(item, &["type", "text", "server", "tool"]).unwrap_or_default();
        match some_text(kind).as_deref() {
            Some("agent_message") => {
                if let Some(said) = some_text(said).filter(|_| is_completed) {
                    self.kept.note_text(&said);
                    self.last_text = head(&said, TEXT_BYTES).into_owned();
                    self.has_answer = true;
                }
            }
            Some("reasoning") => self.kept.note_activity("a thought"),
            // A warning, also in good runs.
            Some("error") | None => {}
            Some("mcp_tool_call") => {
                let [server, tool] = [server, tool].map(|name| some_text(name).unwrap_or_default());
                self.kept.note_tool(&format!("{server}.{tool}"));
                self.has_answer = true;
            }
            Some(kind) => {
                self.kept.note_tool(kind);
                self.has_answer = true;
            }
        }
    }

    fn read_error(&mut self, message: &str) {
        if message.starts_with(RECONNECTING) {
            self.waiting_lines = if message.starts_with(WAITING) { self.waiting_lines + 1 } else { 0 };
            self.retry = Some(head(message, RETRY_BYTES).into_owned());
            self.kept.last_activity.clone_from(self.retry.get_or_insert_default());
            return;
        }
        self.retry = None;
        self.waiting_lines = 0;
        self.failure = Some(Report::new(message, None));
        self.kept.note_activity("an error");
    }

    pub(crate) fn has_answer(&self) -> bool {
        self.has_answer
    }
}
