//! The rules of a judgement, as a table in the order of precedence.

use paperclip_kit::judge::facts::{self, has_good_end};
use paperclip_kit::judge::messages::{
    ended_at_start, explained, run_failed, run_failed_otherwise, truncated,
};
use paperclip_kit::judge::{Case, Given, row};
use paperclip_kit::outcome::{AgentCodes, ErrorCode};
use paperclip_kit::retry_time::reset_time;
use paperclip_kit::stream::AgentStream as _;

use crate::stream::{Stream, WORDS};

type Rule = paperclip_kit::judge::Rule<Stream>;

const CODES: AgentCodes = WORDS.codes;

/// A wait that a provider asks for is a rate limit, not a quota, up to this, in ms.
const RATE_LIMIT_MS: i64 = 5 * 60_000;

/// The first rule that holds decides.
#[rustfmt::skip]
pub(crate) const RULES: &[Rule] = &[
    row("16", Given::Success, ended_a_loop).is(CODES.run_failed, ended_a_loop_text).stops_by("loop_detected"),
    row("14", Given::Success, answered_nothing).is(ErrorCode::LLM_API_ERROR, answered_nothing_text),
    Rule::SUCCESS,
    Rule::CANCELLED,
    Rule::TIMEOUT,
    Rule::QUIET,
    Rule::STOPPED,
    Rule::WRAPPER_FAILED,
    Rule::NO_SESSION,
    row("6", Given::Failure, ran_out_of_turns).is(ErrorCode::MAX_TURNS_EXHAUSTED, run_failed).forgets_session().stops_by("max_turns_exhausted"),
    Rule::CONTEXT,
    Rule::MODEL,
    Rule::CREDENTIALS,
    row("11", Given::ApiFailure, is_out_of_quota).is(ErrorCode::PROVIDER_QUOTA, run_failed),
    row("13", Given::ApiFailure, is_transient).is(CODES.transient_upstream, run_failed),
    row("14", Given::Failure, got_no_answer).is(ErrorCode::LLM_API_ERROR, run_failed_otherwise),
    Rule::NO_ANSWER,
    Rule::RUN_FAILED,
    Rule::DELETED,
    row("19", Given::NoResult, facts::has_content).is(CODES.truncated, truncated_text),
    Rule::LINES_MODEL,
    Rule::LINES_CREDENTIALS,
    Rule::LINES_QUOTA,
    row("22", Given::NoResult, has_started).is(CODES.init_failed, ended_at_start),
    Rule::LINES_TRANSIENT,
    Rule::NO_PROGRAM,
    Rule::UNPARSEABLE,
    Rule::ANYTHING_ELSE,
];

fn says(case: &Case<'_, Stream>, text: &str) -> bool {
    case.report().is_some_and(|report| report.text.contains(text))
}

/// The CLI's guard against loops ended the run, which it reports as a success.
fn ended_a_loop(case: &Case<'_, Stream>) -> bool {
    has_good_end(case) && case.stream.is_looping()
}

fn ended_a_loop_text(_: &Case<'_, Stream>) -> String {
    "Gemini run failed: the agent repeated itself, and the CLI stopped it (Loop detected)".to_owned()
}

fn answered_nothing(case: &Case<'_, Stream>) -> bool {
    has_good_end(case) && !facts::has_content(case)
}

fn answered_nothing_text(case: &Case<'_, Stream>) -> String {
    explained(case, "the model's answer was empty: neither a text nor a call of a tool".to_owned())
}

fn ran_out_of_turns(case: &Case<'_, Stream>) -> bool {
    case.report().is_some_and(|report| report.has_kind("FatalTurnLimitedError"))
}

/// The provider asks for a wait that is short: the same words are about a limit a minute and about one a day.
fn may_retry_soon(case: &Case<'_, Stream>) -> bool {
    // From a time of our own: only the length of the wait counts.
    let wait_ms = case.api_failure.and_then(|report| reset_time(&report.text, Some(0)));
    wait_ms.is_some_and(|wait_ms| wait_ms <= RATE_LIMIT_MS)
}

fn is_out_of_quota(case: &Case<'_, Stream>) -> bool {
    case.topics.quota && !may_retry_soon(case)
}

fn is_transient(case: &Case<'_, Stream>) -> bool {
    case.topics.transient || case.topics.quota
}

/// An answer that is empty or cut off, or a prompt that was blocked: the CLI reports the last two alike, and exits with 0.
fn got_no_answer(case: &Case<'_, Stream>) -> bool {
    says(case, "returned an empty response") || says(case, "ended without a finish reason")
}

fn truncated_text(case: &Case<'_, Stream>) -> String {
    let text = truncated(case);
    if case.stream.kept().format.has_cut_event {
        return format!("{text}; a line of the stream is cut: the agent may have done more than it shows");
    }
    text
}

fn has_started(case: &Case<'_, Stream>) -> bool {
    case.stream.kept().has_init
}
