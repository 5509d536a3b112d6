//! What one run has not received yet: of each object its newest state, and whether it was deleted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use paperclip_engine::driver::WatchEvent;

use super::lock;

/// Written by the watches, read by one run.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pending: Mutex<Pending>,
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct Pending {
    /// Objects in the order in which they first changed.
    order: VecDeque<Key>,
    /// Boxed: a node of the map has capacity for eleven values, and a run has few.
    slots: BTreeMap<Key, Box<Slot>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Refused,
    Host,
    Guard,
    Job(String),
    Pod(String),
}

/// The last state comes before the deletion: it has the exit code.
#[derive(Debug, Default)]
struct Slot {
    seen: Option<WatchEvent>,
    deleted: Option<WatchEvent>,
}

impl Inbox {
    pub(crate) fn put(&self, event: WatchEvent) {
        let key = match &event {
            WatchEvent::JobSeen(job) => Key::Job(job.job.uid.clone()),
            WatchEvent::JobDeleted(deletion) => Key::Job(deletion.object.uid.clone()),
            WatchEvent::PodSeen(pod) => Key::Pod(pod.pod.uid.clone()),
            WatchEvent::PodDeleted(deletion) => Key::Pod(deletion.object.uid.clone()),
            WatchEvent::Host(_) => Key::Host,
            WatchEvent::GuardChanged => Key::Guard,
            WatchEvent::Refused(_) => Key::Refused,
        };
        let mut pending = lock(&self.pending);
        if !pending.slots.contains_key(&key) {
            pending.order.push_back(key.clone());
        }
        let slot = pending.slots.entry(key).or_default();
        match event {
            WatchEvent::JobDeleted(_) | WatchEvent::PodDeleted(_) => slot.deleted = Some(event),
            WatchEvent::JobSeen(_)
            | WatchEvent::PodSeen(_)
            | WatchEvent::Host(_)
            | WatchEvent::GuardChanged
            | WatchEvent::Refused(_) => {
                **slot = Slot { seen: Some(event), deleted: None };
            }
        }
        drop(pending);
        self.reader.wake();
    }

    /// Takes the next event, if there is one.
    pub(super) fn try_take(&self) -> Option<WatchEvent> {
        let mut pending = lock(&self.pending);
        loop {
            let key = pending.order.front()?.clone();
            let slot = pending.slots.get_mut(&key);
            if let Some(event) = slot.and_then(|slot| slot.seen.take().or_else(|| slot.deleted.take())) {
                return Some(event);
            }
            pending.slots.remove(&key);
            pending.order.pop_front();
        }
    }

    /// Waits for the next event. Only the last caller is woken: an inbox has one reader.
    pub(super) fn poll_take(&self, context: &Context<'_>) -> Poll<WatchEvent> {
        self.reader.register(context.waker());
        match self.try_take() {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot;
    use k8s_openapi::api::batch::v1::Job;
    use paperclip_contract::types::{Deletion, ObjectRef};

    fn seen(uid: &str, active_pods: u32) -> WatchEvent {
        let mut job = snapshot::job(&Job::default());
        job.job.uid = uid.to_owned();
        job.active_pods = active_pods;
        WatchEvent::JobSeen(job)
    }

    fn deleted(uid: &str) -> WatchEvent {
        let object = ObjectRef { namespace: String::new(), name: String::new(), uid: uid.to_owned() };
        WatchEvent::JobDeleted(Deletion { object, detected_via: "watch-deleted".to_owned(), is_ours: false })
    }

    #[test]
    fn keeps_the_newest_state_of_an_object_and_returns_it_before_the_deletion() {
        let inbox = Inbox::default();
        for event in [seen("a", 1), seen("b", 1), seen("a", 2), deleted("a"), seen("b", 0)] {
            inbox.put(event);
        }
        let received: Vec<WatchEvent> = std::iter::from_fn(|| inbox.try_take()).collect();
        assert_eq!(received, [seen("a", 2), deleted("a"), seen("b", 0)]);
        inbox.put(seen("a", 3));
        assert_eq!(inbox.try_take(), Some(seen("a", 3)));
        assert_eq!(inbox.try_take(), None);
    }

    #[test]
    fn a_later_state_replaces_a_deletion() {
        let inbox = Inbox::default();
        inbox.put(deleted("a"));
        inbox.put(seen("a", 1));
        assert_eq!(inbox.try_take(), Some(seen("a", 1)));
        assert_eq!(inbox.try_take(), None);
    }
}
