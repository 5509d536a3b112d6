//! A plugin's grant, as the operator's configuration contains it.

use std::fmt;

use serde::{Deserialize, Serialize};

use paperclip_kubernetes::Quantity;

/// What a plugin may request. The default fits the built-in plugins: a run's own namespaces, and the Secrets and claims that its agent
/// inherits from Paperclip's pod.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    /// Namespaces, of those that a run names: its config's, that of Paperclip's pod, the host's default. Empty: all of them.
    pub namespaces: Vec<Pattern>,
    /// Images, such as `ghcr.io/acme/*`. An image without a registry is one of `docker.io/`.
    pub images: Vec<Pattern>,
    /// Service accounts that a Job may run as, besides the one that the operator gives to all agents. The host's own is never granted.
    pub service_accounts: Vec<Pattern>,
    /// Secrets that a Job may refer to, besides the run's own and those in the environment of Paperclip's pod. Those that Paperclip's pod
    /// mounts are mounted in agents' pods only if they are named here.
    pub secrets: Vec<Pattern>,
    /// ConfigMaps that a Job may refer to, besides the run's own and those of Paperclip's pod.
    pub config_maps: Vec<Pattern>,
    /// PersistentVolumeClaims that a Job may mount, besides Paperclip's data volume.
    pub volume_claims: Vec<Pattern>,
    /// Folders of Paperclip's data volume that a Job may mount, besides the agent's home, its workspace and the projects of its company:
    /// relative to `/paperclip`, such as `repos/*`. What is below such a folder is mounted with it and not alone.
    pub workspaces: Vec<Pattern>,
    /// Whether a Job may mount the whole data volume, with the files of all companies and of Paperclip's server.
    pub shared_data_volume: bool,
    /// Priority classes that a Job may have: those above others evict their Pods.
    pub priority_classes: Vec<Pattern>,
    /// Runtime classes that a Job may have: they choose how it is isolated from its node.
    pub runtime_classes: Vec<Pattern>,
    /// Linux capabilities that a container may add.
    pub capabilities: Vec<Pattern>,
    /// Paths of Paperclip's API that may be polled.
    pub http_paths: Vec<Pattern>,
    /// Environment variables whose values the plugin may see, of those that it requests.
    pub revealed_env: Vec<Pattern>,
    /// Most CPU of a Job's Pod, such as `4` or `500m`; a container must then have a limit.
    pub max_cpu: Option<Amount>,
    /// Most memory of a Job's Pod, such as `8Gi`; a container must then have a limit.
    pub max_memory: Option<Amount>,
}

impl Default for Grant {
    fn default() -> Self {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern((*text).to_owned())).collect();
        Grant {
            namespaces: Vec::new(),
            images: patterns(&["*"]),
            service_accounts: Vec::new(),
            secrets: Vec::new(),
            config_maps: Vec::new(),
            volume_claims: Vec::new(),
            workspaces: Vec::new(),
            shared_data_volume: false,
            priority_classes: Vec::new(),
            runtime_classes: Vec::new(),
            capabilities: Vec::new(),
            http_paths: patterns(&["/api/*"]),
            revealed_env: patterns(&[
                "CLAUDE_CODE_USE_BEDROCK",
                "ANTHROPIC_BEDROCK_BASE_URL",
                "PAPERCLIP_API_URL",
                "HOME",
                "PATH",
                "NODE_OPTIONS",
            ]),
            max_cpu: None,
            max_memory: None,
        }
    }
}

/// What a company's runs may request, in place of the same fields of the grant of their agent type.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompanyGrant {
    /// The only namespace of the company's runs, also of those whose config names none.
    pub namespace: Option<String>,
    /// Runs of the company that are driven at a time, in place of `limits.runs_per_company`.
    pub runs: Option<u32>,
    pub images: Option<Vec<Pattern>>,
    pub service_accounts: Option<Vec<Pattern>>,
    pub secrets: Option<Vec<Pattern>>,
    pub config_maps: Option<Vec<Pattern>>,
    pub volume_claims: Option<Vec<Pattern>>,
    pub workspaces: Option<Vec<Pattern>>,
    pub shared_data_volume: Option<bool>,
    pub priority_classes: Option<Vec<Pattern>>,
    pub runtime_classes: Option<Vec<Pattern>>,
    pub max_cpu: Option<Amount>,
    pub max_memory: Option<Amount>,
}

impl CompanyGrant {
    /// Returns the grant of the company's runs of an agent type.
    pub fn apply_to(&self, grant: Grant) -> Grant {
        let or = |own: &Option<Vec<Pattern>>, other: Vec<Pattern>| own.clone().unwrap_or(other);
        let namespaces = match &self.namespace {
            Some(namespace) => vec![Pattern(namespace.clone())],
            None => grant.namespaces,
        };
        Grant {
            namespaces,
            images: or(&self.images, grant.images),
            service_accounts: or(&self.service_accounts, grant.service_accounts),
            secrets: or(&self.secrets, grant.secrets),
            config_maps: or(&self.config_maps, grant.config_maps),
            volume_claims: or(&self.volume_claims, grant.volume_claims),
            workspaces: or(&self.workspaces, grant.workspaces),
            shared_data_volume: self.shared_data_volume.unwrap_or(grant.shared_data_volume),
            priority_classes: or(&self.priority_classes, grant.priority_classes),
            runtime_classes: or(&self.runtime_classes, grant.runtime_classes),
            max_cpu: self.max_cpu.clone().or(grant.max_cpu),
            max_memory: self.max_memory.clone().or(grant.max_memory),
            capabilities: grant.capabilities,
            http_paths: grant.http_paths,
            revealed_env: grant.revealed_env,
        }
    }
}

impl Grant {
    /// Grants this name of a service account, too.
    #[must_use]
    pub fn with_service_account(mut self, name: &str) -> Grant {
        self.service_accounts.extend(Pattern::try_from(name.to_owned()));
        self
    }

    /// Returns whether runs may be in this namespace. Without namespaces each run may be in the one that it names.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|granted| granted.matches(namespace))
    }

    /// Returns the names that a plugin requests to see and may see.
    pub fn reveal(&self, requested: &[String]) -> Vec<String> {
        requested.iter().filter(|name| super::matches(&self.revealed_env, name)).cloned().collect()
    }
}

/// A name, or a prefix and `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// A pattern that is empty or has a `*` before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern {0:?} is empty or has a `*` before its end; give a name, or a prefix and `*`")]
pub struct PatternError(String);

impl Pattern {
    /// Returns the pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a text matches, as [`fits`] does.
    pub fn matches(&self, text: &str) -> bool {
        fits(&self.0, text)
    }
}

/// Returns whether a text matches a pattern, which is a name, or a prefix and `*`.
pub fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => pattern == text,
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        let prefix = text.strip_suffix('*').unwrap_or(&text);
        if text.is_empty() || prefix.contains('*') { Err(PatternError(text)) } else { Ok(Pattern(text)) }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0
    }
}

/// Parses an amount in thousandths of the unit, rounded up. `None` if it is not an amount, negative, or more than Kubernetes
/// can store.
pub(super) fn milli(text: &str) -> Option<u128> {
    let amount = Quantity::parse(text).ok()?;
    if !(Quantity::ZERO..=Quantity::MAX).contains(&amount) {
        return None;
    }
    u128::try_from(amount.in_units_of(Quantity::MILLI)?).ok()
}

/// An amount of a resource, as Kubernetes writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Amount {
    text: String,
    milli: u128,
}

impl Amount {
    pub(super) fn milli(&self) -> u128 {
        self.milli
    }
}

impl TryFrom<String> for Amount {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match milli(&text) {
            Some(milli) => Ok(Amount { text, milli }),
            None => Err(format!(
                "{text:?} is not an amount of a resource; give one such as \"2\", \"500m\" or \"8Gi\""
            )),
        }
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> String {
        amount.text
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::milli;

    #[test]
    fn parses_amounts_as_kubernetes_does() {
        for (text, expected) in [
            ("1", Some(1_000)),
            ("500m", Some(500)),
            ("0.5", Some(500)),
            (".5", Some(500)),
            ("1n", Some(1)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2k", Some(2_000_000)),
            ("1e3", Some(1_000_000)),
            ("1E3", Some(1_000_000)),
            ("1E", Some(1_000_000_000_000_000_000_000)),
            ("", None),
            (".", None),
            ("-1", None),
            ("1.2.3", None),
            ("1 Gi", None),
            ("1e999", None),
            ("99999999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(milli(text), expected, "{text:?}");
        }
    }
}
