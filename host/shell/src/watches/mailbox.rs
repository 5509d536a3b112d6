//! What one run has not heard yet: of each object its newest state, and whether it is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::sync::Notify;

use super::{Change, lock};

/// Written by the watches, read by one run.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    unheard: Mutex<Unheard>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Unheard {
    /// Objects in the order in which they first changed.
    order: VecDeque<Key>,
    /// Boxed: a node of the map has room for eleven values, and a run has few.
    slots: BTreeMap<Key, Box<Slot>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Refused,
    Job(String),
    Pod(String),
}

/// The last state is heard before the end: it has the exit code.
#[derive(Debug, Default)]
struct Slot {
    seen: Option<Change>,
    gone: Option<Change>,
}

impl Mailbox {
    pub(super) fn put(&self, change: Change) {
        let key = match &change {
            Change::JobSeen(job) => Key::Job(job.job.uid.clone()),
            Change::JobDeleted(gone) => Key::Job(gone.object.uid.clone()),
            Change::PodSeen(pod) => Key::Pod(pod.pod.uid.clone()),
            Change::PodDeleted(gone) => Key::Pod(gone.object.uid.clone()),
            Change::Refused(_) => Key::Refused,
        };
        let mut unheard = lock(&self.unheard);
        if !unheard.slots.contains_key(&key) {
            unheard.order.push_back(key.clone());
        }
        let slot = unheard.slots.entry(key).or_default();
        match change {
            Change::JobDeleted(_) | Change::PodDeleted(_) => slot.gone = Some(change),
            Change::JobSeen(_) | Change::PodSeen(_) | Change::Refused(_) => {
                **slot = Slot { seen: Some(change), gone: None };
            }
        }
        drop(unheard);
        self.arrived.notify_one();
    }

    pub(super) fn try_take(&self) -> Option<Change> {
        let mut unheard = lock(&self.unheard);
        loop {
            let key = unheard.order.front()?.clone();
            let slot = unheard.slots.get_mut(&key);
            if let Some(change) = slot.and_then(|slot| slot.seen.take().or_else(|| slot.gone.take())) {
                return Some(change);
            }
            unheard.slots.remove(&key);
            unheard.order.pop_front();
        }
    }

    pub(super) async fn take(&self) -> Change {
        loop {
            if let Some(change) = self.try_take() {
                return change;
            }
            self.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot;
    use k8s_openapi::api::batch::v1::Job;
    use paperclip_contract::types::{Deletion, ObjectRef};

    fn seen(uid: &str, active_pods: u32) -> Change {
        let mut job = snapshot::job(&Job::default());
        job.job.uid = uid.to_owned();
        job.active_pods = active_pods;
        Change::JobSeen(job)
    }

    fn gone(uid: &str) -> Change {
        let object = ObjectRef { namespace: String::new(), name: String::new(), uid: uid.to_owned() };
        Change::JobDeleted(Deletion { object, detected_via: "watch-deleted".to_owned(), is_ours: false })
    }

    #[test]
    fn states_of_one_object_are_compressed_and_its_last_one_comes_before_its_end() {
        let mailbox = Mailbox::default();
        for change in [seen("a", 1), seen("b", 1), seen("a", 2), gone("a"), seen("b", 0)] {
            mailbox.put(change);
        }
        let heard: Vec<Change> = std::iter::from_fn(|| mailbox.try_take()).collect();
        assert_eq!(heard, [seen("a", 2), gone("a"), seen("b", 0)]);
        mailbox.put(seen("a", 3));
        assert_eq!(mailbox.try_take(), Some(seen("a", 3)));
        assert_eq!(mailbox.try_take(), None);
    }

    #[test]
    fn an_object_that_is_back_is_not_gone() {
        let mailbox = Mailbox::default();
        mailbox.put(gone("a"));
        mailbox.put(seen("a", 1));
        assert_eq!(mailbox.try_take(), Some(seen("a", 1)));
        assert_eq!(mailbox.try_take(), None);
    }
}
