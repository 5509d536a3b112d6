//! What a result carries beside its judgement.

use paperclip_kit::outcome::{
    AdapterResult, BillingType, ErrorCode, InfraCause, RESULT_JSON_BYTES, UsageBasis, bounded_object,
    iso_time, tail, without_nul,
};
use serde_json::{Map, Value, json};

use super::facts::{Case, was_taken_away};
use super::retry_time::{reset_time, usable};
use super::rules::Rule;
use super::{MESSAGE_BYTES, clean};
use crate::stream::{LoginUrl, Report};

/// What is kept free in `resultJson` for what the server acts on, in bytes.
const RESERVED_BYTES: usize = 1024;
const SUMMARY_BYTES: usize = 32 * 1024;
/// What `resultJson` holds of standard error, in bytes.
const STDERR_BYTES: usize = 4096;
/// What `resultJson` holds of a termination message, in bytes.
const TERMINATION_MESSAGE_BYTES: usize = 4096;

impl Case<'_> {
    /// Returns everything that the run reported about itself, whatever its end.
    pub(super) fn reported_result(&self) -> AdapterResult {
        let Case { evidence, stream, .. } = self;
        let run = &evidence.run;
        let usage = self.result.map(|event| event.usage).or_else(|| stream.message_usage());
        let model = stream.model().or(self.result.and_then(|event| event.model.as_deref()));
        let biller = if run.is_bedrock { "aws_bedrock" } else { "anthropic" };
        let mut result = AdapterResult {
            exit_code: evidence.exit_code(),
            usage,
            usage_basis: usage.map(|_| UsageBasis::PerRun),
            provider: Some("anthropic".to_owned()),
            biller: Some(biller.to_owned()),
            model: model.map(|model| clean(model, MESSAGE_BYTES)),
            billing_type: Some(BillingType::Api),
            cost_usd: self.result.map(|event| event.cost_usd.unwrap_or(0.0)),
            summary: Some(clean(&stream.summary(), SUMMARY_BYTES)),
            ..AdapterResult::default()
        };
        // A fresh session replaces the one that could not be resumed, even if its attempt failed as well.
        let previous = run.previous_session_id.as_deref().filter(|_| !run.is_fresh_retry);
        match stream.session_id().or(previous) {
            Some(id) => result.keep_session(clean(id, MESSAGE_BYTES), &run.workspace),
            None if run.is_fresh_retry => result.drop_session(),
            None => {}
        }
        result
    }

    /// Where to log in, if the CLI or a line says so.
    pub(super) fn login_url(&self) -> Option<String> {
        let texts = self.report().into_iter().flat_map(Report::texts);
        let untyped = self.stream.untyped().login_url.clone();
        texts.fold(untyped, LoginUrl::better).map(|url| url.url)
    }

    /// When the provider serves again, as far as it said so, for a rule that is about that.
    pub(super) fn retry_not_before(&self, rule: &Rule) -> Option<String> {
        let of_event = match rule.code? {
            ErrorCode::ProviderQuota => self.stream.limits().resets_at_ms(),
            ErrorCode::ClaudeTransientUpstream => None,
            _ => return None,
        };
        let now_ms = self.evidence.at_ms;
        let of_event = of_event.filter(|at_ms| usable(*at_ms, now_ms));
        let of_report = || self.report()?.texts().find_map(|text| reset_time(text, now_ms));
        let of_lines = || {
            let line = self.stream.untyped().limit_line.as_deref().filter(|_| self.result.is_none());
            reset_time(line?, now_ms)
        };
        of_event.or_else(of_report).or_else(of_lines).and_then(iso_time)
    }

    /// Whether the agent did nothing, so that the server may start the run again by itself.
    pub(super) fn did_nothing(&self, rule: &Rule) -> bool {
        let is_failure = rule.code.is_some_and(|code| code != ErrorCode::Cancelled);
        let is_unstarted = self.evidence.has_never_started && self.stream.nonempty_lines() == 0;
        is_failure && (rule.is_bootstrap || is_unstarted || was_taken_away(self).is_some())
    }

    pub(super) fn result_json(&self, rule: &Rule, result: &AdapterResult) -> Map<String, Value> {
        let stream = self.stream;
        let mut json = match self.result {
            Some(event) => event.to_object(),
            None => Map::from_iter([("stdoutTail".to_owned(), without_nul(&stream.tail()).into())]),
        };
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(name.to_owned(), value);
            }
        };
        let name = |text: &str| (!text.is_empty()).then(|| Value::from(clean(text, MESSAGE_BYTES)));
        add("cliVersion", stream.cli_version().and_then(name));
        add("termination", self.termination_json());
        let report = self.report();
        let stop_reason =
            report.and_then(|report| report.stop_reasons.first()).and_then(|reason| name(reason));
        add("stopReason", rule.stop_reason.map(Value::from).or(stop_reason));
        add("terminalReason", report.and_then(|report| name(&report.terminal_reason)));
        add("errorFamily", result.error_family.map(|family| family.as_str().into()));
        add("retryNotBefore", result.retry_not_before.as_deref().map(Value::from));
        let stderr = stream.untyped().stderr_tail();
        add("stderrTail", name(&tail(stderr.trim_end(), STDERR_BYTES)));
        let is_partial = self.result.is_none() && result.usage.is_some();
        add("usageIsPartial", is_partial.then_some(Value::Bool(true)));
        let unknown = stream.unknown_events().counts();
        add("unknownEvents", (!unknown.is_empty()).then(|| json!(unknown)));
        bounded_object(json, RESULT_JSON_BYTES - RESERVED_BYTES)
    }

    /// The container's end as it was observed, and what the cluster did to it.
    fn termination_json(&self) -> Option<Value> {
        let cause = self.evidence.cause().map(InfraCause::as_str);
        let Some(end) = &self.evidence.container else {
            return cause.map(|cause| json!({"cause": cause}));
        };
        let message = end.message.as_deref().map(|message| clean(message.trim(), TERMINATION_MESSAGE_BYTES));
        let mut termination = json!({
            "exitCode": end.known_exit_code(), "reason": end.reason, "message": message, "signal": end.signal,
        });
        if let Some(cause) = cause {
            termination["cause"] = cause.into();
        }
        Some(termination)
    }
}
