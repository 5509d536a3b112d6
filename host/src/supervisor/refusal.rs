//! Why a wish is not granted: a code for programs, a message and a mend for people.

/// The errors of the daemon's API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {mend}")]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) mend: String,
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
    pub(crate) fn new(kind: Kind, message: impl Into<String>, mend: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into(), mend: mend.into() }
    }

    /// Of an error that says what to do behind its last semicolon, as this program's errors do.
    pub(crate) fn of_error(kind: Kind, error: &dyn std::fmt::Display) -> Refusal {
        let text = error.to_string();
        match text.rsplit_once("; ").or_else(|| text.rsplit_once(": ")) {
            Some((message, mend)) => Refusal::new(kind, message, mend),
            None => Refusal::new(kind, text, "see the message"),
        }
    }
}
