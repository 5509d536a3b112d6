//! The models that an agent may be configured with.

use serde::{Deserialize, Serialize};

/// Paperclip's `AdapterModel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Model {
    /// As the CLI takes it with `--model`.
    pub id: &'static str,
    pub label: &'static str,
}

/// Who serves the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    Anthropic,
    Bedrock,
}

const DIRECT: &[Model] = &[
    Model { id: "claude-opus-4-7", label: "Claude Opus 4.7" },
    Model { id: "claude-opus-4-6", label: "Claude Opus 4.6" },
    Model { id: "claude-sonnet-4-6", label: "Claude Sonnet 4.6" },
    Model { id: "claude-haiku-4-6", label: "Claude Haiku 4.6" },
    Model { id: "claude-sonnet-4-5-20250929", label: "Claude Sonnet 4.5" },
    Model { id: "claude-haiku-4-5-20251001", label: "Claude Haiku 4.5" },
];

const BEDROCK: &[Model] = &[
    Model { id: "us.anthropic.claude-opus-4-7", label: "Bedrock Opus 4.7" },
    Model { id: "us.anthropic.claude-opus-4-6-v1", label: "Bedrock Opus 4.6" },
    Model { id: "us.anthropic.claude-sonnet-4-6", label: "Bedrock Sonnet 4.6" },
    Model { id: "us.anthropic.claude-sonnet-4-5-20250929-v1:0", label: "Bedrock Sonnet 4.5" },
    Model { id: "us.anthropic.claude-haiku-4-5-20251001-v1:0", label: "Bedrock Haiku 4.5" },
];

impl ModelSource {
    /// Returns the models to offer, the strongest first.
    pub const fn models(self) -> &'static [Model] {
        match self {
            ModelSource::Anthropic => DIRECT,
            ModelSource::Bedrock => BEDROCK,
        }
    }
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
        let mut ids: Vec<_> = DIRECT.iter().chain(BEDROCK).map(|model| model.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), DIRECT.len() + BEDROCK.len());
    }
}
