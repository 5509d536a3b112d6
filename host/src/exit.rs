//! Exit codes, and the errors that lead to them.

use std::fmt;
use std::process::ExitCode;

use paperclip_contract::types::Ending;
use paperclip_engine::Closing;

/// How the program ends. The numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Succeeded = 0,
    Failed = 1,
    /// Bad usage or configuration: nothing was begun.
    Usage = 2,
    Cancelled = 3,
    /// The run goes on in the cluster.
    Detached = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<Closing> for Exit {
    fn from(closing: Closing) -> Exit {
        match closing {
            Closing::Ended(Ending::Succeeded) => Exit::Succeeded,
            Closing::Ended(Ending::Failed) => Exit::Failed,
            Closing::Ended(Ending::Cancelled) => Exit::Cancelled,
            Closing::Refused => Exit::Usage,
            Closing::Detached => Exit::Detached,
        }
    }
}

/// An error of the one who called: it names what is wrong and the mend, and ends the program with [`Exit::Usage`].
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Makes a usage error of any error that already speaks to a person.
pub(crate) fn usage(error: impl fmt::Display) -> anyhow::Error {
    anyhow::Error::new(UsageError(error.to_string()))
}
