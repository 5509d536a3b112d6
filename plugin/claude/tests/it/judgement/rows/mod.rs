//! Each row of the precedence, with what its result carries.

mod failed_request;
mod fields;
mod no_report;
mod reported_end;

use paperclip_kit::outcome::{ErrorCode, InfraCause, JobOutcome, SessionParams, Termination, Usage};
use serde_json::{Value, json};

use super::story::{CODES, RESETS_AT, Story};

fn as_json(story: &Story) -> Value {
    serde_json::to_value(story.result()).expect("a result is JSON")
}

const CONTINUE: &str = "continue_conversation_v1";
const AT_MS: i64 = RESETS_AT * 1000 - 3_600_000;

fn bootstrap() -> Value {
    json!({"kind": "bootstrap", "providerWorkStarted": false})
}
