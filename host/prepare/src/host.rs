//! What a host adds to execution contexts, and the way from a context to a prepared run.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use paperclip_contract::types::HostFacts;
use paperclip_diagnostic::{Diagnose, Diagnostic};
use paperclip_engine::GuestFault;
use paperclip_engine::intake::{self, IntakeError, IntakeFacts};
use paperclip_guest::{Plugin, Tools};
use paperclip_shell::{Cluster, UrlError};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::files::{FileReader, INSTRUCTIONS_FILE, SkillSnapshot};
use crate::masking::{self, MaskedEnv, MaskingError};
use crate::operator;
use crate::paperclip_apis::PaperclipApis;
use crate::paperclip_pod::{self, PaperclipPodError};
use crate::run::PreparedRun;
use crate::server_env;
use crate::state;
use crate::supplied::{self, Files, SuppliedError};
use crate::variables::{self, VariableError};

/// The warning of a run whose cancellation in Paperclip nobody would notice.
const NO_CANCEL_POLL: &str = "Paperclip's API is not asked whether the run is cancelled, since its URL is not known to this host: a run is cancelled by this host's API only";

/// What a host adds to every run.
///
/// ```
/// use paperclip_prepare::{Config, HostContext};
///
/// let host = HostContext::new(Config::default(), None);
/// assert_eq!(host.paperclip_pod, None, "agents inherit from no pod that nobody has named");
/// ```
#[derive(Debug)]
pub struct HostContext {
    pub config: Config,
    /// Folder for journals; without one runs have no journal.
    pub state: Option<PathBuf>,
    /// Distinguishes this host from others.
    pub host_id: String,
    /// Paperclip's pod out of a file, which takes the place of the one that runs or the configuration name.
    pub paperclip_pod: Option<Value>,
    /// Clients of Paperclip's API.
    pub paperclip_apis: PaperclipApis,
    /// The name of the service account that this process runs as, if it runs in a cluster. No run gets it.
    pub own_account: Option<String>,
}

/// Where a run's agent will run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Namespace of runs for which neither their config nor the configuration names one.
    pub namespace: Option<&'a str>,
    /// What is missing to reach Paperclip is an error where agents run in pods of their own. The local cluster shares the machine's
    /// network, and a manifest that is only printed starts nothing.
    pub needs_api_url: bool,
    /// Whether a run starts there, as opposed to a manifest that is printed.
    pub starts: bool,
}

/// What the client that starts a run has chosen.
#[derive(Debug, Default)]
pub struct StartOptions {
    /// Files for the agent; none: those that the config names are read from this machine's disk.
    pub files: Option<Files>,
    /// Whether the client requests cancellations itself, so that Paperclip's API is not polled for them.
    pub pushes_cancel: bool,
}

/// Why a context cannot become a run.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Context(#[from] IntakeError),
    #[error(transparent)]
    Supplied(#[from] SuppliedError),
    #[error(transparent)]
    Variables(#[from] VariableError),
    /// The plugin refuses the skills of the config.
    #[error("{0}")]
    Skills(String),
    #[error(transparent)]
    Masking(#[from] MaskingError),
    #[error(transparent)]
    Plugin(#[from] GuestFault),
    /// Agents would call themselves instead of Paperclip.
    #[error(
        "PAPERCLIP_API_URL is not known: agents would look for Paperclip's API at http://localhost:3100, which is the pod of the agent"
    )]
    NoApiUrl,
    /// The URL of Paperclip's API cannot be used.
    #[error(transparent)]
    ApiUrl(#[from] UrlError),
    /// The plugin's snapshot of skills is wrong.
    #[error("the plugin's snapshot of skills cannot be read: {0}")]
    Snapshot(#[from] serde_json::Error),
}

impl Diagnose for PrepareError {
    fn code(&self) -> &'static str {
        match self {
            PrepareError::Context(error) => error.code(),
            PrepareError::Supplied(error) => error.code(),
            PrepareError::Variables(error) => error.code(),
            PrepareError::Skills(_) => "bad_context",
            PrepareError::NoApiUrl => "no_api_url",
            PrepareError::ApiUrl(error) => error.code(),
            PrepareError::Masking(error) => error.code(),
            PrepareError::Plugin(_) | PrepareError::Snapshot(_) => "plugin_failed",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            PrepareError::Context(error) => error.hint(),
            PrepareError::Supplied(error) => error.hint(),
            PrepareError::Variables(error) => error.hint(),
            PrepareError::Skills(_) => Some("correct that field of the config".into()),
            PrepareError::NoApiUrl => Some(
                "set paperclip_api_url (--paperclip-api-url) or api_url of [agents] in the host's configuration, or name Paperclip's pod"
                    .into(),
            ),
            PrepareError::ApiUrl(error) => error.hint(),
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
    /// Returns the context of a host whose journals are in `state`.
    pub fn new(config: Config, state: Option<PathBuf>) -> HostContext {
        HostContext {
            host_id: state::host_id(state.as_deref()),
            paperclip_pod: None,
            paperclip_apis: PaperclipApis::default(),
            own_account: operator::own_account(),
            state,
            config,
        }
    }

    /// Returns the pod that the agent of a run inherits from, if one is named.
    ///
    /// # Errors
    /// The pod does not exist or cannot be read.
    pub async fn find_paperclip_pod(
        &self,
        cluster: &Cluster,
        context: &Value,
    ) -> Result<Option<Value>, PaperclipPodError> {
        match &self.paperclip_pod {
            Some(pod) => Ok(Some(pod.clone())),
            None => paperclip_pod::find(&self.config, cluster, context).await,
        }
    }

    /// Splits an execution context into what the plugin may see and the secrets, and checks it. `pod` is the pod that the agent inherits
    /// from.
    ///
    /// # Errors
    /// A field of the context is missing or wrong, or the plugin fails.
    pub fn prepare(
        &self,
        context: &Value,
        pod: Option<Value>,
        plugin: &Arc<Plugin>,
        target: Target<'_>,
    ) -> Result<PreparedRun, PrepareError> {
        self.prepare_with(context, pod, plugin, target, StartOptions::default())
    }

    /// As [`HostContext::prepare`], with what the client that starts the run has chosen.
    ///
    /// # Errors
    /// As [`HostContext::prepare`].
    pub fn prepare_with(
        &self,
        context: &Value,
        pod: Option<Value>,
        plugin: &Arc<Plugin>,
        target: Target<'_>,
        options: StartOptions,
    ) -> Result<PreparedRun, PrepareError> {
        let config = &self.config;
        let context = supplied::complete(context)?;
        // Before the operator's variables are added: those are for agents.
        let context = server_env::without(&context);
        let context = &*operator::in_company_namespace(config, config.agents.complete(&context));
        let mut pod = pod;
        let company_id = context["agent"]["companyId"].as_str().unwrap_or_default();
        let grant = config.grant(plugin.adapter_type(), company_id);
        let mut warnings = Vec::new();
        if let Some(pod) = &mut pod {
            operator::deny_variables(pod, &config.denied_env);
            warnings.extend(operator::deny_secret_volumes(pod, &grant));
        }
        let mut pod = config.agents.overlay(pod);
        warnings.extend(pod.iter_mut().flat_map(paperclip_pod::expand_literals));
        // It never comes from a run's config: the run's token would follow it.
        let api_url = config.paperclip_api_url.clone().or_else(|| paperclip_pod::api_url(pod.as_ref()?));
        let paperclip = api_url.as_deref().map(|url| self.paperclip_apis.get(url)).transpose()?;
        if paperclip.is_none() {
            if !paperclip_pod::names_api_url(pod.as_ref()) {
                if target.needs_api_url {
                    return Err(PrepareError::NoApiUrl);
                }
                warnings.push("PAPERCLIP_API_URL is not known: agents get http://localhost:3100".to_owned());
            }
            if target.starts && !options.pushes_cancel {
                warnings.push(NO_CANCEL_POLL.to_owned());
            }
        }
        let Files { files, instructions_path } = match options.files {
            Some(files) => files,
            None => self.read_files(&context["config"], plugin, &mut warnings)?,
        };
        let facts = IntakeFacts {
            paperclip_pod: pod.as_ref(),
            revealed_env: &grant.reveal(&plugin.descriptor().revealed_env),
            instructions_path,
            files,
            host: HostFacts {
                default_namespace: config.namespace.as_deref().or(target.namespace).map(str::to_owned),
                paperclip_api_url: paperclip.as_ref().map(|api| api.url().to_owned()),
                denied_env: config.denied_env.clone(),
                clusters: config.clusters.keys().cloned().collect(),
                limits: paperclip_engine::limits(),
                init_config_map: paperclip_init_program::config_map()
                    .filter(|_| config.agents.count_output)
                    .map(str::to_owned),
            },
        };
        let (mut request, secrets) = intake::split(context, plugin.adapter_type(), facts)?;
        variables::check(&request, &secrets)?;
        let masked = MaskedEnv::of_run(context, &request, &secrets, config);
        if let MaskedEnv::Names(names) = &masked {
            request.masked_env.clone_from(names);
        }
        let redactor = masking::redactor(&request, &secrets, &masked, plugin.protocol_members())?;
        warnings.extend(masking::warn_of_words(&request, &secrets, &masked));
        Ok(PreparedRun {
            plugin: Arc::clone(plugin),
            request,
            secrets,
            redactor,
            paperclip,
            warnings,
            masked,
            pushes_cancel: options.pushes_cancel,
            adopted: None,
            generation: None,
            record: None,
            takes_over: false,
        })
    }

    /// Returns the namespace that a run counts against: the one that its config names, else that of Paperclip's pod, else the default.
    pub fn namespace_of(request: &paperclip_contract::types::Request) -> String {
        let config: Value = serde_json::from_str(&request.config_json).unwrap_or_default();
        let named = config["namespace"].as_str().map(str::trim).filter(|name| !name.is_empty());
        let pod: Option<Value> =
            request.paperclip_pod_json.as_deref().and_then(|pod| serde_json::from_str(pod).ok());
        let of_pod = || pod.as_ref().and_then(paperclip_pod::namespace);
        named.or_else(of_pod).or(request.host.default_namespace.as_deref()).unwrap_or("default").to_owned()
    }

    /// Reads the files that a config names. A file that cannot be read is a warning.
    fn read_files(
        &self,
        config: &Value,
        plugin: &Arc<Plugin>,
        warnings: &mut Vec<String>,
    ) -> Result<Files, PrepareError> {
        let mut reader = FileReader::new(self.config.paperclip_home.as_deref());
        if let Some(path) = config["instructionsFilePath"].as_str().filter(|path| !path.trim().is_empty()) {
            reader.read_instructions(path)?;
        }
        if config["paperclipRuntimeSkills"].as_array().is_some_and(|skills| !skills.is_empty()) {
            reader.read_skills(&skills(config, plugin)?)?;
        }
        warnings.append(&mut reader.warnings);
        let has_instructions = reader.files.iter().any(|file| file.path == INSTRUCTIONS_FILE);
        Ok(Files {
            files: reader.files,
            instructions_path: has_instructions.then(|| INSTRUCTIONS_FILE.to_owned()),
        })
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

    #[test]
    fn an_agent_type_named_beside_the_context_wins() {
        let context = json!({"agent": {"adapterType": "claude_k8s"}});
        assert_eq!(adapter_type(&context, None), Ok("claude_k8s"));
        assert_eq!(adapter_type(&context, Some("other_k8s")), Ok("other_k8s"));
        assert!(adapter_type(&json!({}), None).is_err());
    }

    #[test]
    fn a_run_counts_against_the_namespace_of_its_config_first() {
        let pod = json!({"metadata": {"namespace": "paperclip"}, "spec": {"containers": [{"name": "p"}]}});
        let namespace = |config: Value, pod: Option<&Value>| {
            let context = json!({"runId": "r", "agent": {"id": "a"}, "config": config});
            let facts = IntakeFacts { paperclip_pod: pod, ..IntakeFacts::bare(Some("d")) };
            let (request, _) = intake::split(&context, "t", facts).expect("good");
            HostContext::namespace_of(&request)
        };
        assert_eq!(namespace(json!({"namespace": " n "}), Some(&pod)), "n");
        assert_eq!(namespace(json!({}), Some(&pod)), "paperclip");
        assert_eq!(namespace(json!({}), None), "d");
    }
}
