//! Taking a fresh engine and a fresh plugin through a journal: the same events have to bring the same commands.

use paperclip_contract::types::{Action, Command, Ending, Finish, ObjectRef, Refusal};

use super::Run;
use crate::guest::{Guest, GuestFault};
use crate::journal::Entry;
use crate::time::Timestamp;

/// Where a replay stands.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) is_begun: bool,
    pub(super) expected: Expected,
    /// Time of the last entry that has one.
    pub(super) at: Timestamp,
    pub(super) end: Option<(Ending, Vec<ObjectRef>)>,
    /// The plugin wanted the run to end, and the end is not in the journal.
    pub(super) finish: Option<Finish>,
    pub(super) is_closed: bool,
}

/// What the plugin answered last, and what the journal has still to say about it.
#[derive(Debug, Default)]
pub(super) enum Expected {
    #[default]
    Nothing,
    Commands(Vec<Command>),
    /// It broke: the run ended here.
    Fault(GuestFault),
}

/// Why a run cannot be taken through its journal.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Not the commands of the journal. On the same plugin that is a defect; another version may well decide otherwise.
    #[error("step {seq}: the journal has {recorded}, but the plugin now gives {given}")]
    Diverged { seq: u64, recorded: String, given: String },
    #[error("the plugin refuses what it had taken: {}", .0.message)]
    Refused(Refusal),
    #[error(transparent)]
    Guest(GuestFault),
    #[error("entry out of place: {0}")]
    Order(&'static str),
    #[error("the snapshot is damaged: {0}")]
    Snapshot(String),
    /// A replay shows records and does nothing else.
    #[error("a replay requested {0}")]
    Effect(String),
}

impl<G: Guest> Run<G> {
    /// Takes the next entry of the run's journal, from its beginning or from any snapshot on. What it showed comes as
    /// [`crate::Effect::Emit`]; nothing else is to be done. [`crate::Input::Resume`] ends the replay.
    ///
    /// # Errors
    /// This plugin would have run another way, or the journal is not one. The run cannot go on here.
    pub fn replay(&mut self, entry: Entry<'static>) -> Result<(), ReplayError> {
        match entry {
            Entry::Start { at, request, .. } => {
                if std::mem::replace(&mut self.replay.is_begun, true) {
                    return Err(ReplayError::Order("a second beginning"));
                }
                self.at(at);
                self.spec.request = request.into_owned();
                self.replay.expected = match self.guest.start(at, &self.spec.request) {
                    Ok(Ok(commands)) => expect(commands),
                    Ok(Err(refusal)) => return Err(ReplayError::Refused(refusal)),
                    Err(fault) => Expected::Fault(fault),
                };
                Ok(())
            }
            Entry::Snapshot { seq, at, guest, ledger, request, .. } => {
                // One that follows its own past adds nothing to it.
                if std::mem::replace(&mut self.replay.is_begun, true) {
                    return self.replay_expected_nothing(seq);
                }
                self.at(at);
                self.step = seq;
                let guest = super::resume::decode(&guest).map_err(ReplayError::Snapshot)?;
                match self.guest.restore(&guest) {
                    Ok(Ok(())) => {}
                    Ok(Err(refusal)) => return Err(ReplayError::Refused(refusal)),
                    Err(fault) => return Err(ReplayError::Guest(fault)),
                }
                if let Some(request) = request {
                    self.spec.request = (*request).into_owned();
                }
                let ledger = ledger.into_owned();
                if let Some(gap) = self.ledger.sequencer.skip_to(&ledger.sequencer) {
                    self.show(gap);
                }
                self.ledger = ledger;
                Ok(())
            }
            Entry::Step { seq, at, events, cursors, whole } => {
                self.replay_expected_nothing(seq)?;
                self.at(at);
                self.step = seq;
                self.ledger.cursors(&cursors);
                let events = events.into_owned();
                self.replay.expected = match self.give(&events) {
                    Ok(commands) => expect(commands),
                    Err(fault) => Expected::Fault(fault),
                };
                self.tell_events(events, whole.into_owned());
                Ok(())
            }
            Entry::Commands { seq, commands } => self.replay_commands(seq, &commands),
            Entry::Note { level, text } => {
                self.emit(crate::record::Record::Status { level, text: text.into_owned() });
                Ok(())
            }
            // The plugin hears of it by a step, if that came so far: until then the time goes on in which nobody looked.
            Entry::Resumed { at } => {
                self.now = self.now.max(at);
                Ok(())
            }
            Entry::End { at, ending, result, delete_jobs, is_unread, .. } => {
                self.at(at);
                self.replay.expected = Expected::Nothing;
                self.replay.finish = None;
                self.show_end(result.into_owned(), is_unread);
                self.replay.end = Some((ending, delete_jobs.into_owned()));
                Ok(())
            }
            Entry::Closed => {
                self.replay.is_closed = true;
                Ok(())
            }
        }
    }

    /// Shows what an entry showed, and does no more: for entries before the snapshot from which the run is taken up.
    pub fn replay_records(&mut self, entry: Entry<'static>) {
        for told in self.ledger.sequencer.entry(entry) {
            self.show(told);
        }
    }

    fn at(&mut self, at: Timestamp) {
        self.now = self.now.max(at);
        self.replay.at = self.now;
    }

    fn replay_expected_nothing(&self, seq: u64) -> Result<(), ReplayError> {
        if !self.replay.is_begun {
            return Err(ReplayError::Order("a step before the beginning"));
        }
        match &self.replay.expected {
            Expected::Nothing => Ok(()),
            Expected::Commands(commands) => Err(diverged(seq, &[], commands)),
            Expected::Fault(fault) => Err(ReplayError::Guest(fault.clone())),
        }
    }

    fn replay_commands(&mut self, seq: u64, commands: &[Command]) -> Result<(), ReplayError> {
        match std::mem::take(&mut self.replay.expected) {
            Expected::Commands(given) if given == commands => {}
            Expected::Commands(given) => return Err(diverged(seq, commands, &given)),
            Expected::Nothing => return Err(diverged(seq, commands, &[])),
            Expected::Fault(fault) => return Err(ReplayError::Guest(fault)),
        }
        for command in commands {
            if let Err(fault) = self.note_command(command) {
                self.replay.expected = Expected::Fault(fault);
                return Ok(());
            }
            if let Action::Finish(finish) = &command.action {
                self.replay.finish = Some(finish.clone());
            }
        }
        Ok(())
    }
}

fn expect(commands: Vec<Command>) -> Expected {
    if commands.is_empty() { Expected::Nothing } else { Expected::Commands(commands) }
}

/// The first difference.
fn diverged(seq: u64, recorded: &[Command], given: &[Command]) -> ReplayError {
    let at = recorded.iter().zip(given).take_while(|(recorded, given)| recorded == given).count();
    let show = |commands: &[Command]| match commands.get(at) {
        Some(command) => serde_json::to_string(command).unwrap_or_else(|error| error.to_string()),
        None => "no further command".to_owned(),
    };
    ReplayError::Diverged { seq, recorded: show(recorded), given: show(given) }
}
