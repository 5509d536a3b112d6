//! Defects of engine and shell: effects are changed on their way to the world.

use std::collections::{BTreeMap, BTreeSet};

use paperclip_engine::api::{ApiCall, Lease};
use paperclip_engine::ids::CallId;
use paperclip_engine::port::Effect;
use paperclip_engine::record::{Record, SequencedRecord, Stream};

use super::Mutant;
use crate::script::TOKEN;

/// Breaks what passes between engine and world.
#[derive(Debug)]
pub(crate) struct EffectSaboteur {
    mutant: Option<Mutant>,
    shown: BTreeSet<String>,
    sent: BTreeMap<CallId, u32>,
}

impl EffectSaboteur {
    pub(crate) fn new(mutant: Option<Mutant>) -> Self {
        EffectSaboteur { mutant, shown: BTreeSet::new(), sent: BTreeMap::new() }
    }

    /// What is done instead, in order.
    pub(crate) fn on_effect(&mut self, effect: Effect) -> Vec<Effect> {
        let Some(mutant) = self.mutant else { return vec![effect] };
        match (mutant, effect) {
            (Mutant::CallsBeforeSync, Effect::Sync) | (Mutant::StreamsLeftOpen, Effect::CloseLog(_)) => {
                Vec::new()
            }
            (Mutant::GapsHidden, Effect::Emit(SequencedRecord { record: Record::Gap { .. }, .. })) => {
                Vec::new()
            }
            (Mutant::KeepaliveIsOutput, Effect::Poll { poll, path }) => {
                let text = "[paperclip] still running".to_owned();
                let record = Record::Log { stream: Stream::Stdout, index: u64::MAX, text };
                vec![Effect::Emit(SequencedRecord { seq: u64::MAX, record }), Effect::Poll { poll, path }]
            }
            (Mutant::TokenInJob, Effect::Call { call, request: ApiCall::CreateJob { manifest_json } }) => {
                let manifest_json = with_token(&manifest_json);
                vec![Effect::Call { call, request: ApiCall::CreateJob { manifest_json } }]
            }
            (Mutant::GuardKept, Effect::Call { call, request: ApiCall::DeleteLease(lease) }) => {
                let request = ApiCall::GetLease { namespace: lease.namespace, name: lease.name };
                vec![Effect::Call { call, request }]
            }
            (_, Effect::Emit(told)) => {
                let times = match (mutant, &told.record) {
                    (Mutant::EqualLinesDropped, Record::Log { text, .. }) => {
                        usize::from(self.shown.insert(text.clone()))
                    }
                    (Mutant::LinesDoubled, Record::Log { .. }) | (Mutant::ResultTwice, Record::Result(_)) => {
                        2
                    }
                    _ => 1,
                };
                (0..times).map(|_| Effect::Emit(told.clone())).collect()
            }
            (Mutant::LockPerRun, Effect::Call { call, request }) => {
                vec![Effect::Call { call, request: with_own_lease(request) }]
            }
            (Mutant::CreatedAgain, Effect::Call { call, request: ApiCall::CreateJob { manifest_json } }) => {
                let tries = self.sent.entry(call).or_default();
                *tries += 1;
                let manifest_json = if *tries > 1 { renamed(&manifest_json, *tries) } else { manifest_json };
                vec![Effect::Call { call, request: ApiCall::CreateJob { manifest_json } }]
            }
            (_, effect) => vec![effect],
        }
    }
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
