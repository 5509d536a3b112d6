//! The documents that commands read: execution contexts, pods, evidence, output.

use std::io::Read as _;
use std::path::Path;

use paperclip_contract::types::{ContextFile, HostFacts, Request};
use paperclip_engine::intake::{self, Secrets, Surroundings};
use paperclip_guest::Plugin;
use serde_json::Value;

use crate::args::ContextArgs;
use crate::exit::usage;

/// The name under which the plugin finds an agent's instructions among the files of a request.
const INSTRUCTIONS_FILE: &str = "agent-instructions.md";
/// Most bytes of a file that a context names.
const MAX_FILE_BYTES: u64 = 3 << 20;

/// Reads a text that a person named; `-` is stdin.
pub(crate) fn read(what: &str, path: &Path) -> anyhow::Result<String> {
    let outcome = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    outcome.map_err(|error| {
        usage(format!("{what} {}: {error}; name a readable file, or - for stdin", path.display()))
    })
}

/// An execution context, read but not yet split.
pub(crate) fn read_context(args: &ContextArgs) -> anyhow::Result<Value> {
    let text = read("context", &args.context)?;
    intake::parse(&text).map_err(|error| usage(format!("context {}: {error}", args.context.display())))
}

/// The agent type that a context, or who called, asks for.
pub(crate) fn adapter_type(context: &Value, asked: Option<&str>) -> anyhow::Result<String> {
    asked.or_else(|| intake::adapter_type(context)).map(str::to_owned).ok_or_else(|| {
        usage("agent.adapterType is missing in the context: set it, or name the agent type with --adapter")
    })
}

/// The own pod, from a file.
pub(crate) fn read_self_pod(path: &Path) -> anyhow::Result<Value> {
    let text = read("own pod", path)?;
    let pod: Value = serde_json::from_str(&text).map_err(|error| {
        let mend = "give the Pod as JSON, such as `kubectl get pod NAME -o json` prints it";
        usage(format!("own pod {}: not JSON: {error}; {mend}", path.display()))
    })?;
    if pod["spec"]["containers"].is_array() {
        return Ok(pod);
    }
    Err(usage(format!("own pod {}: it has no spec.containers; give a core/v1 Pod as JSON", path.display())))
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
    plugin: &Plugin,
    self_pod: Option<&Value>,
    cluster_namespace: Option<&str>,
) -> anyhow::Result<Intake> {
    let mut warnings = Vec::new();
    let surroundings = Surroundings {
        self_pod,
        revealed_env: &plugin.descriptor().revealed_env,
        files: read_files(context, args.paperclip_home.as_deref(), &mut warnings),
        host: HostFacts {
            default_namespace: args.namespace.clone().or(cluster_namespace.map(str::to_owned)),
            paperclip_api_url: api_url(args, self_pod),
            denied_env: Vec::new(),
            clusters: Vec::new(),
            limits: paperclip_engine::limits(),
        },
    };
    let (request, secrets) = intake::take(context, plugin.adapter_type(), surroundings)
        .map_err(|error| usage(format!("context {}: {error}", args.context.display())))?;
    Ok(Intake { request, secrets, warnings })
}

/// Where Paperclip's API is: as configured, else as the own pod has it. Never as a run's config says: the token would follow it.
pub(crate) fn api_url(args: &ContextArgs, self_pod: Option<&Value>) -> Option<String> {
    args.paperclip_api_url.clone().or_else(|| {
        let containers = self_pod?["spec"]["containers"].as_array()?;
        let own =
            containers.iter().find(|container| container["name"] == "paperclip").or(containers.first())?;
        let entry = own["env"].as_array()?.iter().find(|entry| entry["name"] == "PAPERCLIP_API_URL")?;
        entry["value"].as_str().map(str::to_owned)
    })
}

/// The files that a context names, as far as they can be read: a missing one is a warning.
fn read_files(context: &Value, home: Option<&Path>, warnings: &mut Vec<String>) -> Vec<ContextFile> {
    let Some(named) = context["config"]["instructionsFilePath"].as_str().filter(|path| !path.is_empty())
    else {
        return Vec::new();
    };
    let path = match home {
        Some(home) if Path::new(named).is_relative() => home.join(named),
        Some(_) | None => Path::new(named).to_owned(),
    };
    let is_outside = home.is_some_and(|home| {
        let inside = path.canonicalize().ok().zip(home.canonicalize().ok());
        inside.is_some_and(|(path, home)| !path.starts_with(home))
    });
    let mut refuse = |why: &str| {
        warnings.push(format!("instructions {named}: {why}; the agent runs without them"));
        Vec::new()
    };
    if home.is_none() {
        return refuse("Paperclip's home folder is not known (--paperclip-home)");
    }
    if is_outside {
        return refuse("the file is outside Paperclip's home folder");
    }
    match std::fs::metadata(&path) {
        Err(error) => return refuse(&error.to_string()),
        Ok(file) if file.len() > MAX_FILE_BYTES => return refuse("the file is larger than 3 MiB"),
        Ok(_) => {}
    }
    match std::fs::read_to_string(&path) {
        Ok(content) => vec![ContextFile { path: INSTRUCTIONS_FILE.to_owned(), content }],
        Err(error) => refuse(&error.to_string()),
    }
}
