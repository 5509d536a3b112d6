//! One run as the supervisor knows it, from the wish to begin to what is left of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use paperclip_contract::types::Ending;
use paperclip_shell::Control;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use super::feed::Feed;

/// What a run is, for everybody who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct About {
    pub(crate) run_id: String,
    pub(crate) adapter_type: String,
    pub(crate) agent_id: String,
    pub(crate) company_id: String,
    /// Namespace that its config names, else the default one.
    pub(crate) namespace: String,
    pub(crate) plugin_version: String,
    /// The plugin that decides for it, from its beginning to its end.
    pub(crate) plugin_digest: String,
    /// Another host began it, and its journal is not here.
    pub(crate) adopted: bool,
}

/// Where a run stands in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    /// The request was refused before anything was created.
    Refused,
    /// It goes on in the cluster without this host.
    Detached,
}

impl State {
    pub(crate) const ALL: [State; 7] = [
        State::Queued,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::Cancelled,
        State::Refused,
        State::Detached,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Refused => "refused",
            State::Detached => "detached",
        }
    }

    pub(crate) const fn is_over(self) -> bool {
        !matches!(self, State::Queued | State::Running)
    }
}

impl From<Ending> for State {
    fn from(ending: Ending) -> State {
        match ending {
            Ending::Succeeded => State::Succeeded,
            Ending::Failed => State::Failed,
            Ending::Cancelled => State::Cancelled,
        }
    }
}

/// A run's state as `GET /v1/runs/{id}` answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    #[serde(flatten)]
    pub(crate) about: About,
    pub(crate) state: State,
    /// 1 is next; only while it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue_position: Option<usize>,
    /// The newest status line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<String>,
    /// RFC 3339.
    pub(crate) accepted_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at: Option<String>,
    /// The number that the next event will have.
    pub(crate) next_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Map<String, Value>>,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) about: About,
    pub(crate) feed: Arc<Feed>,
    pub(crate) control: mpsc::Sender<Control>,
    accepted_at: SystemTime,
    now: Mutex<Now>,
    admitted: watch::Sender<bool>,
}

#[derive(Debug)]
struct Now {
    state: State,
    status: Option<String>,
    result: Option<Map<String, Value>>,
    ended: Option<(SystemTime, Instant)>,
}

impl Entry {
    pub(crate) fn new(
        about: About,
        feed: Feed,
        state: State,
        control: mpsc::Sender<Control>,
        accepted_at: SystemTime,
    ) -> Entry {
        Entry {
            about,
            feed: Arc::new(feed),
            control,
            accepted_at,
            now: Mutex::new(Now { state, status: None, result: None, ended: None }),
            admitted: watch::Sender::new(false),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.now().state
    }

    /// When the run was first taken on, by whichever process.
    pub(crate) fn accepted_at(&self) -> SystemTime {
        self.accepted_at
    }

    pub(crate) fn set_status(&self, text: &str) {
        self.now().status = Some(text.to_owned());
    }

    /// Lets a run begin that waits in [`Entry::admitted`].
    pub(crate) fn admit(&self) {
        let mut now = self.now();
        if now.state == State::Queued {
            now.state = State::Running;
        }
        drop(now);
        self.admitted.send_replace(true);
    }

    pub(crate) async fn admitted(&self) {
        let mut admitted = self.admitted.subscribe();
        // The sender lives as long as this entry.
        let _ = admitted.wait_for(|is_admitted| *is_admitted).await;
    }

    pub(crate) fn end(&self, state: State, result: Option<Map<String, Value>>, at: SystemTime) {
        let mut now = self.now();
        now.state = state;
        now.result = result;
        now.ended = Some((at, Instant::now()));
    }

    /// For how long it is known to be over.
    pub(crate) fn over_for(&self) -> Option<Duration> {
        self.now().ended.map(|(_, since)| since.elapsed())
    }

    pub(crate) fn show(&self, queue_position: Option<usize>) -> Shown {
        let now = self.now();
        Shown {
            about: self.about.clone(),
            state: now.state,
            queue_position,
            status: now.status.clone(),
            accepted_at: rfc3339(self.accepted_at),
            ended_at: now.ended.map(|(at, _)| rfc3339(at)),
            next_seq: self.feed.next_seq(),
            result: now.result.clone(),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default()
}
