//! The API server of the records' simulation.

use std::collections::{BTreeMap, BTreeSet};

use paperclip_contract::types::ApiError;
use paperclip_engine::api::{ApiCall, ApiReply, HostLease};
use paperclip_engine::run_record::{RecordState, RunRecord};
use paperclip_engine::time::Timestamp;

use super::mutant::Mutant;

/// The Job of a run, while it exists.
#[derive(Debug, Clone, Default)]
pub(super) struct Job {
    pub(super) has_ended: bool,
    /// The instance that holds the run's guard.
    pub(super) guard: String,
}

#[derive(Debug, Default)]
pub(super) struct Server {
    version: u64,
    pub(super) records: BTreeMap<String, RunRecord>,
    /// Leases of hosts.
    pub(super) live: BTreeSet<String>,
    /// By run id.
    pub(super) jobs: BTreeMap<String, Job>,
    mutant: Option<Mutant>,
}

impl Server {
    pub(super) fn new(mutant: Option<Mutant>) -> Server {
        Server { mutant, ..Server::default() }
    }

    pub(super) fn answer(&mut self, request: &ApiCall) -> Result<ApiReply, ApiError> {
        match request {
            ApiCall::CreateRunRecord(record) => {
                let exists = self.records.contains_key(&record.name);
                if exists && self.mutant != Some(Mutant::RecordIgnored) {
                    return Err(refused(409));
                }
                Ok(self.store(record))
            }
            ApiCall::UpdateRunRecord(record) => {
                let known = self.records.get(&record.name).ok_or_else(|| refused(404))?;
                let is_same = known.resource_version == record.resource_version;
                if !is_same && self.mutant != Some(Mutant::VersionIgnored) {
                    return Err(refused(409));
                }
                Ok(self.store(record))
            }
            ApiCall::GetRunRecord { name, .. } => {
                let mut found = self.records.get(name).cloned();
                if let (Some(Mutant::EndedRestarted), Some(record)) = (self.mutant, &mut found) {
                    record.state = RecordState::Claimed { recovery: None };
                }
                Ok(ApiReply::RunRecord(found.map(Box::new)))
            }
            ApiCall::NoteCancel { name, reason, .. } => {
                let known = self.records.get(name).cloned().ok_or_else(|| refused(404))?;
                self.store(&RunRecord { cancel_requested: Some(reason.clone()), ..known });
                Ok(ApiReply::Done)
            }
            ApiCall::GetHostLease { name, .. } => {
                let lives = self.live.contains(name) && self.mutant != Some(Mutant::OwnerUnseen);
                Ok(ApiReply::HostLease(lives.then(|| lease(name))))
            }
            other => unreachable!("no host of this simulation sends {other:?}"),
        }
    }

    fn store(&mut self, record: &RunRecord) -> ApiReply {
        self.version += 1;
        let resource_version = self.version.to_string();
        let stored = RunRecord { uid: "u".into(), resource_version, ..record.clone() };
        self.records.insert(record.name.clone(), stored.clone());
        ApiReply::RunRecord(Some(Box::new(stored)))
    }
}

fn lease(name: &str) -> HostLease {
    HostLease {
        namespace: "n".into(),
        name: name.to_owned(),
        uid: "u".into(),
        resource_version: "1".into(),
        host: name.to_owned(),
        address: Some(name.to_owned()),
        version: String::new(),
        renewed_at: Timestamp::EPOCH,
    }
}

pub(super) fn refused(status: u16) -> ApiError {
    ApiError { status: Some(status), reason: None, message: "no".into(), retry_after_ms: None }
}

pub(super) fn no_answer() -> ApiError {
    ApiError { status: None, ..refused(0) }
}
