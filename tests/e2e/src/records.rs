//! What a host prints: a JSON record a line.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::Value;

/// The records of a host's stdout as they come, shared with the thread that reads them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Records {
    shared: Arc<(Mutex<Heard>, Condvar)>,
}

#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) records: Vec<Value>,
    /// When each came.
    pub(crate) at: Vec<Instant>,
    pub(crate) is_ended: bool,
}

impl Records {
    /// Reads them in a thread of their own until the stream ends, and keeps those that are wanted, also in a file: seconds since the
    /// start, then the record.
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
                let mut heard = reader.lock();
                heard.records.push(record);
                heard.at.push(Instant::now());
                reader.shared.1.notify_all();
            }
            reader.lock().is_ended = true;
            reader.shared.1.notify_all();
        });
        records
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Heard> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first record, come or to come, that is as wanted.
    pub(crate) fn wait_for(
        &self,
        what: &str,
        deadline: Instant,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut heard = self.lock();
        let mut looked_at = 0;
        loop {
            if let Some(record) = heard.records[looked_at..].iter().find(|record| wanted(record)) {
                return Ok(record.clone());
            }
            looked_at = heard.records.len();
            if heard.is_ended {
                bail!("the host ended without {what}");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("no {what} came in time");
            }
            heard = self.shared.1.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the end of the stream.
    pub(crate) fn wait_for_end(&self, deadline: Instant) -> Result<()> {
        let mut heard = self.lock();
        while !heard.is_ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the host did not end in time");
            }
            heard = self.shared.1.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

/// The text of a record of this type, empty for any other.
pub(crate) fn text<'a>(record: &'a Value, kind: &str) -> &'a str {
    if record["type"] == kind { record["text"].as_str().unwrap_or_default() } else { "" }
}
