//! A run that was resumed before each step.

use echo_k8s::Echo;
use paperclip_kit::bindings::exports::paperclip::agent::types::{Command, Event};
use paperclip_kit::machine::{IllegalTransition, Machine};
use paperclip_kit::request::Request;

/// Restored from the run's snapshot.
pub(crate) struct Twin;

impl Twin {
    pub(crate) fn start(_request: &Request, _now_ms: u64, _commands: &[Command]) -> Twin {
        Twin
    }

    /// Makes the step that the run made from this snapshot.
    pub(crate) fn step(
        &mut self,
        snapshot: &[u8],
        now_ms: u64,
        events: &[Event],
        stepped: &Result<Vec<Command>, IllegalTransition>,
    ) {
        let mut restored: Machine<Echo> = serde_json::from_slice(snapshot).unwrap();
        assert_eq!(stepped, &restored.step(now_ms, events.to_vec()), "a restored run decides the same");
    }
}
