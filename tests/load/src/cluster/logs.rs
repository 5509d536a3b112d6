//! Logs of containers, as the API server serves them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::watch;

use super::App;
use super::store::Refused;

/// What a container wrote.
#[derive(Debug)]
pub(super) struct Log {
    written: Mutex<Written>,
    grew: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Written {
    lines: Vec<(Timestamp, String)>,
    is_closed: bool,
}

impl Default for Log {
    fn default() -> Log {
        Log { written: Mutex::default(), grew: watch::Sender::new(()) }
    }
}

impl Log {
    pub(super) fn write(&self, line: &str) {
        self.written().lines.push((Timestamp::now(), line.to_owned()));
        self.grew.send_replace(());
    }

    pub(super) fn close(&self) {
        self.written().is_closed = true;
        self.grew.send_replace(());
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogQuery {
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    timestamps: bool,
    since_time: Option<Timestamp>,
    tail_lines: Option<usize>,
}

pub(super) async fn read(
    State(app): State<App>,
    Path((_namespace, pod)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Refused> {
    let log = app.agents.log(&pod).ok_or(Refused::Missing)?;
    let mut at = 0;
    {
        let written = log.written();
        if let Some(since) = query.since_time {
            at = written.lines.partition_point(|(time, _)| *time < since);
        }
        if let Some(tail) = query.tail_lines {
            at = at.max(written.lines.len().saturating_sub(tail));
        }
    }
    let grew = log.grew.subscribe();
    let lines = futures::stream::unfold((log, grew, at, query), |(log, mut grew, at, query)| async move {
        loop {
            grew.borrow_and_update();
            let (bytes, next, is_closed) = take(&log, at, query.timestamps);
            if !bytes.is_empty() {
                return Some((Ok::<_, std::io::Error>(bytes), (log, grew, next, query)));
            }
            if is_closed || !query.follow {
                return None;
            }
            grew.changed().await.ok()?;
        }
    });
    Ok(Body::from_stream(lines).into_response())
}

fn take(log: &Arc<Log>, at: usize, timestamps: bool) -> (Bytes, usize, bool) {
    let written = log.written();
    let mut text = String::new();
    for (time, line) in &written.lines[at..] {
        if timestamps {
            text.push_str(&format!("{time:.9} "));
        }
        text.push_str(line);
        text.push('\n');
    }
    (text.into(), written.lines.len(), written.is_closed)
}
