//! The latest changes of one resource, in a bounded window.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Key, Object};

/// What became of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Change {
    /// The cluster's version after the write; a deleted object carries that of its deletion.
    pub revision: u64,
    pub kind: ChangeKind,
    pub key: Key,
    /// The object after the write; for a deletion, as it was last.
    pub object: Arc<Object>,
    /// The object before the write, by which a watch with a selector knows what left its view.
    pub previous: Option<Arc<Object>>,
}

#[derive(Debug)]
pub(super) struct History {
    changes: VecDeque<Arc<Change>>,
    window_changes: usize,
    /// Every change after this version is still known.
    complete_after: u64,
}

impl History {
    pub(super) fn new(revision: u64, window_changes: usize) -> Self {
        History { changes: VecDeque::new(), window_changes, complete_after: revision }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.changes.push_back(Arc::new(change));
        while self.changes.len() > self.window_changes {
            if let Some(dropped) = self.changes.pop_front() {
                self.complete_after = dropped.revision;
            }
        }
    }

    /// The oldest version from which a watch may start.
    pub(super) fn complete_after(&self) -> u64 {
        self.complete_after
    }

    /// The changes after version `from`, oldest first; `None` if some of them are no longer known.
    pub(super) fn after(&self, from: u64) -> Option<impl DoubleEndedIterator<Item = &Arc<Change>>> {
        if from < self.complete_after {
            return None;
        }
        let first = self.changes.partition_point(|change| change.revision <= from);
        Some(self.changes.range(first..))
    }
}
