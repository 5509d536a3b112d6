//! The objects that a run creates in the cluster: a suspended Job, and the Secrets and ConfigMaps that it owns.

use std::collections::BTreeSet;
use std::mem;

use paperclip_kubernetes::environment::{VARIABLE_MAX_BYTES, escape};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::config::fields::Fields;
use crate::config::{self, Config, DataMount, Settings, unused};
use crate::kubernetes::{name, path};
use crate::prompt::{self, ContextFile, Metrics};
use crate::refusal::Refusal;
use crate::request::{Attempt, File, Request, text};

pub mod agent_type;
pub mod bundle;
pub mod command;
pub mod data_volume;
pub mod denied_env;
pub mod environment;
pub mod injected;
pub mod job;
pub mod labels;
pub mod mcp;
pub mod paperclip_pod;
pub mod secrets;
pub mod server_paths;
pub mod termination;

pub use agent_type::{AgentType, Call, ClaimMount, OutputBy, option};
pub use bundle::ConfigMapPlan;
pub use labels::RunLabels;
pub use secrets::{SecretPlan, Source};

use bundle::BUNDLE_DIR;
use command::CONTROL_FORMAT;
use environment::{Environment, Inheritance};
use mcp::McpServer;
use paperclip_pod::{DATA_DIR, PaperclipPod};
use secrets::SecretFile;

/// The annotation that distinguishes a Job of this specification from another one of the same name.
pub const SPEC_HASH: &str = "paperclip.io/spec-hash";
/// The annotation of a Job whose agent's output has control lines: their format and their tag, with a colon between them.
pub const CONTROL_LINES: &str = "paperclip.io/control-lines";
/// How many hexadecimal digits the tag of control lines has.
const TAG_HEX_DIGITS: usize = 16;
/// The file that configures MCP servers, below the bundle's folder.
const MCP_CONFIG: &str = "context/mcp.json";
/// A longer name is truncated in the annotation, which is for people.
const AGENT_NAME_MAX_CHARS: usize = 256;

/// An attempt's objects and facts, computed before anything is created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub namespace: String,
    pub job_name: String,
    /// The batch/v1 Job, suspended.
    pub job: Value,
    pub secrets: Vec<SecretPlan>,
    pub config_maps: Vec<ConfigMapPlan>,
    pub prompt: String,
    /// Texts that are too long for the prompt or a variable, in files of the bundle.
    pub context_files: Vec<ContextFile>,
    /// The program's arguments.
    pub args: Vec<String>,
    pub prompt_metrics: Metrics,
    /// The skills among the run's files, sorted.
    pub skills: Vec<String>,
    /// Keys of labels in the config that the run does not set.
    pub skipped_labels: Vec<String>,
    /// What was configured and is not used, and why; for the run's log.
    pub warnings: Vec<String>,
    pub labels: RunLabels,
    /// Runs with the same key exclude one another.
    pub guard_key: String,
    pub container_name: String,
    /// The name of one of the host's clusters; `None` is its default.
    pub cluster: Option<String>,
    pub settings: Settings,
    /// The hash under [`SPEC_HASH`].
    pub spec_hash: String,
}

impl Plan {
    /// Returns the labels of Secrets and ConfigMaps.
    pub fn owned_labels(&self) -> Vec<(&'static str, String)> {
        let kept =
            [labels::MANAGED_BY, labels::AGENT_ID, labels::ADAPTER_TYPE, labels::RUN_ID, labels::ATTEMPT];
        self.labels.entries().into_iter().filter(|(key, _)| kept.contains(key)).collect()
    }

    /// Returns `Skills bundled (2): a, b` or `Skills bundled (0): none`, for the run's log.
    pub fn skills_line(&self) -> String {
        format!("Skills bundled ({}): {}", self.skills.len(), self.skill_names())
    }

    /// Returns `Skills (2): a, b`, for Paperclip's record of how the agent was invoked.
    pub fn skills_note(&self) -> String {
        format!("Skills ({}): {}", self.skills.len(), self.skill_names())
    }

    fn skill_names(&self) -> String {
        if self.skills.is_empty() { "none".to_owned() } else { self.skills.join(", ") }
    }

    /// Returns the part of the prompt, or of what is too long for it, that a Secret's entry holds; `None` if it holds something else.
    pub fn prompt_of(&self, source: &Source) -> Option<&str> {
        match source {
            Source::Prompt => Some(&self.prompt),
            Source::PromptPiece { start, end } => self.prompt.get(*start..*end),
            Source::Context(number) => self.context_files.get(*number).map(|file| file.text.as_str()),
            Source::AuthToken | Source::ConfigEnv(_) | Source::PaperclipPodEnv(_) | Source::Json(_) => None,
        }
    }

    /// Returns the plan as `paperclip-host manifest` prints it.
    pub fn to_json(&self) -> Value {
        let config_maps: Vec<Value> = self
            .config_maps
            .iter()
            .map(|plan| {
                let keys: Vec<_> = plan.entries.keys().chain(plan.binary_entries.keys()).collect();
                json!({"name": plan.name, "namespace": plan.namespace, "keys": keys, "isShared": plan.is_shared})
            })
            .collect();
        json!({
            "namespace": self.namespace,
            "jobName": self.job_name,
            "job": self.job,
            "secrets": self.secrets,
            "configMaps": config_maps,
            "prompt": self.prompt,
            "contextFiles": self.context_files.iter().map(|file| json!({"path": file.location(), "bytes": file.text.len()})).collect::<Vec<_>>(),
            "args": self.args,
            "promptMetrics": self.prompt_metrics,
            "skippedLabels": self.skipped_labels,
            "warnings": self.warnings,
        })
    }
}

/// Plans one attempt of a run.
///
/// # Errors
/// Kubernetes, the container's runtime or the agent would refuse something that was configured, or the agent's id has no
/// character that is legal in a label. The refusal names the field and how to correct it.
pub fn plan(request: &Request, attempt: Attempt, agent_type: &dyn AgentType) -> Result<Plan, Refusal> {
    let mut config = config::read(request, agent_type.default_timeout_sec())?;
    let (mut warnings, mut read) = (mem::take(&mut config.warnings), mem::take(&mut config.read));
    let paperclip_pod = PaperclipPod::of(request)?;
    let labels = RunLabels::of(request, attempt, agent_type)?;
    let job_name = labels::job_name(agent_type.job_name_prefix(), request, attempt);
    let namespace = namespace(request, &config, &paperclip_pod, &mut warnings)?;
    let image = image(&config, &paperclip_pod)?;
    let working_dir = working_dir(request, &config)?;
    let data_folders = data_volume::folders(request, config.placement.data_mount, &working_dir);

    let session = session(request, attempt, &working_dir, agent_type, &mut warnings)?;
    let mcp_servers = mcp::servers(request);
    let mcp_config = mcp_config(&mcp_servers, agent_type, &mut warnings);
    let caller = Caller::new(request, session, &mcp_servers, mcp_config.is_some());
    let own_env =
        caller.ask(&mut warnings, &mut read, |call, fields| agent_type.environment(call, fields))?;
    let environment = {
        let injected = injected::names(&paperclip_pod, config.placement.service_account.is_some());
        let is_isolated =
            paperclip_pod.data_claim.is_some() && config.placement.data_mount == DataMount::Isolated;
        let inheritance = Inheritance {
            mode: config.settings.inherit_env,
            injected: &injected,
            data_folders: is_isolated.then_some(data_folders.as_slice()),
        };
        environment::build(request, &paperclip_pod, inheritance, agent_type, &own_env)?
    };
    let files = bundle::with_origin(
        &request.files,
        request.instructions_path.as_deref(),
        text(&request.config, "instructionsFilePath"),
    );
    let instructions = caller.instructions(&files).filter(|_| agent_type.has_instructions_in_prompt());
    let prompt = prompt::assemble(request, session.is_some(), instructions, &environment.files)?;
    let context_files = [environment.files.as_slice(), prompt.files.as_slice()].concat();
    let secrets = secrets::plan(
        &job_name,
        &namespace,
        &environment.variables,
        &prompt.text,
        &context_files,
        mcp_config.as_ref(),
    );
    let bundle =
        bundle::plan(&job_name, &namespace, &files, agent_type.skills_dir(), &secrets.context_sources)?;
    let caller = caller.with_bundle(bundle.is_some());
    let args = caller.ask(&mut warnings, &mut read, |call, fields| agent_type.arguments(call, fields))?;
    let claims = caller.ask(&mut warnings, &mut read, |call, fields| agent_type.claims(call, fields))?;
    let setup = caller.ask(&mut warnings, &mut read, |call, fields| agent_type.setup(call, fields))?;
    warnings.extend(environment.warnings.iter().cloned());
    warnings.extend(unused::warning(&request.config, &read));
    let control_tag = control_tag(request, attempt);
    let script = command::Script {
        setup: &setup,
        program: agent_type.program(),
        arguments: &args,
        prompt_files: secrets.prompt_files,
        output_by: agent_type.output_by(),
        control_tag: control_tag.as_deref(),
    };
    let script = script_text(&script, &environment)?;
    let agent_name: String = request.agent.name.chars().take(AGENT_NAME_MAX_CHARS).collect();
    let mut job = job::job(&job::Parts {
        name: &job_name,
        namespace: &namespace,
        labels: &labels,
        agent_name: &agent_name,
        container_name: agent_type.container_name(),
        image: &image,
        working_dir: &working_dir,
        script: &script,
        config: &config,
        paperclip_pod: &paperclip_pod,
        environment: &environment,
        secrets: &secrets,
        bundle: bundle.as_ref(),
        claims: &claims,
        data_folders: &data_folders,
        init_config_map: request.host.init_config_map.as_deref(),
    });
    let spec = serde_json::to_string(&Canonical(&job["spec"])).expect("a value has text keys");
    let spec_hash = labels::hex_digest(&spec);
    job["metadata"]["annotations"][SPEC_HASH] = json!(spec_hash);
    if let Some(tag) = control_tag {
        job["metadata"]["annotations"][CONTROL_LINES] = [CONTROL_FORMAT, ":", &tag].concat().into();
    }
    Ok(Plan {
        guard_key: labels.guard_key(config.settings.concurrency_scope, &request.run_id),
        namespace,
        job_name,
        job,
        secrets: secrets.plans,
        config_maps: bundle.map(|bundle| bundle.plans).unwrap_or_default(),
        prompt: prompt.text,
        context_files,
        args,
        prompt_metrics: prompt.metrics,
        skills: bundle::skills(&request.files),
        skipped_labels: config.placement.skipped_labels,
        warnings,
        labels,
        container_name: agent_type.container_name().to_owned(),
        cluster: config.placement.cluster,
        settings: config.settings,
        spec_hash,
    })
}

/// Returns the tag of an attempt's control lines, if the host has an init program. It distinguishes them from those of another run that the
/// agent may print, and is not a secret.
pub fn control_tag(request: &Request, attempt: Attempt) -> Option<String> {
    request.host.init_config_map.as_ref()?;
    let mut tag = labels::hex_digest(&[&request.run_id, "\n", &attempt.number.to_string()].concat());
    tag.truncate(TAG_HEX_DIGITS);
    Some(tag)
}

/// Returns the tag in the value of [`CONTROL_LINES`], unless it has a format that this version does not read.
pub fn annotated_tag(value: &str) -> Option<&str> {
    value.strip_prefix(CONTROL_FORMAT)?.strip_prefix(':')
}

fn namespace(
    request: &Request,
    config: &Config,
    paperclip_pod: &PaperclipPod,
    warnings: &mut Vec<String>,
) -> Result<String, Refusal> {
    let namespace = config
        .placement
        .namespace
        .as_ref()
        .or(paperclip_pod.namespace.as_ref())
        .or(request.host.default_namespace.as_ref())
        .ok_or_else(|| {
            let message =
                "no namespace: Paperclip's pod is unknown and the host has no default; set this field";
            Refusal::new("namespace", message)
        })?;
    name::dns_label(namespace).map_err(|rule| Refusal::new("namespace", format!("`{namespace}` {rule}")))?;
    let references = paperclip_pod.references();
    if paperclip_pod.namespace.as_ref().is_some_and(|paperclip| paperclip != namespace)
        && !references.is_empty()
    {
        warnings.push(format!(
            "the run's namespace {namespace} is not Paperclip's own: {} must exist there too",
            references.join(", ")
        ));
    }
    Ok(namespace.clone())
}

fn image(config: &Config, paperclip_pod: &PaperclipPod) -> Result<String, Refusal> {
    config.placement.image.clone().or_else(|| paperclip_pod.image.clone()).ok_or_else(|| {
        let message = "no image: neither this field nor [agents] in the host's configuration has one, and Paperclip's pod is not known; set one of them to an image that contains the agent, such as `registry.example.com/team/agent:1.2`";
        Refusal::new("image", message)
    })
}

fn working_dir(request: &Request, config: &Config) -> Result<String, Refusal> {
    let workspace = request.context.get("paperclipWorkspace").and_then(Value::as_object);
    if let Some(dir) = workspace.and_then(|workspace| text(workspace, "cwd")) {
        let field = "context.paperclipWorkspace.cwd";
        path::absolute(dir).map_err(|rule| Refusal::new(field, format!("`{dir}` {rule}")))?;
        return Ok(dir.to_owned());
    }
    Ok(config.placement.working_dir.clone().unwrap_or_else(|| DATA_DIR.to_owned()))
}

/// Returns the folder of an agent alone on the shared volume. An id that is no name of a folder is spelled with `-`.
fn agent_dir(id: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = id.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    format!("{DATA_DIR}/agents/{name}")
}

/// Asks an agent type about a call.
struct Caller<'a> {
    request: &'a Request,
    session: Option<&'a str>,
    has_bundle: bool,
    agent_dir: String,
    /// The paths of files, where there are such files.
    instructions_file: Option<String>,
    mcp_config_file: Option<String>,
    mcp_servers: &'a [McpServer],
}

impl<'a> Caller<'a> {
    fn new(
        request: &'a Request,
        session: Option<&'a str>,
        mcp_servers: &'a [McpServer],
        has_mcp_config: bool,
    ) -> Caller<'a> {
        let has_file = |path: &&String| request.files.iter().any(|file| file.path == **path);
        let instructions = request.instructions_path.as_ref().filter(has_file);
        Caller {
            request,
            session,
            has_bundle: has_mcp_config || !request.files.is_empty(),
            agent_dir: agent_dir(&request.agent.id),
            instructions_file: instructions.map(|path| format!("{BUNDLE_DIR}/{path}")),
            mcp_config_file: has_mcp_config.then(|| format!("{BUNDLE_DIR}/{MCP_CONFIG}")),
            mcp_servers,
        }
    }

    fn with_bundle(self, has_bundle: bool) -> Caller<'a> {
        Caller { has_bundle, ..self }
    }

    /// Returns the text of the instructions among the files.
    fn instructions<'f>(&self, files: &'f [File]) -> Option<&'f str> {
        let path = self.request.instructions_path.as_ref()?;
        let file = files.iter().find(|file| file.path == *path && !file.is_base64)?;
        Some(&file.content)
    }

    /// Returns an answer of the agent type. Its warnings are added, unless they are known, and so are the keys that it read.
    fn ask<T>(
        &self,
        warnings: &mut Vec<String>,
        read: &mut Vec<String>,
        question: impl FnOnce(&Call<'_>, &mut Fields<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let call = Call {
            session: self.session,
            bundle_dir: self.has_bundle.then_some(BUNDLE_DIR),
            instructions_file: self.instructions_file.as_deref(),
            agent_dir: &self.agent_dir,
            mcp_config_file: self.mcp_config_file.as_deref(),
            mcp_servers: self.mcp_servers,
        };
        let mut fields = Fields::new(&self.request.config);
        let answer = question(&call, &mut fields)?;
        let (new, mut keys) = fields.into_notes();
        read.append(&mut keys);
        for warning in new {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        Ok(answer)
    }
}

/// Returns the file that configures the MCP servers of the run, unless the program takes them without one.
fn mcp_config(
    servers: &[McpServer],
    agent_type: &dyn AgentType,
    warnings: &mut Vec<String>,
) -> Option<SecretFile> {
    if servers.is_empty() || agent_type.has_mcp_tokens_in_env() {
        return None;
    }
    let Some(content) = agent_type.mcp_config(servers) else {
        warnings.push("the run's MCP servers are not used: this agent type takes none".to_owned());
        return None;
    };
    Some(SecretFile { path: MCP_CONFIG.to_owned(), content })
}

/// Returns the session that the attempt resumes. One that can be resumed only where it was started is not resumed elsewhere.
fn session<'a>(
    request: &'a Request,
    attempt: Attempt,
    working_dir: &str,
    agent_type: &dyn AgentType,
    warnings: &mut Vec<String>,
) -> Result<Option<&'a str>, Refusal> {
    let Some(id) = request.runtime.session().filter(|_| !attempt.is_session_fresh) else { return Ok(None) };
    if id.contains('\0') {
        let message = "must not contain a NUL character; clear the agent's session";
        return Err(Refusal::new("runtime.sessionId", message));
    }
    let params = request.runtime.session_params.as_ref();
    let cwd = params.and_then(|params| params["cwd"].as_str()).filter(|cwd| !cwd.is_empty());
    if let Some(cwd) = cwd.filter(|cwd| *cwd != working_dir && agent_type.session_is_bound_to_cwd()) {
        warnings.push(format!(
            "the session of {cwd} is not resumed: the run works in {working_dir}, and this agent's sessions belong to their folder"
        ));
        return Ok(None);
    }
    Ok(Some(id))
}

fn script_text(script: &command::Script<'_>, environment: &Environment) -> Result<String, Refusal> {
    let names: BTreeSet<&str> = environment.variables.iter().map(|variable| variable.name.as_str()).collect();
    let longest = script.arguments.iter().map(String::len).max().unwrap_or(0);
    let script = script.to_string();
    if script.len() >= VARIABLE_MAX_BYTES {
        let message = format!(
            "the agent's arguments make a command of {} bytes, the longest of them {longest}; Linux starts no program with an argument over {VARIABLE_MAX_BYTES}: shorten them",
            script.len()
        );
        return Err(Refusal::new("extraArgs", message));
    }
    Ok(escape(&script, &names).into_owned())
}

/// Serialises a value with the keys of every object sorted, so that equal values have equal texts.
struct Canonical<'a>(&'a Value);

impl Serialize for Canonical<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(entries) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_unstable_by_key(|(key, _)| *key);
                serializer.collect_map(sorted.into_iter().map(|(key, value)| (key, Canonical(value))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Canonical)),
            plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                plain.serialize(serializer)
            }
        }
    }
}

#[cfg(test)]
mod tests;
