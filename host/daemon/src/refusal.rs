//! Why a request is refused: a code for programs, a message and a hint for people.

use std::borrow::Cow;

use paperclip_diagnostic::{Diagnose, Diagnostic};

/// An error of the daemon's API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// The kind of an error. The codes are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    Unauthorized,
    /// What a web page sends.
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// Another host has the run.
    DrivenElsewhere,
    /// Another run holds the agent.
    AgentBusy,
    /// No plugin for the agent type is usable.
    NoPlugin,
    BodyTooLarge,
    UnsupportedMediaType,
    RequestTimeout,
    RateLimited,
    QueueFull,
    /// No journal can be written.
    StorageUnavailable,
    MemoryPressure,
    Stopping,
    NotReady,
    Internal,
}

impl Kind {
    /// Returns the code in the API's answers.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Kind::BadRequest => "bad_request",
            Kind::Unauthorized => "unauthorized",
            Kind::Forbidden => "forbidden",
            Kind::NotFound => "not_found",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::DrivenElsewhere => "driven_elsewhere",
            Kind::AgentBusy => "agent_busy",
            Kind::NoPlugin => "no_plugin",
            Kind::BodyTooLarge => "body_too_large",
            Kind::UnsupportedMediaType => "unsupported_media_type",
            Kind::RequestTimeout => "request_timeout",
            Kind::RateLimited => "rate_limited",
            Kind::QueueFull => "queue_full",
            Kind::StorageUnavailable => "storage_unavailable",
            Kind::MemoryPressure => "memory_pressure",
            Kind::Stopping => "stopping",
            Kind::NotReady => "not_ready",
            Kind::Internal => "internal",
        }
    }
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into(), hint: hint.into() }
    }

    /// Returns the refusal for an error.
    pub(crate) fn of(kind: Kind, error: &impl Diagnose) -> Refusal {
        let hint = error.hint().map_or_else(|| "see the message".to_owned(), Cow::into_owned);
        Refusal::new(kind, error.to_string(), hint)
    }

    /// Refuses an execution context.
    pub(crate) fn bad_context(problem: impl Into<Diagnostic>) -> Refusal {
        let Diagnostic { message, hint, .. } = problem.into();
        let hint = hint.unwrap_or_else(|| "correct that field and send the context again".to_owned());
        Refusal::new(Kind::BadRequest, format!("context: {message}"), hint)
    }

    /// Refuses what a daemon that stops no longer does.
    pub(crate) fn stopping() -> Refusal {
        Refusal::new(Kind::Stopping, "this host is stopping", "try again when it runs again")
    }

    /// Refuses what depends on runs that are not resumed yet.
    pub(crate) fn resuming(count: usize) -> Refusal {
        Refusal::new(Kind::NotReady, format!("{count} runs are being resumed"), "try again in some seconds")
    }
}

impl Diagnose for Refusal {
    fn code(&self) -> &'static str {
        self.kind.code()
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(self.hint.as_str().into())
    }
}
