//! Metrics and traces of one run.
//!
//! A resumed run first replays its journal. What is replayed was counted by the process in which it happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use paperclip_contract::types::Observation;
use paperclip_engine::record::{Record, SequencedRecord};
use paperclip_shell::{Called, Observer};

use paperclip_traces::{Span, SpanKind, Traces};

use super::handle::RunHandle;
use crate::metrics::{CauseLabel, Metrics};

/// The first new record of a run while its journal is still being replayed.
const NOT_YET: u64 = u64::MAX;

/// The observer of one run in this process.
#[derive(Debug)]
pub(super) struct RunObserver {
    run: Arc<RunHandle>,
    metrics: Arc<Metrics>,
    traces: Option<Traces>,
    /// The number of the first record that is new in this process.
    first_new: AtomicU64,
}

impl RunObserver {
    pub(super) fn new(run: Arc<RunHandle>, metrics: Arc<Metrics>, traces: Option<Traces>) -> Self {
        RunObserver { run, metrics, traces, first_new: AtomicU64::new(NOT_YET) }
    }

    /// Returns the metrics for what is counted also during a replay: calls of the plugin, instances, guards.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Counts a record on its way to the run's followers.
    pub(super) fn record(&self, record: &SequencedRecord) {
        match &record.record {
            Record::Log { text, .. } if record.seq >= self.first_new.load(Ordering::Acquire) => {
                self.metrics.log_lines.inc();
                self.metrics.log_bytes.inc_by(text.len() as u64);
            }
            Record::Status { text, .. } => self.run.set_status(text),
            Record::Log { .. } | Record::Gap { .. } | Record::Meta(_) | Record::Result(_) => {}
        }
    }

    pub(super) fn log_interrupted(&self) {
        if self.is_live() {
            self.metrics.reconnects.inc();
        }
    }

    pub(super) fn log_gap(&self) {
        if self.is_live() {
            self.metrics.gaps.inc();
        }
    }

    /// Counts what the plugin noticed about the run's agent.
    pub(super) fn observed(&self, observation: &Observation) {
        if self.is_live() {
            let Observation { kind, value, count } = observation;
            self.metrics.observe(&self.run.info.adapter_type, kind, value, *count);
        }
    }

    /// Records that the agent runs, and that it has just printed something or started.
    pub(super) fn printed(&self) {
        self.run.set_printed(Some(Instant::now()));
    }

    /// Records that the agent has ended.
    pub(super) fn ended(&self) {
        self.run.set_printed(None);
    }

    pub(super) fn stalled(&self, cause: String) {
        if self.is_live() {
            self.metrics.stalls.get_or_create(&CauseLabel { cause }).inc();
        }
    }

    /// Exports a span of the run that ends now, if there is a collector.
    pub(super) fn trace(&self, kind: SpanKind, started_at: SystemTime, failure: Option<String>) {
        let Some(traces) = &self.traces else { return };
        let info = &self.run.info;
        traces.export(Span {
            run_id: info.run_id.clone(),
            kind,
            started_at,
            ended_at: SystemTime::now(),
            attributes: vec![
                ("run_id", info.run_id.clone()),
                ("agent_id", info.agent_id.clone()),
                ("company_id", info.company_id.clone()),
                ("adapter", info.adapter_type.clone()),
                ("namespace", info.namespace.clone()),
                ("plugin_digest", info.plugin_digest.clone()),
            ],
            failure,
        });
    }

    fn is_live(&self) -> bool {
        self.first_new.load(Ordering::Acquire) != NOT_YET
    }
}

impl Observer for RunObserver {
    fn caught_up(&self, next_seq: u64) {
        self.first_new.store(next_seq, Ordering::Release);
    }

    fn called(&self, called: Called) {
        self.trace(SpanKind::Call(called.what), called.started_at, called.failure);
    }

    fn synced(&self, took: Duration) {
        self.metrics.sync_time.observe(took.as_secs_f64());
    }

    fn lagged(&self, lag: Duration) {
        self.metrics.lag.observe(lag.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::super::feed::Feed;
    use super::super::handle::RunInfo;
    use super::*;
    use paperclip_engine::record::Stream;

    fn observer() -> RunObserver {
        let info = RunInfo {
            run_id: "r1".to_owned(),
            adapter_type: "claude_k8s".to_owned(),
            agent_id: "a1".to_owned(),
            company_id: "c1".to_owned(),
            namespace: "agents".to_owned(),
            plugin_version: "0.1.0".to_owned(),
            plugin_digest: "d1".to_owned(),
            adopted: false,
        };
        let (control, _) = tokio::sync::mpsc::channel(1);
        let run = RunHandle::new(info, Feed::new(), control, SystemTime::UNIX_EPOCH);
        RunObserver::new(Arc::new(run), Arc::new(Metrics::new()), None)
    }

    fn line(seq: u64) -> SequencedRecord {
        SequencedRecord {
            seq,
            record: Record::Log { stream: Stream::Stdout, index: seq, text: "four".to_owned() },
        }
    }

    #[test]
    fn replayed_records_are_not_counted_again() {
        let observer = observer();
        let happens = |seq| {
            observer.log_interrupted();
            observer.log_gap();
            observer.stalled("ImagePullBackOff".to_owned());
            let observation = Observation { kind: "k".to_owned(), value: "v".to_owned(), count: 1 };
            observer.observed(&observation);
            observer.record(&line(seq));
        };
        let counts = || {
            let metrics = observer.metrics();
            let stalls =
                metrics.stalls.get_or_create(&CauseLabel { cause: "ImagePullBackOff".to_owned() }).get();
            let lines = (metrics.log_lines.get(), metrics.log_bytes.get());
            let text = metrics.encode(std::iter::empty());
            let observed = text.contains(r#"observations_total{adapter="claude_k8s",kind="k",value="v"} 1"#);
            (metrics.reconnects.get(), metrics.gaps.get(), stalls, lines, observed)
        };
        happens(6);
        assert_eq!(counts(), (0, 0, 0, (0, 0), false));
        observer.caught_up(8);
        // Records of the past may still be on their way.
        observer.record(&line(7));
        assert_eq!(counts(), (0, 0, 0, (0, 0), false));
        happens(8);
        assert_eq!(counts(), (1, 1, 1, (1, 4), true));
    }
}
