//! Jobs that are followed, and of which no watch has told yet.
//!
//! A namespace is watched for all runs together. A watch that is open already tells of changes only: a Job that went before it was followed
//! is told of by none, and its run would wait for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use paperclip_contract::types::ObjectRef;

use crate::time::Timestamp;

/// How long a followed Job may go unheard before it is looked at: watches mostly tell within a second.
pub(crate) const UNOBSERVED_AFTER: Duration = Duration::from_secs(10);

/// By UID; each with the time at which it is to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Unheard(BTreeMap<String, (ObjectRef, Timestamp)>);

impl Unheard {
    pub(crate) fn follow(&mut self, now: Timestamp, job: &ObjectRef) {
        self.0.insert(job.uid.clone(), (job.clone(), now + UNOBSERVED_AFTER));
    }

    /// It was told of, whatever was said.
    pub(crate) fn heard(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Takes those that are to be looked at now.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<ObjectRef> {
        let due = self.0.extract_if(.., |_, (_, due_at)| *due_at <= now);
        due.map(|(_, (job, _))| job).collect()
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.0.values().map(|(_, due_at)| *due_at).min()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
