//! The rules of a judgement, as a table in the order of precedence.

use paperclip_kit::judge::facts::{self, failed_before_content, has_good_end};
use paperclip_kit::judge::messages::{explained, partial_run, refused, run_failed, stopped, truncated};
use paperclip_kit::judge::{Case, Given, row};
use paperclip_kit::outcome::{AgentCodes, ErrorCode, ErrorFamily};

use crate::stream::{Stream, WORDS};

type Rule = paperclip_kit::judge::Rule<Stream>;

const CODES: AgentCodes = WORDS.codes;

/// The first rule that holds decides.
#[rustfmt::skip]
pub(crate) const RULES: &[Rule] = &[
    row("14", Given::Success, answered_nothing).is(ErrorCode::LLM_API_ERROR, answered_nothing_text),
    Rule::SUCCESS,
    Rule::CANCELLED,
    Rule::TIMEOUT,
    Rule::QUIET,
    row("3c", Given::AnyRun, facts::was_stopped).is(CODES.transient_upstream, stopped),
    Rule::WRAPPER_FAILED,
    Rule::NO_SESSION,
    row("12", Given::AnyReport, is_refusal).is(CODES.refusal, refused).stops_by("refusal"),
    row("16", Given::AnyReport, was_cut_by_length).is(CODES.run_failed, run_failed).stops_by("max_tokens"),
    Rule::CONTEXT,
    Rule::MODEL,
    row("11", Given::ApiFailure, facts::is_out_of_quota).is(ErrorCode::PROVIDER_QUOTA, run_failed),
    Rule::CREDENTIALS.of_family(refresh_token),
    Rule::TRANSIENT,
    Rule::NO_ANSWER,
    Rule::RUN_FAILED,
    Rule::DELETED,
    row("19", Given::NoResult, facts::has_content).is(CODES.truncated, truncated),
    row("20", Given::NoResult, retries_for_credentials).is(CODES.auth_required, partial_run),
    row("20", Given::NoResult, retries_for_the_provider).is(CODES.transient_upstream, partial_run),
    row("19", Given::NoResult, has_started).is(CODES.truncated, truncated_at_start),
    Rule::LINES_MODEL,
    Rule::LINES_CREDENTIALS,
    Rule::LINES_QUOTA,
    Rule::LINES_TRANSIENT,
    Rule::NO_PROGRAM,
    Rule::UNPARSEABLE,
    Rule::ANYTHING_ELSE,
];

/// The turn is complete, and it has neither a message nor an item of a tool: the model refused, or the answer was empty.
fn answered_nothing(case: &Case<'_, Stream>) -> bool {
    has_good_end(case) && !case.stream.has_answer()
}

fn answered_nothing_text(case: &Case<'_, Stream>) -> String {
    let text = "the turn ended without a message: the model's answer was empty or a refusal, which Codex reports alike";
    explained(case, text.to_owned())
}

fn says(case: &Case<'_, Stream>, text: &str) -> bool {
    case.report().is_some_and(|report| report.text.contains(text))
}

fn is_refusal(case: &Case<'_, Stream>) -> bool {
    says(case, "reason: content_filter")
}

fn was_cut_by_length(case: &Case<'_, Stream>) -> bool {
    says(case, "reason: max_output_tokens")
}

/// A login's refresh token works once: two pods with one login end each other's.
fn refresh_token(case: &Case<'_, Stream>) -> Option<ErrorFamily> {
    let families = [
        ("reused", ErrorFamily::RefreshTokenReused),
        ("expired", ErrorFamily::RefreshTokenExpired),
        ("invalidated", ErrorFamily::RefreshTokenInvalidated),
    ];
    let text = case.report()?.text.to_ascii_lowercase().replace('_', " ");
    let (_, about) = text.split_once("refresh token")?;
    families.into_iter().find(|(word, _)| about.contains(word)).map(|(_, family)| family)
}

/// A request was being repeated when the agent ended.
fn retried(case: &Case<'_, Stream>) -> Option<u16> {
    use paperclip_kit::stream::AgentStream as _;
    let retry = case.stream.retry().filter(|_| failed_before_content(case))?;
    Some((WORDS.lexicon.status_in)(&retry).unwrap_or(0))
}

fn retries_for_credentials(case: &Case<'_, Stream>) -> bool {
    matches!(retried(case), Some(401 | 403))
}

fn retries_for_the_provider(case: &Case<'_, Stream>) -> bool {
    retried(case).is_some()
}

fn has_started(case: &Case<'_, Stream>) -> bool {
    use paperclip_kit::stream::AgentStream as _;
    case.stream.kept().has_init
}

fn truncated_at_start(case: &Case<'_, Stream>) -> String {
    let end = case.evidence.describe_unobserved_end().map(|end| format!("; {end}")).unwrap_or_default();
    explained(case, format!("Codex started a turn, and its output ends before the turn does{end}"))
}
