//! `/v1/adapters/{type}/quota`: the provider's limits, as the last runs of an agent type have reported them.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::plugins::plugin;
use crate::refusal::Refusal;
use crate::supervisor::RunState;

#[derive(Debug, Deserialize)]
pub(super) struct QuotaQuery {
    company: Option<String>,
}

pub(super) async fn quota(
    State(app): State<App>,
    adapter_type: Result<Path<String>, PathRejection>,
    query: Result<Query<QuotaQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let adapter_type = adapter_type?;
    // An agent type whose plugin no run has needed yet is known, and its plugin is not needed here.
    if app.supervisor.catalogue().is_compiled(&adapter_type) {
        plugin(&app, &adapter_type).await?;
    }
    let Query(QuotaQuery { company }) = query?;
    let runs = app.supervisor.list().await?;
    let reports = runs.iter().filter(|run| run.info.adapter_type == *adapter_type).filter_map(Report::of);
    Ok(Json(newest(reports, company.as_deref())))
}

/// What a run has reported.
#[derive(Debug, Clone, Copy)]
struct Report<'a> {
    company: &'a str,
    /// RFC 3339.
    ended_at: &'a str,
    windows: &'a [Value],
}

impl Report<'_> {
    fn of(run: &RunState) -> Option<Report<'_>> {
        let windows = run.result.as_ref()?.get("resultJson")?["quotaWindows"].as_array()?;
        Some(Report { company: &run.info.company_id, ended_at: run.ended_at.as_deref()?, windows })
    }
}

/// Returns the newest window of each name: of one company, or of the only one that has any. One company's use of its account is not shown as
/// that of another.
fn newest<'a>(reports: impl Iterator<Item = Report<'a>>, company: Option<&str>) -> Value {
    let mut reports: Vec<_> =
        reports.filter(|report| company.is_none_or(|company| report.company == company)).collect();
    if reports.iter().map(|report| report.company).collect::<BTreeSet<_>>().len() > 1 {
        let error =
            "runs of several companies have reported limits; name one by the query parameter `company`";
        return json!({ "ok": false, "windows": [], "error": error });
    }
    reports.sort_by_key(|report| report.ended_at);
    let mut newest = BTreeMap::new();
    for Report { ended_at, windows, .. } in reports {
        for window in windows {
            let mut window = window.clone();
            window["detail"] = format!("reported by a run that ended at {ended_at}").into();
            newest.insert(window["label"].as_str().unwrap_or_default().to_owned(), window);
        }
    }
    json!({ "ok": true, "windows": newest.into_values().collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows, by name and how much of each is used, in percent.
    fn windows(windows: &[(&str, f64)]) -> Vec<Value> {
        windows.iter().map(|(label, used)| json!({ "label": label, "usedPercent": used })).collect()
    }

    #[test]
    fn the_newest_window_of_each_name_is_shown() {
        let (late, early) =
            (windows(&[("five_hour", 80.0)]), windows(&[("five_hour", 10.0), ("seven_day", 30.0)]));
        let reports = [
            Report { company: "acme", ended_at: "2026-01-01T02:00:00Z", windows: &late },
            Report { company: "acme", ended_at: "2026-01-01T01:00:00Z", windows: &early },
        ];
        let shown = newest(reports.into_iter(), None);
        assert_eq!(shown["ok"], true);
        assert_eq!(shown["windows"][0]["usedPercent"], 80.0);
        assert_eq!(shown["windows"][0]["detail"], "reported by a run that ended at 2026-01-01T02:00:00Z");
        assert_eq!(shown["windows"][1]["label"], "seven_day");
    }

    #[test]
    fn no_company_is_shown_another_ones_limits() {
        let (acme, other) = (windows(&[("five_hour", 10.0)]), windows(&[("five_hour", 80.0)]));
        let reports = [
            Report { company: "acme", ended_at: "2026-01-01T01:00:00Z", windows: &acme },
            Report { company: "other", ended_at: "2026-01-01T02:00:00Z", windows: &other },
        ];
        assert_eq!(newest(reports.into_iter(), None)["ok"], false);
        assert_eq!(newest(reports.into_iter(), Some("acme"))["windows"][0]["usedPercent"], 10.0);
    }

    #[test]
    fn without_reports_there_are_no_windows() {
        assert_eq!(newest(std::iter::empty(), None), json!({ "ok": true, "windows": [] }));
    }
}
