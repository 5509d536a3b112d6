//! The rules of a judgement, as a table in the order of precedence.

use paperclip_kit::outcome::ErrorCode;

use super::facts::{
    Case, ended_after_init, got_no_message, has_poisoned_message_id, is_out_of_quota, is_overloaded,
    is_refused, is_timed_out, knows_no_session, lines_ask_for_login, lines_miss_model, lines_tell_overload,
    lines_tell_quota, misses_model, needs_login, ran_out_of_turns, was_deleted,
};
use super::messages::{
    api_gave_nothing, cancelled, deleted, failed_with_cause, partial_run, refused, run_failed, session_gone,
    timed_out, truncated, unparseable,
};

/// A row of the table: if it holds, this is how the run ended.
#[derive(Debug)]
pub(super) struct Rule {
    /// The row's number in `docs/errors.md`.
    pub(super) row: u8,
    given: Given,
    when: fn(&Case<'_>) -> bool,
    /// None is a success.
    pub(super) code: Option<ErrorCode>,
    pub(super) message: Option<fn(&Case<'_>) -> String>,
    pub(super) session: SessionEffect,
    pub(super) stop_reason: Option<&'static str>,
    /// Ended so, the run did nothing, and may be started again by the server.
    pub(super) is_undone: bool,
}

/// For which runs a row is there at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    AnyRun,
    Result,
    /// With a result event that is an error, or an exit code that is known and not 0.
    FailedResult,
    /// With a result event, and neither of that.
    GoodResult,
    NoResult,
}

/// What the result says about the task's session.
#[derive(Debug, Clone, Copy)]
pub(super) enum SessionEffect {
    Keep,
    /// The next run begins a new one; this run's is still told.
    Forget,
    /// It is no good any more.
    Drop,
}

impl Rule {
    pub(super) fn holds(&self, case: &Case<'_>) -> bool {
        let is_given = match self.given {
            Given::AnyRun => true,
            Given::Result => case.result.is_some(),
            Given::FailedResult => case.has_failed_result(),
            Given::GoodResult => case.result.is_some() && !case.has_failed_result(),
            Given::NoResult => case.result.is_none(),
        };
        is_given && (self.when)(case)
    }

    pub(super) fn is_about_a_missing_result(&self) -> bool {
        self.given == Given::NoResult
    }

    const fn failure(
        row: u8,
        given: Given,
        when: fn(&Case<'_>) -> bool,
        code: ErrorCode,
        message: fn(&Case<'_>) -> String,
    ) -> Rule {
        let session = SessionEffect::Keep;
        Rule {
            row,
            given,
            when,
            code: Some(code),
            message: Some(message),
            session,
            stop_reason: None,
            is_undone: false,
        }
    }

    const fn success(row: u8, when: fn(&Case<'_>) -> bool) -> Rule {
        let session = SessionEffect::Keep;
        Rule {
            row,
            given: Given::GoodResult,
            when,
            code: None,
            message: None,
            session,
            stop_reason: None,
            is_undone: false,
        }
    }
}

/// The first rule that holds decides.
pub(super) const RULES: &[Rule] = &[
    Rule::failure(1, Given::AnyRun, |c| c.evidence.is_cancelled, ErrorCode::Cancelled, cancelled),
    Rule::failure(2, Given::AnyRun, is_timed_out, ErrorCode::Timeout, timed_out),
    Rule {
        session: SessionEffect::Drop,
        is_undone: true,
        ..Rule::failure(3, Given::FailedResult, knows_no_session, ErrorCode::SessionUnavailable, session_gone)
    },
    Rule::failure(4, Given::FailedResult, needs_login, ErrorCode::ClaudeAuthRequired, run_failed),
    Rule::failure(5, Given::FailedResult, misses_model, ErrorCode::ModelNotFound, run_failed),
    Rule {
        session: SessionEffect::Forget,
        stop_reason: Some(ErrorCode::MaxTurnsExhausted.as_str()),
        ..Rule::failure(6, Given::FailedResult, ran_out_of_turns, ErrorCode::MaxTurnsExhausted, run_failed)
    },
    Rule {
        session: SessionEffect::Drop,
        stop_reason: Some(ErrorCode::ClaudePoisonedPreviousMessageId.as_str()),
        ..Rule::failure(
            7,
            Given::FailedResult,
            has_poisoned_message_id,
            ErrorCode::ClaudePoisonedPreviousMessageId,
            run_failed,
        )
    },
    Rule::failure(8, Given::FailedResult, is_out_of_quota, ErrorCode::ProviderQuota, run_failed),
    Rule::failure(9, Given::FailedResult, is_overloaded, ErrorCode::ClaudeTransientUpstream, run_failed),
    Rule::failure(10, Given::FailedResult, got_no_message, ErrorCode::LlmApiError, run_failed),
    Rule {
        stop_reason: Some("refusal"),
        ..Rule::failure(11, Given::Result, is_refused, ErrorCode::ClaudeRefusal, refused)
    },
    Rule::failure(12, Given::FailedResult, |_| true, ErrorCode::ClaudeRunFailed, failed_with_cause),
    Rule { session: SessionEffect::Forget, ..Rule::success(13, ran_out_of_turns) },
    Rule::success(13, |_| true),
    Rule::failure(14, Given::NoResult, was_deleted, ErrorCode::K8sJobDeletedExternally, deleted),
    Rule::failure(15, Given::NoResult, |c| c.stream.ends_empty(), ErrorCode::LlmApiError, api_gave_nothing),
    Rule::failure(16, Given::NoResult, |c| c.stream.has_content(), ErrorCode::ClaudeTruncated, truncated),
    Rule::failure(17, Given::NoResult, lines_ask_for_login, ErrorCode::ClaudeAuthRequired, partial_run),
    Rule::failure(17, Given::NoResult, lines_miss_model, ErrorCode::ModelNotFound, partial_run),
    Rule::failure(17, Given::NoResult, lines_tell_quota, ErrorCode::ProviderQuota, partial_run),
    Rule::failure(17, Given::NoResult, lines_tell_overload, ErrorCode::ClaudeTransientUpstream, partial_run),
    Rule::failure(18, Given::NoResult, ended_after_init, ErrorCode::ClaudeInitFailed, partial_run),
    Rule::failure(
        19,
        Given::NoResult,
        |c| c.exit() == Some(0),
        ErrorCode::ClaudeOutputUnparseable,
        unparseable,
    ),
    Rule::failure(20, Given::NoResult, |_| true, ErrorCode::ClaudeExited, partial_run),
];

/// The last row: it holds for every run that no other row is about.
pub(super) const ANYTHING_ELSE: &Rule = &RULES[RULES.len() - 1];
