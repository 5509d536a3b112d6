//! Which values of a run are masked in its output and journal.

use std::borrow::Cow;

use paperclip_contract::types::Request;
use paperclip_diagnostic::Diagnose;
use paperclip_engine::intake::Secrets;
use paperclip_engine::policy;
use paperclip_engine::redact::Redactor;

/// The name under which the run's token is masked, whatever variables are called.
const AUTH_TOKEN: &str = "authToken";

/// The secrets of a run are too large to be masked.
#[derive(Debug, thiserror::Error)]
#[error("the secrets of the run cannot be masked: {0}")]
pub struct MaskingError(String);

impl Diagnose for MaskingError {
    fn code(&self) -> &'static str {
        "bad_context"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("make the values of config.env smaller".into())
    }
}

/// Returns the redactor of a run. It masks all secrets but those whose values the plugin sees, and those in `unmasked_env`. The token is
/// always masked.
///
/// # Errors
/// The secrets are too large to search for.
pub fn redactor(
    request: &Request,
    secrets: &Secrets,
    unmasked_env: &[String],
) -> Result<Redactor, MaskingError> {
    let revealed =
        |name: &str| request.config_env.iter().any(|entry| entry.name == name && entry.value.is_some());
    let unmasked = |name: &str| unmasked_env.iter().any(|pattern| policy::fits(pattern, name));
    let token = secrets.auth_token().map(|token| (AUTH_TOKEN, token));
    let env = secrets.named().filter(|(name, _)| *name != AUTH_TOKEN && !revealed(name) && !unmasked(name));
    Redactor::new(token.into_iter().chain(env)).map_err(|error| MaskingError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use paperclip_contract::types::SecretSource;
    use paperclip_engine::intake::{self, IntakeFacts};

    use super::*;

    fn request() -> Request {
        let context = serde_json::json!({"runId": "r", "agent": {"id": "a"}});
        intake::split(&context, "t", IntakeFacts::bare(None)).expect("a good context").0
    }

    #[test]
    fn masking_can_be_turned_off_for_a_variable_but_never_for_the_token() {
        let env = |name: &str, value: &str| (SecretSource::ConfigEnv(name.to_owned()), value.to_owned());
        let secrets = Secrets::of([
            (SecretSource::AuthToken, "the-token".to_owned()),
            env("BUILD_NAME", "build-name"),
            env("REGION", "eu-west-12"),
            env("KEY", "the-secret-key"),
        ]);
        let unmasked = ["BUILD_*".to_owned(), "REGION".to_owned(), "a*".to_owned()];
        let redactor = redactor(&request(), &secrets, &unmasked).expect("small");
        let text = "the-token build-name eu-west-12 the-secret-key";
        assert_eq!(
            redactor.mask(text.to_owned()),
            "[redacted:authToken] build-name eu-west-12 [redacted:KEY]"
        );
    }
}
