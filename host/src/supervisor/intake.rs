//! From a context to what a run begins with.

use std::sync::Arc;

use paperclip_contract::types::Request;
use paperclip_diagnostic::Diagnostic;
use paperclip_engine::intake::Secrets;
use paperclip_engine::redact::Redactor;
use paperclip_guest::Plugin;
use paperclip_shell::Cluster;
use serde_json::Value;

use super::Surroundings;
use super::refusal::{Kind, Refusal};
use crate::beginning::{self, Given};
use crate::{documents, environment};

/// What a run is asked to do, its secrets set aside.
pub(super) struct Intake {
    pub(super) request: Request,
    pub(super) secrets: Secrets,
    pub(super) redactor: Redactor,
    /// What could not be read on the way.
    pub(super) warnings: Vec<String>,
}

/// Splits a context for a plugin.
pub(super) fn take(context: &Value, plugin: &Arc<Plugin>, around: &Surroundings) -> Result<Intake, Refusal> {
    let config = &around.config;
    let mut self_pod = around.own_pod.clone();
    let mut warnings = self_pod.as_mut().map(environment::expand_own_literals).unwrap_or_default();
    let home = config.paperclip_home.as_deref();
    let files = documents::read_files(&context["config"], home, plugin, &mut warnings)
        .map_err(|error| bad_context(crate::exit::diagnostic_of(&error)))?;
    let given = Given {
        self_pod: self_pod.as_ref(),
        files,
        default_namespace: Some(default_namespace(around, context).to_owned()),
        paperclip_api_url: around.paperclip.as_ref().map(|api| api.url().to_owned()),
    };
    let (request, secrets) = beginning::take(context, plugin, config, given).map_err(bad_context)?;
    let redactor = beginning::redactor(&request, &secrets, &config.unmasked_env)
        .map_err(|error| bad_context(Diagnostic::new("bad_context", error.to_string())))?;
    Ok(Intake { request, secrets, redactor, warnings })
}

pub(super) fn bad_context(problem: impl Into<Diagnostic>) -> Refusal {
    let Diagnostic { message, hint, .. } = problem.into();
    let hint = hint.unwrap_or_else(|| "correct that field and send the context again".to_owned());
    Refusal::new(Kind::BadRequest, format!("context: {message}"), hint)
}

/// The cluster that a config names in `kubeconfig`, else the host's own.
pub(super) fn cluster<'a>(around: &'a Surroundings, config: &Value) -> Result<&'a Cluster, Refusal> {
    let named = config["kubeconfig"].as_str().map(str::trim).filter(|name| !name.is_empty());
    let Some(name) = named else { return Ok(&around.cluster) };
    around.clusters.get(name).ok_or_else(|| {
        let known: Vec<&str> = around.clusters.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Refusal::new(
            Kind::BadRequest,
            format!("config.kubeconfig: this host knows no cluster {name:?}"),
            format!("name one of its [clusters], or leave it out: {known}"),
        )
    })
}

fn default_namespace<'a>(around: &'a Surroundings, context: &Value) -> &'a str {
    let own = around.config.namespace.as_deref();
    own.unwrap_or_else(|| cluster(around, &context["config"]).unwrap_or(&around.cluster).default_namespace())
}

/// The namespace that a run counts against: the one that its config names, else the own pod's, else the default one.
pub(super) fn namespace(around: &Surroundings, request: &Request) -> String {
    let config: Value = serde_json::from_str(&request.config_json).unwrap_or_default();
    let named = config["namespace"].as_str().map(str::trim).filter(|name| !name.is_empty());
    let own = || around.own_pod.as_ref().and_then(|pod| pod["metadata"]["namespace"].as_str());
    named.or_else(own).or(request.host.default_namespace.as_deref()).unwrap_or("default").to_owned()
}
