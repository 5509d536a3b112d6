//! The questions that the rules of this CLI ask about a finished run, beside those of all agent types.

use paperclip_kit::judge::facts::{self, MAX_TURNS_REASONS, failed_before_content, has_good_end};
use paperclip_kit::phrases::{Topics, UNKNOWN_SESSION, may_speak_of_the_conversation};

use crate::phrases::{LEXICON, SESSION_UNUSABLE, UNKNOWN_SESSION_OF_CLI};
use crate::stream::Stream;

pub(super) type Case<'a> = facts::Case<'a, Stream>;

const REFUSALS: [&str; 2] = ["refusal", "model_refusal"];

fn has_subtype(case: &Case<'_>, subtype: &str) -> bool {
    case.stream.result().is_some_and(|event| event.subtype.eq_ignore_ascii_case(subtype))
}

// ---------------------------------------------------------------------- with a result event

pub(super) fn has_good_end_by_turns(case: &Case<'_>) -> bool {
    has_good_end(case) && case.has_stop_reason(&MAX_TURNS_REASONS)
}

/// The result event says that the session does not exist, and nothing was done in this run.
pub(super) fn knows_no_session(case: &Case<'_>) -> bool {
    let is_unknown = case.stream.result().is_some_and(|event| {
        event.has_no_turn()
            && (event.report.says(UNKNOWN_SESSION_OF_CLI) || event.report.says(UNKNOWN_SESSION))
    });
    is_unknown && !facts::has_content(case)
}

pub(super) fn ran_out_of_turns(case: &Case<'_>) -> bool {
    has_subtype(case, "error_max_turns")
        || case.has_terminal_reason(&["max_turns"])
        || case.has_stop_reason(&MAX_TURNS_REASONS)
}

pub(super) fn ran_out_of_budget(case: &Case<'_>) -> bool {
    has_subtype(case, "error_max_budget_usd") || case.has_terminal_reason(&["budget_exhausted"])
}

pub(super) fn is_refusal(case: &Case<'_>) -> bool {
    REFUSALS.iter().any(|refusal| has_subtype(case, refusal)) || case.has_stop_reason(&REFUSALS)
}

pub(super) fn was_aborted(case: &Case<'_>) -> bool {
    case.report().is_some_and(|report| report.terminal_reason.starts_with("aborted_"))
}

// ---------------------------------------------------------------------- a request of the CLI failed

pub(super) fn exceeds_context(case: &Case<'_>) -> bool {
    case.has_terminal_reason(&["prompt_too_long"]) || facts::exceeds_context(case)
}

pub(super) fn has_unusable_session(case: &Case<'_>) -> bool {
    case.api_failure.is_some_and(|report| {
        may_speak_of_the_conversation(report.status(&LEXICON)) && report.says(SESSION_UNUSABLE)
    })
}

pub(super) fn is_out_of_quota(case: &Case<'_>) -> bool {
    case.topics.quota || case.stream.limits().is_rejected()
}

pub(super) fn got_no_answer(case: &Case<'_>) -> bool {
    case.has_terminal_reason(&["model_error", "malformed_tool_use_exhausted"]) || facts::got_no_answer(case)
}

// ---------------------------------------------------------------------- without a result event

pub(super) fn was_rejected(case: &Case<'_>) -> bool {
    failed_before_content(case) && case.stream.limits().is_rejected()
}

/// The row's topic by the status of an open retry.
fn retries(case: &Case<'_>, is_about: fn(Topics) -> bool) -> bool {
    let Some(retry) = case.stream.open_retry() else { return false };
    let topics = match retry.status {
        _ if retry.misses_cloud_credentials() => Topics { credentials: true, ..Topics::default() },
        Some(401 | 403) => Topics { credentials: true, ..Topics::default() },
        Some(402) => Topics { quota: true, ..Topics::default() },
        Some(_) | None => Topics { transient: true, ..Topics::default() },
    };
    failed_before_content(case) && is_about(topics)
}

pub(super) fn retries_for_credentials(case: &Case<'_>) -> bool {
    retries(case, |topics| topics.credentials)
}

pub(super) fn retries_for_quota(case: &Case<'_>) -> bool {
    retries(case, |topics| topics.quota)
}

pub(super) fn retries_for_the_provider(case: &Case<'_>) -> bool {
    retries(case, |topics| topics.transient)
}
