//! Which records are no longer needed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Most records of ended runs that are kept in a namespace.
pub const MAX_ENDED_RECORDS: usize = 2_000;
/// How old a claim is at least that is deleted because its host does not live and nobody has asked for its run again.
const UNOWNED_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// What a list of records says of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSummary {
    pub name: String,
    pub uid: String,
    pub instance: String,
    pub accepted_at: Timestamp,
    /// None before the end of its run.
    pub ended_at: Option<Timestamp>,
}

/// Returns the records of ended runs to delete: those that ended longer ago than `retention`, and of the others the oldest if there are
/// too many.
pub fn collect(records: &[RecordSummary], now: Timestamp, retention: Duration) -> Vec<&RecordSummary> {
    let ended = records.iter().filter_map(|record| Some((record.ended_at?, record)));
    let mut ended: Vec<(Timestamp, &RecordSummary)> = ended.collect();
    ended.sort_by(|one, other| (other.0, &other.1.name).cmp(&(one.0, &one.1.name)));
    let is_needed = |(rank, (at, _)): &(usize, (Timestamp, &RecordSummary))| {
        *rank < MAX_ENDED_RECORDS && now.since(*at) < retention
    };
    let unneeded = ended.into_iter().enumerate().filter(|record| !is_needed(record));
    unneeded.map(|(_, (_, record))| record).collect()
}

/// Returns the claims that are old enough to be deleted if their hosts do not live.
pub fn aged_claims(records: &[RecordSummary], now: Timestamp) -> Vec<&RecordSummary> {
    let is_aged =
        |record: &&RecordSummary| record.ended_at.is_none() && now.since(record.accepted_at) >= UNOWNED_AFTER;
    records.iter().filter(is_aged).collect()
}
