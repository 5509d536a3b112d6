//! What a result carries beside its judgement.

use serde_json::{Map, Value, json};

use super::facts::{Case, was_taken_away};
use super::rules::Rule;
use super::{MESSAGE_BYTES, clean};
use crate::outcome::{
    AdapterResult, ErrorCode, InfraCause, RESULT_JSON_BYTES, bounded_object, iso_time, tail, without_nul,
};
use crate::retry_time::{reset_time, usable};
use crate::stream::{AgentStream, LoginUrl, Report, Verdict};

/// What is kept free in `resultJson` for what the server acts on, in bytes.
const RESERVED_BYTES: usize = 1024;
const SUMMARY_BYTES: usize = 32 * 1024;
/// What `resultJson` holds of standard error, in bytes.
const STDERR_BYTES: usize = 4096;
/// What `resultJson` holds of a termination message, in bytes.
const TERMINATION_MESSAGE_BYTES: usize = 4096;

impl<S: AgentStream> Case<'_, S> {
    /// Returns everything that the run reported about itself, whatever its end.
    pub(super) fn reported_result(&self) -> AdapterResult {
        let Case { evidence, stream, .. } = self;
        let run = &evidence.run;
        let usage = stream.usage();
        let configured = run.model.as_deref().filter(|_| S::MODEL_IS_CONFIGURED);
        let model = stream.model().or(configured);
        let billing = &run.billing;
        let mut result = AdapterResult {
            exit_code: evidence.exit_code(),
            usage,
            usage_basis: usage.and(S::USAGE_BASIS),
            provider: billing.provider.clone(),
            biller: billing.biller.clone(),
            model: model.map(|model| clean(model, MESSAGE_BYTES)),
            billing_type: Some(billing.billing_type),
            cost_usd: stream.cost_usd(),
            summary: Some(clean(&stream.summary(), SUMMARY_BYTES)),
            ..AdapterResult::default()
        };
        // A fresh session replaces the one that could not be resumed, even if its attempt failed as well.
        let previous = run.previous_session_id.as_deref().filter(|_| !run.is_fresh_retry);
        match stream.kept().session_id.as_deref().or(previous) {
            Some(id) => result.keep_session(clean(id, MESSAGE_BYTES), &run.workspace),
            None if run.is_fresh_retry => result.drop_session(),
            None => {}
        }
        result
    }

    /// Where to log in, if the CLI or a line says so.
    pub(super) fn login_url(&self) -> Option<String> {
        let texts = self.report().into_iter().flat_map(Report::texts);
        let untyped = self.stream.kept().untyped.login_url.clone();
        texts.fold(untyped, |known, text| LoginUrl::better(known, text, &S::WORDS.lexicon)).map(|url| url.url)
    }

    /// When the provider serves again, as far as it said so, for a rule that is about that.
    pub(super) fn retry_not_before(&self, rule: &Rule<S>) -> Option<String> {
        let code = rule.code?;
        if code != ErrorCode::PROVIDER_QUOTA && code != S::WORDS.codes.transient_upstream {
            return None;
        }
        let now_ms = self.evidence.at_ms;
        let of_event = self.stream.resets_at_ms(code).filter(|at_ms| usable(*at_ms, now_ms));
        let of_report = || self.report()?.texts().find_map(|text| reset_time(text, now_ms));
        let of_lines = || {
            let line =
                self.stream.kept().untyped.limit_line.as_deref().filter(|_| self.verdict == Verdict::Open);
            reset_time(line?, now_ms)
        };
        of_event.or_else(of_report).or_else(of_lines).and_then(iso_time)
    }

    /// Whether the agent did nothing, so that the server may start the run again by itself.
    pub(super) fn did_nothing(&self, rule: &Rule<S>) -> bool {
        let is_failure = rule.code.is_some_and(|code| code != ErrorCode::CANCELLED);
        let is_unstarted = self.evidence.has_never_started && self.stream.kept().nonempty_lines == 0;
        is_failure && (rule.is_bootstrap || is_unstarted || was_taken_away(self).is_some())
    }

    pub(super) fn result_json(&self, rule: &Rule<S>, result: &AdapterResult) -> Map<String, Value> {
        let kept = self.stream.kept();
        let mut json = match self.stream.result_object() {
            Some(event) => event,
            None => Map::from_iter([("stdoutTail".to_owned(), without_nul(&kept.tail.kept()).into())]),
        };
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(name.to_owned(), value);
            }
        };
        let name = |text: &str| (!text.is_empty()).then(|| Value::from(clean(text, MESSAGE_BYTES)));
        let resumed = self.evidence.run.resumed_session_id.as_deref().filter(|_| S::SESSION_IS_STABLE);
        let is_replaced = |id: &&str| kept.session_id.as_deref().is_some_and(|reported| reported != *id);
        add("replacedSessionId", resumed.filter(is_replaced).and_then(name));
        add("cliVersion", kept.cli_version.as_deref().and_then(name));
        add("termination", self.termination_json());
        let report = self.report();
        let stop_reason =
            report.and_then(|report| report.stop_reasons.first()).and_then(|reason| name(reason));
        add("stopReason", rule.stop_reason.map(Value::from).or(stop_reason));
        add("terminalReason", report.and_then(|report| name(&report.terminal_reason)));
        add("errorFamily", result.error_family.map(|family| family.as_str().into()));
        add("retryNotBefore", result.retry_not_before.as_deref().map(Value::from));
        let stderr = kept.untyped.stderr_tail();
        add("stderrTail", name(&tail(stderr.trim_end(), STDERR_BYTES)));
        let is_partial = self.verdict == Verdict::Open && result.usage.is_some();
        add("usageIsPartial", is_partial.then_some(Value::Bool(true)));
        let unknown = kept.unknown_events.counts();
        add("unknownEvents", (!unknown.is_empty()).then(|| json!(unknown)));
        let windows = self.stream.quota_windows();
        add("quotaWindows", (!windows.is_empty()).then(|| json!(windows)));
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
