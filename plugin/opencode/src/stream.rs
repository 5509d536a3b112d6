//! What opencode prints with `run --format json`: steps, each a call of the model, and errors. There is neither a start nor a result
//! event: the last step says how the run ended.

use paperclip_kit::json::{count, number, pick, pick_from_cut, some_text, text};
use paperclip_kit::judge::Rule;
use paperclip_kit::machine::Watch;
use paperclip_kit::outcome::{ErrorCode, Usage, head};
use paperclip_kit::phrases::{Lexicon, OTHER_PARTIES};
use paperclip_kit::stream::{AgentStream, AgentWords, Event, Kept, NAME_BYTES, Report, Verdict, http_status};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::rules::RULES;

/// How this agent type is spoken of.
pub const WORDS: AgentWords = AgentWords {
    name: "opencode",
    codes: paperclip_kit::agent_codes!("opencode"),
    lexicon: Lexicon {
        program: "opencode",
        unknown_session: &[&["session not found"]],
        quota: &[&["insufficient quota"]],
        other_parties: OTHER_PARTIES,
        ..Lexicon::NONE
    },
};

/// After how many steps in a row without a reason to end and without a tool the agent is stopped: it repeats a request whose answer is
/// cut off, without end.
const UNKNOWN_STEPS: u32 = 20;
/// What a tool says whose use was refused because nobody was there to be asked.
const REFUSED: &str = "The user rejected permission";
/// How the log on standard error names an unknown model.
const MODEL_NOT_FOUND: &str = "Model not found: ";
const MODEL_BYTES: usize = 512;

/// Everything that is kept of an agent's output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stream {
    kept: Kept,
    /// The last error event, until a step follows.
    failure: Option<Report>,
    /// When that event was printed and after how many seconds the provider serves again.
    retry_after: Option<(i64, f64)>,
    /// The reason of the last step that is over; empty while a step runs.
    reason: String,
    /// The last text of the last step that has one.
    last_text: String,
    /// How many steps in a row ended without a reason, without a tool.
    unknown_steps: u32,
    /// The running step has used a tool.
    uses_tool: bool,
    /// The use of the last tool was refused.
    is_refused: bool,
    /// What standard error says about an unknown model.
    missing_model: Option<String>,
    usage: Option<Usage>,
    cost_usd: f64,
}

impl AgentStream for Stream {
    type Event<'a> = Event<'a>;

    const WORDS: &'static AgentWords = &WORDS;
    const RULES: &'static [Rule<Stream>] = RULES;
    const MODEL_IS_CONFIGURED: bool = true;

    fn kept(&self) -> &Kept {
        &self.kept
    }

    fn kept_mut(&mut self) -> &mut Kept {
        &mut self.kept
    }

    fn read_event(&mut self, event: &Event<'_>) {
        let [session, timestamp, part, error] =
            pick(event.json, &["sessionID", "timestamp", "part", "error"]).unwrap_or_default();
        self.kept.note_session(&some_text(session).unwrap_or_default());
        let part = part.map_or("{}", RawValue::get);
        match event.kind.as_ref() {
            "step_start" => self.start_step(),
            "text" => {
                let [said] = pick(part, &["text"]).unwrap_or_default();
                if let Some(said) = some_text(said) {
                    self.kept.note_text(&said);
                    self.last_text = head(&said, paperclip_kit::stream::TEXT_BYTES).into_owned();
                    self.is_refused = false;
                }
            }
            "reasoning" => self.kept.note_activity("a thought"),
            "tool_use" => self.use_tool(part),
            "step_finish" => self.finish_step(part),
            "error" => self.fail(number(timestamp), error.map_or("{}", RawValue::get)),
            kind => self.kept.unknown_events.record(kind),
        }
    }

    fn read_cut_event(&mut self, start: &str) {
        let [kind] = pick_from_cut(start, &["type"]);
        match some_text(kind).as_deref() {
            Some("text") => self.kept.has_content = true,
            Some("tool_use") => {
                self.uses_tool = true;
                self.kept.note_tool("");
            }
            Some(_) | None => {}
        }
    }

    fn read_stderr(&mut self, line: &str) {
        if let Some((_, model)) = line.split_once(MODEL_NOT_FOUND) {
            let end = model.find(['"', ')', '\\', '\n']).unwrap_or(model.len());
            self.missing_model = Some(head(&model[..end], MODEL_BYTES).into_owned());
        }
    }

    fn verdict(&self) -> Verdict {
        match self.reason.as_str() {
            _ if self.failure.is_some() => Verdict::Failure,
            "content-filter" => Verdict::Failure,
            "" | "tool-calls" | "unknown" => Verdict::Open,
            _ => Verdict::Success,
        }
    }

    fn report(&self) -> Option<&Report> {
        self.failure.as_ref()
    }

    fn usage(&self) -> Option<Usage> {
        self.usage
    }

    fn cost_usd(&self) -> Option<f64> {
        // Also where the catalogue has no price.
        Some(self.cost_usd).filter(|cost| *cost > 0.0)
    }

    /// The last text of the last step that has one, else all texts.
    fn summary(&self) -> String {
        self.last_text.trim().to_owned()
    }

    fn result_object(&self) -> Option<Map<String, Value>> {
        if self.verdict() == Verdict::Open {
            return None;
        }
        let mut object = Map::new();
        object.insert("reason".to_owned(), json!(self.reason));
        if let Some(failure) = &self.failure {
            object.insert(
                "error".to_owned(),
                json!({"names": failure.kinds, "message": failure.text, "statusCode": failure.api_status}),
            );
        }
        Some(object)
    }

    fn resets_at_ms(&self, _code: ErrorCode) -> Option<i64> {
        let (printed_at_ms, seconds) = self.retry_after?;
        Some(printed_at_ms.saturating_add((seconds * 1000.0) as i64))
    }

    fn watch(&self) -> Watch {
        if self.repeats_itself() {
            return Watch::Stop(self.repetition());
        }
        Watch::Fine
    }
}

impl Stream {
    fn start_step(&mut self) {
        self.reason.clear();
        self.failure = None;
        self.retry_after = None;
        self.uses_tool = false;
        self.kept.is_reported = false;
        self.kept.note_activity("the start of a step");
    }

    fn use_tool(&mut self, part: &str) {
        let [tool, state] = pick(part, &["tool", "state"]).unwrap_or_default();
        self.kept.note_tool(&some_text(tool).unwrap_or_default());
        self.uses_tool = true;
        let [status, error] =
            state.and_then(|state| pick(state.get(), &["status", "error"])).unwrap_or_default();
        let is_error = text(status).is_some_and(|status| status == "error");
        self.is_refused = is_error && text(error).is_some_and(|error| error.starts_with(REFUSED));
    }

    fn finish_step(&mut self, part: &str) {
        let [reason, tokens, cost] = pick(part, &["reason", "tokens", "cost"]).unwrap_or_default();
        self.reason = head(&some_text(reason).unwrap_or("unknown".into()), NAME_BYTES).into_owned();
        if let Some([input, output, reasoning, cache]) =
            tokens.and_then(|tokens| pick(tokens.get(), &["input", "output", "reasoning", "cache"]))
        {
            let [cached] = cache.and_then(|cache| pick(cache.get(), &["read"])).unwrap_or_default();
            self.usage.get_or_insert_default().add(Usage {
                input_tokens: count(input),
                cached_input_tokens: count(cached),
                output_tokens: count(output).saturating_add(count(reasoning)),
            });
        }
        self.cost_usd += number(cost).unwrap_or(0.0);
        let is_unknown = self.reason == "unknown" && !self.uses_tool;
        self.unknown_steps = if is_unknown { self.unknown_steps.saturating_add(1) } else { 0 };
        if !is_unknown {
            self.kept.ends_empty = false;
        }
        self.kept.is_reported = self.verdict() != Verdict::Open;
        self.kept.note_activity("the end of a step");
    }

    fn fail(&mut self, printed_at_ms: Option<f64>, error: &str) {
        let [name, data] = pick(error, &["name", "data"]).unwrap_or_default();
        let names = ["message", "statusCode", "responseHeaders", "responseBody"];
        let [message, status, headers, body] =
            data.and_then(|data| pick(data.get(), &names)).unwrap_or_default();
        let name = some_text(name).unwrap_or("an error without a name".into());
        let said = some_text(message).unwrap_or(name.as_ref().into());
        let mut report = Report::new(&said, http_status(status));
        report.kinds.push(head(&name, NAME_BYTES).into_owned());
        // The provider's own names of the error.
        if let Some(body) = some_text(body)
            && let Some([Some(inner)]) = pick(&body, &["error"])
        {
            let [code, kind] = pick(inner.get(), &["code", "type"]).unwrap_or_default();
            let names = [code, kind].into_iter().filter_map(some_text);
            report.kinds.extend(names.map(|name| head(&name, NAME_BYTES).into_owned()));
        }
        let [after] = headers.and_then(|headers| pick(headers.get(), &["retry-after"])).unwrap_or_default();
        let after = some_text(after).and_then(|after| after.trim().parse::<f64>().ok());
        self.retry_after = printed_at_ms
            .zip(after)
            .filter(|(_, seconds)| seconds.is_finite() && *seconds >= 0.0)
            .map(|(at_ms, seconds)| (at_ms as i64, seconds));
        self.failure = Some(report);
        self.kept.is_reported = true;
        self.kept.note_activity("an error");
    }

    /// Whether the agent repeats a request whose answer is cut off.
    pub(crate) fn repeats_itself(&self) -> bool {
        self.unknown_steps >= UNKNOWN_STEPS
    }

    pub(crate) fn repetition(&self) -> String {
        format!(
            "the provider cut off the answers of {} steps in a row, and opencode repeats the request without end",
            self.unknown_steps
        )
    }

    pub(crate) fn has_events(&self) -> bool {
        self.kept.event_count > 0
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// What the log on standard error says about an unknown model.
    pub(crate) fn missing_model(&self) -> Option<&str> {
        self.missing_model.as_deref()
    }
}
