//! Defects, put in on purpose: each is one that a run of an agent has suffered from, and each has to be caught.

use paperclip_contract::types::{Command, Event};
use paperclip_engine::port::{Effect, Input};

use crate::fault::named;

named! {
    /// A defect.
    Mutant {
        CallsBeforeSync = "calls-before-sync",
    }
}

/// Breaks what passes between engine and guest.
#[derive(Debug)]
pub(crate) struct Saboteur(Option<Mutant>);

impl Saboteur {
    pub(crate) fn new(mutant: Option<Mutant>) -> Self {
        Saboteur(mutant)
    }

    pub(crate) fn on_events(&mut self, _at_ms: u64, events: &[Event]) -> Vec<Event> {
        events.to_vec()
    }

    pub(crate) fn on_commands(&mut self, _at_ms: u64, _events: &[Event], commands: Vec<Command>) -> Vec<Command> {
        commands
    }
}

/// Breaks what passes between engine and world.
#[derive(Debug)]
pub(crate) struct EffectSaboteur(Option<Mutant>);

impl EffectSaboteur {
    pub(crate) fn new(mutant: Option<Mutant>) -> Self {
        EffectSaboteur(mutant)
    }

    pub(crate) fn on_input(&mut self, input: Input) -> Option<Input> {
        Some(input)
    }

    pub(crate) fn on_effect(&mut self, effect: Effect) -> Option<Effect> {
        match (self.0, effect) {
            (Some(Mutant::CallsBeforeSync), Effect::Sync) => None,
            (_, effect) => Some(effect),
        }
    }
}
