//! What a run is made from.

use std::time::Duration;

use paperclip_contract::types::{ObjectRef, Request};

use crate::policy::Policy;
use crate::redact::Redactor;
use crate::run_record::RunRecord;

/// What distinguishes a run from others.
#[derive(Debug)]
pub struct RunSpec {
    pub request: Request,
    /// The host that drives the run. Two hosts never drive one run at the same time.
    pub host_id: String,
    /// Masks the run's own secrets in everything that leaves the engine.
    pub redactor: Redactor,
    /// Seed of all jitter of this run.
    pub seed: u64,
    pub plugin: PluginIdentity,
    /// What the plugin may request.
    pub policy: Policy,
    /// Interval of polls of Paperclip's API; none if the run's client requests cancellations itself: then there are no polls.
    pub poll_interval: Option<Duration>,
    pub segments: SegmentLimits,
    /// The Job that another host created for the run, if it is resumed without its journal. No other Job is created then.
    pub adopts: Option<ObjectRef>,
    /// The record of the run, as this host has claimed it; none if the run has none. One that says how the run ended is written again when
    /// the run is resumed after its end.
    pub record: Option<Box<RunRecord>>,
    /// The record existed before this host claimed it. Another host may have adopted the run, and ended it, before this one has its guard:
    /// the record is read again then.
    pub verifies_record: bool,
}

/// The plugin that decides for the run, for messages.
#[derive(Debug, Clone, Default)]
pub struct PluginIdentity {
    pub adapter_type: String,
    pub version: String,
    pub digest: String,
}

/// When a new segment of the journal starts, with a snapshot: at whichever limit is reached first. They bound how long it takes to
/// resume a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentLimits {
    pub bytes: u64,
    pub age: Duration,
}

impl Default for SegmentLimits {
    fn default() -> Self {
        SegmentLimits { bytes: 64 << 20, age: Duration::from_secs(10 * 60) }
    }
}
