//! Errors for people: a code for programs, a message that says what failed, and a hint that says what to do.
//!
//! An error type that reaches a person implements [`Diagnose`]. Its `Display` is the message alone; [`Diagnose::diagnostic`] adds the
//! code and the hint, so that a command line, an HTTP API and a log each show them in their own way and none has to take a text apart.
//!
//! ```
//! use std::borrow::Cow;
//! use std::fmt;
//!
//! use paperclip_diagnostic::Diagnose;
//!
//! #[derive(Debug)]
//! struct PortInUse(u16);
//!
//! impl fmt::Display for PortInUse {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         write!(f, "port {} is in use", self.0)
//!     }
//! }
//!
//! impl std::error::Error for PortInUse {}
//!
//! impl Diagnose for PortInUse {
//!     fn code(&self) -> &'static str {
//!         "port_in_use"
//!     }
//!
//!     fn hint(&self) -> Option<Cow<'_, str>> {
//!         Some("name a free port with --listen".into())
//!     }
//! }
//!
//! let diagnostic = PortInUse(80).diagnostic();
//! assert_eq!(diagnostic.message, "port 80 is in use");
//! assert_eq!(diagnostic.to_string(), "port 80 is in use; name a free port with --listen");
//! ```

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// An error as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Names the kind of error for programs, in snake case.
    pub code: &'static str,
    /// What failed, on which object, and why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Returns a diagnostic without a hint.
    pub fn new(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, message: message.into(), hint: None }
    }

    /// Adds what to do about the error.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// Puts the object before the message, such as a file or a field: `context run.json: runId is missing`.
    #[must_use]
    pub fn on(mut self, object: impl fmt::Display) -> Diagnostic {
        self.message = format!("{object}: {}", self.message);
        self
    }
}

/// Message and hint on one line, for logs and status lines.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) => write!(f, "{}; {hint}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl Error for Diagnostic {}

/// An error with advice for people. Its `Display` is the message, without the hint.
pub trait Diagnose: Error {
    /// Names the kind of error for programs, in snake case.
    fn code(&self) -> &'static str;

    /// Says what to do about the error.
    fn hint(&self) -> Option<Cow<'_, str>>;

    /// Returns code, message and hint together.
    fn diagnostic(&self) -> Diagnostic {
        Diagnostic { code: self.code(), message: self.to_string(), hint: self.hint().map(Cow::into_owned) }
    }
}

/// Converts each error that can be diagnosed.
impl<E: Diagnose> From<E> for Diagnostic {
    fn from(error: E) -> Diagnostic {
        error.diagnostic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_message_and_hint_on_one_line() {
        let diagnostic = Diagnostic::new("bad_context", "runId is missing").on("context run.json");
        assert_eq!(diagnostic.to_string(), "context run.json: runId is missing");
        assert_eq!(
            diagnostic.with_hint("copy it from the heartbeat run").to_string(),
            "context run.json: runId is missing; copy it from the heartbeat run"
        );
    }
}
