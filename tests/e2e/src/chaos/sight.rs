//! The namespace's pods as any client sees them: `kubectl get --watch`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::kubectl::Kubectl;

/// Time limit for an end that has already happened.
const PATIENCE: Duration = Duration::from_secs(5);
/// A line for each change: the run's id, and when its agent's container ended, if it has.
const COLUMNS: &str = r#"jsonpath={.metadata.labels.paperclip\.io/run-id}{" "}{.status.containerStatuses[?(@.name=="claude")].state.terminated.finishedAt}{"\n"}"#;

/// The times at which the ends of containers became visible. Watches until it is dropped.
#[derive(Debug)]
pub(super) struct Sight {
    child: Child,
    ends: Arc<(Mutex<HashMap<String, Instant>>, Condvar)>,
}

impl Sight {
    pub(super) fn open(kubectl: &Kubectl) -> Result<Sight> {
        let (child, stdout) = kubectl.watch(&["get", "pods", "--watch", "-o", COLUMNS])?;
        let ends = Arc::new((Mutex::new(HashMap::new()), Condvar::new()));
        let seen = Arc::clone(&ends);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((run, end)) = line.split_once(' ')
                    && !end.is_empty()
                {
                    let mut ends = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
                    ends.entry(run.to_owned()).or_insert_with(Instant::now);
                    seen.1.notify_all();
                }
            }
        });
        Ok(Sight { child, ends })
    }

    /// Returns when the end of each run's container became visible, once there are this many or no more arrive.
    pub(super) fn ends(&self, count: usize) -> HashMap<String, Instant> {
        let ends = self.ends.0.lock().unwrap_or_else(PoisonError::into_inner);
        let awaited = self.ends.1.wait_timeout_while(ends, PATIENCE, |ends| ends.len() < count);
        awaited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
