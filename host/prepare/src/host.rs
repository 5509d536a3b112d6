//! What a host adds to execution contexts, and the way from a context to a prepared run.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use paperclip_contract::types::{ContextFile, HostFacts};
use paperclip_diagnostic::{Diagnose, Diagnostic};
use paperclip_engine::GuestFault;
use paperclip_engine::intake::{self, IntakeError, IntakeFacts};
use paperclip_guest::{Plugin, Tools};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::files::{FileReader, SkillSnapshot};
use crate::masking::{self, MaskingError};
use crate::paperclip_pod;
use crate::run::PreparedRun;
use crate::state;
use crate::variables::{self, VariableError};

/// What a host adds to every run.
///
/// ```
/// use paperclip_prepare::{Config, HostContext};
/// use serde_json::json;
///
/// let pod = json!({"spec": {"containers": [{"name": "paperclip", "env": [
///     {"name": "PAPERCLIP_API_URL", "value": "http://paperclip:3100"},
/// ]}]}});
/// let host = HostContext::new(Config::default(), None).with_paperclip_pod(Some(pod));
/// assert_eq!(host.paperclip_api_url.as_deref(), Some("http://paperclip:3100"));
/// ```
#[derive(Debug)]
pub struct HostContext {
    pub config: Config,
    /// Folder for journals; without one runs have no journal.
    pub state: Option<PathBuf>,
    /// Distinguishes this host from others.
    pub host_id: String,
    /// Paperclip's pod, as far as agents may inherit from it.
    pub paperclip_pod: Option<Value>,
    /// URL of Paperclip's API. It never comes from a run's config: the run's token would follow it.
    pub paperclip_api_url: Option<String>,
}

/// Why a context cannot become a run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Context(#[from] IntakeError),
    #[error(transparent)]
    Variables(#[from] VariableError),
    /// The plugin refuses the skills of the config.
    #[error("{0}")]
    Skills(String),
    #[error(transparent)]
    Masking(#[from] MaskingError),
    #[error(transparent)]
    Plugin(#[from] GuestFault),
    /// The plugin's snapshot of skills is wrong.
    #[error("the plugin's snapshot of skills cannot be read: {0}")]
    Snapshot(#[from] serde_json::Error),
}

impl Diagnose for PrepareError {
    fn code(&self) -> &'static str {
        match self {
            PrepareError::Context(error) => error.code(),
            PrepareError::Variables(error) => error.code(),
            PrepareError::Skills(_) => "bad_context",
            PrepareError::Masking(error) => error.code(),
            PrepareError::Plugin(_) | PrepareError::Snapshot(_) => "plugin_failed",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            PrepareError::Context(error) => error.hint(),
            PrepareError::Variables(error) => error.hint(),
            PrepareError::Skills(_) => Some("correct that field of the config".into()),
            PrepareError::Masking(error) => error.hint(),
            PrepareError::Plugin(_) | PrepareError::Snapshot(_) => {
                Some("use another version of the plugin".into())
            }
        }
    }
}

/// Returns the agent type that a caller names, else the one that the context names.
///
/// # Errors
/// Neither names one.
pub fn adapter_type<'a>(context: &'a Value, named: Option<&'a str>) -> Result<&'a str, Diagnostic> {
    named.or_else(|| intake::adapter_type(context)).ok_or_else(|| {
        Diagnostic::new("bad_context", "agent.adapterType is missing in the context")
            .with_hint("set it, or name the agent type beside the context (--adapter)")
    })
}

impl HostContext {
    /// Returns the context of a host whose journals are in `state`. Paperclip's pod is not known yet.
    pub fn new(config: Config, state: Option<PathBuf>) -> HostContext {
        HostContext {
            host_id: state::host_id(state.as_deref()),
            paperclip_api_url: config.paperclip_api_url.clone(),
            paperclip_pod: None,
            state,
            config,
        }
    }

    /// Adds Paperclip's pod. Its API's URL is taken from the pod if none is configured.
    #[must_use]
    pub fn with_paperclip_pod(mut self, pod: Option<Value>) -> HostContext {
        if self.paperclip_api_url.is_none() {
            self.paperclip_api_url = pod.as_ref().and_then(paperclip_pod::api_url);
        }
        self.paperclip_pod = pod;
        self
    }

    /// Splits an execution context into what the plugin may see and the secrets, and checks it. `cluster_namespace` is the namespace of
    /// runs for which neither their config nor the configuration names one.
    ///
    /// # Errors
    /// A field of the context is missing or wrong, or the plugin fails.
    pub fn prepare(
        &self,
        context: &Value,
        plugin: &Arc<Plugin>,
        cluster_namespace: Option<&str>,
    ) -> Result<PreparedRun, PrepareError> {
        let config = &self.config;
        let mut pod = self.paperclip_pod.clone();
        let mut warnings = pod.as_mut().map(paperclip_pod::expand_literals).unwrap_or_default();
        let files = self.read_files(&context["config"], plugin, &mut warnings)?;
        let facts = IntakeFacts {
            paperclip_pod: pod.as_ref(),
            revealed_env: &config.grant(plugin.adapter_type()).reveal(&plugin.descriptor().revealed_env),
            files,
            host: HostFacts {
                default_namespace: config.namespace.as_deref().or(cluster_namespace).map(str::to_owned),
                paperclip_api_url: self.paperclip_api_url.clone(),
                denied_env: config.denied_env.clone(),
                clusters: config.clusters.keys().cloned().collect(),
                limits: paperclip_engine::limits(),
            },
        };
        let (request, secrets) = intake::split(context, plugin.adapter_type(), facts)?;
        variables::check(&request, &secrets)?;
        let redactor = masking::redactor(&request, &secrets, &config.unmasked_env)?;
        Ok(PreparedRun {
            plugin: Arc::clone(plugin),
            request,
            secrets,
            redactor,
            warnings,
            unmasked_env: config.unmasked_env.clone(),
            adopted: None,
        })
    }

    /// Returns the namespace that a run counts against: the one that its config names, else that of Paperclip's pod, else the default.
    pub fn namespace_of(&self, request: &paperclip_contract::types::Request) -> String {
        let config: Value = serde_json::from_str(&request.config_json).unwrap_or_default();
        let named = config["namespace"].as_str().map(str::trim).filter(|name| !name.is_empty());
        let of_pod = || self.paperclip_pod.as_ref().and_then(paperclip_pod::namespace);
        named.or_else(of_pod).or(request.host.default_namespace.as_deref()).unwrap_or("default").to_owned()
    }

    /// Reads the files that a config names. A file that cannot be read is a warning.
    fn read_files(
        &self,
        config: &Value,
        plugin: &Arc<Plugin>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<ContextFile>, PrepareError> {
        let mut reader = FileReader::new(self.config.paperclip_home.as_deref());
        if let Some(path) = config["instructionsFilePath"].as_str().filter(|path| !path.trim().is_empty()) {
            reader.read_instructions(path);
        }
        if config["paperclipRuntimeSkills"].as_array().is_some_and(|skills| !skills.is_empty()) {
            reader.read_skills(&skills(config, plugin)?);
        }
        warnings.append(&mut reader.warnings);
        Ok(reader.files)
    }
}

/// Asks the plugin which skills a config selects.
fn skills(config: &Value, plugin: &Arc<Plugin>) -> Result<SkillSnapshot, PrepareError> {
    let fields = ["paperclipRuntimeSkills", "paperclipSkillSync"];
    let config: Map<_, _> =
        fields.into_iter().map(|field| (field.to_owned(), config[field].clone())).collect();
    let snapshot = Tools::new(Arc::clone(plugin)).skills(&json!({ "config": config }).to_string())?;
    Ok(serde_json::from_str(&snapshot.map_err(PrepareError::Skills)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(config: Config, pod: Value) -> HostContext {
        HostContext::new(config, None).with_paperclip_pod(Some(pod))
    }

    #[test]
    fn the_configured_url_of_paperclip_wins_over_the_pods() {
        let pod = json!({"spec": {"containers": [{"env": [
            {"name": "HOST", "value": "paperclip"},
            {"name": "PAPERCLIP_API_URL", "value": "http://$(HOST):3100"},
        ]}]}});
        let found = host(Config::default(), pod.clone());
        assert_eq!(found.paperclip_api_url.as_deref(), Some("http://paperclip:3100"));
        let configured = Config { paperclip_api_url: Some("http://p".to_owned()), ..Config::default() };
        assert_eq!(host(configured, pod).paperclip_api_url.as_deref(), Some("http://p"));
    }

    #[test]
    fn an_agent_type_named_beside_the_context_wins() {
        let context = json!({"agent": {"adapterType": "claude_k8s"}});
        assert_eq!(adapter_type(&context, None), Ok("claude_k8s"));
        assert_eq!(adapter_type(&context, Some("other_k8s")), Ok("other_k8s"));
        assert!(adapter_type(&json!({}), None).is_err());
    }

    #[test]
    fn a_run_counts_against_the_namespace_of_its_config_first() {
        let host = host(Config::default(), json!({"metadata": {"namespace": "paperclip"}}));
        let namespace = |config: Value| {
            let context = json!({"runId": "r", "agent": {"id": "a"}, "config": config});
            let (request, _) = intake::split(&context, "t", IntakeFacts::bare(Some("d"))).expect("good");
            (
                host.namespace_of(&request),
                HostContext { paperclip_pod: None, ..bare() }.namespace_of(&request),
            )
        };
        assert_eq!(namespace(json!({"namespace": " n "})), ("n".to_owned(), "n".to_owned()));
        assert_eq!(namespace(json!({})), ("paperclip".to_owned(), "d".to_owned()));
    }

    fn bare() -> HostContext {
        HostContext::new(Config::default(), None)
    }
}
