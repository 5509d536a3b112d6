//! The metrics of this process, in Prometheus' text format.
//!
//! Labels have few values each: never a run, an agent or a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use paperclip_shell::Cluster;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Content type of [`Metrics::encode`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StateLabel {
    pub(crate) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OutcomeLabels {
    pub(crate) adapter: String,
    pub(crate) outcome: &'static str,
    /// The result's errorCode; empty on success.
    pub(crate) code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CauseLabel {
    pub(crate) cause: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CallLabel {
    pub(crate) call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct AgeLabel {
    pub(crate) age: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ObservationLabels {
    pub(crate) adapter: String,
    pub(crate) kind: String,
    pub(crate) value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PluginLabels {
    pub(crate) adapter: String,
    pub(crate) version: String,
    pub(crate) digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct AnswerLabels {
    pub(crate) route: String,
    pub(crate) status: u16,
}

pub(crate) type Int = Gauge<i64, AtomicI64>;
pub(crate) type Count = Counter<u64, AtomicU64>;

/// All metrics. Counting takes a lock only for the first use of a label.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) runs: Family<StateLabel, Int>,
    pub(crate) ended: Family<OutcomeLabels, Count>,
    pub(crate) stalls: Family<CauseLabel, Count>,
    pub(crate) quiet_runs: Family<AgeLabel, Int>,
    observations: Family<ObservationLabels, Count>,
    /// Kinds and values of observations that have a label of their own, by adapter.
    observed: Mutex<BTreeMap<String, BTreeSet<(String, String)>>>,
    pub(crate) log_lines: Count,
    pub(crate) log_bytes: Count,
    pub(crate) gaps: Count,
    pub(crate) reconnects: Count,
    /// From the node's timestamp of a line until the line is delivered.
    pub(crate) lag: Histogram,
    pub(crate) sync_time: Histogram,
    pub(crate) step_time: Family<CallLabel, Histogram>,
    pub(crate) step_fuel: Count,
    pub(crate) instances: Int,
    pub(crate) leases: Int,
    pub(crate) undriven_jobs: Int,
    pub(crate) traps: Family<PluginLabels, Count>,
    pub(crate) plugins: Family<PluginLabels, Int>,
    pub(crate) rejected_plugins: Int,
    pub(crate) quarantined_plugins: Int,
    pub(crate) reloads: Count,
    pub(crate) followers: Int,
    pub(crate) answers: Family<AnswerLabels, Count>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("paperclip");
        let mut metrics = Metrics {
            runs: Family::default(),
            ended: Family::default(),
            stalls: Family::default(),
            quiet_runs: Family::default(),
            observations: Family::default(),
            observed: Mutex::default(),
            log_lines: Count::default(),
            log_bytes: Count::default(),
            gaps: Count::default(),
            reconnects: Count::default(),
            // 1 ms to 65 s.
            lag: Histogram::new(exponential_buckets(1e-3, 4.0, 9)),
            // 100 µs to 26 s.
            sync_time: Histogram::new(exponential_buckets(1e-4, 4.0, 10)),
            // 10 µs to 2.6 s.
            step_time: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-5, 4.0, 10))),
            step_fuel: Count::default(),
            instances: Int::default(),
            leases: Int::default(),
            undriven_jobs: Int::default(),
            traps: Family::default(),
            plugins: Family::default(),
            rejected_plugins: Int::default(),
            quarantined_plugins: Int::default(),
            reloads: Count::default(),
            followers: Int::default(),
            answers: Family::default(),
            registry: Registry::default(),
        };
        registry.register("runs", "Runs in this process by state", metrics.runs.clone());
        registry.register("runs_ended", "Runs that ended by outcome and errorCode", metrics.ended.clone());
        registry.register("stalls", "Pods that did not start, by cause", metrics.stalls.clone());
        registry.register(
            "quiet_runs",
            "Runs whose agent runs and prints nothing, by how long",
            metrics.quiet_runs.clone(),
        );
        registry.register(
            "agent_observations",
            "What plugins noticed about their agents",
            metrics.observations.clone(),
        );
        registry.register("log_lines", "Lines of agents' output", metrics.log_lines.clone());
        registry.register("log_bytes", "Bytes of agents' output", metrics.log_bytes.clone());
        registry.register("log_gaps", "Gaps in agents' output", metrics.gaps.clone());
        registry.register("log_reconnects", "Log streams that were interrupted", metrics.reconnects.clone());
        registry.register(
            "log_lag_seconds",
            "From the node's timestamp of the newest line to its delivery",
            metrics.lag.clone(),
        );
        registry.register(
            "journal_sync_seconds",
            "Time to make a journal durable",
            metrics.sync_time.clone(),
        );
        registry.register("plugin_call_seconds", "Time of calls of plugins", metrics.step_time.clone());
        registry.register("plugin_fuel", "Fuel that plugins consumed", metrics.step_fuel.clone());
        registry.register("plugin_instances", "Plugin instances that exist", metrics.instances.clone());
        registry.register(
            "guards_held",
            "Guards (leases) that runs of this process hold",
            metrics.leases.clone(),
        );
        registry.register(
            "jobs_undriven",
            "Jobs of agents that no host drives, in the namespaces where this process adopts",
            metrics.undriven_jobs.clone(),
        );
        registry.register("plugin_faults", "Runs that a plugin fault ended", metrics.traps.clone());
        registry.register("plugin_info", "Plugins in use", metrics.plugins.clone());
        registry.register("plugins_rejected", "Plugins that are rejected", metrics.rejected_plugins.clone());
        registry.register(
            "plugins_quarantined",
            "Plugin versions under quarantine",
            metrics.quarantined_plugins.clone(),
        );
        registry.register("plugin_swaps", "Plugins that were replaced", metrics.reloads.clone());
        registry.register("followers", "Open event streams", metrics.followers.clone());
        registry.register("http_answers", "Answers of the API by route and status", metrics.answers.clone());
        metrics.registry = registry;
        metrics
    }

    /// Counts what a plugin noticed about its agent. Agents decide the values, so only the first ones have labels of their own.
    pub(crate) fn observe(&self, adapter: &str, kind: &str, value: &str, count: u64) {
        let key = (label(kind), label(value));
        let mut observed = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = observed.entry(adapter.to_owned()).or_default();
        let has_label = known.contains(&key) || known.len() < OBSERVED_VALUES && known.insert(key.clone());
        let (kind, value) = if has_label { key } else { (OTHER.to_owned(), OTHER.to_owned()) };
        let labels = ObservationLabels { adapter: adapter.to_owned(), kind, value };
        self.observations.get_or_create(&labels).inc_by(count);
    }

    pub(crate) fn step(&self, call: &'static str, took: Duration, fuel: u64) {
        self.step_time.get_or_create(&CallLabel { call }).observe(took.as_secs_f64());
        self.step_fuel.inc_by(fuel);
    }

    /// Returns all metrics and those of the clusters as text.
    pub(crate) fn encode<'a>(&self, clusters: impl Iterator<Item = (&'a str, &'a Cluster)>) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = text::encode_registry(&mut out, &self.registry);
        let _ = writeln!(out, "# HELP paperclip_api_requests Requests to the Kubernetes API.");
        let _ = writeln!(out, "# TYPE paperclip_api_requests counter");
        for (name, cluster) in clusters {
            for count in cluster.requests().read() {
                let _ = writeln!(
                    out,
                    "paperclip_api_requests_total{{cluster=\"{}\",verb=\"{}\",resource=\"{}\",code=\"{}\"}} {}",
                    escape(name),
                    count.verb,
                    count.resource,
                    count.code,
                    count.count
                );
            }
        }
        if let Some(bytes) = crate::memory::resident_bytes() {
            let _ = writeln!(out, "# HELP paperclip_memory_bytes Resident memory of this process.");
            let _ = writeln!(out, "# TYPE paperclip_memory_bytes gauge");
            let _ = writeln!(out, "paperclip_memory_bytes {bytes}");
        }
        out.push_str("# EOF\n");
        out
    }
}

/// How many kinds and values of observations have labels of their own, for each adapter.
const OBSERVED_VALUES: usize = 100;
/// The longest kind or value of an observation, in bytes.
const OBSERVED_BYTES: usize = 64;
/// The label of all further ones.
const OTHER: &str = "other";

/// Returns a text that comes from an agent as a label: short, and without control characters.
fn label(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(OBSERVED_BYTES)];
    text.chars().map(|char| if char.is_control() { '?' } else { char }).collect()
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(metrics: &Metrics) -> Vec<String> {
        let text = metrics.encode(std::iter::empty());
        let lines = text.lines().filter(|line| line.starts_with("paperclip_agent_observations_total"));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn observations_have_a_limited_number_of_labels() {
        let metrics = Metrics::new();
        metrics.observe("claude_k8s", "cli-version", "2.1.332", 1);
        metrics.observe("claude_k8s", "cli-version", "2.1.332", 2);
        let line = r#"paperclip_agent_observations_total{adapter="claude_k8s",kind="cli-version",value="2.1.332"} 3"#;
        assert_eq!(observed(&metrics), [line]);
        for index in 0..1_000 {
            metrics.observe("claude_k8s", "unknown-event", &format!("{index}\n{}", "é".repeat(100)), 1);
        }
        metrics.observe("claude_k8s", "cli-version", "2.1.332", 1);
        let lines = observed(&metrics);
        assert_eq!(lines.len(), OBSERVED_VALUES + 1);
        assert!(lines.iter().any(|line| line.ends_with(r#"kind="other",value="other"} 901"#)), "{lines:?}");
        assert!(lines.iter().any(|line| line.ends_with(r#"value="2.1.332"} 4"#)));
        assert!(lines.iter().all(|line| line.len() < 200));
    }
}
