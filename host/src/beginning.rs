//! What a run begins with, whoever drives it: its plugin pinned, its journal begun, its secrets masked.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use paperclip_contract::types::{ContextFile, HostFacts, Request};
use paperclip_diagnostic::Diagnose;
use paperclip_engine::PluginIdentity;
use paperclip_engine::intake::{self, IntakeError, Secrets, Surroundings};
use paperclip_engine::journal::FORMAT;
use paperclip_engine::policy;
use paperclip_engine::redact::Redactor;
use paperclip_guest::{LoadError, Plugin, Runtime};
use paperclip_shell::Journal;
use paperclip_shell::journal::{self, Adopted, Header, JournalError, RunFolder};
use serde_json::Value;

use crate::args::JournalMode;
use crate::config::Config;
use crate::environment;

/// Interval of the cancel poll.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(15);

/// Who decides for the run.
pub(crate) fn identity(plugin: &Plugin) -> PluginIdentity {
    PluginIdentity {
        adapter_type: plugin.adapter_type().to_owned(),
        version: plugin.version().to_owned(),
        digest: plugin.digest().to_owned(),
    }
}

/// What is known of a context's surroundings beside the configuration.
pub(crate) struct Given<'a> {
    /// The own pod, its literals expanded.
    pub(crate) self_pod: Option<&'a Value>,
    pub(crate) files: Vec<ContextFile>,
    pub(crate) default_namespace: Option<String>,
    pub(crate) paperclip_api_url: Option<String>,
}

/// Why no run begins with a context, with the field at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContextError {
    #[error(transparent)]
    Intake(#[from] IntakeError),
    #[error(transparent)]
    Environment(#[from] environment::Unfit),
}

impl Diagnose for ContextError {
    fn code(&self) -> &'static str {
        match self {
            ContextError::Intake(error) => error.code(),
            ContextError::Environment(error) => error.code(),
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            ContextError::Intake(error) => error.hint(),
            ContextError::Environment(error) => error.hint(),
        }
    }
}

/// Splits a context into what the plugin may see and the secrets.
pub(crate) fn take(
    context: &Value,
    plugin: &Plugin,
    config: &Config,
    given: Given<'_>,
) -> Result<(Request, Secrets), ContextError> {
    let surroundings = Surroundings {
        self_pod: given.self_pod,
        revealed_env: &config.grant(plugin.adapter_type()).reveal(&plugin.descriptor().revealed_env),
        files: given.files,
        host: HostFacts {
            default_namespace: given.default_namespace,
            paperclip_api_url: given.paperclip_api_url,
            denied_env: config.denied_env.clone(),
            clusters: config.clusters.keys().cloned().collect(),
            limits: paperclip_engine::limits(),
        },
    };
    let (request, secrets) = intake::take(context, plugin.adapter_type(), surroundings)?;
    environment::check(&request, &secrets)?;
    Ok((request, secrets))
}

/// Takes a run's folder. A journal at best effort is done without where there is no place for it.
pub(crate) fn open_folder(
    state: &Path,
    run_id: &str,
    mode: JournalMode,
) -> Result<Option<RunFolder>, JournalError> {
    match (RunFolder::open(state, run_id), mode) {
        (Ok(folder), _) => Ok(Some(folder)),
        (Err(JournalError::Io { path, cause }), JournalMode::BestEffort) => {
            journal::warn(&path, &cause);
            Ok(None)
        }
        (Err(error), _) => Err(error),
    }
}

/// What is kept of a run that begins, beside its journal.
pub(crate) fn header(
    plugin: &Plugin,
    run_id: &str,
    unmasked_env: &[String],
    adopted: Option<Adopted>,
) -> Header {
    Header {
        format: FORMAT,
        run_id: run_id.to_owned(),
        adapter_type: plugin.adapter_type().to_owned(),
        plugin_version: plugin.version().to_owned(),
        plugin_digest: plugin.digest().to_owned(),
        contract: plugin.contract().to_owned(),
        unmasked_env: unmasked_env.to_vec(),
        adopted,
    }
}

/// The journal of a run that begins, or goes on, in this folder.
pub(crate) fn begin_journal(
    state: &Path,
    mut folder: RunFolder,
    plugin: &Plugin,
    header: &Header,
    mode: JournalMode,
) -> Result<Journal, JournalError> {
    match (begin_folder(state, &mut folder, plugin, header), mode) {
        (Ok(()), _) => Ok(Journal::new(folder, mode == JournalMode::Required)),
        (Err(error), JournalMode::BestEffort) => {
            journal::warn(folder.path(), &error);
            Ok(Journal::none())
        }
        (Err(error), JournalMode::Required) => Err(error),
    }
}

/// The plugin that a run began with: it stays with it, whatever is in use now. `loaded` is asked before the file that was kept.
pub(crate) fn pinned(
    runtime: &Runtime,
    state: &Path,
    header: &Header,
    loaded: Option<Arc<Plugin>>,
) -> Result<Arc<Plugin>, Unpinned> {
    if let Some(plugin) = loaded.filter(|plugin| plugin.digest() == header.plugin_digest) {
        return Ok(plugin);
    }
    Plugin::load_file(runtime, &journal::kept_plugin(state, &header.plugin_digest)).map_err(|cause| {
        let Header { run_id, adapter_type, plugin_version, .. } = header.clone();
        Unpinned { run_id, adapter_type, plugin_version, cause }
    })
}

/// A run whose plugin cannot be loaded any more.
#[derive(Debug, thiserror::Error)]
#[error("run {run_id} began with plugin {adapter_type} {plugin_version} and stays with it: {cause}")]
pub(crate) struct Unpinned {
    run_id: String,
    adapter_type: String,
    plugin_version: String,
    cause: LoadError,
}

impl Diagnose for Unpinned {
    fn code(&self) -> &'static str {
        self.cause.code()
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        self.cause.hint()
    }
}

/// Keeps the plugin and says in the run's folder what the run is, unless it has begun already.
fn begin_folder(
    state: &Path,
    folder: &mut RunFolder,
    plugin: &Plugin,
    header: &Header,
) -> Result<(), JournalError> {
    if folder.header().is_some() {
        return Ok(());
    }
    journal::keep_plugin(state, plugin.digest(), plugin.file())
        .map_err(|cause| JournalError::Io { path: journal::kept_plugin(state, plugin.digest()), cause })?;
    folder.begin(header)
}

/// Masks all secrets but those that the plugin was shown, and those that the operator says are none.
pub(crate) fn redactor(
    request: &Request,
    secrets: &Secrets,
    unmasked_env: &[String],
) -> anyhow::Result<Redactor> {
    let shown =
        |name: &str| request.config_env.iter().any(|entry| entry.name == name && entry.value.is_some());
    let unmasked = |name: &str| unmasked_env.iter().any(|pattern| policy::fits(pattern, name));
    let token = secrets.auth_token().map(|token| (AUTH_TOKEN, token));
    let env = secrets.named().filter(|(name, _)| *name != AUTH_TOKEN && !shown(name) && !unmasked(name));
    Ok(Redactor::new(token.into_iter().chain(env))?)
}

/// The name under which the run's token is masked, whatever variables are called.
const AUTH_TOKEN: &str = "authToken";

/// The seed of a run's jitter: runs that fail together should not come back together.
pub(crate) fn seed(run_id: &str) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(run_id)
}

#[cfg(test)]
mod tests {
    use paperclip_contract::types::SecretSource;

    use super::*;

    fn request() -> Request {
        let context = serde_json::json!({"runId": "r", "agent": {"id": "a"}});
        let surroundings = Surroundings::bare(None);
        intake::take(&context, "t", surroundings).expect("a good context").0
    }

    #[test]
    fn masking_can_be_turned_off_for_a_variable_and_never_for_the_token() {
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
