//! How a run is judged: a table in the order of precedence.

use paperclip_kit::judge::messages::explained;
use paperclip_kit::judge::{Case, Given, facts, row};
use paperclip_kit::outcome::ErrorCode;

use crate::stream::Stream;

type Rule = paperclip_kit::judge::Rule<Stream>;

/// The first rule that holds decides.
#[rustfmt::skip]
pub(crate) const RULES: &[Rule] = &[
    row("14", Given::Success, answered_nothing).is(ErrorCode::LLM_API_ERROR, answered_nothing_text),
    Rule::SUCCESS,
    Rule::CANCELLED,
    Rule::TIMEOUT,
    Rule::QUIET,
    Rule::STOPPED,
    Rule::WRAPPER_FAILED,
    Rule::NO_SESSION,
    Rule::CONTEXT,
    Rule::MODEL,
    Rule::CREDENTIALS,
    Rule::QUOTA,
    Rule::TRANSIENT,
    Rule::NO_ANSWER,
    Rule::RUN_FAILED,
    Rule::DELETED,
    Rule::TRUNCATED,
    Rule::LINES_MODEL,
    Rule::LINES_CREDENTIALS,
    Rule::LINES_QUOTA,
    Rule::LINES_TRANSIENT,
    Rule::NO_PROGRAM,
    Rule::INIT_FAILED,
    Rule::UNPARSEABLE,
    Rule::ANYTHING_ELSE,
];

fn answered_nothing(case: &Case<'_, Stream>) -> bool {
    facts::has_good_end(case) && !facts::has_content(case)
}

fn answered_nothing_text(case: &Case<'_, Stream>) -> String {
    explained(case, "the model's answer was empty: neither a text nor a call of a tool".to_owned())
}
