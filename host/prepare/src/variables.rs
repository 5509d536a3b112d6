//! Limits of the variables in `config.env`, whose values the host alone knows.

use std::borrow::Cow;

use paperclip_contract::types::{Request, SecretSource};
use paperclip_diagnostic::Diagnose;
use paperclip_engine::intake::Secrets;
use paperclip_kubernetes::environment::VARIABLE_MAX_BYTES;

/// What all of `config.env` may be: it shares a Secret of at most 1 MiB with a short prompt and what is inherited.
const VARIABLES_MAX_BYTES: usize = 512 << 10;

/// Why no container can have the variables of a config.
#[derive(Debug, thiserror::Error)]
pub enum VariableError {
    #[error(
        "env.{name}: the variable is {bytes} bytes, and no program starts with one over {VARIABLE_MAX_BYTES}"
    )]
    TooLong { name: String, bytes: usize },
    #[error("env.{name}: the value holds a NUL character, which no variable can")]
    Nul { name: String },
    #[error(
        "env: the variables are {bytes} bytes together, and a run's Secret has capacity for {VARIABLES_MAX_BYTES}"
    )]
    TooMany { bytes: usize },
}

impl Diagnose for VariableError {
    fn code(&self) -> &'static str {
        "bad_context"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            VariableError::TooLong { .. } => "put the text into a file of the agent's workspace",
            VariableError::Nul { .. } => "remove it",
            VariableError::TooMany { .. } => "put long texts into files of the agent's workspace",
        };
        Some(hint.into())
    }
}

/// Checks that a container can start with the variables, and that a Secret can hold them.
///
/// # Errors
/// Names the first variable that is too long or holds a NUL, else the size of all.
pub(crate) fn check(request: &Request, secrets: &Secrets) -> Result<(), VariableError> {
    let mut all_bytes = 0;
    for entry in &request.config_env {
        let name = &entry.name;
        let source = SecretSource::ConfigEnv(name.clone());
        let value = secrets.resolve(&source).unwrap_or_default();
        let bytes = name.len() + value.len() + "=\0".len();
        if bytes > VARIABLE_MAX_BYTES {
            return Err(VariableError::TooLong { name: name.clone(), bytes });
        }
        if value.contains('\0') {
            return Err(VariableError::Nul { name: name.clone() });
        }
        all_bytes += bytes;
    }
    if all_bytes > VARIABLES_MAX_BYTES {
        return Err(VariableError::TooMany { bytes: all_bytes });
    }
    Ok(())
}
