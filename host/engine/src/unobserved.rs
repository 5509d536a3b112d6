//! Followed Jobs about which no watch has reported anything yet.
//!
//! All runs share one watch per namespace. A watch that is already open reports changes only, so it says nothing about a Job that was
//! deleted before it was followed, and the run of that Job would wait forever. Such a Job is read once instead.

use std::collections::BTreeMap;
use std::time::Duration;

use paperclip_contract::types::ObjectRef;

use crate::time::Timestamp;

/// How long to wait for a watch before a followed Job is read. Watches usually report within a second.
pub(crate) const UNOBSERVED_AFTER: Duration = Duration::from_secs(10);

/// The Jobs by UID, each with the time at which it is to be read.
#[derive(Debug, Default)]
pub(crate) struct UnobservedJobs(BTreeMap<String, (ObjectRef, Timestamp)>);

impl UnobservedJobs {
    /// Adds a followed Job.
    pub(crate) fn follow(&mut self, now: Timestamp, job: &ObjectRef) {
        self.0.insert(job.uid.clone(), (job.clone(), now + UNOBSERVED_AFTER));
    }

    /// Removes a Job that was observed or reported as deleted.
    pub(crate) fn observed(&mut self, uid: &str) {
        self.0.remove(uid);
    }

    /// Removes and returns the Jobs that are to be read now.
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
