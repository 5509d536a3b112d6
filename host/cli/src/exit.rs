//! Exit codes, and the errors that lead to them.

use std::process::ExitCode;

use paperclip_contract::types::Ending;
use paperclip_diagnostic::Diagnostic;
use paperclip_engine::{Closing, GuestFault};
use paperclip_guest::RuntimeError;
use paperclip_shell::JournalError;

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
            Closing::Detached | Closing::Moved => Exit::Detached,
        }
    }
}

/// An error that ends the program.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) exit: Exit,
    pub(crate) diagnostic: Diagnostic,
}

/// Returns the error of bad usage or configuration.
pub(crate) fn usage(error: impl Into<Diagnostic>) -> CommandError {
    CommandError { exit: Exit::Usage, diagnostic: error.into() }
}

/// Returns the error of a command that failed.
pub(crate) fn failed(error: impl Into<Diagnostic>) -> CommandError {
    CommandError { exit: Exit::Failed, diagnostic: error.into() }
}

/// Returns an error that is not the caller's.
fn internal(error: &dyn std::error::Error) -> CommandError {
    failed(
        Diagnostic::new("internal", error.to_string()).with_hint("PAPERCLIP_LOG=debug shows what led to it"),
    )
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> CommandError {
        internal(&error)
    }
}

impl From<serde_json::Error> for CommandError {
    fn from(error: serde_json::Error) -> CommandError {
        internal(&error)
    }
}

impl From<hyper::Error> for CommandError {
    fn from(error: hyper::Error) -> CommandError {
        internal(&error)
    }
}

impl From<http::Error> for CommandError {
    fn from(error: http::Error) -> CommandError {
        internal(&error)
    }
}

impl From<GuestFault> for CommandError {
    fn from(fault: GuestFault) -> CommandError {
        let diagnostic = Diagnostic::new("plugin_failed", fault.to_string());
        failed(diagnostic.with_hint("use another version of the plugin"))
    }
}

impl From<RuntimeError> for CommandError {
    fn from(error: RuntimeError) -> CommandError {
        failed(error)
    }
}

impl From<JournalError> for CommandError {
    fn from(error: JournalError) -> CommandError {
        failed(error)
    }
}
