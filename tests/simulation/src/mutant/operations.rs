//! Defects of engine and driver: operations are changed on their way to the world.

use std::collections::{BTreeMap, BTreeSet};

use paperclip_engine::api::{ApiCall, Lease};
use paperclip_engine::driver::Operation;
use paperclip_engine::ids::CallId;
use paperclip_engine::record::{Record, SequencedRecord, Stream};

use super::Mutant;
use crate::script::TOKEN;

/// Breaks what passes between driver and world.
#[derive(Debug)]
pub(crate) struct OperationSaboteur {
    mutant: Option<Mutant>,
    shown: BTreeSet<String>,
    sent: BTreeMap<CallId, u32>,
}

impl OperationSaboteur {
    pub(crate) fn new(mutant: Option<Mutant>) -> Self {
        OperationSaboteur { mutant, shown: BTreeSet::new(), sent: BTreeMap::new() }
    }

    /// Returns what is done instead, in order.
    pub(crate) fn on_operation(&mut self, operation: Operation) -> Vec<Operation> {
        let Some(mutant) = self.mutant else { return vec![operation] };
        match (mutant, operation) {
            (Mutant::CallsBeforeSync, Operation::Sync)
            | (Mutant::ShownBeforeFlush, Operation::Flush)
            | (Mutant::StreamsLeftOpen, Operation::CloseLog(_)) => Vec::new(),
            (Mutant::KeepaliveIsOutput, Operation::Poll { poll, path }) => {
                let text = "[paperclip] still running".to_owned();
                let record = Record::Log { stream: Stream::Stdout, index: u64::MAX, text };
                vec![
                    Operation::Show(vec![SequencedRecord { seq: u64::MAX, record }]),
                    Operation::Poll { poll, path },
                ]
            }
            (Mutant::TokenInJob, Operation::Call { call, request: ApiCall::CreateJob { manifest_json } }) => {
                let manifest_json = with_token(&manifest_json);
                vec![Operation::Call { call, request: ApiCall::CreateJob { manifest_json } }]
            }
            (Mutant::GuardKept, Operation::Call { call, request: ApiCall::DeleteLease(lease) }) => {
                let request = ApiCall::GetLease { namespace: lease.namespace, name: lease.name };
                vec![Operation::Call { call, request }]
            }
            (_, Operation::Show(records)) => {
                let shown = records.into_iter().flat_map(|record| self.shown(mutant, record));
                vec![Operation::Show(shown.collect())]
            }
            (Mutant::LockPerRun, Operation::Call { call, request }) => {
                vec![Operation::Call { call, request: with_own_lease(request) }]
            }
            (
                Mutant::CreatedAgain,
                Operation::Call { call, request: ApiCall::CreateJob { manifest_json } },
            ) => {
                let tries = self.sent.entry(call).or_default();
                *tries += 1;
                let manifest_json = if *tries > 1 { renamed(&manifest_json, *tries) } else { manifest_json };
                vec![Operation::Call { call, request: ApiCall::CreateJob { manifest_json } }]
            }
            (_, operation) => vec![operation],
        }
    }

    /// Returns what the defect shows in place of a record.
    fn shown(&mut self, mutant: Mutant, record: SequencedRecord) -> Vec<SequencedRecord> {
        match (mutant, &record.record) {
            (Mutant::GapsHidden, Record::Gap { .. }) => Vec::new(),
            (Mutant::GapInvented, Record::Log { index, .. }) => vec![gap_before(*index, record.seq), record],
            (Mutant::EqualLinesDropped, Record::Log { text, .. }) => {
                let is_new = self.shown.insert(text.clone());
                is_new.then_some(record).into_iter().collect()
            }
            (Mutant::LinesDoubled, Record::Log { .. }) | (Mutant::ResultTwice, Record::Result(_)) => {
                vec![record.clone(), record]
            }
            _ => vec![record],
        }
    }
}

/// A gap of one line before a line.
fn gap_before(index: u64, seq: u64) -> SequencedRecord {
    let record = Record::Gap { index, lost_lines: Some(1), lost_bytes: Some(1), reason: String::new() };
    SequencedRecord { seq, record }
}

/// Each run has a lease of its own, so that it excludes nobody.
fn with_own_lease(request: ApiCall) -> ApiCall {
    match request {
        ApiCall::CreateLease(lease) => {
            ApiCall::CreateLease(Lease { name: format!("{}-{}", lease.name, lease.holder), ..lease })
        }
        other => other,
    }
}

fn with_token(manifest_json: &str) -> String {
    let Ok(mut manifest) = serde_json::from_str::<serde_json::Value>(manifest_json) else {
        return String::new();
    };
    manifest["metadata"]["annotations"]["token"] = TOKEN.into();
    manifest.to_string()
}

fn renamed(manifest_json: &str, tries: u32) -> String {
    let Ok(mut manifest) = serde_json::from_str::<serde_json::Value>(manifest_json) else {
        return String::new();
    };
    let name = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    manifest["metadata"]["name"] = format!("{name}-{tries}").into();
    manifest.to_string()
}
