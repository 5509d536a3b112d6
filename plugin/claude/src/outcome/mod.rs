//! The judgement of a finished run.
//!
//! [`judge`] looks through the table of rules in `rules.rs` and takes the first that holds; what it says becomes the
//! result, together with everything the stream had told by then: session, usage, cost, summary.

mod document;
mod facts;
mod fresh_session;
mod messages;
mod retry_time;
mod rules;

use paperclip_kit::outcome::{
    AdapterResult, BillingType, ErrorCode, Evidence, ExecutionRecovery, InfraCause, UsageBasis, head,
    iso_time, without_nul,
};
use serde_json::{Map, Value, json};

pub use self::document::{classify_document, run_facts};
use self::facts::Case;
pub use self::fresh_session::{RetryReason, may_retry_fresh};
use self::retry_time::reset_time;
use self::rules::{RULES, Rule, SessionEffect};
use crate::stream::{LoginUrl, Stream};

/// An error message, in bytes.
const MESSAGE_BYTES: usize = 8 * 1024;
const SUMMARY_BYTES: usize = 32 * 1024;
/// What `resultJson` holds of a termination message, in bytes.
const TERMINATION_MESSAGE_BYTES: usize = 4096;

/// The result of a run that has ended.
pub fn judge(evidence: &Evidence, stream: &Stream) -> AdapterResult {
    let case = Case::new(evidence, stream);
    let rule = deciding_rule(&case);
    let mut result = case.told_result();
    result.error_code = rule.code;
    result.error_family = rule.code.and_then(ErrorCode::family);
    result.error_message = rule.message.map(|message| clean(&message(&case), MESSAGE_BYTES));
    result.timed_out = rule.code == Some(ErrorCode::Timeout);
    result.retry_not_before = case.retry_not_before(rule);
    if rule.code == Some(ErrorCode::ClaudeAuthRequired)
        && let Some(url) = case.login_url()
    {
        result.error_meta.insert("loginUrl".to_owned(), url.into());
    }
    if rule.is_undone && !stream.has_content() || case.was_taken_away(rule) {
        result.execution_recovery = Some(ExecutionRecovery::BOOTSTRAP);
    }
    match rule.session {
        SessionEffect::Keep => {}
        SessionEffect::Forget => result.clear_session = true,
        SessionEffect::Drop => result.drop_session(),
    }
    result.result_json = Some(case.result_json(rule, &result));
    result
}

/// The rows of `docs/errors.md` that hold for the evidence, in their order. The first one decides.
pub fn matching_rows(evidence: &Evidence, stream: &Stream) -> Vec<u8> {
    let case = Case::new(evidence, stream);
    let mut rows: Vec<u8> = RULES.iter().filter(|rule| rule.holds(&case)).map(|rule| rule.row).collect();
    rows.dedup();
    rows
}

fn deciding_rule(case: &Case<'_>) -> &'static Rule {
    RULES.iter().find(|rule| rule.holds(case)).unwrap_or(rules::ANYTHING_ELSE)
}

fn clean(text: &str, max_bytes: usize) -> String {
    head(&without_nul(text), max_bytes).into_owned()
}

impl Case<'_> {
    /// Everything that the run told about itself, whatever its end.
    fn told_result(&self) -> AdapterResult {
        let Case { evidence, stream, .. } = self;
        let run = &evidence.run;
        let usage = self.result.map(|event| event.usage).or_else(|| stream.message_usage());
        let told_model = stream.model().or(self.result.and_then(|event| event.model.as_deref()));
        let biller = if run.is_bedrock { "aws_bedrock" } else { "anthropic" };
        let mut result = AdapterResult {
            exit_code: self.exit(),
            usage,
            usage_basis: usage.map(|_| UsageBasis::PerRun),
            provider: Some("anthropic".to_owned()),
            biller: Some(biller.to_owned()),
            model: told_model.or(run.model.as_deref()).map(|model| clean(model, MESSAGE_BYTES)),
            billing_type: Some(BillingType::Api),
            cost_usd: self.result.map(|event| event.cost_usd.unwrap_or(0.0)),
            summary: Some(self.summary()),
            ..AdapterResult::default()
        };
        // A fresh session replaces the one that could not be resumed, even if it came to nothing.
        let previous = run.previous_session_id.as_deref().filter(|_| !run.is_fresh_retry);
        match stream.session_id().or(previous) {
            Some(id) => result.keep_session(clean(id, MESSAGE_BYTES), &run.workspace),
            None if run.is_fresh_retry => result.drop_session(),
            None => {}
        }
        result
    }

    /// The result's text, else what the main agent said last.
    fn summary(&self) -> String {
        match self.result.map(|event| &event.text).filter(|text| !text.is_empty()) {
            Some(text) => clean(text, SUMMARY_BYTES),
            None => clean(self.stream.texts().trim(), SUMMARY_BYTES),
        }
    }

    fn login_url(&self) -> Option<String> {
        let told = self.result.into_iter().flat_map(|event| event.errors.iter().chain([&event.text]));
        let untyped = self.stream.untyped().login_url.clone();
        told.fold(untyped, |known, text| LoginUrl::better(known, text)).map(|url| url.url)
    }

    /// When the provider said that it will serve again, for a rule that is about that.
    fn retry_not_before(&self, rule: &Rule) -> Option<String> {
        let event_limit = match rule.code? {
            ErrorCode::ProviderQuota => self.stream.limits().resets_at_ms(),
            ErrorCode::ClaudeTransientUpstream => None,
            _ => return None,
        };
        let now_ms = self.evidence.at_ms;
        let in_event = || {
            let event = self.result?;
            event.errors.iter().chain([&event.text]).find_map(|text| reset_time(text, now_ms))
        };
        let in_lines = || reset_time(self.stream.untyped().limit_line.as_deref()?, now_ms);
        event_limit.or_else(in_event).or_else(in_lines).and_then(iso_time)
    }

    /// The cluster took the pod away before the agent had begun: the server may start the run again by itself.
    fn was_taken_away(&self, rule: &Rule) -> bool {
        rule.is_about_a_missing_result()
            && !self.stream.has_assistant_event()
            && self.evidence.cause().is_some_and(InfraCause::may_be_retried)
    }

    fn result_json(&self, rule: &Rule, result: &AdapterResult) -> Map<String, Value> {
        let mut json = match self.result {
            Some(event) => event.to_object(),
            None => Map::from_iter([("stdoutTail".to_owned(), without_nul(&self.stream.tail()).into())]),
        };
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(name.to_owned(), value);
            }
        };
        add("termination", self.termination_json(rule));
        add("stopReason", rule.stop_reason.map(Value::from));
        add("errorFamily", result.error_family.map(|family| family.as_str().into()));
        add("retryNotBefore", result.retry_not_before.as_deref().map(Value::from));
        let acknowledged = || {
            let at = self.evidence.at_ms.and_then(iso_time);
            json!({"state": "acknowledged", "acknowledgedAt": at})
        };
        add("executionCancellation", (rule.code == Some(ErrorCode::Cancelled)).then(acknowledged));
        json
    }

    /// The container's end as it was seen; of a failure at least what took the pod away.
    fn termination_json(&self, rule: &Rule) -> Option<Value> {
        let cause = rule.code.and_then(|_| self.evidence.cause()).map(InfraCause::as_str);
        let Some(end) = &self.evidence.container else {
            return cause.map(|cause| json!({"cause": cause}));
        };
        let message = end.message.as_deref().map(|message| clean(message.trim(), TERMINATION_MESSAGE_BYTES));
        let mut termination = json!({
            "exitCode": end.exit_code, "reason": end.reason, "message": message, "signal": end.signal,
        });
        if let Some(cause) = cause {
            termination["cause"] = cause.into();
        }
        Some(termination)
    }
}
