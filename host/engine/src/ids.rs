//! Identifiers within one run. Each serialises as its number.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares an identifier: a number that is never mistaken for a number of another kind.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Returns the identifier with this number.
            pub const fn new(number: u64) -> $name {
                $name(number)
            }

            /// Returns the number that crosses the contract.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A command of the plugin. The plugin assigns the numbers; they increase strictly within a run.
    CommandId
}

id! {
    /// A timer of the plugin, which assigns the numbers and may reuse them.
    TimerId
}

id! {
    /// A call to the Kubernetes API. Each is used once in a run; a retry keeps it.
    CallId
}

id! {
    /// One stream of a log. Each time that a log is opened the stream has a new number, so that what an earlier stream still delivers is
    /// not mistaken for its own.
    LogId
}

id! {
    /// A poll of Paperclip's API: the number of the command that started it.
    PollId
}

impl From<CommandId> for PollId {
    fn from(command: CommandId) -> PollId {
        PollId(command.0)
    }
}
