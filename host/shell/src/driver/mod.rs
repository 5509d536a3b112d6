//! The tokio loop of a run: carries out the operations of a [`Driver`] and hands it the events of its sources. It decides nothing.

mod sink_pump;
mod streams;

use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use paperclip_contract::types::{ApiError, CancelRequest};
use paperclip_engine::api::ApiCall;
use paperclip_engine::driver::{
    Driver, DriverEvent, Failure, Operation, ReplayDepth, Source, Wait, WatchEvent,
};
use paperclip_engine::ids::{CallId, PollId};
use paperclip_engine::intake::Secrets;
use paperclip_engine::journal::Entry;
use paperclip_engine::ownership::HostState;
use paperclip_engine::port::Closing;
use paperclip_engine::record::Level;
use paperclip_engine::{Guest, ReplayError, Run};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tracing::Instrument;

use crate::calls;
use crate::clock::{self, Clock};
use crate::connect::Cluster;
use crate::exchange::no_answer;
use crate::hosts::Membership;
use crate::journal::{History, Journal, JournalError};
use crate::poll::PaperclipApi;
use crate::sink::Sink;
use crate::watches::Subscription;
use sink_pump::SinkPump;
use streams::Streams;

/// Everything through which a run acts.
#[derive(Debug)]
pub struct RunPorts<S> {
    /// The run's id in Paperclip.
    pub run_id: String,
    pub cluster: Cluster,
    /// Values for the Secrets that the engine creates, and the token for Paperclip's API.
    pub secrets: Secrets,
    /// Paperclip's API, which is polled for the run's state; polls fail without it.
    pub paperclip: Option<PaperclipApi>,
    pub journal: Journal,
    /// The run's journal as earlier hosts wrote it. The run resumes from there, and its records are replayed into the sink.
    pub history: History,
    /// Status lines that become part of the run's record once its history was replayed.
    pub notes: Vec<(Level, String)>,
    pub sink: S,
    pub observer: Arc<dyn Observer>,
}

/// Receives measurements while a run is driven. Its methods must not block.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// The history was replayed: the record with this number is the first new one. Called once, before anything else happens to the
    /// run.
    fn caught_up(&self, next_seq: u64);

    /// A call to the Kubernetes API was answered.
    fn called(&self, called: Called);

    /// The journal was made durable within this time.
    fn synced(&self, took: Duration);

    /// Lines were shown this long after the newest of them was written, by the clocks of node and host.
    fn lagged(&self, lag: Duration);
}

/// A call to the Kubernetes API that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Such as `create Job`.
    pub what: String,
    pub started_at: SystemTime,
    /// The API's status and reason, if the call failed.
    pub failure: Option<String>,
}

/// Ignores all measurements.
impl Observer for () {
    fn caught_up(&self, _next_seq: u64) {}

    fn called(&self, _called: Called) {}

    fn synced(&self, _took: Duration) {}

    fn lagged(&self, _lag: Duration) {}
}

/// A request to a run that is being driven.
#[derive(Debug)]
pub enum Control {
    /// End the run. The sender, if there is one, is used once the request is durable, so that the run ends whatever happens to this
    /// process. It is dropped unused if the run ends or is detached before.
    Cancel(CancelRequest, Option<oneshot::Sender<()>>),
    /// This process is to exit; the run continues in the cluster.
    Stop,
}

/// How a drive ended.
#[derive(Debug)]
pub struct Outcome {
    pub closing: Closing,
    /// Paperclip's AdapterExecutionResult, if the run has one. The sink was given it too.
    pub result: Option<Map<String, Value>>,
    /// What forced this process to release the run; `closing` is [`Closing::Detached`] then unless there is a result.
    pub failure: Option<DriveError>,
}

/// Why a run cannot be driven any further by this process.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the output cannot be written: {0}")]
    Sink(io::Error),
    #[error("run {run_id} cannot be resumed: {cause}")]
    Replay { run_id: String, folder: PathBuf, cause: ReplayError },
}

/// Drives a run until the engine closes it and the sink has taken all of its records. Everything that the drive started ends with it,
/// also when the future is dropped.
///
/// A closed `control` channel does not stop the run.
pub fn drive<G, S>(
    run: Run<G>,
    ports: RunPorts<S>,
    control: mpsc::Receiver<Control>,
) -> impl Future<Output = Outcome> + Send
where
    G: Guest + Send,
    S: Sink,
{
    let span = tracing::info_span!("run", run_id = %ports.run_id);
    // Boxed: a future reserves memory for its arguments as well as for what it makes of them.
    let executor = Box::new(Executor::new(run, ports, control));
    executor.drive().instrument(span)
}

type HistoryReader = mpsc::Receiver<Result<(ReplayDepth, Entry<'static>), JournalError>>;
type Event = DriverEvent<DriveError>;

/// Carries out a driver's operations.
struct Executor<G> {
    driver: Driver<G, DriveError>,
    run_id: Arc<str>,
    clock: Clock,
    cluster: Cluster,
    secrets: Arc<Secrets>,
    paperclip: Option<PaperclipApi>,
    journal: Journal,
    /// None once the history was read.
    history: Option<HistoryReader>,
    control: mpsc::Receiver<Control>,
    /// Senders of cancels that are not durable yet.
    unacknowledged: Vec<oneshot::Sender<()>>,
    sink: SinkPump,
    observer: Arc<dyn Observer>,
    /// Calls and polls that have no answer yet.
    answers: JoinSet<Event>,
    subscription: Subscription,
    /// Where this run is known as one of this host.
    memberships: Vec<Membership>,
    streams: Streams,
}

impl<G: Guest> Executor<G> {
    fn new<S: Sink>(run: Run<G>, ports: RunPorts<S>, control: mpsc::Receiver<Control>) -> Self {
        Executor {
            driver: Driver::new(run, ports.notes),
            run_id: ports.run_id.into(),
            clock: Clock::start(),
            subscription: ports.cluster.watches().subscribe(),
            memberships: Vec::new(),
            streams: Streams::new(ports.cluster.clone()),
            cluster: ports.cluster,
            secrets: Arc::new(ports.secrets),
            paperclip: ports.paperclip,
            journal: ports.journal,
            history: Some(ports.history.read()),
            control,
            unacknowledged: Vec::new(),
            sink: SinkPump::start(ports.sink),
            observer: ports.observer,
            answers: JoinSet::new(),
        }
    }

    async fn drive(mut self: Box<Self>) -> Outcome {
        loop {
            while let Some(operation) = self.driver.poll_operation() {
                if let Some(outcome) = self.execute(operation).await {
                    self.driver.handle_completion(outcome);
                }
            }
            let bytes = self.sink.take_progress();
            if bytes > 0 {
                self.handle(DriverEvent::SinkProgress { bytes });
            }
            let Some(wait) = self.driver.poll_wait() else { break };
            let event = self.next(wait).await;
            self.handle(event);
        }
        (*self).into_outcome()
    }

    fn handle(&mut self, event: Event) {
        let now = self.clock.now();
        self.driver.handle_event(now, event);
    }

    fn into_outcome(self) -> Outcome {
        let Executor { driver, run_id, journal, .. } = self;
        let outcome = driver.into_outcome().expect("a driver that waits for nothing is closed");
        let failure = outcome.failure.map(|failure| match failure {
            Failure::External(error) => error,
            Failure::Replay(cause) => DriveError::Replay {
                run_id: run_id.to_string(),
                folder: journal.folder().map(PathBuf::from).unwrap_or_default(),
                cause,
            },
        });
        Outcome { closing: outcome.closing, result: outcome.result, failure }
    }

    // ------------------------------------------------------------------ events

    /// The first event of the first enabled source that has one.
    async fn next(&mut self, wait: Wait) -> Event {
        let mut sleep = pin!(wait.deadline().map(|at| tokio::time::sleep(self.clock.until(at))));
        std::future::poll_fn(|context| {
            for source in wait.sources() {
                if let Poll::Ready(event) = self.poll_source(source, sleep.as_mut(), context) {
                    return Poll::Ready(event);
                }
            }
            if wait.may_block() { Poll::Pending } else { Poll::Ready(DriverEvent::NothingReady) }
        })
        .await
    }

    fn poll_source(
        &mut self,
        source: Source,
        sleep: Pin<&mut Option<Sleep>>,
        context: &mut Context<'_>,
    ) -> Poll<Event> {
        match source {
            Source::History => self.poll_history(context),
            Source::Control => self.control.poll_recv(context).map(|control| match control {
                Some(Control::Cancel(request, sender)) => {
                    let awaits_acknowledgement = sender.is_some();
                    self.unacknowledged.extend(sender);
                    DriverEvent::Cancel { request, awaits_acknowledgement }
                }
                Some(Control::Stop) => DriverEvent::Stop,
                None => DriverEvent::ControlClosed,
            }),
            Source::Answers => match self.answers.poll_join_next(context) {
                Poll::Ready(Some(Ok(event))) => Poll::Ready(event),
                // A panic in a call is a defect of this program; it must not become a wait without end.
                Poll::Ready(Some(Err(error))) => std::panic::resume_unwind(error.into_panic()),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
            Source::Watches => self.subscription.poll_next(context).map(|event| {
                // The host's own times are by another clock.
                DriverEvent::Watch(match event {
                    WatchEvent::Host(state) => WatchEvent::Host(HostState {
                        certain_until: self.clock.now() + clock::remaining(state.certain_until),
                        ..state
                    }),
                    other => other,
                })
            }),
            Source::Deadline => match sleep.as_pin_mut() {
                Some(sleep) => {
                    ready!(sleep.poll(context));
                    Poll::Ready(DriverEvent::DeadlineReached { held_logs: self.streams.held(context) })
                }
                None => Poll::Pending,
            },
            Source::Logs => {
                self.streams.poll_next(context).map(|(log, piece)| DriverEvent::Log { log, piece })
            }
            Source::SinkFailure => {
                self.sink.poll_failure(context).map(|error| DriverEvent::SinkFailed(DriveError::Sink(error)))
            }
            Source::SinkProgress => {
                self.sink.poll_progress(context).map(|bytes| DriverEvent::SinkProgress { bytes })
            }
        }
    }

    fn poll_history(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let entry = match &mut self.history {
            Some(reader) => ready!(reader.poll_recv(context)),
            None => None,
        };
        Poll::Ready(match entry {
            Some(Ok((depth, entry))) => DriverEvent::HistoryEntry(depth, Box::new(entry)),
            Some(Err(error)) => DriverEvent::HistoryFailed(error.into()),
            None => {
                self.history = None;
                DriverEvent::HistoryEnded
            }
        })
    }

    // ------------------------------------------------------------------ operations

    /// Carries an operation out. Returns its outcome, if the driver waits for one.
    async fn execute(&mut self, operation: Operation) -> Option<Result<(), DriveError>> {
        let outcome = match operation {
            Operation::Append(line) => self.journal.append(&line).await,
            Operation::Flush => self.journal.flush().await,
            Operation::Sync => self.sync().await,
            Operation::StartSegment(line) => self.journal.start_segment(&line).await,
            Operation::CloseSink { within } => {
                let closed = self.sink.close(within).await;
                return Some(closed.map_err(DriveError::Sink));
            }
            Operation::DiscardJournal => {
                self.journal.discard();
                return None;
            }
            Operation::WatchNamespace(namespace) => {
                self.subscription.watch(&namespace);
                return None;
            }
            Operation::Call { call, request } => {
                self.call(call, request);
                return None;
            }
            Operation::Join { namespace, guard } => {
                let inbox = self.subscription.inbox();
                let membership = self.cluster.hosts().join(&self.cluster, &namespace, guard, inbox);
                self.memberships.push(membership);
                return None;
            }
            Operation::Follow(job) => {
                self.subscription.follow(&job);
                return None;
            }
            Operation::OpenLog { log, pod, container, request } => {
                self.streams.open(log, pod, container, request);
                return None;
            }
            Operation::CloseLog(log) => {
                self.streams.close(log);
                return None;
            }
            Operation::Poll { poll, path } => {
                self.poll(poll, path);
                return None;
            }
            Operation::Show(records) => {
                self.sink.show(records);
                return None;
            }
            Operation::AcknowledgeCancels => {
                for sender in self.unacknowledged.drain(..) {
                    // The sender may have stopped waiting.
                    let _ = sender.send(());
                }
                return None;
            }
            Operation::ReportCaughtUp { next_seq } => {
                self.observer.caught_up(next_seq);
                return None;
            }
            Operation::ReportLag { newest_at } => {
                let lag = self.clock.now().since(newest_at);
                self.observer.lagged(lag);
                return None;
            }
        };
        Some(outcome.map_err(DriveError::Journal))
    }

    async fn sync(&mut self) -> Result<(), JournalError> {
        let started = std::time::Instant::now();
        self.journal.sync().await?;
        self.observer.synced(started.elapsed());
        Ok(())
    }

    fn call(&mut self, call: CallId, request: ApiCall) {
        let (cluster, secrets) = (self.cluster.clone(), Arc::clone(&self.secrets));
        let observer = Arc::clone(&self.observer);
        let answer = async move {
            let (what, started_at) = (request.describe(), SystemTime::now());
            let outcome = calls::call(&cluster, &secrets, request).await;
            let failure = outcome.as_ref().err().map(status_and_reason);
            observer.called(Called { what, started_at, failure });
            DriverEvent::Called { call, outcome }
        };
        self.answers.spawn(answer.in_current_span());
    }

    fn poll(&mut self, poll: PollId, path: String) {
        let (paperclip, run_id) = (self.paperclip.clone(), Arc::clone(&self.run_id));
        let secrets = Arc::clone(&self.secrets);
        let answer = async move {
            let outcome = match paperclip {
                Some(paperclip) => paperclip.get(&path, secrets.auth_token(), &run_id).await,
                None => Err(no_answer("no URL of Paperclip's API is configured on this host".to_owned())),
            };
            DriverEvent::Polled { poll, outcome }
        };
        self.answers.spawn(answer.in_current_span());
    }
}

/// Leaves the message out: it may quote the request that was refused.
fn status_and_reason(error: &ApiError) -> String {
    match (error.status, &error.reason) {
        (Some(status), Some(reason)) => format!("{status} {reason}"),
        (Some(status), None) => status.to_string(),
        (None, _) => "no answer".to_owned(),
    }
}
