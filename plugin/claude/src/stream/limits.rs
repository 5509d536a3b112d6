//! The provider's rate limits, as `rate_limit_event`s report them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use paperclip_kit::json::{is_true, number, pick, text};
use paperclip_kit::outcome::{head, iso_time};
use paperclip_kit::stream::QuotaWindow;

/// The provider's limits, by their kind (`five_hour`, ...).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RateLimits {
    /// Those that rejected the last request, with their reset in seconds since 1970. A request that was allowed, or content that came later,
    /// clears them.
    rejected: BTreeMap<String, Option<i64>>,
    /// The last report of each.
    reported: BTreeMap<String, Reported>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Reported {
    status: String,
    /// In seconds since 1970.
    resets_at: Option<i64>,
    /// The used share, from 0 to 1.
    utilization: Option<f64>,
}

impl RateLimits {
    /// More kinds than a provider has.
    const KINDS: usize = 16;
    const KIND_BYTES: usize = 64;

    pub(super) fn record(&mut self, info: Option<&RawValue>) {
        let names = ["status", "rateLimitType", "resetsAt", "isUsingOverage", "utilization"];
        let picked = info.and_then(|info| pick(info.get(), &names));
        let Some([status, kind, resets_at, overage, utilization]) = picked else { return };
        let kind = text(kind).unwrap_or_default();
        let kind = &kind[..kind.floor_char_boundary(Self::KIND_BYTES)];
        let resets_at = number(resets_at).map(|seconds| seconds as i64);
        if let Some(status) = text(status)
            && !kind.is_empty()
            && (self.reported.len() < Self::KINDS || self.reported.contains_key(kind))
        {
            let status = head(&status, Self::KIND_BYTES).into_owned();
            let reported = Reported { status, resets_at, utilization: number(utilization) };
            self.reported.insert(kind.to_owned(), reported);
        }
        if text(status).is_none_or(|status| status != "rejected") || is_true(overage) {
            self.clear();
        } else if self.rejected.len() < Self::KINDS || self.rejected.contains_key(kind) {
            self.rejected.insert(kind.to_owned(), resets_at);
        }
    }

    pub(super) fn clear(&mut self) {
        self.rejected.clear();
    }

    pub(crate) fn is_rejected(&self) -> bool {
        !self.rejected.is_empty()
    }

    /// When the last of the rejected limits is reset, in milliseconds since 1970.
    pub(crate) fn resets_at_ms(&self) -> Option<i64> {
        self.rejected.values().flatten().max().map(|seconds| seconds.saturating_mul(1000))
    }

    /// The last report of each limit, as Paperclip shows it.
    pub(crate) fn windows(&self) -> Vec<QuotaWindow> {
        let window = |(kind, reported): (&String, &Reported)| QuotaWindow {
            label: kind.clone(),
            used_percent: reported.utilization.map(|share| share * 100.0),
            resets_at: reported.resets_at.and_then(|seconds| iso_time(seconds.saturating_mul(1000))),
            value_label: reported.status.clone(),
        };
        self.reported.iter().map(window).collect()
    }

    /// The kinds of the rejected limits, for a message.
    pub(crate) fn rejected_kinds(&self) -> String {
        let kinds = self.rejected.keys().map(|kind| if kind.is_empty() { "usage" } else { kind });
        kinds.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(infos: &[&str]) -> RateLimits {
        let mut limits = RateLimits::default();
        for info in infos {
            limits.record(Some(&RawValue::from_string((*info).to_owned()).unwrap()));
        }
        limits
    }

    #[test]
    fn a_rejection_counts_until_a_request_is_allowed() {
        let rejected = r#"{"status":"rejected","rateLimitType":"five_hour","resetsAt":1780000000}"#;
        let limits = recorded(&[rejected]);
        assert_eq!(limits.resets_at_ms(), Some(1_780_000_000_000));
        assert_eq!(limits.rejected_kinds(), "five_hour");
        let other = r#"{"status":"allowed","rateLimitType":"seven_day"}"#;
        assert!(!recorded(&[rejected, other]).is_rejected());
        let allowed = r#"{"status":"allowed_warning","rateLimitType":"five_hour"}"#;
        assert!(!recorded(&[rejected, allowed]).is_rejected());
    }

    #[test]
    fn the_last_report_of_each_limit_is_a_window() {
        let limits = recorded(&[
            r#"{"status":"allowed","rateLimitType":"five_hour","resetsAt":1780000000,"utilization":0.25}"#,
            r#"{"status":"allowed_warning","rateLimitType":"five_hour","resetsAt":1780000000,"utilization":0.75}"#,
            r#"{"status":"allowed","rateLimitType":"seven_day"}"#,
        ]);
        let [five_hour, seven_day] = &limits.windows()[..] else { panic!("{limits:?}") };
        assert_eq!((five_hour.used_percent, five_hour.value_label.as_str()), (Some(75.0), "allowed_warning"));
        assert_eq!(five_hour.resets_at.as_deref(), Some("2026-05-28T20:26:40.000Z"));
        assert_eq!((seven_day.label.as_str(), seven_day.used_percent), ("seven_day", None));
    }

    #[test]
    fn keeps_a_limited_number_of_kinds() {
        let mut limits = RateLimits::default();
        for kind in 0..100 {
            let info = format!(r#"{{"status":"rejected","rateLimitType":"{kind}"}}"#);
            limits.record(Some(&RawValue::from_string(info).unwrap()));
        }
        assert_eq!(limits.rejected.len(), RateLimits::KINDS);
    }

    #[test]
    fn paid_overage_is_not_a_rejection() {
        assert!(!recorded(&[r#"{"status":"rejected","isUsingOverage":true}"#]).is_rejected());
    }

    #[test]
    fn an_event_without_details_is_a_rejection_too() {
        let limits = recorded(&[r#"{"status":"rejected"}"#]);
        assert_eq!((limits.is_rejected(), limits.resets_at_ms()), (true, None));
        assert_eq!(limits.rejected_kinds(), "usage");
        assert!(!recorded(&["5", "{}"]).is_rejected());
    }
}
