//! The output of a host: one JSON record per line.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::Value;

/// The records of a host's stdout as they come, shared with the thread that reads them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    shared: Arc<(Mutex<Received>, Condvar)>,
}

#[derive(Debug, Default)]
pub(crate) struct Received {
    pub(crate) records: Vec<Value>,
    /// The time of arrival of each record.
    pub(crate) at: Vec<Instant>,
    pub(crate) is_ended: bool,
}

impl Records {
    /// Reads records in a thread until the stream ends, and keeps the selected ones, also in a file: seconds since the start, then
    /// the record.
    pub(crate) fn read(
        stdout: impl Read + Send + 'static,
        kept: File,
        mut keep: impl FnMut(&Value) -> bool + Send + 'static,
    ) -> Records {
        let records = Records::default();
        let reader = records.clone();
        let start = Instant::now();
        std::thread::spawn(move || {
            let mut kept = BufWriter::new(kept);
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                let record = serde_json::from_str(&line).unwrap_or_else(|_| Value::String(line.clone()));
                if !keep(&record) {
                    continue;
                }
                // The file is for people: without it the suite still judges.
                let _ = writeln!(kept, "{:9.3} {line}", start.elapsed().as_secs_f64());
                let mut received = reader.lock();
                received.records.push(record);
                received.at.push(Instant::now());
                reader.shared.1.notify_all();
            }
            reader.lock().is_ended = true;
            reader.shared.1.notify_all();
        });
        records
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Received> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the first record that satisfies the predicate, and waits for it if necessary.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        deadline: Instant,
        expected: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut received = self.lock();
        let mut checked = 0;
        loop {
            if let Some(record) = received.records[checked..].iter().find(|record| expected(record)) {
                return Ok(record.clone());
            }
            checked = received.records.len();
            if received.is_ended {
                bail!("the host ended without {what}");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no {what} came in time");
            }
            received = self.shared.1.wait_timeout(received, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the end of the stream.
    pub(crate) fn wait_for_end(&self, deadline: Instant) -> Result<()> {
        let mut received = self.lock();
        while !received.is_ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the host did not end in time");
            }
            received = self.shared.1.wait_timeout(received, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

/// The text of a record of this type, empty for any other.
pub(crate) fn text<'a>(record: &'a Value, kind: &str) -> &'a str {
    if record["type"] == kind { record["text"].as_str().unwrap_or_default() } else { "" }
}
