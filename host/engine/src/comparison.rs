//! Holding a plugin against a journal: would it have decided the same?

use paperclip_contract::types::{Action, Command, Event};

use crate::guest::{Guest, GuestFault};
use crate::journal::Entry;
use crate::time::Timestamp;

/// A step to which a plugin answers otherwise than the journal says.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Number of the step; 0 is the beginning of the run.
    pub seq: u64,
    pub at: Timestamp,
    /// What happened.
    pub events: Vec<Event>,
    /// What the journal has that the plugin does not give.
    pub recorded: Vec<Command>,
    /// What the plugin gives that the journal has not.
    pub given: Vec<Command>,
    /// Why the plugin gives nothing, if it broke or refused.
    pub failure: Option<String>,
    /// It is more than a status line: what follows in the journal is no consequence of it, so that the comparison ends here.
    pub is_decisive: bool,
}

/// A plugin on its way through a journal.
#[derive(Debug)]
pub struct Comparison<G> {
    guest: G,
    is_begun: bool,
    steps: u64,
    lines: u64,
    /// What the plugin gave last; the journal's answer follows, or there is none.
    open: Option<Given>,
    differences: Vec<Difference>,
}

#[derive(Debug)]
struct Given {
    seq: u64,
    at: Timestamp,
    events: Vec<Event>,
    commands: Result<Vec<Command>, String>,
}

impl<G: Guest> Comparison<G> {
    /// `guest` is a fresh instance.
    pub fn new(guest: G) -> Self {
        Comparison { guest, is_begun: false, steps: 0, lines: 0, open: None, differences: Vec::new() }
    }

    /// Takes the next entry. False: the comparison has ended.
    pub fn entry(&mut self, entry: Entry<'static>) -> bool {
        match entry {
            Entry::Start { at, request, .. } => {
                self.is_begun = true;
                let answer = self.guest.start(at, &request);
                let commands = answer.map_err(|fault| fault.to_string()).and_then(|answer| {
                    answer.map_err(|refusal| format!("it refuses the run: {}", refusal.message))
                });
                self.open = Some(Given { seq: 0, at, events: Vec::new(), commands });
                true
            }
            Entry::Snapshot { seq, at, guest, .. } if !self.is_begun => {
                self.is_begun = true;
                let restored = crate::run::decode_snapshot(&guest).and_then(|bytes| {
                    let answer = self.guest.restore(&bytes).map_err(|fault: GuestFault| fault.to_string())?;
                    answer.map_err(|refusal| format!("it refuses the snapshot: {}", refusal.message))
                });
                if let Err(failure) = restored {
                    self.open = Some(Given { seq, at, events: Vec::new(), commands: Err(failure) });
                    return self.close(&[]);
                }
                true
            }
            Entry::Step { seq, at, events, .. } => {
                if !self.close(&[]) {
                    return false;
                }
                self.steps += 1;
                let events = events.into_owned();
                self.lines += events.iter().map(lines).sum::<u64>();
                let commands = self.guest.step(at, &events).map_err(|fault| fault.to_string());
                self.open = Some(Given { seq, at, events, commands });
                true
            }
            Entry::Commands { commands, .. } => self.close(&commands),
            Entry::Snapshot { .. }
            | Entry::Note { .. }
            | Entry::Resumed { .. }
            | Entry::End { .. }
            | Entry::Closed => true,
        }
    }

    /// Holds the plugin's last answer against the journal's.
    fn close(&mut self, recorded: &[Command]) -> bool {
        let Some(Given { seq, at, events, commands }) = self.open.take() else { return true };
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
        let is_decisive =
            failure.is_some() || missing.iter().chain(&added).any(|command| !is_cosmetic(&command.action));
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

    /// What was found: steps and lines that the plugin was taken through, and where it differs.
    pub fn finish(mut self) -> (u64, u64, Vec<Difference>) {
        self.close(&[]);
        (self.steps, self.lines, self.differences)
    }
}

fn lines(event: &Event) -> u64 {
    if let Event::LogLines(batch) = event { batch.lines.len() as u64 } else { 0 }
}

/// Whether nothing but what is shown depends on it.
fn is_cosmetic(action: &Action) -> bool {
    matches!(action, Action::EmitStatus(_) | Action::ReportMeta(_))
}
