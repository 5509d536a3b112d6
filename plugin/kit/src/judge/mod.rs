//! The judgement of a finished run.
//!
//! [`judge`] takes the first rule of the agent type's table that holds. Its row becomes the result, together with everything that
//! the stream reported: session, usage, cost, summary.

mod document;
pub mod facts;
mod fresh_session;
pub mod messages;
mod result;
mod rules;

use crate::outcome::{AdapterResult, ErrorCode, Evidence, head, iso_time, without_nul};
use crate::stream::AgentStream;
pub use document::{classify_document, env_value, run_facts};
pub use facts::Case;
pub use fresh_session::{RetryReason, may_retry_fresh};
pub use rules::{FamilyOf, Given, Rule, SessionEffect, row};

/// An error message, in bytes.
const MESSAGE_BYTES: usize = 8 * 1024;

/// Returns the result of a run that has ended.
pub fn judge<S: AgentStream>(evidence: &Evidence, stream: &S) -> AdapterResult {
    let case = Case::new(evidence, stream);
    let rule = deciding_rule(&case);
    let mut result = case.reported_result();
    if rule.code.is_none() {
        // The container of a success may have been ended by somebody else, with any code.
        result.exit_code = result.exit_code.filter(|code| *code == 0);
    }
    result.error_code = rule.code;
    result.error_family = rule.family_of(&case).or_else(|| rule.code.and_then(ErrorCode::family));
    result.error_message = rule.message.map(|message| clean(&message(&case), MESSAGE_BYTES));
    result.timed_out = rule.has_code(ErrorCode::TIMEOUT);
    result.retry_not_before = case.retry_not_before(rule);
    if rule.has_code(S::WORDS.codes.auth_required)
        && let Some(url) = case.login_url()
    {
        result.error_meta.insert("loginUrl".to_owned(), url.into());
    }
    match rule.session {
        SessionEffect::Keep => {}
        SessionEffect::Forget => result.clear_session = true,
        SessionEffect::Drop => result.drop_session(),
    }
    result.result_json = Some(case.result_json(rule, &result));
    result.continue_conversation();
    if case.did_nothing(rule) {
        result.declare_bootstrap();
    }
    if evidence.is_cancelled && evidence.is_agent_end_observed() {
        result.acknowledge_cancellation(evidence.at_ms.and_then(iso_time).as_deref());
    }
    result
}

/// Returns the rows of `docs/errors.md` that hold for the evidence, in the order of precedence. The first one decides.
pub fn matching_rows<S: AgentStream>(evidence: &Evidence, stream: &S) -> Vec<&'static str> {
    let case = Case::new(evidence, stream);
    let mut rows: Vec<_> = S::RULES.iter().filter(|rule| rule.holds(&case)).map(|rule| rule.row).collect();
    rows.dedup();
    rows
}

/// Returns the first rule that holds; the last one is for everything that no other rule is about.
fn deciding_rule<S: AgentStream>(case: &Case<'_, S>) -> &'static Rule<S> {
    let rule = S::RULES.iter().find(|rule| rule.holds(case)).or(S::RULES.last());
    rule.expect("an agent type has rules")
}

pub(crate) fn clean(text: &str, max_bytes: usize) -> String {
    head(&without_nul(text), max_bytes).into_owned()
}
