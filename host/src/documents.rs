//! The documents that commands read: execution contexts, pods, evidence, output.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use paperclip_contract::types::{ContextFile, Request};
use paperclip_diagnostic::{Diagnose as _, Diagnostic};
use paperclip_engine::intake::{self, Secrets};
use paperclip_guest::{Plugin, Tools};
use serde_json::{Value, json};

use crate::args::ContextArgs;
use crate::beginning::{self, Given};
use crate::bundle::{Reader, Snapshot};
use crate::config::Config;
use crate::environment;
use crate::exit::usage;

/// Reads a text that a person named; `-` is stdin.
pub(crate) fn read(what: &str, path: &Path) -> anyhow::Result<String> {
    let outcome = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    outcome.map_err(|error| {
        usage(
            Diagnostic::new("file_unreadable", format!("{what} {}: {error}", path.display()))
                .with_hint("name a readable file, or - for stdin"),
        )
    })
}

/// An execution context, read but not yet split.
pub(crate) fn read_context(args: &ContextArgs) -> anyhow::Result<Value> {
    parse_context(&args.context)
}

/// The same, by its path alone.
pub(crate) fn parse_context(path: &Path) -> anyhow::Result<Value> {
    let text = read("context", path)?;
    intake::parse(&text)
        .map_err(|error| usage(error.diagnostic().on(format_args!("context {}", path.display()))))
}

/// The agent type that a context, or who called, asks for.
pub(crate) fn adapter_type(context: &Value, asked: Option<&str>) -> anyhow::Result<String> {
    asked.or_else(|| intake::adapter_type(context)).map(str::to_owned).ok_or_else(|| {
        usage(
            Diagnostic::new("bad_context", "agent.adapterType is missing in the context")
                .with_hint("set it, or name the agent type with --adapter"),
        )
    })
}

/// The own pod, from a file.
pub(crate) fn read_self_pod(path: &Path) -> anyhow::Result<Value> {
    let text = read("Paperclip's pod", path)?;
    let pod: Value = serde_json::from_str(&text).map_err(|error| {
        usage(
            Diagnostic::new(
                "bad_paperclip_pod",
                format!("Paperclip's pod {}: not JSON: {error}", path.display()),
            )
            .with_hint("give the Pod as JSON, such as `kubectl get pod NAME -o json` prints it"),
        )
    })?;
    if pod["spec"]["containers"].is_array() {
        return Ok(pod);
    }
    Err(usage(
        Diagnostic::new(
            "bad_paperclip_pod",
            format!("Paperclip's pod {}: it has no spec.containers", path.display()),
        )
        .with_hint("give a core/v1 Pod as JSON"),
    ))
}

/// What a run is asked to do, its secrets set aside, and what could not be read on the way.
pub(crate) struct Intake {
    pub(crate) request: Request,
    pub(crate) secrets: Secrets,
    pub(crate) warnings: Vec<String>,
}

/// Splits a context for a plugin.
pub(crate) fn take(
    context: &Value,
    args: &ContextArgs,
    config: &Config,
    plugin: &Arc<Plugin>,
    self_pod: Option<&Value>,
    cluster_namespace: Option<&str>,
) -> anyhow::Result<Intake> {
    let paperclip_api_url = api_url(args, self_pod);
    let mut self_pod = self_pod.cloned();
    let mut warnings = self_pod.as_mut().map(environment::expand_own_literals).unwrap_or_default();
    let files = read_files(&context["config"], args.paperclip_home.as_deref(), plugin, &mut warnings)?;
    let given = Given {
        self_pod: self_pod.as_ref(),
        files,
        default_namespace: args.namespace.clone().or(cluster_namespace.map(str::to_owned)),
        paperclip_api_url,
    };
    let (request, secrets) = beginning::take(context, plugin, config, given)
        .map_err(|error| usage(error.diagnostic().on(format_args!("context {}", args.context.display()))))?;
    Ok(Intake { request, secrets, warnings })
}

/// Where Paperclip's API is: as configured, else as the own pod has it. Never as a run's config says: the token would follow it.
pub(crate) fn api_url(args: &ContextArgs, self_pod: Option<&Value>) -> Option<String> {
    args.paperclip_api_url.clone().or_else(|| own_api_url(self_pod?))
}

/// The URL that the own pod has in its environment.
pub(crate) fn own_api_url(self_pod: &Value) -> Option<String> {
    let mut pod = self_pod.clone();
    environment::expand_own_literals(&mut pod);
    environment::own_literal(&pod, "PAPERCLIP_API_URL").map(str::to_owned)
}

/// The files that a context names, as far as they can be read: a missing one is a warning.
pub(crate) fn read_files(
    config: &Value,
    home: Option<&Path>,
    plugin: &Arc<Plugin>,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Vec<ContextFile>> {
    let mut reader = Reader::new(home);
    if let Some(named) = config["instructionsFilePath"].as_str().filter(|path| !path.trim().is_empty()) {
        reader.read_instructions(named);
    }
    if config["paperclipRuntimeSkills"].as_array().is_some_and(|skills| !skills.is_empty()) {
        reader.read_skills(&skills(config, plugin)?);
    }
    warnings.append(&mut reader.warnings);
    Ok(reader.files)
}

/// Which skills a config asks for: the plugin knows.
fn skills(config: &Value, plugin: &Arc<Plugin>) -> anyhow::Result<Snapshot> {
    let fields = ["paperclipRuntimeSkills", "paperclipSkillSync"];
    let config: serde_json::Map<_, _> =
        fields.into_iter().map(|field| (field.to_owned(), config[field].clone())).collect();
    let snapshot = Tools::new(plugin.clone()).skills(&json!({ "config": config }).to_string())?;
    let snapshot = snapshot.map_err(|problem| usage(Diagnostic::new("bad_config", problem)))?;
    Ok(serde_json::from_str(&snapshot)?)
}
