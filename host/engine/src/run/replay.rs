//! The replay of a journal through a fresh engine and a fresh plugin: the same events must result in the same commands.

use paperclip_contract::types::{Action, Command, Refusal};

use super::Run;
use super::state::Expected;
use crate::guest::{Guest, GuestFault};
use crate::journal::{Entry, decode_snapshot};
use crate::time::Timestamp;

/// Why a run cannot be taken through its journal.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The plugin returned other commands than the journal has. For the same version that is a defect; another version may decide
    /// differently.
    #[error("step {seq}: the journal has {recorded}, but the plugin now gives {given}")]
    Diverged { seq: u64, recorded: String, given: String },
    #[error("the plugin refuses a request or snapshot that it accepted before: {}", .0.message)]
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
    /// Replays the next entry of the run's journal, from its start or from any snapshot on. The records of the entry are emitted again by
    /// [`crate::Effect::Emit`]; there are no other effects. [`crate::Input::Resume`] ends the replay.
    ///
    /// # Errors
    /// The plugin decides differently than the journal says, or the journal is damaged. The run cannot be continued here.
    pub fn replay(&mut self, entry: Entry<'static>) -> Result<(), ReplayError> {
        match entry {
            Entry::Start { at, request, .. } => {
                if std::mem::replace(&mut self.replay.is_started, true) {
                    return Err(ReplayError::Order("a second start"));
                }
                self.set_time(at);
                self.spec.request = request.into_owned();
                self.replay.expected = match self.guest.start(at, &self.spec.request) {
                    Ok(Ok(commands)) => expect(commands),
                    Ok(Err(refusal)) => return Err(ReplayError::Refused(refusal)),
                    Err(fault) => Expected::Fault(fault),
                };
                Ok(())
            }
            Entry::Snapshot { seq, at, guest, ledger, request, .. } => {
                // A snapshot after the entries that it summarises adds nothing.
                if std::mem::replace(&mut self.replay.is_started, true) {
                    return self.replay_expected_nothing(seq);
                }
                self.set_time(at);
                self.step = seq;
                let guest = decode_snapshot(&guest).map_err(ReplayError::Snapshot)?;
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
                    self.emit_sequenced(gap);
                }
                self.ledger = ledger;
                Ok(())
            }
            Entry::Step { seq, at, events, cursors, whole } => {
                self.replay_expected_nothing(seq)?;
                self.set_time(at);
                self.step = seq;
                self.ledger.cursors(&cursors);
                let events = events.into_owned();
                self.replay.expected = match self.deliver(&events) {
                    Ok(commands) => expect(commands),
                    Err(fault) => Expected::Fault(fault),
                };
                self.emit_events(events, whole.into_owned());
                Ok(())
            }
            Entry::Commands { seq, commands } => self.replay_commands(seq, &commands),
            Entry::Note { level, text } => {
                self.emit(crate::record::Record::Status { level, text: text.into_owned() });
                Ok(())
            }
            // The plugin learns of it by a step, if the host got that far. Until then the time without a host continues.
            Entry::Resumed { at } => {
                self.now = self.now.max(at);
                Ok(())
            }
            Entry::End { at, ending, result, delete_jobs, is_unread, .. } => {
                self.set_time(at);
                self.replay.expected = Expected::Nothing;
                self.replay.finish = None;
                self.emit_end(result.into_owned(), is_unread);
                self.replay.end = Some((ending, delete_jobs.into_owned()));
                Ok(())
            }
            Entry::Closed => {
                self.replay.is_closed = true;
                Ok(())
            }
        }
    }

    /// Emits the records of an entry again and does nothing else: for entries before the snapshot from which the run is resumed.
    pub fn replay_records(&mut self, entry: Entry<'static>) {
        for record in self.ledger.sequencer.entry(entry) {
            self.emit_sequenced(record);
        }
    }

    fn set_time(&mut self, at: Timestamp) {
        self.now = self.now.max(at);
        self.replay.at = self.now;
    }

    fn replay_expected_nothing(&self, seq: u64) -> Result<(), ReplayError> {
        if !self.replay.is_started {
            return Err(ReplayError::Order("a step before the start"));
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
            if let Err(fault) = self.record_command(command) {
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

/// Returns the error for the first difference.
fn diverged(seq: u64, recorded: &[Command], given: &[Command]) -> ReplayError {
    let at = recorded.iter().zip(given).take_while(|(recorded, given)| recorded == given).count();
    let show = |commands: &[Command]| match commands.get(at) {
        Some(command) => serde_json::to_string(command).unwrap_or_else(|error| error.to_string()),
        None => "no further command".to_owned(),
    };
    ReplayError::Diverged { seq, recorded: show(recorded), given: show(given) }
}
