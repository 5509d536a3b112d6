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
            (Mutant::GapsHidden, Operation::Show(SequencedRecord { record: Record::Gap { .. }, .. })) => {
                Vec::new()
            }
            (Mutant::GapInvented, Operation::Show(record)) => with_gap(record),
            (Mutant::KeepaliveIsOutput, Operation::Poll { poll, path }) => {
                let text = "[paperclip] still running".to_owned();
                let record = Record::Log { stream: Stream::Stdout, index: u64::MAX, text };
                vec![
                    Operation::Show(SequencedRecord { seq: u64::MAX, record }),
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
            (_, Operation::Show(record)) => {
                let times = match (mutant, &record.record) {
                    (Mutant::EqualLinesDropped, Record::Log { text, .. }) => {
                        usize::from(self.shown.insert(text.clone()))
                    }
                    (Mutant::LinesDoubled, Record::Log { .. }) | (Mutant::ResultTwice, Record::Result(_)) => {
                        2
                    }
                    _ => 1,
                };
                (0..times).map(|_| Operation::Show(record.clone())).collect()
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
}

/// A gap of one line before each line.
fn with_gap(record: SequencedRecord) -> Vec<Operation> {
    let gap = match &record.record {
        Record::Log { index, .. } => Some(Record::Gap {
            index: *index,
            lost_lines: Some(1),
            lost_bytes: Some(1),
            reason: String::new(),
        }),
        _ => None,
    };
    let gap = gap.map(|gap| Operation::Show(SequencedRecord { seq: record.seq, record: gap }));
    gap.into_iter().chain([Operation::Show(record)]).collect()
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
