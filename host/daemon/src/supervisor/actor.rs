//! The task that owns [`Runs`], and the handle through which others send it requests.
//!
//! The task only reads and changes the map: it does no I/O and awaits nothing but its next request, so that each is answered within
//! microseconds, in the order of arrival. It ends when the last handle is dropped.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::admission::Limits;
use super::handle::{RunHandle, RunState};
use super::runs::{Claimed, Counts, Entered, ResuppliedSecrets, Runs};
use crate::refusal::{Kind, Refusal};

/// Requests that may wait for the task; further senders wait.
const QUEUED_REQUESTS: usize = 1_024;

/// Where the answer to a request goes. A requester that no longer waits does not need it.
type Reply<T> = oneshot::Sender<T>;

/// A request to the task.
#[derive(Debug)]
enum Request {
    Get {
        run_id: String,
        reply: Reply<Result<Arc<RunHandle>, Refusal>>,
    },
    Claim {
        earlier: String,
        by: String,
        reply: Reply<Result<Claimed, Refusal>>,
    },
    List {
        reply: Reply<Vec<RunState>>,
    },
    Describe {
        run: Arc<RunHandle>,
        reply: Reply<RunState>,
    },
    Count {
        reply: Reply<Counts>,
    },
    Enter {
        run: Arc<RunHandle>,
        is_exclusive: bool,
        reply: Reply<Result<Entered, Refusal>>,
    },
    EnterRunning {
        run: Arc<RunHandle>,
        awaiting_secrets: Option<oneshot::Sender<ResuppliedSecrets>>,
        reply: Reply<bool>,
    },
    EnterEnded {
        run: Arc<RunHandle>,
    },
    Leave {
        run_id: String,
    },
    Withdraw {
        run: Arc<RunHandle>,
    },
    AwaitsSecrets {
        run_id: String,
        reply: Reply<bool>,
    },
    Resupply {
        run_id: String,
        secrets: ResuppliedSecrets,
    },
    StopAwaitingSecrets {
        run_id: String,
    },
    ResumeStarted {
        count: usize,
    },
    ResumeEnded,
    CheckRunning {
        reply: Reply<Result<(), Refusal>>,
    },
    CheckResumed {
        reply: Reply<Result<(), Refusal>>,
    },
    Stop {
        reply: Reply<Vec<Arc<RunHandle>>>,
    },
    Ended {
        reply: Reply<Vec<Arc<RunHandle>>>,
    },
    Forget {
        runs: Vec<Arc<RunHandle>>,
    },
}

/// Sends requests to the task that owns the runs. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct RunsActor {
    requests: mpsc::Sender<Request>,
}

impl RunsActor {
    /// Starts the task.
    pub(super) fn spawn(limits: Limits) -> RunsActor {
        let (requests, mut received) = mpsc::channel(QUEUED_REQUESTS);
        tokio::spawn(async move {
            let mut runs = Runs::new(limits);
            while let Some(request) = received.recv().await {
                answer(&mut runs, request);
            }
        });
        RunsActor { requests }
    }

    /// See [`Runs::get`].
    pub(super) async fn get(&self, run_id: &str) -> Result<Arc<RunHandle>, Refusal> {
        self.call(|reply| Request::Get { run_id: run_id.to_owned(), reply }).await?
    }

    /// See [`Runs::claim`].
    pub(super) async fn claim(&self, earlier: &str, by: &str) -> Result<Claimed, Refusal> {
        let (earlier, by) = (earlier.to_owned(), by.to_owned());
        self.call(|reply| Request::Claim { earlier, by, reply }).await?
    }

    pub(super) async fn list(&self) -> Result<Vec<RunState>, Refusal> {
        self.call(|reply| Request::List { reply }).await
    }

    pub(super) async fn describe(&self, run: Arc<RunHandle>) -> Result<RunState, Refusal> {
        self.call(|reply| Request::Describe { run, reply }).await
    }

    pub(super) async fn count(&self) -> Result<Counts, Refusal> {
        self.call(|reply| Request::Count { reply }).await
    }

    /// See [`Runs::enter`].
    pub(super) async fn enter(&self, run: &Arc<RunHandle>, is_exclusive: bool) -> Result<Entered, Refusal> {
        self.call(|reply| Request::Enter { run: Arc::clone(run), is_exclusive, reply }).await?
    }

    /// See [`Runs::enter_running`].
    pub(super) async fn enter_running(
        &self,
        run: &Arc<RunHandle>,
        awaiting_secrets: Option<oneshot::Sender<ResuppliedSecrets>>,
    ) -> Result<bool, Refusal> {
        self.call(|reply| Request::EnterRunning { run: Arc::clone(run), awaiting_secrets, reply }).await
    }

    pub(super) async fn enter_ended(&self, run: Arc<RunHandle>) {
        self.send(Request::EnterEnded { run }).await;
    }

    pub(super) async fn leave(&self, run_id: &str) {
        self.send(Request::Leave { run_id: run_id.to_owned() }).await;
    }

    /// See [`Runs::withdraw`].
    pub(super) async fn withdraw(&self, run: &Arc<RunHandle>) {
        self.send(Request::Withdraw { run: Arc::clone(run) }).await;
    }

    pub(super) async fn awaits_secrets(&self, run_id: &str) -> Result<bool, Refusal> {
        self.call(|reply| Request::AwaitsSecrets { run_id: run_id.to_owned(), reply }).await
    }

    pub(super) async fn resupply(&self, run_id: &str, secrets: ResuppliedSecrets) {
        self.send(Request::Resupply { run_id: run_id.to_owned(), secrets }).await;
    }

    pub(super) async fn stop_awaiting_secrets(&self, run_id: &str) {
        self.send(Request::StopAwaitingSecrets { run_id: run_id.to_owned() }).await;
    }

    pub(super) async fn resume_started(&self, count: usize) {
        self.send(Request::ResumeStarted { count }).await;
    }

    pub(super) async fn resume_ended(&self) {
        self.send(Request::ResumeEnded).await;
    }

    /// See [`Runs::check_running`].
    pub(super) async fn check_running(&self) -> Result<(), Refusal> {
        self.call(|reply| Request::CheckRunning { reply }).await?
    }

    /// See [`Runs::check_resumed`].
    pub(super) async fn check_resumed(&self) -> Result<(), Refusal> {
        self.call(|reply| Request::CheckResumed { reply }).await?
    }

    /// See [`Runs::stop`].
    pub(super) async fn stop(&self) -> Result<Vec<Arc<RunHandle>>, Refusal> {
        self.call(|reply| Request::Stop { reply }).await
    }

    pub(super) async fn ended(&self) -> Result<Vec<Arc<RunHandle>>, Refusal> {
        self.call(|reply| Request::Ended { reply }).await
    }

    pub(super) async fn forget(&self, runs: Vec<Arc<RunHandle>>) {
        self.send(Request::Forget { runs }).await;
    }

    async fn call<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(request(reply)).await;
        answer.await.map_err(|_| {
            Refusal::new(Kind::Internal, "the task that owns the runs has ended", "restart this host")
        })
    }

    async fn send(&self, request: Request) {
        if self.requests.send(request).await.is_err() {
            tracing::error!("the task that owns the runs has ended");
        }
    }
}

fn answer(runs: &mut Runs, request: Request) {
    match request {
        Request::Get { run_id, reply } => _ = reply.send(runs.get(&run_id)),
        Request::Claim { earlier, by, reply } => _ = reply.send(runs.claim(&earlier, &by)),
        Request::List { reply } => _ = reply.send(runs.list()),
        Request::Describe { run, reply } => _ = reply.send(runs.describe(&run)),
        Request::Count { reply } => _ = reply.send(runs.counts()),
        Request::Enter { run, is_exclusive, reply } => _ = reply.send(runs.enter(&run, is_exclusive)),
        Request::EnterRunning { run, awaiting_secrets, reply } => {
            _ = reply.send(runs.enter_running(&run, awaiting_secrets));
        }
        Request::EnterEnded { run } => runs.enter_ended(run),
        Request::Leave { run_id } => runs.leave(&run_id),
        Request::Withdraw { run } => runs.withdraw(&run),
        Request::AwaitsSecrets { run_id, reply } => _ = reply.send(runs.awaits_secrets(&run_id)),
        Request::Resupply { run_id, secrets } => runs.resupply(&run_id, secrets),
        Request::StopAwaitingSecrets { run_id } => runs.stop_awaiting_secrets(&run_id),
        Request::ResumeStarted { count } => runs.resume_started(count),
        Request::ResumeEnded => runs.resume_ended(),
        Request::CheckRunning { reply } => _ = reply.send(runs.check_running()),
        Request::CheckResumed { reply } => _ = reply.send(runs.check_resumed()),
        Request::Stop { reply } => _ = reply.send(runs.stop()),
        Request::Ended { reply } => _ = reply.send(runs.ended()),
        Request::Forget { runs: forgotten } => runs.forget(&forgotten),
    }
}

#[cfg(test)]
mod tests {
    use super::super::handle::State;
    use super::super::handle::tests::run;
    use super::*;

    #[tokio::test]
    async fn requests_are_answered_in_the_order_in_which_they_arrive() {
        let actor = RunsActor::spawn(Limits {
            runs: 1,
            runs_per_namespace: 9,
            runs_per_company: 9,
            queued_runs: 9,
            ..Limits::default()
        });
        let (first, second) = (run("r1"), run("r2"));
        assert!(matches!(actor.enter(&first, false).await, Ok(Entered::New)));
        assert!(matches!(actor.enter(&second, false).await, Ok(Entered::New)));
        actor.leave("r1").await;
        assert_eq!(actor.describe(Arc::clone(&second)).await.expect("answered").state, State::Running);
        assert_eq!(actor.list().await.expect("answered").len(), 2);
        assert!(Arc::ptr_eq(&actor.get("r2").await.expect("known"), &second));
    }
}
