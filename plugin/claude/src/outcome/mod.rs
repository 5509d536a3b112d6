//! The judgement of a finished run: the kit's, by the table in `rules.rs`.

mod facts;
pub(crate) mod rules;

use serde_json::{Map, Value};

use crate::agent::Claude;
pub use paperclip_kit::judge::{RetryReason, judge, matching_rows, may_retry_fresh};
use paperclip_kit::outcome::RunFacts;

/// Judges a document and returns the result as JSON.
///
/// # Errors
/// What is wrong with the document.
pub fn classify_document(at_ms: i64, json: &str) -> Result<String, String> {
    paperclip_kit::judge::classify_document::<Claude>(at_ms, json)
}

/// Returns what an agent's `config` says about its result.
pub fn run_facts(config: &Map<String, Value>) -> RunFacts {
    paperclip_kit::judge::run_facts::<Claude>(config)
}
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts(config: Value) -> RunFacts {
        let Value::Object(config) = config else { unreachable!("a config is an object") };
        run_facts(&config)
    }

    #[test]
    fn a_config_is_read_as_the_platform_reads_it() {
        let run = facts(json!({"timeoutSec": 600, "model": "m", "retryFreshSession": false}));
        assert_eq!(
            (run.timeout_sec, run.model.as_deref(), run.may_retry_fresh_session),
            (600.0, Some("m"), false)
        );
        let run = facts(json!({"timeoutSec": "600", "model": "", "retryFreshSession": "no"}));
        assert_eq!((run.timeout_sec, run.model.as_deref(), run.may_retry_fresh_session), (0.0, None, true));
    }

    fn is_bedrock(config: Value) -> bool {
        facts(config).billing.biller.as_deref() == Some("aws_bedrock")
    }

    #[test]
    fn the_environment_selects_bedrock() {
        assert!(is_bedrock(json!({"env": {"CLAUDE_CODE_USE_BEDROCK": 1}})));
        assert!(is_bedrock(json!({"env": {"CLAUDE_CODE_USE_BEDROCK": {"type": "plain", "value": "true"}}})));
        assert!(!is_bedrock(json!({"env": {"CLAUDE_CODE_USE_BEDROCK": "0"}})));
        assert!(!is_bedrock(json!({"env": "CLAUDE_CODE_USE_BEDROCK=1"})));
    }

    #[test]
    fn refuses_what_is_not_a_document() {
        assert!(classify_document(0, "{").unwrap_err().starts_with("evidence: "));
    }
}
