//! The questions that the rules ask about a finished run.

use paperclip_kit::outcome::{Evidence, InfraCause, JobOutcome};

use crate::phrases::{
    CONTEXT_EXCEEDED, EMPTY_RESPONSE, SESSION_UNUSABLE, Topics, UNKNOWN_SESSION, UNKNOWN_SESSION_OF_CLI,
    may_speak_of_the_answer, may_speak_of_the_conversation,
};
use crate::stream::{Report, ResultEvent, Stream};

/// What is judged: the evidence and what the agent printed.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) stream: &'a Stream,
    /// The last result event.
    pub(super) result: Option<&'a ResultEvent>,
    /// What the CLI reports about a failed request: in its result event, else in a message of its own.
    pub(super) api_failure: Option<&'a Report>,
    /// What that report is about.
    topics: Topics,
}

impl<'a> Case<'a> {
    pub(super) fn new(evidence: &'a Evidence, stream: &'a Stream) -> Case<'a> {
        let result = stream.result();
        let api_failure = match result {
            Some(event) => Some(&event.report).filter(|_| event.is_api_failure()),
            None => stream.failure(),
        };
        let model = stream.model().or(evidence.run.model.as_deref());
        let topics = api_failure.map(|report| report.topics(model)).unwrap_or_default();
        Case { evidence, stream, result, api_failure, topics }
    }

    pub(super) fn has_success(&self) -> bool {
        self.result.is_some_and(|event| !event.is_failure())
    }

    pub(super) fn has_failure(&self) -> bool {
        self.result.is_some_and(ResultEvent::is_failure)
    }

    /// The report of a failure: of the result event, else of a message of the CLI.
    pub(super) fn report(&self) -> Option<&'a Report> {
        match self.result {
            Some(event) => Some(&event.report),
            None => self.api_failure,
        }
    }

    fn has_terminal_reason(&self, reasons: &[&str]) -> bool {
        self.report().is_some_and(|report| reasons.contains(&report.terminal_reason.as_str()))
    }

    fn has_subtype(&self, subtype: &str) -> bool {
        self.result.is_some_and(|event| event.subtype.eq_ignore_ascii_case(subtype))
    }

    fn has_stop_reason(&self, reasons: &[&str]) -> bool {
        self.report().is_some_and(|report| report.has_stop_reason(reasons))
    }
}

const MAX_TURNS_REASONS: [&str; 4] =
    ["max_turns", "max_turns_exhausted", "turn_limit", "turn_limit_exhausted"];
const REFUSALS: [&str; 2] = ["refusal", "model_refusal"];
const REQUEST_TOO_LARGE: u16 = 413;
const COMMAND_NOT_FOUND_EXIT: i32 = 127;

// ---------------------------------------------------------------------- any run

pub(super) fn is_cancelled(case: &Case<'_>) -> bool {
    case.evidence.is_cancelled
}

pub(super) fn has_timed_out(case: &Case<'_>) -> bool {
    case.evidence.has_timed_out()
}

pub(super) fn was_quiet(case: &Case<'_>) -> bool {
    case.evidence.quiet_sec.is_some()
}

// ---------------------------------------------------------------------- with a result event

/// The container did not fail by itself.
pub(super) fn has_good_end(case: &Case<'_>) -> bool {
    case.evidence.own_failure().is_none()
}

pub(super) fn has_good_end_by_turns(case: &Case<'_>) -> bool {
    has_good_end(case) && case.has_stop_reason(&MAX_TURNS_REASONS)
}

/// The result event says that the session does not exist, and nothing was done in this run.
pub(super) fn knows_no_session(case: &Case<'_>) -> bool {
    let is_unknown = case.result.is_some_and(|event| {
        event.has_no_turn()
            && (event.report.says(UNKNOWN_SESSION_OF_CLI) || event.report.says(UNKNOWN_SESSION))
    });
    is_unknown && !case.stream.has_content()
}

pub(super) fn ran_out_of_turns(case: &Case<'_>) -> bool {
    case.has_subtype("error_max_turns")
        || case.has_terminal_reason(&["max_turns"])
        || case.has_stop_reason(&MAX_TURNS_REASONS)
}

pub(super) fn ran_out_of_budget(case: &Case<'_>) -> bool {
    case.has_subtype("error_max_budget_usd") || case.has_terminal_reason(&["budget_exhausted"])
}

pub(super) fn is_refusal(case: &Case<'_>) -> bool {
    REFUSALS.iter().any(|refusal| case.has_subtype(refusal)) || case.has_stop_reason(&REFUSALS)
}

pub(super) fn was_aborted(case: &Case<'_>) -> bool {
    case.report().is_some_and(|report| report.terminal_reason.starts_with("aborted_"))
}

// ---------------------------------------------------------------------- a request of the CLI failed

pub(super) fn exceeds_context(case: &Case<'_>) -> bool {
    case.has_terminal_reason(&["prompt_too_long"])
        || case.api_failure.is_some_and(|report| {
            let status = report.status();
            status == Some(REQUEST_TOO_LARGE)
                || report.has_kind("request_too_large")
                || may_speak_of_the_conversation(status) && report.says(CONTEXT_EXCEEDED)
        })
}

pub(super) fn has_unusable_session(case: &Case<'_>) -> bool {
    case.api_failure
        .is_some_and(|report| may_speak_of_the_conversation(report.status()) && report.says(SESSION_UNUSABLE))
}

pub(super) fn misses_model(case: &Case<'_>) -> bool {
    case.topics.model
}

pub(super) fn needs_credentials(case: &Case<'_>) -> bool {
    case.topics.credentials
}

pub(super) fn is_out_of_quota(case: &Case<'_>) -> bool {
    case.topics.quota || case.stream.limits().is_rejected()
}

pub(super) fn is_transient(case: &Case<'_>) -> bool {
    case.topics.transient
}

pub(super) fn got_no_answer(case: &Case<'_>) -> bool {
    case.has_terminal_reason(&["model_error", "malformed_tool_use_exhausted"])
        || case
            .api_failure
            .is_some_and(|report| may_speak_of_the_answer(report.status()) && report.says(EMPTY_RESPONSE))
}

// ---------------------------------------------------------------------- without a result event

/// The container's exit is not 0, as far as is known.
fn may_have_failed(case: &Case<'_>) -> bool {
    !case.evidence.has_exited_with_0()
}

/// Nothing was done, and the container's exit is not 0.
fn failed_before_content(case: &Case<'_>) -> bool {
    may_have_failed(case) && !case.stream.has_content()
}

pub(super) fn lines_know_no_session(case: &Case<'_>) -> bool {
    failed_before_content(case) && case.stream.untyped().names_unknown_session
}

pub(super) fn was_deleted(case: &Case<'_>) -> bool {
    case.evidence.job == JobOutcome::Deleted && case.evidence.exit_code().is_none()
}

pub(super) fn ends_empty(case: &Case<'_>) -> bool {
    let is_taken_away = case.evidence.cause().is_some();
    case.stream.ends_empty() && !is_taken_away
}

pub(super) fn has_content(case: &Case<'_>) -> bool {
    case.stream.has_content()
}

pub(super) fn was_rejected(case: &Case<'_>) -> bool {
    failed_before_content(case) && case.stream.limits().is_rejected()
}

/// The row's topic by the status of an open retry.
fn retries(case: &Case<'_>, is_about: fn(Topics) -> bool) -> bool {
    let Some(retry) = case.stream.retry() else { return false };
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

pub(super) fn lines_miss_model(case: &Case<'_>) -> bool {
    failed_before_content(case) && case.stream.untyped().topics.model
}

pub(super) fn lines_need_credentials(case: &Case<'_>) -> bool {
    failed_before_content(case) && case.stream.untyped().topics.credentials
}

pub(super) fn lines_name_a_quota(case: &Case<'_>) -> bool {
    failed_before_content(case) && case.stream.untyped().topics.quota
}

pub(super) fn lines_name_an_overload(case: &Case<'_>) -> bool {
    failed_before_content(case) && case.stream.untyped().topics.transient
}

pub(super) fn misses_command(case: &Case<'_>) -> bool {
    let container = case.evidence.container.as_ref();
    case.evidence.exit_code() == Some(COMMAND_NOT_FOUND_EXIT)
        || case.stream.untyped().misses_command
        || container
            .and_then(|container| container.message.as_deref())
            .is_some_and(|message| crate::words::mentions(message, crate::phrases::COMMAND_NOT_FOUND))
}

pub(super) fn ended_after_init(case: &Case<'_>) -> bool {
    case.stream.has_init() && case.evidence.exit_code().is_some() && may_have_failed(case)
}

pub(super) fn exited_with_0(case: &Case<'_>) -> bool {
    case.evidence.has_exited_with_0()
}

/// The cluster ended the container before the agent had done anything.
pub(super) fn was_taken_away(case: &Case<'_>) -> Option<InfraCause> {
    case.evidence.cause().filter(|_| case.result.is_none() && !case.stream.has_content())
}
