//! The rules of a judgement, as a table in the order of precedence.

use paperclip_kit::outcome::ErrorCode;

use super::facts::*;
use super::messages::*;

/// A row of the table: if it holds, this is how the run ended.
#[derive(Debug)]
pub(super) struct Rule {
    /// The row's number in `docs/errors.md`.
    pub(super) row: &'static str,
    given: Given,
    when: fn(&Case<'_>) -> bool,
    /// None is a success.
    pub(super) code: Option<ErrorCode>,
    pub(super) message: Option<fn(&Case<'_>) -> String>,
    pub(super) session: SessionEffect,
    pub(super) stop_reason: Option<&'static str>,
    /// The run did nothing, so the server may start it again.
    pub(super) is_bootstrap: bool,
}

/// To which runs a row applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    AnyRun,
    /// The last result event reports a success.
    Success,
    /// The last result event reports a failure.
    Failure,
    /// The CLI reports a failed request: in its last result event, or without one in a message of its own.
    ApiFailure,
    /// The last result event, or without one a message of the CLI, reports a failure.
    AnyReport,
    NoResult,
}

/// What the result says about the task's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionEffect {
    Keep,
    /// The next run starts a new session; this run's session is still in the result.
    Forget,
    /// The session can never work again.
    Drop,
}

const fn row(row: &'static str, given: Given, when: fn(&Case<'_>) -> bool) -> Rule {
    Rule {
        row,
        given,
        when,
        code: None,
        message: None,
        session: SessionEffect::Keep,
        stop_reason: None,
        is_bootstrap: false,
    }
}

impl Rule {
    const fn is(mut self, code: ErrorCode, message: fn(&Case<'_>) -> String) -> Rule {
        self.code = Some(code);
        self.message = Some(message);
        self
    }

    const fn forgets_session(mut self) -> Rule {
        self.session = SessionEffect::Forget;
        self
    }

    const fn drops_session(mut self) -> Rule {
        self.session = SessionEffect::Drop;
        self
    }

    const fn stops_by(mut self, reason: &'static str) -> Rule {
        self.stop_reason = Some(reason);
        self
    }

    const fn did_nothing(mut self) -> Rule {
        self.is_bootstrap = true;
        self
    }

    pub(super) fn holds(&self, case: &Case<'_>) -> bool {
        let is_given = match self.given {
            Given::AnyRun => true,
            Given::Success => case.has_success(),
            Given::Failure => case.has_failure(),
            Given::ApiFailure => case.api_failure.is_some(),
            Given::AnyReport => case.has_failure() || case.api_failure.is_some(),
            Given::NoResult => case.result.is_none(),
        };
        is_given && (self.when)(case)
    }
}

fn always(_: &Case<'_>) -> bool {
    true
}

use ErrorCode as E;
use Given::{AnyReport, AnyRun, ApiFailure, Failure, NoResult, Success};

/// The first rule that holds decides.
#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    // A refusal comes before everything that a reported success may be.
    row("12", Success, is_refusal).is(E::ClaudeRefusal, refused).stops_by("refusal"),
    row("1", Success, has_good_end_by_turns).forgets_session(),
    row("1", Success, has_good_end),
    row("2", AnyRun, is_cancelled).is(E::Cancelled, cancelled),
    row("3", AnyRun, has_timed_out).is(E::Timeout, timed_out),
    row("3b", AnyRun, was_quiet).is(E::AgentQuiet, quiet),
    row("4", Success, always).is(E::ClaudeRunFailed, wrapper_failed),
    row("5", Failure, knows_no_session).is(E::SessionUnavailable, run_failed).drops_session().did_nothing(),
    row("5", NoResult, lines_know_no_session).is(E::SessionUnavailable, partial_run).drops_session().did_nothing(),
    row("6", Failure, ran_out_of_turns).is(E::MaxTurnsExhausted, run_failed).forgets_session().stops_by("max_turns_exhausted"),
    row("7", Failure, ran_out_of_budget).is(E::BudgetExhausted, run_failed),
    // A refusal comes before a conversation that cannot be continued.
    row("12", AnyReport, is_refusal).is(E::ClaudeRefusal, refused).stops_by("refusal"),
    row("8", AnyReport, exceeds_context).is(E::ContextExceeded, run_failed).drops_session(),
    row("8", ApiFailure, has_unusable_session).is(E::SessionUnusable, run_failed).drops_session(),
    row("9", ApiFailure, misses_model).is(E::ModelNotFound, run_failed),
    row("10", ApiFailure, needs_credentials).is(E::ClaudeAuthRequired, run_failed),
    row("11", ApiFailure, is_out_of_quota).is(E::ProviderQuota, run_failed),
    row("13", ApiFailure, is_transient).is(E::ClaudeTransientUpstream, run_failed),
    row("14", AnyReport, got_no_answer).is(E::LlmApiError, run_failed),
    row("15", Failure, was_aborted).is(E::ClaudeAborted, aborted),
    row("16", Failure, always).is(E::ClaudeRunFailed, run_failed_otherwise),
    row("17", NoResult, was_deleted).is(E::K8sJobDeletedExternally, deleted),
    row("18", NoResult, ends_empty).is(E::LlmApiError, empty_response),
    row("19", NoResult, has_content).is(E::ClaudeTruncated, truncated),
    row("20", NoResult, was_rejected).is(E::ProviderQuota, partial_run),
    row("20", NoResult, retries_for_credentials).is(E::ClaudeAuthRequired, partial_run),
    row("20", NoResult, retries_for_quota).is(E::ProviderQuota, partial_run),
    row("20", NoResult, retries_for_the_provider).is(E::ClaudeTransientUpstream, partial_run),
    row("20", NoResult, lines_miss_model).is(E::ModelNotFound, partial_run),
    row("20", NoResult, lines_need_credentials).is(E::ClaudeAuthRequired, partial_run),
    row("20", NoResult, lines_name_a_quota).is(E::ProviderQuota, partial_run),
    row("20", NoResult, lines_name_an_overload).is(E::ClaudeTransientUpstream, partial_run),
    row("21", NoResult, misses_command).is(E::AgentNotFound, no_command),
    row("22", NoResult, ended_after_init).is(E::ClaudeInitFailed, ended_at_start),
    row("23", NoResult, exited_with_0).is(E::ClaudeOutputUnparseable, unparseable),
    row("24", NoResult, always).is(E::ClaudeExited, partial_run),
];

/// The last row: it holds for every run that no other row is about.
pub(super) const ANYTHING_ELSE: &Rule = &RULES[RULES.len() - 1];
