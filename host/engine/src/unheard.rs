//! Jobs that are followed, and of which no watch has told yet.
//!
//! A namespace is watched for all runs together. A watch that is open already tells of changes only: a Job that went before it was followed
//! is told of by none, and its run would wait for ever.

use std::collections::BTreeMap;

use paperclip_contract::types::ObjectRef;

/// How long a followed Job may go unheard before it is looked at, in ms: watches mostly tell within a second.
pub(crate) const UNHEARD_MS: u64 = 10_000;

/// By UID; each with the time at which it is to be looked at, in ms.
#[derive(Debug, Default)]
pub(crate) struct Unheard(BTreeMap<String, (ObjectRef, u64)>);

impl Unheard {
    pub(crate) fn follow(&mut self, now_ms: u64, job: &ObjectRef) {
        self.0.insert(job.uid.clone(), (job.clone(), now_ms.saturating_add(UNHEARD_MS)));
    }

    /// It was told of, whatever was said.
    pub(crate) fn heard(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Takes those that are to be looked at now.
    pub(crate) fn due(&mut self, now_ms: u64) -> Vec<ObjectRef> {
        let due = self.0.extract_if(.., |_, (_, due_ms)| *due_ms <= now_ms);
        due.map(|(_, (job, _))| job).collect()
    }

    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.0.values().map(|(_, due_ms)| *due_ms).min()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
