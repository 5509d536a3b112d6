//! The rules of a judgement: rows of a table in the order of precedence, and those that all agent types have in common.

use super::facts::{self, Case};
use super::messages;
use crate::outcome::{ErrorCode, ErrorFamily};
use crate::stream::{AgentStream, Verdict};

/// Returns the family of a failure, where it does not follow from the code.
pub type FamilyOf<S> = fn(&Case<'_, S>) -> Option<ErrorFamily>;

/// A row of the table: if it holds, this is how the run ended.
#[derive(Debug)]
pub struct Rule<S: AgentStream> {
    /// The row's number in `docs/errors.md`.
    pub row: &'static str,
    given: Given,
    when: fn(&Case<'_, S>) -> bool,
    /// None is a success.
    pub code: Option<ErrorCode>,
    pub message: Option<fn(&Case<'_, S>) -> String>,
    family: Option<FamilyOf<S>>,
    pub session: SessionEffect,
    pub stop_reason: Option<&'static str>,
    /// The run did nothing, so the server may start it again.
    pub is_bootstrap: bool,
}

/// To which runs a row applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    AnyRun,
    /// The agent has reported a success.
    Success,
    /// The agent has reported a failure.
    Failure,
    /// The agent reports a failed request: in its report, or without one in a message of its own.
    ApiFailure,
    /// The agent's report, or without one a message of its own, says that it failed.
    AnyReport,
    /// The agent has not reported its end.
    NoResult,
}

/// What the result says about the task's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEffect {
    Keep,
    /// The next run starts a new session; this run's session is still in the result.
    Forget,
    /// The session can never work again.
    Drop,
}

/// Starts a row that is a success.
pub const fn row<S: AgentStream>(row: &'static str, given: Given, when: fn(&Case<'_, S>) -> bool) -> Rule<S> {
    Rule {
        row,
        given,
        when,
        code: None,
        message: None,
        family: None,
        session: SessionEffect::Keep,
        stop_reason: None,
        is_bootstrap: false,
    }
}

impl<S: AgentStream> Rule<S> {
    /// Makes the row a failure.
    #[must_use]
    pub const fn is(mut self, code: ErrorCode, message: fn(&Case<'_, S>) -> String) -> Rule<S> {
        self.code = Some(code);
        self.message = Some(message);
        self
    }

    /// Gives the failure another family than its code's.
    #[must_use]
    pub const fn of_family(mut self, family: FamilyOf<S>) -> Rule<S> {
        self.family = Some(family);
        self
    }

    /// Lets the next run start a new session.
    #[must_use]
    pub const fn forgets_session(mut self) -> Rule<S> {
        self.session = SessionEffect::Forget;
        self
    }

    /// Drops the session: it can never work again.
    #[must_use]
    pub const fn drops_session(mut self) -> Rule<S> {
        self.session = SessionEffect::Drop;
        self
    }

    /// Names the reason why the agent stopped.
    #[must_use]
    pub const fn stops_by(mut self, reason: &'static str) -> Rule<S> {
        self.stop_reason = Some(reason);
        self
    }

    /// Declares that the run did nothing.
    #[must_use]
    pub const fn did_nothing(mut self) -> Rule<S> {
        self.is_bootstrap = true;
        self
    }

    /// Whether the row holds.
    pub fn holds(&self, case: &Case<'_, S>) -> bool {
        let is_given = match self.given {
            Given::AnyRun => true,
            Given::Success => case.verdict == Verdict::Success,
            Given::Failure => case.verdict == Verdict::Failure,
            Given::ApiFailure => case.api_failure.is_some(),
            Given::AnyReport => case.verdict == Verdict::Failure || case.api_failure.is_some(),
            Given::NoResult => case.verdict == Verdict::Open,
        };
        is_given && (self.when)(case)
    }

    pub(super) fn has_code(&self, code: ErrorCode) -> bool {
        self.code == Some(code)
    }

    pub(super) fn family_of(&self, case: &Case<'_, S>) -> Option<ErrorFamily> {
        self.family?(case)
    }

    // ------------------------------------------------------------------ rows of all agent types

    /// Row 1: the agent has reported a success, and its container did not fail by itself.
    pub const SUCCESS: Rule<S> = row("1", Given::Success, facts::has_good_end);
    /// Row 2: the run was cancelled.
    pub const CANCELLED: Rule<S> =
        row("2", Given::AnyRun, facts::is_cancelled).is(ErrorCode::CANCELLED, messages::cancelled);
    /// Row 3: its time or its Job's deadline passed.
    pub const TIMEOUT: Rule<S> =
        row("3", Given::AnyRun, facts::has_timed_out).is(ErrorCode::TIMEOUT, messages::timed_out);
    /// Row 3b: it printed nothing for too long.
    pub const QUIET: Rule<S> =
        row("3b", Given::AnyRun, facts::was_quiet).is(ErrorCode::AGENT_QUIET, messages::quiet);
    /// Row 3c: it was stopped because it would not end by itself.
    pub const STOPPED: Rule<S> =
        row("3c", Given::AnyRun, facts::was_stopped).is(ErrorCode::LLM_API_ERROR, messages::stopped);
    /// Row 4: a success, but its container failed.
    pub const WRAPPER_FAILED: Rule<S> =
        row("4", Given::Success, facts::always).is(S::WORDS.codes.run_failed, messages::wrapper_failed);
    /// Row 5: lines say that the session does not exist, and nothing was done.
    pub const NO_SESSION: Rule<S> = row("5", Given::NoResult, facts::lines_know_no_session)
        .is(ErrorCode::SESSION_UNAVAILABLE, messages::partial_run)
        .drops_session()
        .did_nothing();
    /// Row 8: the conversation does not fit into the model's context.
    pub const CONTEXT: Rule<S> = row("8", Given::AnyReport, facts::exceeds_context)
        .is(ErrorCode::CONTEXT_EXCEEDED, messages::run_failed)
        .drops_session();
    /// Row 9: the model does not exist, or not for this account.
    pub const MODEL: Rule<S> =
        row("9", Given::ApiFailure, facts::misses_model).is(ErrorCode::MODEL_NOT_FOUND, messages::run_failed);
    /// Row 10: credentials are missing or refused.
    pub const CREDENTIALS: Rule<S> = row("10", Given::ApiFailure, facts::needs_credentials)
        .is(S::WORDS.codes.auth_required, messages::run_failed);
    /// Row 11: money or quota is used up.
    pub const QUOTA: Rule<S> = row("11", Given::ApiFailure, facts::is_out_of_quota)
        .is(ErrorCode::PROVIDER_QUOTA, messages::run_failed);
    /// Row 13: the provider cannot serve at the moment.
    pub const TRANSIENT: Rule<S> = row("13", Given::ApiFailure, facts::is_transient)
        .is(S::WORDS.codes.transient_upstream, messages::run_failed);
    /// Row 14: the API answered, but not with a message.
    pub const NO_ANSWER: Rule<S> =
        row("14", Given::AnyReport, facts::got_no_answer).is(ErrorCode::LLM_API_ERROR, messages::run_failed);
    /// Row 16: any other failure that the agent reported.
    pub const RUN_FAILED: Rule<S> = row("16", Given::Failure, facts::always)
        .is(S::WORDS.codes.run_failed, messages::run_failed_otherwise);
    /// Row 17: somebody deleted the Job.
    pub const DELETED: Rule<S> = row("17", Given::NoResult, facts::was_deleted)
        .is(ErrorCode::K8S_JOB_DELETED_EXTERNALLY, messages::deleted);
    /// Row 18: the last answer was empty.
    pub const ENDS_EMPTY: Rule<S> =
        row("18", Given::NoResult, facts::ends_empty).is(ErrorCode::LLM_API_ERROR, messages::empty_response);
    /// Row 19: the model had produced content.
    pub const TRUNCATED: Rule<S> =
        row("19", Given::NoResult, facts::has_content).is(S::WORDS.codes.truncated, messages::truncated);
    /// Row 20: lines name the model.
    pub const LINES_MODEL: Rule<S> = row("20", Given::NoResult, facts::lines_miss_model)
        .is(ErrorCode::MODEL_NOT_FOUND, messages::partial_run);
    /// Row 20: lines name credentials.
    pub const LINES_CREDENTIALS: Rule<S> = row("20", Given::NoResult, facts::lines_need_credentials)
        .is(S::WORDS.codes.auth_required, messages::partial_run);
    /// Row 20: lines name a quota.
    pub const LINES_QUOTA: Rule<S> = row("20", Given::NoResult, facts::lines_name_a_quota)
        .is(ErrorCode::PROVIDER_QUOTA, messages::partial_run);
    /// Row 20: lines name an overload or the network.
    pub const LINES_TRANSIENT: Rule<S> = row("20", Given::NoResult, facts::lines_name_an_overload)
        .is(S::WORDS.codes.transient_upstream, messages::partial_run);
    /// Row 21: the image has no such program.
    pub const NO_PROGRAM: Rule<S> = row("21", Given::NoResult, facts::misses_command)
        .is(ErrorCode::AGENT_NOT_FOUND, messages::no_command);
    /// Row 22: it ended right after its start.
    pub const INIT_FAILED: Rule<S> = row("22", Given::NoResult, facts::ended_after_init)
        .is(S::WORDS.codes.init_failed, messages::ended_at_start);
    /// Row 23: it exited with 0, and its output says nothing.
    pub const UNPARSEABLE: Rule<S> = row("23", Given::NoResult, facts::exited_with_0)
        .is(S::WORDS.codes.output_unparseable, messages::unparseable);
    /// Row 24: every other run. The last row of a table.
    pub const ANYTHING_ELSE: Rule<S> =
        row("24", Given::NoResult, facts::always).is(S::WORDS.codes.exited, messages::partial_run);
}
