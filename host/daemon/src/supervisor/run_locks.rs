//! One request at a time starts a run of an id: the others wait, and then find the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// A lock for each run id that is being started.
#[derive(Debug, Default)]
pub(super) struct RunLocks {
    locks: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl RunLocks {
    /// Waits until no other request starts the run.
    pub(super) async fn lock(&self, run_id: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let known = locks.get(run_id).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::default();
                locks.insert(run_id.to_owned(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_for_one_run_wait_for_each_other() {
        let locks = RunLocks::default();
        let first = locks.lock("r1").await;
        drop(locks.lock("r2").await);
        let mut second = Box::pin(locks.lock("r1"));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
        drop(locks.lock("r3").await);
        assert_eq!(locks.locks.lock().expect("sound").len(), 1, "locks that nobody holds are removed");
    }
}
