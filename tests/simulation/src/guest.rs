//! The guest under test, with what the checks need to know about it written down at the contract's boundary.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use paperclip_contract::types::{Action, Command, Event, Refusal, Request};
use paperclip_engine::{Guest, GuestFault};

use crate::mutant::{Mutant, Saboteur};

/// What one instance was asked and answered.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) calls: Vec<Step>,
    /// Due times of the timers that are set, in ms.
    timers: BTreeMap<u64, u64>,
    /// The first promise about timers or limits that was broken.
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
    /// It asks for the deletion of a Job that is not its own.
    Absurd,
}

/// A guest whose calls are noted, and sabotaged where a mutant or a fault wants it.
#[derive(Debug)]
pub(crate) struct Observed<G> {
    inner: G,
    notes: Rc<RefCell<Notes>>,
    saboteur: Saboteur,
}

impl<G: Guest> Observed<G> {
    pub(crate) fn new(inner: G, mutant: Option<Mutant>, instance: u64) -> (Self, Rc<RefCell<Notes>>) {
        let notes = Rc::<RefCell<Notes>>::default();
        (Observed { inner, notes: Rc::clone(&notes), saboteur: Saboteur::new(mutant, instance) }, notes)
    }
}

impl<G: Guest> Guest for Observed<G> {
    fn start(&mut self, at_ms: u64, request: &Request) -> Result<Result<Vec<Command>, Refusal>, GuestFault> {
        let answer = self.inner.start(at_ms, request)?;
        Ok(answer.map(|commands| {
            let commands = self.saboteur.on_commands(&[], commands);
            self.notes.borrow_mut().take(at_ms, &[], &commands);
            commands
        }))
    }

    fn step(&mut self, at_ms: u64, events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        let sabotage = self.notes.borrow_mut().sabotage.take();
        if sabotage == Some(Sabotage::Trap) {
            return Err(GuestFault {
                plugin: "claude_k8s".to_owned(),
                version: "0".to_owned(),
                digest: "0".repeat(64),
                call: "step",
                step: 0,
                cause: paperclip_engine::FaultCause::Trap("sabotaged".to_owned()),
            });
        }
        let given = self.saboteur.on_events(events);
        let commands = self.inner.step(at_ms, &given)?;
        let mut commands = self.saboteur.on_commands(events, commands);
        if sabotage == Some(Sabotage::Absurd) {
            let id = commands.last().map_or(u64::MAX / 2, |command| command.id + 1);
            commands.push(Command { id, action: absurd() });
        }
        self.notes.borrow_mut().take(at_ms, events, &commands);
        Ok(commands)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault> {
        self.inner.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault> {
        self.inner.restore(snapshot)
    }

    fn phase(&mut self) -> Result<String, GuestFault> {
        self.inner.phase()
    }
}

fn absurd() -> Action {
    use paperclip_contract::types::{DeleteCause, DeleteJob, ObjectRef};
    let job =
        ObjectRef { namespace: "kube-system".to_owned(), name: "dns".to_owned(), uid: "none".to_owned() };
    Action::DeleteJob(DeleteJob { job, cause: DeleteCause::Cancelled })
}

impl Notes {
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
        self.calls.push(Step { at_ms, events: events.to_vec(), commands: commands.to_vec() });
    }

    fn check_timer(&mut self, at_ms: u64, timer: u64) {
        let text = match self.timers.remove(&timer) {
            Some(due_ms) if due_ms <= at_ms => return,
            Some(due_ms) => format!("S5: timer {timer} fired {} ms early", due_ms - at_ms),
            None => format!("S5: timer {timer} fired and is not set"),
        };
        self.broken.get_or_insert(text);
    }
}
