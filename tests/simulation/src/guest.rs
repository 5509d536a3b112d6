//! The guest under test, with a record of what crosses the contract for the invariants.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use paperclip_contract::types::{Action, Command, Event, Refusal, Request};
use paperclip_engine::time::Timestamp;
use paperclip_engine::{FaultCause, Guest, GuestFault};

use crate::coverage::Watched;
use crate::mutant::Saboteur;

/// What one instance was given and what it answered.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// Every call, if the calls are to be replayed at the end.
    pub(crate) calls: Option<Vec<Step>>,
    /// The snapshot that it was restored from, if it did not start the run.
    pub(crate) restored: Option<Vec<u8>>,
    /// The transitions of the regions, if the case is sampled.
    pub(crate) watched: Option<Watched>,
    is_restored: bool,
    /// Due times of the timers that are set, in ms.
    timers: BTreeMap<u64, u64>,
    /// The first invariant that was violated at the contract, after its rule.
    pub(crate) broken: Option<String>,
    /// The next call breaks the instance.
    pub(crate) sabotage: Option<Sabotage>,
}

/// A call of the guest. The first one is `start`, with no events.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) at_ms: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) commands: Vec<Command>,
}

/// How an instance is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sabotage {
    Trap,
    OutOfFuel,
    OutOfMemory,
    /// It asks for the deletion of a Job that is not its own.
    Absurd,
}

/// A guest whose calls are recorded, and sabotaged by a mutant or a fault.
#[derive(Debug)]
pub(crate) struct Observed<G> {
    inner: G,
    notes: Rc<RefCell<Notes>>,
    saboteur: Saboteur,
}

impl<G: Guest> Observed<G> {
    pub(crate) fn new(inner: G, notes: Notes, saboteur: Saboteur) -> (Self, Rc<RefCell<Notes>>) {
        let notes = Rc::new(RefCell::new(notes));
        (Observed { inner, notes: Rc::clone(&notes), saboteur }, notes)
    }

    fn watch(&mut self) -> Result<(), GuestFault> {
        if self.notes.borrow().watched.is_none() {
            return Ok(());
        }
        let snapshot = self.inner.snapshot()?;
        self.notes.borrow_mut().watch(&snapshot);
        Ok(())
    }
}

impl<G: Guest> Guest for Observed<G> {
    fn start(
        &mut self,
        at: Timestamp,
        request: &Request,
    ) -> Result<Result<Vec<Command>, Refusal>, GuestFault> {
        let answer = self.inner.start(at, request)?;
        if answer.is_ok() {
            self.watch()?;
        }
        Ok(answer.map(|commands| {
            let commands = self.saboteur.on_commands(&[], commands);
            self.notes.borrow_mut().take(at.as_millis(), &[], &commands);
            commands
        }))
    }

    fn step(&mut self, at: Timestamp, events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        let sabotage = self.notes.borrow_mut().sabotage.take();
        if let Some(cause) = sabotage.and_then(Sabotage::fault) {
            return Err(broken(cause));
        }
        let given = self.saboteur.on_events(events).map_err(broken)?;
        let commands = self.inner.step(at, &given)?;
        self.watch()?;
        let mut commands = self.saboteur.on_commands(&given, commands);
        if sabotage == Some(Sabotage::Absurd) {
            let id = commands.last().map_or(u64::MAX / 2, |command| command.id + 1);
            commands.push(Command { id, action: absurd() });
        }
        self.notes.borrow_mut().take(at.as_millis(), &given, &commands);
        Ok(commands)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault> {
        self.inner.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault> {
        self.notes.borrow_mut().restored(snapshot);
        self.inner.restore(snapshot)
    }

    fn phase(&mut self) -> Result<String, GuestFault> {
        self.inner.phase()
    }
}

impl Sabotage {
    fn fault(self) -> Option<FaultCause> {
        match self {
            Sabotage::Trap => Some(FaultCause::Trap("sabotaged".to_owned())),
            Sabotage::OutOfFuel => Some(FaultCause::OutOfFuel { fuel: 1 }),
            Sabotage::OutOfMemory => Some(FaultCause::OutOfMemory { limit_bytes: 1 }),
            Sabotage::Absurd => None,
        }
    }
}

fn broken(cause: FaultCause) -> GuestFault {
    GuestFault {
        plugin: "sabotaged".to_owned(),
        version: "0".to_owned(),
        digest: "0".repeat(64),
        call: "step",
        step: 0,
        cause,
    }
}

fn absurd() -> Action {
    use paperclip_contract::types::{DeleteCause, DeleteJob, ObjectRef};
    let job =
        ObjectRef { namespace: "kube-system".to_owned(), name: "dns".to_owned(), uid: "none".to_owned() };
    Action::DeleteJob(DeleteJob { job, cause: DeleteCause::Cancelled })
}

impl Notes {
    /// `is_sampled` keeps what takes time: the calls, and the transitions of the regions.
    pub(crate) fn new(is_sampled: bool) -> Self {
        Notes {
            calls: is_sampled.then(Vec::new),
            watched: is_sampled.then(Watched::default),
            ..Notes::default()
        }
    }

    fn take(&mut self, at_ms: u64, events: &[Event], commands: &[Command]) {
        for event in events {
            if let Event::TimerFired(timer) = event {
                self.check_timer(at_ms, *timer);
            }
        }
        for command in commands {
            match &command.action {
                Action::SetTimer(timer) => {
                    self.timers.insert(timer.timer, at_ms + timer.after_ms);
                }
                Action::CancelTimer(timer) => {
                    self.timers.remove(timer);
                }
                _ => {}
            }
        }
        let limits = paperclip_engine::limits();
        if self.timers.len() > limits.max_timers as usize || commands.len() > limits.max_commands as usize {
            let text =
                format!("S10: {} timers set, {} commands in one step", self.timers.len(), commands.len());
            self.broken.get_or_insert(text);
        }
        if let Some(calls) = &mut self.calls {
            calls.push(Step { at_ms, events: events.to_vec(), commands: commands.to_vec() });
        }
    }

    fn restored(&mut self, snapshot: &[u8]) {
        self.is_restored = true;
        if let Some(watched) = &mut self.watched {
            watched.restored(snapshot);
            self.restored = Some(snapshot.to_vec());
        }
    }

    fn watch(&mut self, snapshot: &[u8]) {
        if let Some(watched) = &mut self.watched
            && let Err(text) = watched.see(snapshot)
        {
            self.broken.get_or_insert(format!("T1: {text}"));
        }
    }

    fn check_timer(&mut self, at_ms: u64, timer: u64) {
        let text = match self.timers.remove(&timer) {
            Some(due_ms) if due_ms <= at_ms => return,
            Some(due_ms) => format!("S5: timer {timer} fired {} ms early", due_ms - at_ms),
            // It was set before the snapshot that this instance was restored from.
            None if self.is_restored => return,
            None => format!("S5: timer {timer} fired and is not set"),
        };
        self.broken.get_or_insert(text);
    }
}
