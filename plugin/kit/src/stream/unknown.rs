//! Events of types that this version does not know: they show that a new version of the agent speaks differently.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often each unknown type of event was printed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnknownEvents {
    counts: BTreeMap<String, u64>,
}

impl UnknownEvents {
    const TYPES: usize = 32;
    const TYPE_BYTES: usize = 64;

    /// Counts an event of an unknown type.
    pub fn record(&mut self, kind: &str) {
        let kind = &kind[..kind.floor_char_boundary(Self::TYPE_BYTES)];
        if let Some(count) = self.counts.get_mut(kind) {
            *count += 1;
        } else if self.counts.len() < Self::TYPES {
            self.counts.insert(kind.to_owned(), 1);
        }
    }

    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_a_limited_number_of_types() {
        let mut unknown = UnknownEvents::default();
        for kind in ["a", "b", "a"] {
            unknown.record(kind);
        }
        assert_eq!(unknown.counts, BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]));
        for index in 0..100 {
            unknown.record(&format!("{index}{}", "x".repeat(100)));
        }
        assert_eq!(unknown.counts.len(), UnknownEvents::TYPES);
        unknown.record("b");
        assert_eq!(unknown.counts["b"], 2);
        assert!(unknown.counts.keys().all(|kind| kind.len() <= UnknownEvents::TYPE_BYTES));
    }
}
