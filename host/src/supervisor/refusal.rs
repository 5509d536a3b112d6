//! Why a request is refused: a code for programs, a message and a hint for people.

use std::borrow::Cow;

use paperclip_diagnostic::Diagnose;

/// The errors of the daemon's API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {hint}")]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// What kind of error it is. The names are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    Unauthorized,
    NotFound,
    MethodNotAllowed,
    /// Another run holds the agent.
    AgentBusy,
    /// There is no plugin for the agent type, or none that may be used.
    NoPlugin,
    BodyTooLarge,
    RateLimited,
    QueueFull,
    MemoryPressure,
    Stopping,
    NotReady,
    Internal,
}

impl Kind {
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Kind::BadRequest => "bad_request",
            Kind::Unauthorized => "unauthorized",
            Kind::NotFound => "not_found",
            Kind::MethodNotAllowed => "method_not_allowed",
            Kind::AgentBusy => "agent_busy",
            Kind::NoPlugin => "no_plugin",
            Kind::BodyTooLarge => "body_too_large",
            Kind::RateLimited => "rate_limited",
            Kind::QueueFull => "queue_full",
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
}
