//! The runs of this process and their admission. Pure: [`actor`](super::actor) owns it in one task.

use std::collections::BTreeMap;
use std::sync::Arc;

use paperclip_engine::intake::Secrets;
use tokio::sync::oneshot;

use super::admission::{Admission, Limits, Place, Verdict};
use super::handle::{RunHandle, RunState, State};
use super::quiet::{QUIET_AGES, quiet_age};
use super::taken::Taken;
use crate::refusal::{Kind, Refusal};

/// The secrets that a repeated start brings to a resumed run.
#[derive(Debug)]
pub(super) struct ResuppliedSecrets(pub(super) Secrets);

/// What became of a request to enter a run.
#[derive(Debug)]
pub(super) enum Entered {
    /// It is new: admitted, or in the queue.
    New,
    /// The run exists already.
    Existing(Arc<RunHandle>),
}

/// How many runs this process knows.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) states: BTreeMap<State, i64>,
    /// Those whose agent runs and prints nothing, by how long.
    pub(super) quiet: BTreeMap<&'static str, i64>,
}

/// What became of a request to continue an earlier run.
#[derive(Debug)]
pub(super) enum Claimed {
    /// The earlier run's records and result are the later run's.
    Follows(Arc<RunHandle>),
    /// Its result is taken, or nothing was done: what is left of it is its session.
    Spent(Arc<RunHandle>),
    /// This process does not know it.
    Unknown,
}

/// All runs that this process knows.
#[derive(Debug)]
pub(super) struct Runs {
    by_id: BTreeMap<String, Arc<RunHandle>>,
    /// Runs that continue an earlier one, with the id of that one.
    continuing: BTreeMap<String, String>,
    admission: Admission,
    queue_limit: usize,
    /// Resumed runs that wait for a repeated start to bring their secrets.
    awaiting_secrets: BTreeMap<String, oneshot::Sender<ResuppliedSecrets>>,
    /// Searches for runs of earlier processes that have not ended yet.
    resuming: usize,
    is_stopping: bool,
}

impl Runs {
    pub(super) fn new(limits: Limits) -> Runs {
        Runs {
            by_id: BTreeMap::new(),
            continuing: BTreeMap::new(),
            queue_limit: limits.queued_runs,
            admission: Admission::new(limits),
            awaiting_secrets: BTreeMap::new(),
            resuming: 0,
            is_stopping: false,
        }
    }

    /// Returns a run.
    ///
    /// # Errors
    /// No run has the id, or runs are still being resumed: it may be one of those.
    pub(super) fn get(&self, run_id: &str) -> Result<Arc<RunHandle>, Refusal> {
        if let Some(run) = self.find(run_id) {
            return Ok(Arc::clone(run));
        }
        self.check_resumed()?;
        Err(Refusal::new(
            Kind::NotFound,
            format!("run {run_id} is not known to this host"),
            "check the id, or start it: no host has it, and no result of it is kept",
        ))
    }

    fn find(&self, run_id: &str) -> Option<&Arc<RunHandle>> {
        self.by_id.get(run_id).or_else(|| self.by_id.get(self.continuing.get(run_id)?))
    }

    /// Lets a run continue an earlier one: it gets the earlier run's records and result, if nobody has them. The earlier run may be one
    /// that continues another.
    ///
    /// # Errors
    /// Runs are still being resumed: the earlier one may be among them.
    pub(super) fn claim(&mut self, earlier: &str, by: &str) -> Result<Claimed, Refusal> {
        let Some(run) = self.find(earlier).map(Arc::clone) else {
            return self.check_resumed().map(|()| Claimed::Unknown);
        };
        // The run that continued it before is continued by this one.
        let earlier_id = run.info.run_id.clone();
        let taken = run.taken();
        if taken.resumed_by.as_deref() == Some(earlier) && !taken.is_taken {
            run.set_taken(Taken::default());
        }
        if !run.claim(by) {
            return Ok(Claimed::Spent(run));
        }
        self.continuing.insert(by.to_owned(), earlier_id);
        Ok(Claimed::Follows(run))
    }

    fn restore_continuing(&mut self, run: &RunHandle) {
        if let Some(by) = run.taken().resumed_by {
            self.continuing.insert(by, run.info.run_id.clone());
        }
    }

    pub(super) fn list(&self) -> Vec<RunState> {
        self.by_id.values().map(|run| self.describe(run)).collect()
    }

    pub(super) fn describe(&self, run: &RunHandle) -> RunState {
        let is_queued = run.state() == State::Queued;
        run.describe(is_queued.then(|| self.admission.position(&run.info.run_id)).flatten())
    }

    /// Returns how many runs are in each state, and how many of the agents that run are quiet.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts {
            states: State::ALL.iter().map(|state| (*state, 0)).collect(),
            quiet: QUIET_AGES.iter().map(|(age, _)| (*age, 0)).collect(),
        };
        for run in self.by_id.values() {
            *counts.states.entry(run.state()).or_default() += 1;
            if let Some(age) = run.quiet_for().and_then(quiet_age) {
                *counts.quiet.entry(age).or_default() += 1;
            }
        }
        counts
    }

    /// Adds a run: admitted, or in the queue. A detached run of the same id is replaced. An exclusive run does not wait for another run
    /// of its agent.
    ///
    /// # Errors
    /// This process stops, another run holds the agent, or the queue is full.
    pub(super) fn enter(&mut self, run: &Arc<RunHandle>, is_exclusive: bool) -> Result<Entered, Refusal> {
        let info = &run.info;
        if let Some(same) = self.by_id.get(&info.run_id).filter(|same| same.state() != State::Detached) {
            return Ok(Entered::Existing(Arc::clone(same)));
        }
        self.check_running()?;
        let holder = self.by_id.values().find(|other| {
            is_exclusive
                && !other.state().is_over()
                && other.info.agent_id == info.agent_id
                && other.info.adapter_type == info.adapter_type
        });
        if let Some(holder) = holder {
            return Err(Refusal::new(
                Kind::AgentBusy,
                format!("agent {} is held by run {}", info.agent_id, holder.info.run_id),
                "start it again when that run has ended, or set whenBusy to wait",
            ));
        }
        match self.admission.request(&info.run_id, place(run)) {
            Verdict::Admitted => run.admit(),
            Verdict::Queued(position) => tracing::info!(run_id = info.run_id, position, "run waits"),
            Verdict::Full => {
                return Err(Refusal::new(
                    Kind::QueueFull,
                    format!("{} runs wait already", self.queue_limit),
                    "start it again later, or raise limits.queued_runs",
                ));
            }
        }
        self.by_id.insert(info.run_id.clone(), Arc::clone(run));
        Ok(Entered::New)
    }

    /// Adds a run that is running already, whatever the limits. A detached run of the same id is replaced. Returns false if the run exists or
    /// this process stops.
    pub(super) fn enter_running(
        &mut self,
        run: &Arc<RunHandle>,
        awaiting_secrets: Option<oneshot::Sender<ResuppliedSecrets>>,
    ) -> bool {
        let run_id = &run.info.run_id;
        let is_known = self.by_id.get(run_id).is_some_and(|known| known.state() != State::Detached);
        if is_known || self.is_stopping {
            return false;
        }
        if let Some(sender) = awaiting_secrets {
            self.awaiting_secrets.insert(run_id.clone(), sender);
        }
        self.admission.enter(run_id, place(run));
        run.admit();
        self.restore_continuing(run);
        self.by_id.insert(run_id.clone(), Arc::clone(run));
        true
    }

    /// Adds a run that has ended, so that its state and events can be read.
    pub(super) fn enter_ended(&mut self, run: Arc<RunHandle>) {
        self.restore_continuing(&run);
        let known = self.by_id.entry(run.info.run_id.clone()).or_insert_with(|| Arc::clone(&run));
        if known.state() == State::Detached {
            *known = run;
        }
    }

    /// Frees the place of a run that has ended, and admits those that waited for it.
    pub(super) fn leave(&mut self, run_id: &str) {
        for admitted in self.admission.leave(run_id) {
            if let Some(run) = self.by_id.get(&admitted) {
                run.admit();
            }
        }
    }

    /// Removes a run that was entered and that this process does not get.
    pub(super) fn withdraw(&mut self, run: &Arc<RunHandle>) {
        self.leave(&run.info.run_id);
        self.forget(std::slice::from_ref(run));
    }

    /// Returns whether a resumed run waits for its secrets.
    pub(super) fn awaits_secrets(&self, run_id: &str) -> bool {
        self.awaiting_secrets.contains_key(run_id)
    }

    /// Passes secrets to the run that waits for them. If it has stopped waiting, it runs without them.
    pub(super) fn resupply(&mut self, run_id: &str, secrets: ResuppliedSecrets) {
        if let Some(sender) = self.awaiting_secrets.remove(run_id) {
            let _ = sender.send(secrets);
        }
    }

    pub(super) fn stop_awaiting_secrets(&mut self, run_id: &str) {
        self.awaiting_secrets.remove(run_id);
    }

    pub(super) fn resume_started(&mut self, count: usize) {
        self.resuming += count;
    }

    pub(super) fn resume_ended(&mut self) {
        self.resuming = self.resuming.saturating_sub(1);
    }

    /// # Errors
    /// Runs of earlier processes are still being resumed.
    pub(super) fn check_resumed(&self) -> Result<(), Refusal> {
        match self.resuming {
            0 => Ok(()),
            resuming => Err(Refusal::resuming(resuming)),
        }
    }

    /// # Errors
    /// This process stops.
    pub(super) fn check_running(&self) -> Result<(), Refusal> {
        if self.is_stopping { Err(Refusal::stopping()) } else { Ok(()) }
    }

    /// Refuses new runs from now on, and returns the runs that are not over.
    pub(super) fn stop(&mut self) -> Vec<Arc<RunHandle>> {
        self.is_stopping = true;
        self.by_id.values().filter(|run| !run.state().is_over()).map(Arc::clone).collect()
    }

    /// Returns the runs that are over.
    pub(super) fn ended(&self) -> Vec<Arc<RunHandle>> {
        self.by_id.values().filter(|run| run.state().is_over()).map(Arc::clone).collect()
    }

    /// Removes ended runs. A run that was started again meanwhile stays.
    pub(super) fn forget(&mut self, forgotten: &[Arc<RunHandle>]) {
        for run in forgotten {
            if self.by_id.get(&run.info.run_id).is_some_and(|known| Arc::ptr_eq(known, run)) {
                self.by_id.remove(&run.info.run_id);
                self.continuing.retain(|_, earlier| *earlier != run.info.run_id);
            }
        }
    }
}

fn place(run: &RunHandle) -> Place {
    Place { namespace: run.info.namespace.clone(), company: run.info.company_id.clone() }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::super::handle::tests::run;
    use super::*;

    fn runs(limit: usize) -> Runs {
        Runs::new(Limits {
            runs: limit,
            runs_per_namespace: 9,
            runs_per_company: 9,
            queued_runs: 1,
            ..Limits::default()
        })
    }

    #[test]
    fn the_same_run_is_entered_once_and_again_after_it_was_detached() {
        let mut runs = runs(9);
        let first = run("r1");
        assert!(matches!(runs.enter(&first, false), Ok(Entered::New)));
        let Ok(Entered::Existing(same)) = runs.enter(&run("r1"), false) else { panic!("it exists") };
        assert!(Arc::ptr_eq(&same, &first));
        first.end(State::Detached, None, SystemTime::UNIX_EPOCH);
        runs.leave("r1");
        let second = run("r1");
        assert!(matches!(runs.enter(&second, false), Ok(Entered::New)));
        runs.forget(&[first]);
        assert!(runs.get("r1").is_ok(), "only the handle that was forgotten is removed");
    }

    #[test]
    fn runs_wait_for_a_place_and_a_full_queue_refuses() {
        let mut runs = runs(1);
        let (first, second) = (run("r1"), run("r2"));
        runs.enter(&first, false).expect("admitted");
        runs.enter(&second, false).expect("queued");
        assert_eq!((first.state(), second.state()), (State::Running, State::Queued));
        assert_eq!(runs.describe(&second).queue_position, Some(1));
        assert_eq!(runs.enter(&run("r3"), false).expect_err("full").kind, Kind::QueueFull);
        first.end(State::Succeeded, None, SystemTime::UNIX_EPOCH);
        runs.leave("r1");
        assert_eq!(second.state(), State::Running);
        let states = runs.counts().states;
        assert_eq!((states[&State::Running], states[&State::Succeeded]), (1, 1));
    }

    #[test]
    fn an_agent_that_prints_nothing_is_counted_by_how_long() {
        let mut runs = runs(9);
        let quiet_for = [Some(299), Some(300), Some(301), Some(4 * 3600), None];
        for (index, seconds) in quiet_for.into_iter().enumerate() {
            let run = run(&format!("r{index}"));
            runs.enter(&run, false).expect("admitted");
            let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
            run.set_printed(seconds.map(|seconds| ago(seconds).expect("the machine runs for longer")));
        }
        let quiet = runs.counts().quiet;
        assert_eq!(quiet, BTreeMap::from([("5m", 2), ("15m", 0), ("1h", 0), ("4h", 1)]));
    }

    #[test]
    fn a_later_run_gets_what_nobody_has_of_an_earlier_one() {
        let mut runs = runs(9);
        let first = run("r1");
        runs.enter(&first, false).expect("admitted");
        let Ok(Claimed::Follows(followed)) = runs.claim("r1", "r2") else { panic!("it runs") };
        assert!(Arc::ptr_eq(&followed, &first));
        assert!(Arc::ptr_eq(&runs.get("r2").expect("it continues r1"), &first));
        assert!(matches!(runs.claim("r1", "r2"), Ok(Claimed::Follows(_))), "again");
        assert!(matches!(runs.claim("r1", "r3"), Ok(Claimed::Spent(_))), "r2 has it");
        // The server was killed again, and r3 continues r2.
        assert!(matches!(runs.claim("r2", "r3"), Ok(Claimed::Follows(_))));
        assert!(matches!(runs.claim("r2", "r4"), Ok(Claimed::Spent(_))), "r2 no longer has it");
        let state = runs.describe(&first).of("r3");
        assert_eq!((state.info.run_id.as_str(), state.follows.as_deref()), ("r3", Some("r1")));
        first.end(State::Succeeded, Some(serde_json::Map::new()), SystemTime::UNIX_EPOCH);
        first.take();
        assert!(matches!(runs.claim("r3", "r4"), Ok(Claimed::Spent(_))), "its result is stored");
        assert!(matches!(runs.claim("r9", "r4"), Ok(Claimed::Unknown)));
        runs.forget(&[first]);
        assert!(runs.get("r2").is_err());
    }

    #[test]
    fn a_run_that_did_nothing_is_not_continued() {
        let mut runs = runs(9);
        let first = run("r1");
        runs.enter(&first, false).expect("admitted");
        let result = serde_json::json!({"resultJson": {"executionRecovery": {"kind": "bootstrap", "providerWorkStarted": false}}});
        first.end(State::Failed, result.as_object().cloned(), SystemTime::UNIX_EPOCH);
        assert!(matches!(runs.claim("r1", "r2"), Ok(Claimed::Spent(_))));
        assert!(runs.describe(&first).is_untaken());
    }

    #[test]
    fn an_unknown_run_is_not_found_once_all_runs_are_resumed() {
        let mut runs = runs(9);
        runs.resume_started(1);
        assert_eq!(runs.get("r1").expect_err("not yet").kind, Kind::NotReady);
        runs.resume_ended();
        assert_eq!(runs.get("r1").expect_err("unknown").kind, Kind::NotFound);
    }

    #[test]
    fn a_stopping_process_refuses_new_runs_and_returns_existing_ones() {
        let mut runs = runs(9);
        let known = run("r1");
        runs.enter(&known, false).expect("admitted");
        assert_eq!(runs.stop().len(), 1);
        assert_eq!(runs.enter(&run("r2"), false).expect_err("stopping").kind, Kind::Stopping);
        assert!(!runs.enter_running(&run("r3"), None));
        assert!(matches!(runs.enter(&run("r1"), false), Ok(Entered::Existing(_))));
    }

    #[test]
    fn secrets_reach_the_run_that_waits_for_them() {
        let mut runs = runs(9);
        let (sender, mut receiver) = oneshot::channel();
        assert!(runs.enter_running(&run("r1"), Some(sender)));
        assert!(runs.awaits_secrets("r1") && !runs.awaits_secrets("r2"));
        runs.resupply("r1", ResuppliedSecrets(Secrets::default()));
        assert!(receiver.try_recv().is_ok());
        assert!(!runs.awaits_secrets("r1"));
    }
}
