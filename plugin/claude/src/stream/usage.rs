//! What the run used, counted from assistant events while there is no result event.

use std::collections::VecDeque;

use paperclip_kit::outcome::Usage;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use paperclip_kit::json::{count, pick};

/// Reads an Anthropic usage object. Tokens that wrote the cache are not counted here, as in `result.usage`.
pub(super) fn anthropic_usage(member: Option<&RawValue>) -> Option<Usage> {
    let names = ["input_tokens", "cache_read_input_tokens", "output_tokens"];
    let [input, cached, output] = pick(member?.get(), &names)?;
    Some(Usage {
        input_tokens: count(input),
        cached_input_tokens: count(cached),
        output_tokens: count(output),
    })
}

/// The last usage of each message, summed. Several events of one message each have the message's usage so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct UsageByMessage {
    /// Of messages that are no longer distinguished.
    settled: Usage,
    recent: VecDeque<(String, Usage)>,
}

impl UsageByMessage {
    /// How many messages may be under way at once, sub-agents included.
    const RECENT: usize = 64;
    /// Identifiers are far shorter; of a longer one the start counts.
    const ID_BYTES: usize = 128;

    pub(super) fn record(&mut self, message_id: &str, usage: Usage) {
        let id = &message_id[..message_id.floor_char_boundary(Self::ID_BYTES)];
        match self.recent.iter_mut().rev().find(|(known, _)| known == id) {
            Some((_, last)) => *last = usage,
            None => {
                if self.recent.len() == Self::RECENT
                    && let Some((_, usage)) = self.recent.pop_front()
                {
                    self.settled.add(usage);
                }
                self.recent.push_back((id.to_owned(), usage));
            }
        }
    }

    /// Returns `None` if no message had a usage.
    pub(super) fn sum(&self) -> Option<Usage> {
        let mut sum = self.settled;
        self.recent.iter().for_each(|(_, usage)| sum.add(*usage));
        (!self.recent.is_empty()).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(tokens: u64) -> Usage {
        Usage { output_tokens: tokens, ..Usage::default() }
    }

    #[test]
    fn the_last_usage_of_a_message_counts() {
        let mut usage = UsageByMessage::default();
        assert_eq!(usage.sum(), None);
        usage.record("a", output(1));
        usage.record("b", output(10));
        usage.record("a", output(5));
        assert_eq!(usage.sum(), Some(output(15)));
    }

    #[test]
    fn memory_does_not_grow_with_the_messages() {
        let mut usage = UsageByMessage::default();
        for index in 0..10_000 {
            usage.record(&format!("msg_{index}"), output(1));
        }
        assert_eq!(usage.sum(), Some(output(10_000)));
        assert_eq!(usage.recent.len(), UsageByMessage::RECENT);
    }
}
