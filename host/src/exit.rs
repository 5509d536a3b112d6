//! Exit codes, and the errors that lead to them.

use std::fmt;
use std::process::ExitCode;

use paperclip_contract::types::Ending;
use paperclip_diagnostic::Diagnostic;
use paperclip_engine::Closing;

/// How the program ends. The numbers are part of its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Succeeded = 0,
    Failed = 1,
    /// Bad usage or configuration: nothing was started.
    Usage = 2,
    Cancelled = 3,
    /// The run continues in the cluster.
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

/// Bad usage or configuration: it ends the program with [`Exit::Usage`].
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) Diagnostic);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for UsageError {}

/// Returns a usage error.
pub(crate) fn usage(error: impl Into<Diagnostic>) -> anyhow::Error {
    anyhow::Error::new(UsageError(error.into()))
}

/// Returns what a person sees of any error.
pub(crate) fn diagnostic_of(error: &anyhow::Error) -> Diagnostic {
    match error.downcast_ref::<UsageError>() {
        Some(UsageError(diagnostic)) => diagnostic.clone(),
        None => Diagnostic::new("internal", format!("{error:#}"))
            .with_hint("PAPERCLIP_LOG=debug shows what led to it"),
    }
}
