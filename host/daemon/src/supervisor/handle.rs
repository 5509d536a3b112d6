//! One run as the daemon knows it, from its request to what is kept after its end.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use paperclip_contract::types::{Ending, Request};
use paperclip_guest::Plugin;
use paperclip_shell::Control;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use super::feed::Feed;
use super::records::RecordKey;
use super::taken::Taken;

/// What a run is. It does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunInfo {
    pub(crate) run_id: String,
    pub(crate) adapter_type: String,
    pub(crate) agent_id: String,
    pub(crate) company_id: String,
    /// Namespace that its config names, else the default one.
    pub(crate) namespace: String,
    pub(crate) plugin_version: String,
    /// The plugin that decides for it, from its start to its end.
    pub(crate) plugin_digest: String,
    /// Another host started it, and its journal is not here.
    pub(crate) adopted: bool,
}

impl RunInfo {
    pub(crate) fn of(request: &Request, namespace: String, plugin: &Plugin, adopted: bool) -> RunInfo {
        RunInfo {
            run_id: request.run_id.clone(),
            adapter_type: plugin.adapter_type().to_owned(),
            agent_id: request.agent.id.clone(),
            company_id: request.agent.company_id.clone(),
            namespace,
            plugin_version: plugin.version().to_owned(),
            plugin_digest: plugin.digest().to_owned(),
            adopted,
        }
    }
}

/// The state of a run in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    /// The plugin refused the request before anything was created.
    Refused,
    /// It continues in the cluster without this host.
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

    /// Returns the state of this name.
    pub(crate) fn parse(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
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

/// A run's state in the answer of `GET /v1/runs/{id}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunState {
    #[serde(flatten)]
    pub(crate) info: RunInfo,
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
    /// Whether Paperclip's server has the result.
    pub(crate) taken: bool,
    /// The later run whose result this one's is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resumed_by: Option<String>,
    /// The earlier run that this one continues; its records and its state are this run's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) follows: Option<String>,
}

impl RunState {
    /// Whether it is over and the server does not have its result.
    pub(crate) fn is_untaken(&self) -> bool {
        self.result.is_some() && !self.taken
    }

    /// Returns it as the state of the run that has its records and result: the later one that continues it, or itself.
    pub(crate) fn of_owner(self) -> RunState {
        match self.resumed_by.clone() {
            Some(later) => self.of(&later),
            None => self,
        }
    }

    /// Returns it as the state of the run of this id, which may be one that continues it.
    pub(crate) fn of(mut self, run_id: &str) -> RunState {
        if self.info.run_id != run_id {
            self.follows = Some(std::mem::replace(&mut self.info.run_id, run_id.to_owned()));
            self.resumed_by = None;
        }
        self
    }
}

/// A run that this process knows.
#[derive(Debug)]
pub(crate) struct RunHandle {
    pub(crate) info: RunInfo,
    pub(crate) feed: Arc<Feed>,
    pub(crate) control: mpsc::Sender<Control>,
    accepted_at: SystemTime,
    record: OnceLock<RecordKey>,
    progress: watch::Sender<Progress>,
    /// When the agent last printed something, while it runs.
    printed: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Progress {
    state: State,
    status: Option<String>,
    result: Option<Map<String, Value>>,
    ended: Option<(SystemTime, Instant)>,
    taken: Taken,
}

impl RunHandle {
    /// Returns the handle of a run that waits to be admitted.
    pub(crate) fn new(
        info: RunInfo,
        feed: Feed,
        control: mpsc::Sender<Control>,
        accepted_at: SystemTime,
    ) -> RunHandle {
        let progress = Progress {
            state: State::Queued,
            status: None,
            result: None,
            ended: None,
            taken: Taken::default(),
        };
        RunHandle {
            info,
            feed: Arc::new(feed),
            control,
            accepted_at,
            record: OnceLock::new(),
            progress: watch::Sender::new(progress),
            printed: Mutex::new(None),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.progress.borrow().state
    }

    /// Returns when the run was first accepted, by whichever process.
    pub(crate) fn accepted_at(&self) -> SystemTime {
        self.accepted_at
    }

    /// Sets where the run's record is. The first call counts.
    pub(super) fn set_record(&self, record: RecordKey) {
        let _ = self.record.set(record);
    }

    /// Returns where the run's record is, if it has one.
    pub(super) fn record(&self) -> Option<RecordKey> {
        self.record.get().cloned()
    }

    pub(crate) fn set_status(&self, text: &str) {
        self.progress.send_modify(|progress| progress.status = Some(text.to_owned()));
    }

    /// Records when the agent last printed something; `None` if it does not run.
    pub(crate) fn set_printed(&self, at: Option<Instant>) {
        *self.printed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Returns for how long the agent has printed nothing, if it runs.
    pub(crate) fn quiet_for(&self) -> Option<Duration> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }

    /// Lets a run start that waits in [`RunHandle::admitted`].
    pub(crate) fn admit(&self) {
        self.progress.send_if_modified(|progress| {
            let is_queued = progress.state == State::Queued;
            if is_queued {
                progress.state = State::Running;
            }
            is_queued
        });
    }

    /// Waits until the run is admitted.
    pub(crate) async fn admitted(&self) {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as this handle.
        let _ = progress.wait_for(|progress| progress.state != State::Queued).await;
    }

    pub(crate) fn end(&self, state: State, result: Option<Map<String, Value>>, at: SystemTime) {
        self.progress.send_modify(|progress| {
            progress.state = state;
            progress.result = result;
            progress.ended = Some((at, Instant::now()));
        });
    }

    /// Returns who has the result.
    pub(crate) fn taken(&self) -> Taken {
        self.progress.borrow().taken.clone()
    }

    pub(crate) fn set_taken(&self, taken: Taken) {
        self.progress.send_modify(|progress| progress.taken = taken);
    }

    /// Records that the server has the result.
    pub(crate) fn take(&self) {
        self.progress.send_modify(|progress| progress.taken.is_taken = true);
    }

    /// Gives the result to a later run, unless another one or the server has it, or there is none because nothing was done.
    pub(super) fn claim(&self, by: &str) -> bool {
        self.progress.send_if_modified(|progress| {
            let is_free = progress.taken.is_free_for(by)
                && progress.state != State::Detached
                && progress.result.as_ref().is_none_or(|result| !is_undone(result));
            if is_free {
                progress.taken.resumed_by = Some(by.to_owned());
            }
            is_free
        })
    }

    pub(crate) fn result(&self) -> Option<Map<String, Value>> {
        self.progress.borrow().result.clone()
    }

    /// Returns for how long this process has known that the run is over.
    pub(crate) fn over_for(&self) -> Option<Duration> {
        self.progress.borrow().ended.map(|(_, since)| since.elapsed())
    }

    pub(crate) fn describe(&self, queue_position: Option<usize>) -> RunState {
        let progress = self.progress.borrow();
        RunState {
            info: self.info.clone(),
            state: progress.state,
            queue_position,
            status: progress.status.clone(),
            accepted_at: rfc3339(self.accepted_at),
            ended_at: progress.ended.map(|(at, _)| rfc3339(at)),
            next_seq: self.feed.next_seq(),
            result: progress.result.clone(),
            taken: progress.taken.is_taken,
            resumed_by: progress.taken.resumed_by.clone(),
            follows: None,
        }
    }
}

/// Whether a result says that the agent did nothing.
fn is_undone(result: &Map<String, Value>) -> bool {
    let document = result.get("resultJson").unwrap_or(&Value::Null);
    document["executionRecovery"]["providerWorkStarted"] == false
}

/// Formats a time in whole milliseconds, as journals and records keep it.
pub(super) fn rfc3339(at: SystemTime) -> String {
    let at =
        jiff::Timestamp::try_from(at).and_then(|at| jiff::Timestamp::from_millisecond(at.as_millisecond()));
    at.map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A queued run of agent `agent-<run id>` and company `acme`.
    pub(in crate::supervisor) fn run(run_id: &str) -> Arc<RunHandle> {
        let info = RunInfo {
            run_id: run_id.to_owned(),
            adapter_type: "claude_k8s".to_owned(),
            agent_id: format!("agent-{run_id}"),
            company_id: "acme".to_owned(),
            namespace: "agents".to_owned(),
            plugin_version: "0.1.0".to_owned(),
            plugin_digest: "d1".to_owned(),
            adopted: false,
        };
        let (control, _) = mpsc::channel(1);
        Arc::new(RunHandle::new(info, Feed::new(), control, SystemTime::UNIX_EPOCH))
    }

    #[tokio::test]
    async fn a_run_waits_until_it_is_admitted_and_keeps_its_end() {
        let run = run("r1");
        let admitted = run.admitted();
        tokio::pin!(admitted);
        assert!(futures::poll!(&mut admitted).is_pending());
        run.set_status("still queued");
        assert!(futures::poll!(&mut admitted).is_pending());
        run.admit();
        admitted.await;
        run.end(State::Succeeded, None, SystemTime::UNIX_EPOCH);
        run.admit();
        assert_eq!(run.state(), State::Succeeded);
        assert_eq!(run.describe(None).ended_at.as_deref(), Some("1970-01-01T00:00:00Z"));
    }
}
