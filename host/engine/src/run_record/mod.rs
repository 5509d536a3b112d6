//! The record of a run: one ConfigMap for each run id, which says who has the run and, after its end, what came of it. Pure.
//!
//! It exists from before the run is accepted until its result is taken, or has been kept for long enough, so that it outlives hosts, Jobs
//! and journals. Whoever creates it, or changes it at its resourceVersion, has the run: [`Claim`] decides between hosts that are asked
//! for the same run. Three requests per run: created, ended, deleted.
//!
//! A ConfigMap is not a Secret: the record has neither the run's token nor a value of its secrets.

mod claim;
mod collection;
mod content;

use paperclip_contract::types::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::Timestamp;

pub use claim::{Claim, Claimant, Claimed, Step, Tenure};
pub use collection::{MAX_ENDED_RECORDS, RecordSummary, aged_claims, collect};
pub use content::{Ended, RECOVERY_MAX_BYTES, RESULT_MAX_BYTES, pack, unpack};

/// The record of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    pub namespace: String,
    pub name: String,
    /// Empty until it is created.
    pub uid: String,
    /// Empty until it is created.
    pub resource_version: String,
    pub run_id: String,
    pub facts: RunFacts,
    /// The host that has the run.
    pub host: String,
    /// The name of the [`HostLease`](crate::api::HostLease) that shows whether the host lives.
    pub instance: String,
    /// When the run was first accepted.
    pub accepted_at: Timestamp,
    /// Somebody has requested the end of the run, with this reason, which may be empty. Whoever has the run then ends it.
    pub cancel_requested: Option<String>,
    pub state: RecordState,
}

/// What a record says about the end of its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordState {
    /// The run was accepted, and has no result.
    Claimed {
        /// A [`RecoveryRecord`](crate::adoption::RecoveryRecord) as gzip; none if it is too long.
        recovery: Option<Vec<u8>>,
    },
    Ended(Ended),
    /// The run continues an earlier one, whose records and result it has.
    Continues(Earlier),
}

/// The run that a later one continues, by the record of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    pub run_id: String,
    /// The UID of its record. The record of the later run is deleted with it.
    pub record_uid: String,
}

/// What a run is. It does not change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunFacts {
    pub adapter_type: String,
    pub agent_id: String,
    pub company_id: String,
    pub plugin_version: String,
    pub plugin_digest: String,
}

impl RunRecord {
    /// Returns the claim of a run that is about to be accepted. [`Claim`] adds who claims it.
    pub fn new(namespace: String, request: &Request, facts: RunFacts, accepted_at: Timestamp) -> RunRecord {
        RunRecord {
            name: record_name(&request.run_id),
            run_id: request.run_id.clone(),
            namespace,
            uid: String::new(),
            resource_version: String::new(),
            facts,
            host: String::new(),
            instance: String::new(),
            accepted_at,
            cancel_requested: None,
            state: RecordState::Claimed { recovery: None },
        }
    }

    /// Returns the record of a later run that continues this one.
    #[must_use]
    pub fn continued_by(self, run_id: &str) -> RunRecord {
        RunRecord {
            name: record_name(run_id),
            run_id: run_id.to_owned(),
            uid: String::new(),
            resource_version: String::new(),
            cancel_requested: None,
            state: RecordState::Continues(Earlier { run_id: self.run_id, record_uid: self.uid }),
            ..self
        }
    }

    /// Returns the record of the run's end. The recovery data is removed, and so is what makes the result too long.
    #[must_use]
    pub fn ended(self, at: Timestamp, state: &str, result: Map<String, Value>) -> RunRecord {
        RunRecord { state: RecordState::Ended(Ended::new(at, state, result)), ..self }
    }

    /// Returns what it says about the run's end.
    pub fn end(&self) -> Option<&Ended> {
        match &self.state {
            RecordState::Ended(ended) => Some(ended),
            RecordState::Claimed { .. } | RecordState::Continues(_) => None,
        }
    }
}

/// Returns the name of a run's record: valid and deterministic.
pub fn record_name(run_id: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(run_id.as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("paperclip-run-{hex}")
}

#[cfg(test)]
mod tests;
