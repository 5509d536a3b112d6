//! One run, one task: what happened goes into the engine, what the engine wants is carried out, in its order.

mod screen;
mod streams;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use paperclip_contract::types::{ApiError, CancelRequest};
use paperclip_engine::api::{ApiCall, CallId};
use paperclip_engine::intake::Secrets;
use paperclip_engine::port::{Closing, Effect, Input};
use paperclip_engine::record::{Level, Record, SequencedRecord};
use paperclip_engine::{Guest, ReplayError, Run};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::calls;
use crate::clock::Clock;
use crate::connect::Cluster;
use crate::exchange::no_answer;
use crate::journal::{Depth, History, Journal, JournalError};
use crate::logs::Piece;
use crate::poll::PaperclipApi;
use crate::sink::Sink;
use crate::watches::{Change, Follower};
use screen::Screen;
use streams::Streams;

/// Most inputs that are handed to the engine before its effects are carried out.
const BATCH: usize = 16;
/// How long a sink may take for what is left when this process is to exit.
const DETACH_DEADLINE: Duration = Duration::from_secs(5);

/// Through what a run acts.
#[derive(Debug)]
pub struct Ports<S> {
    /// The run's id, as Paperclip knows it.
    pub run_id: String,
    pub cluster: Cluster,
    /// Values for the Secrets that the engine creates, and the token for Paperclip's API.
    pub secrets: Secrets,
    /// Where the run is polled; polls fail without it.
    pub paperclip: Option<PaperclipApi>,
    pub journal: Journal,
    /// What the run has been before, if it has: it is taken up from there, and told to the sink from its beginning.
    pub history: History,
    /// What the sink is to be told first; part of the run's record from then on.
    pub notes: Vec<(Level, String)>,
    pub sink: S,
    pub observer: Arc<dyn Observer>,
}

/// Learns what driving a run costs. Must not block.
pub trait Observer: std::fmt::Debug + Send + Sync {
    /// All that the journal has was told again: the record with this number is the first one that is new. SequencedRecord once, before anything else
    /// happens to the run.
    fn caught_up(&self, next_seq: u64);

    /// A call to the Kubernetes API has its answer.
    fn called(&self, called: Called);

    /// The journal was made durable within this time.
    fn synced(&self, took: Duration);

    /// Lines were handed over this long after the newest of them was written, by the clocks of node and host.
    fn lagged(&self, lag: Duration);
}

/// A call to the Kubernetes API that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// Such as `create Job`.
    pub what: String,
    pub began_at: SystemTime,
    /// The API's status and reason, where it did not do what was asked.
    pub failure: Option<String>,
}

/// Nobody wants to know.
impl Observer for () {
    fn caught_up(&self, _next_seq: u64) {}

    fn called(&self, _called: Called) {}

    fn synced(&self, _took: Duration) {}

    fn lagged(&self, _lag: Duration) {}
}

/// What somebody wants of a run that is driven.
#[derive(Debug)]
pub enum Control {
    /// It is to end. Whoever gives a sender is told once that is on disk, so that it will, whatever happens to this process; never, if the
    /// run ends or is let go of before.
    Cancel(CancelRequest, Option<oneshot::Sender<()>>),
    /// This process is to exit; the run goes on in the cluster.
    Stop,
}

/// How a drive ended.
#[derive(Debug)]
pub struct Outcome {
    pub closing: Closing,
    /// Paperclip's AdapterExecutionResult, if the run came to one. The sink was given it too.
    pub result: Option<Map<String, Value>>,
    /// What forced this process to let go of the run; `closing` is [`Closing::Detached`] then unless there is a result.
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

/// Drives a run until the engine closes it and the sink has taken all of it. All that it started ends with it, also when the future is
/// dropped.
///
/// A closed `control` channel is not a wish to stop.
pub fn drive<G, S>(
    run: Run<G>,
    ports: Ports<S>,
    control: mpsc::Receiver<Control>,
) -> impl Future<Output = Outcome> + Send
where
    G: Guest + Send,
    S: Sink,
{
    let span = tracing::info_span!("run", run_id = %ports.run_id);
    // In one place: a future keeps room for whatever it is given as well as for what it makes of that.
    let driver = Box::new(Driver::new(run, ports, control));
    driver.drive().instrument(span)
}

struct Driver<G> {
    run: Run<G>,
    run_id: Arc<str>,
    clock: Clock,
    cluster: Cluster,
    secrets: Arc<Secrets>,
    paperclip: Option<PaperclipApi>,
    journal: Journal,
    history: History,
    notes: Vec<(Level, String)>,
    control: Option<mpsc::Receiver<Control>>,
    /// Who is to be told that a cancel is on disk.
    cancelling: Vec<oneshot::Sender<()>>,
    screen: Screen,
    observer: Arc<dyn Observer>,
    /// The number after that of the last record that was shown.
    next_seq: u64,
    /// Calls and polls that are under way.
    asking: JoinSet<Input>,
    follower: Follower,
    streams: Streams,
    result: Option<Map<String, Value>>,
    failure: Option<DriveError>,
}

/// What happened, before it is the engine's.
enum Happened {
    Input(Input),
    Changed(Change),
    Piece(u64, Piece),
    ControlClosed,
    Screen(screen::Changed),
}

impl<G: Guest> Driver<G> {
    fn new<S: Sink>(run: Run<G>, ports: Ports<S>, control: mpsc::Receiver<Control>) -> Self {
        Driver {
            run,
            run_id: ports.run_id.into(),
            clock: Clock::start(),
            follower: ports.cluster.watches().follower(),
            streams: Streams::new(ports.cluster.clone()),
            cluster: ports.cluster,
            secrets: Arc::new(ports.secrets),
            paperclip: ports.paperclip,
            journal: ports.journal,
            history: ports.history,
            notes: ports.notes,
            control: Some(control),
            cancelling: Vec::new(),
            screen: Screen::open(ports.sink),
            observer: ports.observer,
            next_seq: 0,
            asking: JoinSet::new(),
            result: None,
            failure: None,
        }
    }

    async fn drive(mut self: Box<Self>) -> Outcome {
        let closing = match self.replay().await {
            Ok(()) => self.go().await,
            Err(error) => self.let_go(error),
        };
        let Driver { screen, result, mut failure, .. } = *self;
        // Nothing of the run is wanted any more but what the sink has not shown yet.
        let patience = (closing == Closing::Detached).then_some(DETACH_DEADLINE);
        if let Err(error) = screen.close(patience).await {
            failure.get_or_insert(DriveError::Sink(error));
        }
        Outcome { closing, result, failure }
    }

    /// Takes the run through its journal, and tells the sink what it showed.
    async fn replay(&mut self) -> Result<(), DriveError> {
        let mut entries = self.history.read();
        while let Some(entry) = entries.recv().await {
            match entry? {
                (Depth::Records, entry) => self.run.replay_records(entry),
                (Depth::Replay, entry) => self.run.replay(entry).map_err(|cause| DriveError::Replay {
                    run_id: self.run_id.to_string(),
                    folder: self.journal.folder().map(PathBuf::from).unwrap_or_default(),
                    cause,
                })?,
            }
            while let Some(effect) = self.run.poll_effect() {
                if let Effect::Emit(told) = effect {
                    self.show(told);
                }
            }
            while !self.screen.has_room() {
                if let screen::Changed::Failed(error) = self.screen.changed(true).await {
                    return Err(DriveError::Sink(error));
                }
            }
        }
        Ok(())
    }

    async fn go(&mut self) -> Closing {
        self.observer.caught_up(self.next_seq);
        for (level, text) in std::mem::take(&mut self.notes) {
            self.handle(Input::Note { level, text });
        }
        self.handle(Input::Resume);
        loop {
            match self.carry_out().await {
                Ok(None) => {}
                Ok(Some(closing)) => return closing,
                Err(error) => return self.let_go(error.into()),
            }
            let happened = self.next().await;
            self.take(happened);
            self.take_waiting();
        }
    }

    fn show(&mut self, told: SequencedRecord) {
        if let Record::Result(result) = &told.record {
            self.result = Some(result.clone());
        }
        self.next_seq = told.seq + 1;
        self.screen.show(told);
    }

    /// Waits for something to happen. Logs come last, so that no flood of output delays a cancel, an answer or a timer, and only while
    /// the sink keeps up: that is the back-pressure, down to the agent's socket.
    async fn next(&mut self) -> Happened {
        let due = self.run.deadline_ms().map(|at_ms| self.clock.until(at_ms));
        let has_room = self.screen.has_room();
        tokio::select! {
            biased;
            wish = receive(&mut self.control) => match wish {
                Some(Control::Cancel(request, noted)) => {
                    self.cancelling.extend(noted);
                    Happened::Input(Input::Cancel(request))
                }
                Some(Control::Stop) => Happened::Input(Input::Stop),
                None => Happened::ControlClosed,
            },
            Some(answered) = self.asking.join_next() => Happened::Input(answer(answered)),
            change = self.follower.changed() => Happened::Changed(change),
            () = sleep(due) => Happened::Input(Input::Tick),
            (log, piece) = self.streams.next(), if has_room => Happened::Piece(log, piece),
            changed = self.screen.changed(!has_room) => Happened::Screen(changed),
        }
    }

    fn take(&mut self, happened: Happened) {
        match happened {
            Happened::Input(Input::Tick) => {
                for log in self.streams.held() {
                    self.handle(Input::LogHeld { log });
                }
                self.handle(Input::Tick);
            }
            Happened::Input(input) => self.handle(input),
            Happened::Changed(Change::JobSeen(job)) => self.handle(Input::JobSeen(job)),
            Happened::Changed(Change::JobDeleted(gone)) => self.handle(Input::JobDeleted(gone)),
            Happened::Changed(Change::PodSeen(pod)) => self.handle(Input::PodSeen(pod)),
            Happened::Changed(Change::PodDeleted(gone)) => self.handle(Input::PodDeleted(gone)),
            Happened::Changed(Change::Refused(text)) => {
                self.handle(Input::Note { level: Level::Warning, text });
            }
            Happened::Piece(log, Piece::Opened) => self.handle(Input::LogOpened { log }),
            Happened::Piece(log, Piece::Bytes(bytes)) => self.handle(Input::LogBytes { log, bytes }),
            Happened::Piece(log, Piece::Closed(end)) => self.handle(Input::LogClosed { log, end }),
            Happened::ControlClosed => self.control = None,
            Happened::Screen(screen::Changed::Failed(error)) => {
                self.failure.get_or_insert(DriveError::Sink(error));
                // With the result out, only the cleanup is left: that needs no sink.
                if self.result.is_none() {
                    self.handle(Input::Stop);
                }
            }
            Happened::Screen(screen::Changed::Room) => {}
        }
    }

    /// Takes what is there already: one flush and one look at the deadlines for all of it.
    fn take_waiting(&mut self) {
        for _ in 1..BATCH {
            let happened = if let Some(answered) = self.asking.try_join_next() {
                Happened::Input(answer(answered))
            } else if let Some(change) = self.follower.try_changed() {
                Happened::Changed(change)
            } else if self.screen.has_room()
                && let Some((log, piece)) = self.streams.try_next()
            {
                Happened::Piece(log, piece)
            } else {
                return;
            };
            self.take(happened);
        }
    }

    fn handle(&mut self, input: Input) {
        let now_ms = self.clock.now_ms();
        self.run.handle(now_ms, input);
    }

    async fn carry_out(&mut self) -> Result<Option<Closing>, JournalError> {
        let mut has_lines = false;
        while let Some(effect) = self.run.poll_effect() {
            match effect {
                Effect::Append(line) => self.journal.append(&line).await?,
                Effect::Sync => self.sync().await?,
                Effect::Segment(line) => self.journal.begin_segment(&line).await?,
                Effect::Call { call, request } => {
                    if let ApiCall::ListJobs { namespace, .. } = &request {
                        self.follower.watch(namespace);
                    }
                    self.call(call, request);
                }
                Effect::Follow(job) => self.follower.follow(&job),
                Effect::OpenLog { log, pod, container, request } => {
                    self.streams.open(log, pod, container, request);
                }
                Effect::CloseLog(log) => self.streams.close(log),
                Effect::Poll { poll, path } => self.poll(poll, path),
                Effect::Emit(told) => {
                    // What was shown is in the journal, if this process dies.
                    self.journal.flush().await?;
                    has_lines |= matches!(told.record, Record::Log { .. });
                    self.show(told);
                }
                Effect::Close(Closing::Refused) => {
                    self.journal.discard();
                    return Ok(Some(Closing::Refused));
                }
                Effect::Close(closing @ (Closing::Ended(_) | Closing::Detached)) => {
                    self.sync().await?;
                    return Ok(Some(closing));
                }
            }
        }
        if let (true, Some(newest_ms)) = (has_lines, self.run.newest_line_ms()) {
            self.observer.lagged(Duration::from_millis(self.clock.now_ms().saturating_sub(newest_ms)));
        }
        if !self.cancelling.is_empty() && !self.run.holds_cancel() {
            self.sync().await?;
            for noted in self.cancelling.drain(..) {
                // Who does not wait any more need not be told.
                let _ = noted.send(());
            }
        }
        Ok(None)
    }

    async fn sync(&mut self) -> Result<(), JournalError> {
        let begun = std::time::Instant::now();
        self.journal.sync().await?;
        self.observer.synced(begun.elapsed());
        Ok(())
    }

    fn call(&mut self, call: CallId, request: ApiCall) {
        let (cluster, secrets) = (self.cluster.clone(), Arc::clone(&self.secrets));
        let observer = Arc::clone(&self.observer);
        let asking = async move {
            let (what, began_at) = (request.describe(), SystemTime::now());
            let outcome = calls::call(&cluster, &secrets, request).await;
            let failure = outcome.as_ref().err().map(failure);
            observer.called(Called { what, began_at, failure });
            Input::Called { call, outcome }
        };
        self.asking.spawn(asking.in_current_span());
    }

    fn poll(&mut self, poll: u64, path: String) {
        let (paperclip, run_id) = (self.paperclip.clone(), Arc::clone(&self.run_id));
        let secrets = Arc::clone(&self.secrets);
        let asking = async move {
            let outcome = match paperclip {
                Some(paperclip) => paperclip.get(&path, secrets.auth_token(), &run_id).await,
                None => Err(no_answer("no URL of Paperclip's API is configured on this host".to_owned())),
            };
            Input::Polled { poll, outcome }
        };
        self.asking.spawn(asking.in_current_span());
    }

    /// Without its journal the run must not go on here: what it does next could not be known after a crash.
    fn let_go(&mut self, error: DriveError) -> Closing {
        self.failure.get_or_insert(error);
        Closing::Detached
    }
}

/// Not the message: it may quote what it refuses.
fn failure(error: &ApiError) -> String {
    match (error.status, &error.reason) {
        (Some(status), Some(reason)) => format!("{status} {reason}"),
        (Some(status), None) => status.to_string(),
        (None, _) => "no answer".to_owned(),
    }
}

async fn receive(control: &mut Option<mpsc::Receiver<Control>>) -> Option<Control> {
    match control {
        Some(control) => control.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep(due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep(due).await,
        None => std::future::pending().await,
    }
}

/// A panic in a call is a defect of this program; it does not become a wait without end.
fn answer(answered: Result<Input, tokio::task::JoinError>) -> Input {
    match answered {
        Ok(input) => input,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
