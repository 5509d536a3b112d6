//! What a person can do about the engine's errors.

use std::borrow::Cow;

use paperclip_diagnostic::Diagnose;

use paperclip_kubernetes::paperclip_pod::UnknownContainer;

use crate::intake::IntakeError;

impl Diagnose for IntakeError {
    fn code(&self) -> &'static str {
        match self {
            IntakeError::NotJson(_)
            | IntakeError::WrongType { .. }
            | IntakeError::Missing { .. }
            | IntakeError::TooLong { .. }
            | IntakeError::TooManyValues { .. } => "bad_context",
            IntakeError::PaperclipPod(_) => "bad_paperclip_pod",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            IntakeError::NotJson(_) => "give Paperclip's execution context as one JSON object",
            IntakeError::WrongType { .. } => "correct that field and send the context again",
            IntakeError::Missing { hint, .. } => hint,
            IntakeError::TooLong { .. } => "use a shorter id, such as a UUID",
            IntakeError::TooManyValues { .. } => "put large data into a file or the agent's workspace",
            IntakeError::PaperclipPod(_) => UnknownContainer::HINT,
        };
        Some(hint.into())
    }
}
