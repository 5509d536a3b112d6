//! The models that an agent may be configured with.

use paperclip_kit::cli::ModelOption;

/// The models to offer, the strongest first, for each way to reach them.
pub const MODELS: &[ModelOption] = &[
    direct("claude-opus-4-7", "Claude Opus 4.7"),
    direct("claude-opus-4-6", "Claude Opus 4.6"),
    direct("claude-sonnet-4-6", "Claude Sonnet 4.6"),
    direct("claude-haiku-4-6", "Claude Haiku 4.6"),
    direct("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5"),
    direct("claude-haiku-4-5-20251001", "Claude Haiku 4.5"),
    bedrock("us.anthropic.claude-opus-4-7", "Bedrock Opus 4.7"),
    bedrock("us.anthropic.claude-opus-4-6-v1", "Bedrock Opus 4.6"),
    bedrock("us.anthropic.claude-sonnet-4-6", "Bedrock Sonnet 4.6"),
    bedrock("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "Bedrock Sonnet 4.5"),
    bedrock("us.anthropic.claude-haiku-4-5-20251001-v1:0", "Bedrock Haiku 4.5"),
];

const fn direct(id: &'static str, label: &'static str) -> ModelOption {
    ModelOption { id, label, provider: "direct" }
}

const fn bedrock(id: &'static str, label: &'static str) -> ModelOption {
    ModelOption { id, label, provider: "bedrock" }
}

/// Returns whether an environment sends the CLI to AWS Bedrock. `variable` reads a variable by name.
pub fn is_bedrock(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_switched_on =
        variable("CLAUDE_CODE_USE_BEDROCK").is_some_and(|value| value == "1" || value == "true");
    is_switched_on || variable("ANTHROPIC_BEDROCK_BASE_URL").is_some_and(|url| !url.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bedrock_is_switched_on_or_has_an_address() {
        let with = |name: &'static str, value: &'static str| {
            is_bedrock(|asked| (asked == name).then(|| value.to_owned()))
        };
        assert!(with("CLAUDE_CODE_USE_BEDROCK", "1"));
        assert!(with("CLAUDE_CODE_USE_BEDROCK", "true"));
        assert!(!with("CLAUDE_CODE_USE_BEDROCK", "yes"));
        assert!(with("ANTHROPIC_BEDROCK_BASE_URL", "https://bedrock.test"));
        assert!(!with("ANTHROPIC_BEDROCK_BASE_URL", " "));
        assert!(!with("PATH", "1"));
    }

    #[test]
    fn identifiers_are_unique() {
        let mut ids: Vec<_> = MODELS.iter().map(|model| model.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), MODELS.len());
    }
}
