//! The rules of a judgement, as a table in the order of precedence.

use paperclip_kit::judge::facts::{self, has_good_end};
use paperclip_kit::judge::messages::{explained, refused, run_failed, truncated};
use paperclip_kit::judge::{Case, Given, row};
use paperclip_kit::outcome::{AgentCodes, ErrorCode};

use crate::stream::{Stream, WORDS};

type Rule = paperclip_kit::judge::Rule<Stream>;

const CODES: AgentCodes = WORDS.codes;

/// A tool that the agent may use only if it asks, and nobody was there to be asked.
pub(crate) const PERMISSION_DENIED: ErrorCode = ErrorCode::new("opencode_permission_denied");

/// How the CLI names a failure whose cause is in its log alone.
const OPAQUE: &str = "Unexpected server error";

/// The first rule that holds decides.
#[rustfmt::skip]
pub(crate) const RULES: &[Rule] = &[
    row("14", Given::Success, answered_nothing).is(ErrorCode::LLM_API_ERROR, answered_nothing_text),
    row("1", Given::Success, was_cut_by_length).stops_by("max_tokens"),
    Rule::SUCCESS,
    Rule::CANCELLED,
    Rule::TIMEOUT,
    Rule::QUIET,
    Rule::STOPPED,
    Rule::WRAPPER_FAILED,
    Rule::NO_SESSION,
    row("12", Given::Failure, is_refusal).is(CODES.refusal, refused).stops_by("refusal"),
    row("8", Given::Failure, exceeds_context).is(ErrorCode::CONTEXT_EXCEEDED, run_failed).drops_session(),
    row("9", Given::Failure, misses_model).is(ErrorCode::MODEL_NOT_FOUND, misses_model_text),
    row("10", Given::Failure, needs_credentials).is(CODES.auth_required, run_failed),
    row("11", Given::Failure, is_out_of_quota).is(ErrorCode::PROVIDER_QUOTA, run_failed),
    Rule::TRANSIENT,
    Rule::NO_ANSWER,
    Rule::RUN_FAILED,
    row("16", Given::NoResult, is_refused).is(PERMISSION_DENIED, is_refused_text),
    row("14", Given::NoResult, repeats_itself).is(ErrorCode::LLM_API_ERROR, repeats_itself_text),
    Rule::DELETED,
    row("19", Given::NoResult, has_started).is(CODES.truncated, truncated_text),
    Rule::LINES_MODEL,
    Rule::LINES_CREDENTIALS,
    Rule::LINES_QUOTA,
    Rule::LINES_TRANSIENT,
    Rule::NO_PROGRAM,
    Rule::UNPARSEABLE,
    Rule::ANYTHING_ELSE,
];

fn has_kind(case: &Case<'_, Stream>, kind: &str) -> bool {
    case.report().is_some_and(|report| report.has_kind(kind))
}

/// The last step ended well, and the run has neither a text nor a tool.
fn answered_nothing(case: &Case<'_, Stream>) -> bool {
    has_good_end(case) && !facts::has_content(case)
}

fn answered_nothing_text(case: &Case<'_, Stream>) -> String {
    let text =
        "the model's answer was empty: neither a text nor a call of a tool; the provider may be degraded";
    explained(case, text.to_owned())
}

fn was_cut_by_length(case: &Case<'_, Stream>) -> bool {
    has_good_end(case) && case.stream.reason() == "length"
}

fn is_refusal(case: &Case<'_, Stream>) -> bool {
    has_kind(case, "ContentFilterError")
        || case.stream.reason() == "content-filter" && case.report().is_none()
}

fn exceeds_context(case: &Case<'_, Stream>) -> bool {
    has_kind(case, "ContextOverflowError")
        || has_kind(case, "context_length_exceeded")
        || facts::exceeds_context(case)
}

/// The cause is in the log alone, and the log names the model.
fn is_named_by_the_log(case: &Case<'_, Stream>) -> bool {
    let is_opaque = case.report().is_some_and(|report| report.text.starts_with(OPAQUE));
    is_opaque && case.stream.missing_model().is_some()
}

fn misses_model(case: &Case<'_, Stream>) -> bool {
    let is_model = case.topics.model || has_kind(case, "model_not_found") || case.status() == Some(404);
    is_model || is_named_by_the_log(case)
}

fn misses_model_text(case: &Case<'_, Stream>) -> String {
    match case.stream.missing_model().filter(|_| is_named_by_the_log(case)) {
        Some(model) => format!("opencode run failed: Model not found: {model}"),
        None => run_failed(case),
    }
}

fn needs_credentials(case: &Case<'_, Stream>) -> bool {
    case.topics.credentials || has_kind(case, "ProviderAuthError") || has_kind(case, "invalid_api_key")
}

fn is_out_of_quota(case: &Case<'_, Stream>) -> bool {
    case.topics.quota || has_kind(case, "insufficient_quota")
}

/// The use of the last tool was refused, with which the agent ends.
fn is_refused(case: &Case<'_, Stream>) -> bool {
    case.stream.is_refused() && (facts::exited_with_0(case) || case.evidence.exit_code().is_none())
}

fn is_refused_text(case: &Case<'_, Stream>) -> String {
    let text = "opencode ended because a tool asked for a permission and nobody is there to be asked: set dangerouslySkipPermissions, or allow the tool in the config";
    explained(case, text.to_owned())
}

fn repeats_itself(case: &Case<'_, Stream>) -> bool {
    case.stream.repeats_itself()
}

fn repeats_itself_text(case: &Case<'_, Stream>) -> String {
    explained(case, format!("opencode run failed: {}", case.stream.repetition()))
}

fn has_started(case: &Case<'_, Stream>) -> bool {
    case.stream.has_events()
}

fn truncated_text(case: &Case<'_, Stream>) -> String {
    if facts::has_content(case) {
        return truncated(case);
    }
    let end = case.evidence.describe_unobserved_end().map(|end| format!("; {end}")).unwrap_or_default();
    explained(case, format!("opencode started a step, and its output ends before the step does{end}"))
}
