//! Planned events in the order of time. Ties are broken at random: events at one instant have no order in the world.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Planned events, each at a time in ms.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    heap: BinaryHeap<Entry<T>>,
    next_seq: u64,
}

#[derive(Debug)]
struct Entry<T> {
    key: Reverse<(u64, u8, u64)>,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Agenda { heap: BinaryHeap::new(), next_seq: 0 }
    }
}

impl<T> Agenda<T> {
    pub(crate) fn put(&mut self, at_ms: u64, tie: u8, what: T) {
        self.next_seq += 1;
        self.heap.push(Entry { key: Reverse((at_ms, tie, self.next_seq)), what });
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let entry = self.heap.pop()?;
        Some((entry.key.0.0, entry.what))
    }
}
