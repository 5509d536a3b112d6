//! The rules of a judgement, as a table in the order of precedence.

use paperclip_kit::judge::messages::{aborted, partial_run, refused, run_failed};
use paperclip_kit::judge::{Given, row};
use paperclip_kit::outcome::{AgentCodes, ErrorCode as E};

use super::facts::*;
use crate::stream::{Stream, WORDS};

use Given::{AnyReport, ApiFailure, Failure, NoResult, Success};

type Rule = paperclip_kit::judge::Rule<Stream>;

const CODES: AgentCodes = WORDS.codes;

/// The first rule that holds decides.
#[rustfmt::skip]
pub(crate) const RULES: &[Rule] = &[
    // A refusal comes before everything that a reported success may be.
    row("12", Success, is_refusal).is(CODES.refusal, refused).stops_by("refusal"),
    row("1", Success, has_good_end_by_turns).forgets_session(),
    Rule::SUCCESS,
    Rule::CANCELLED,
    Rule::TIMEOUT,
    Rule::QUIET,
    Rule::WRAPPER_FAILED,
    row("5", Failure, knows_no_session).is(E::SESSION_UNAVAILABLE, run_failed).drops_session().did_nothing(),
    Rule::NO_SESSION,
    row("6", Failure, ran_out_of_turns).is(E::MAX_TURNS_EXHAUSTED, run_failed).forgets_session().stops_by("max_turns_exhausted"),
    row("7", Failure, ran_out_of_budget).is(E::BUDGET_EXHAUSTED, run_failed),
    // A refusal comes before a conversation that cannot be continued.
    row("12", AnyReport, is_refusal).is(CODES.refusal, refused).stops_by("refusal"),
    row("8", AnyReport, exceeds_context).is(E::CONTEXT_EXCEEDED, run_failed).drops_session(),
    row("8", ApiFailure, has_unusable_session).is(E::SESSION_UNUSABLE, run_failed).drops_session(),
    Rule::MODEL,
    Rule::CREDENTIALS,
    row("11", ApiFailure, is_out_of_quota).is(E::PROVIDER_QUOTA, run_failed),
    Rule::TRANSIENT,
    row("14", AnyReport, got_no_answer).is(E::LLM_API_ERROR, run_failed),
    row("15", Failure, was_aborted).is(CODES.aborted, aborted),
    Rule::RUN_FAILED,
    Rule::DELETED,
    Rule::ENDS_EMPTY,
    Rule::TRUNCATED,
    row("20", NoResult, was_rejected).is(E::PROVIDER_QUOTA, partial_run),
    row("20", NoResult, retries_for_credentials).is(CODES.auth_required, partial_run),
    row("20", NoResult, retries_for_quota).is(E::PROVIDER_QUOTA, partial_run),
    row("20", NoResult, retries_for_the_provider).is(CODES.transient_upstream, partial_run),
    Rule::LINES_MODEL,
    Rule::LINES_CREDENTIALS,
    Rule::LINES_QUOTA,
    Rule::LINES_TRANSIENT,
    Rule::NO_PROGRAM,
    Rule::INIT_FAILED,
    Rule::UNPARSEABLE,
    Rule::ANYTHING_ELSE,
];
