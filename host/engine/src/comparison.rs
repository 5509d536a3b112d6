//! The comparison of a plugin with a journal: would it have decided the same?

use paperclip_contract::actions::Visibility;
use paperclip_contract::types::{Command, Event};

use crate::guest::{Guest, GuestFault};
use crate::journal::{self, Entry};
use crate::time::Timestamp;

/// A step in which a plugin decides differently than the journal says.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Number of the step; 0 is the start of the run.
    pub seq: u64,
    pub at: Timestamp,
    /// What happened.
    pub events: Vec<Event>,
    /// Commands of the journal that the plugin does not return.
    pub recorded: Vec<Command>,
    /// Commands that the plugin returns and the journal does not have.
    pub given: Vec<Command>,
    /// Why the plugin returns nothing, if it failed or refused.
    pub failure: Option<String>,
    /// More than cosmetic actions differ. The rest of the journal does not follow from this plugin's decision, so the comparison ends
    /// here.
    pub is_decisive: bool,
}

/// A plugin that is taken through a journal.
#[derive(Debug)]
pub struct Comparison<G> {
    guest: G,
    is_started: bool,
    steps: u64,
    lines: u64,
    /// What the plugin decided last. The journal's commands follow, or it has none.
    pending: Option<Decision>,
    differences: Vec<Difference>,
}

/// What a plugin decided in one step.
#[derive(Debug)]
struct Decision {
    seq: u64,
    at: Timestamp,
    events: Vec<Event>,
    commands: Result<Vec<Command>, String>,
}

impl<G: Guest> Comparison<G> {
    /// Returns a comparison with a fresh instance of the plugin.
    pub fn new(guest: G) -> Self {
        Comparison { guest, is_started: false, steps: 0, lines: 0, pending: None, differences: Vec::new() }
    }

    /// Compares the next entry. Returns false once the comparison has ended.
    pub fn entry(&mut self, entry: Entry<'static>) -> bool {
        match entry {
            Entry::Start { at, request, .. } => {
                self.is_started = true;
                let answer = self.guest.start(at, &request);
                let commands = answer.map_err(|fault| fault.to_string()).and_then(|answer| {
                    answer.map_err(|refusal| format!("it refuses the run: {}", refusal.message))
                });
                self.pending = Some(Decision { seq: 0, at, events: Vec::new(), commands });
                true
            }
            Entry::Snapshot { seq, at, guest, .. } if !self.is_started => {
                self.is_started = true;
                let restored = journal::decode_snapshot(&guest).and_then(|bytes| {
                    let answer = self.guest.restore(&bytes).map_err(|fault: GuestFault| fault.to_string())?;
                    answer.map_err(|refusal| format!("it refuses the snapshot: {}", refusal.message))
                });
                if let Err(failure) = restored {
                    self.pending = Some(Decision { seq, at, events: Vec::new(), commands: Err(failure) });
                    return self.compare(&[]);
                }
                true
            }
            Entry::Step { seq, at, events, .. } => {
                if !self.compare(&[]) {
                    return false;
                }
                self.steps += 1;
                let events = events.into_owned();
                self.lines += events.iter().map(lines).sum::<u64>();
                let commands = self.guest.step(at, &events).map_err(|fault| fault.to_string());
                self.pending = Some(Decision { seq, at, events, commands });
                true
            }
            Entry::Commands { commands, .. } => self.compare(&commands),
            Entry::Snapshot { .. }
            | Entry::Note { .. }
            | Entry::Resumed { .. }
            | Entry::End { .. }
            | Entry::Closed => true,
        }
    }

    /// Compares the plugin's last decision with the journal's.
    fn compare(&mut self, recorded: &[Command]) -> bool {
        let Some(Decision { seq, at, events, commands }) = self.pending.take() else { return true };
        let (given, failure) = match commands {
            Ok(commands) => (commands, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        if failure.is_none() && given == recorded {
            return true;
        }
        let without = |from: &[Command], other: &[Command]| -> Vec<Command> {
            from.iter().filter(|command| !other.contains(command)).cloned().collect()
        };
        let (missing, added) = (without(recorded, &given), without(&given, recorded));
        let is_decisive = failure.is_some()
            || missing
                .iter()
                .chain(&added)
                .any(|command| command.action.properties().visibility != Visibility::Cosmetic);
        self.differences.push(Difference {
            seq,
            at,
            events,
            recorded: missing,
            given: added,
            failure,
            is_decisive,
        });
        !is_decisive
    }

    /// Returns how many steps and lines the plugin was taken through, and where it differs.
    pub fn finish(mut self) -> (u64, u64, Vec<Difference>) {
        self.compare(&[]);
        (self.steps, self.lines, self.differences)
    }
}

fn lines(event: &Event) -> u64 {
    if let Event::LogLines(batch) = event { batch.lines.len() as u64 } else { 0 }
}
