//! The environment of the agent's container: inherited variables, the run's own, and those of the config.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use paperclip_kubernetes::environment::{VARIABLE_MAX_BYTES, escape};
use serde_json::{Map, Value};

use super::agent_type::AgentType;
use super::denied_env::{is_denied, is_denied_always, overridden_names};
use super::labels::task_id;
use super::mcp;
use super::paperclip_pod::{DATA_DIR, PaperclipPod, PodValue};
use super::secrets::Source;
use super::server_paths;
use crate::config::InheritEnv;
use crate::javascript::{json_text, trim};
use crate::kubernetes::name;
use crate::prompt::{ContextFile, overflow};
use crate::refusal::Refusal;
use crate::request::{Request, text};

/// The URL of Paperclip's API if none is configured.
const DEFAULT_API_URL: &str = "http://localhost:3100";
const API_URL: &str = "PAPERCLIP_API_URL";
const API_KEY: &str = "PAPERCLIP_API_KEY";
/// Variables that the run sets and a config cannot.
const RUNTIME_VARIABLES: [&str; 5] =
    ["PAPERCLIP_RUN_ID", "PAPERCLIP_AGENT_ID", "PAPERCLIP_COMPANY_ID", "PAPERCLIP_TASK_ID", API_URL];
/// Variables that name the folder for temporary files.
pub const SCRATCH_VARIABLES: [&str; 7] = [
    "TMPDIR",
    "TEMP",
    "TMP",
    "PAPERCLIP_TMPDIR",
    "PAPERCLIP_SCRATCH_DIR",
    "PAPERCLIP_RUN_SCRATCH_DIR",
    "PAPERCLIP_TASK_SCRATCH_DIR",
];
/// The folder for temporary files. It is deleted with the Pod.
pub const SCRATCH_DIR: &str = "/tmp/paperclip-scratch";

/// A variable of the agent's container.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    pub name: String,
    pub value: VariableValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum VariableValue {
    /// A literal, escaped so that the kubelet does not expand it.
    Plain(String),
    /// A value in the run's Secret.
    Secret(Source),
    /// `valueFrom`, as Paperclip's own container has it.
    From(Value),
}

/// The variables, each name once, in the order of the container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Environment {
    pub variables: Vec<Variable>,
    pub env_from: Vec<Value>,
    /// Variables of the context that are too long; each is in files named after it.
    pub files: Vec<ContextFile>,
    pub warnings: Vec<String>,
}

/// What agents inherit of the environment of Paperclip's pod.
#[derive(Debug, Clone, Copy)]
pub struct Inheritance<'a> {
    pub mode: InheritEnv,
    /// Names of variables that an admission webhook injected, which are not inherited.
    pub injected: &'a BTreeSet<&'a str>,
    /// The folders of the data volume that the container mounts; `None` if it mounts what Paperclip's pod does.
    pub data_folders: Option<&'a [String]>,
}

/// Builds the environment. Each source overrides those before it: literals of Paperclip's pod, the run and its context, the agent
/// type's defaults, `config.env`, the agent type's `own` and forced variables. References of Paperclip's pod override nothing.
///
/// # Errors
/// Kubernetes would refuse a name in `config.env`.
pub fn build(
    request: &Request,
    paperclip_pod: &PaperclipPod,
    inheritance: Inheritance<'_>,
    agent_type: &dyn AgentType,
    own: &[(String, String)],
) -> Result<Environment, Refusal> {
    let Inheritance { mode: inherit, injected, data_folders } = inheritance;
    let denied = |name: &str| denies(request, inherit, name);
    let inherited = if inherit == InheritEnv::None { &[] } else { paperclip_pod.variables.as_slice() };
    let inherited: Vec<_> = inherited.iter().filter(|variable| !denied(&variable.name)).collect();
    let (left_out, inherited): (Vec<_>, Vec<_>) =
        inherited.into_iter().partition(|variable| injected.contains(variable.name.as_str()));
    let mut environment = Environment::default();
    if !left_out.is_empty() {
        let names: BTreeSet<&str> = left_out.iter().map(|variable| variable.name.as_str()).collect();
        environment.warnings.push(format!(
            "not inherited from Paperclip's pod, where an admission webhook injected them: {}",
            names.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    let mut withheld = BTreeMap::new();
    for variable in &inherited {
        let name = variable.name.as_str();
        match &variable.value {
            PodValue::Shown(value) if value.is_empty() => {}
            PodValue::Shown(value) => {
                let kept = match data_folders {
                    Some(folders) => server_paths::inherited(value, folders),
                    None => Some(Cow::from(value)),
                };
                let is_whole = kept.as_deref() == Some(value.as_str());
                let kept = kept.map(|value| VariableValue::Plain(value.into_owned()));
                if let Some(kept) = &kept {
                    environment.set(name, kept.clone());
                }
                if !is_whole {
                    withheld.insert(name, kept);
                }
            }
            PodValue::Hidden => {
                environment.set(
                    &variable.name,
                    VariableValue::Secret(Source::PaperclipPodEnv(variable.name.clone())),
                );
            }
            PodValue::Reference(_) => {}
        }
    }
    environment.add_run(request, paperclip_pod, inherit);
    environment.add_context(request);
    if request.has_auth_token {
        environment.set(API_KEY, VariableValue::Secret(Source::AuthToken));
    }
    for (name, value) in agent_type.default_env() {
        environment.set(name, VariableValue::Plain((*value).to_owned()));
    }
    environment.add_config(request, agent_type, own)?;
    for (name, value) in own {
        environment.set_plain(name, value);
    }
    for (name, value) in agent_type.forced_env() {
        environment.set(name, VariableValue::Plain((*value).to_owned()));
    }
    for variable in &inherited {
        if let PodValue::Reference(source) = &variable.value {
            environment.add_reference(&variable.name, source);
        }
    }
    environment.warn_of_server_files(&withheld);
    if inherit != InheritEnv::None && !paperclip_pod.env_from.is_empty() {
        environment.env_from.clone_from(&paperclip_pod.env_from);
        environment.blank_out(inherit, &request.host.denied_env);
    }
    environment.escape_literals();
    Ok(environment)
}

/// Returns the value that the container will have of a variable that the plugin may see: that of `config.env`, else the
/// inherited literal.
pub fn shown_value(request: &Request, inherit: InheritEnv, name: &str) -> Option<String> {
    if let Some(configured) = request.config_env.iter().rev().find(|variable| variable.name == name) {
        return configured.value.clone();
    }
    match inherited_value(request, inherit, name)? {
        PodValue::Shown(value) => Some(value),
        PodValue::Hidden | PodValue::Reference(_) => None,
    }
}

/// Returns whether the container will have a variable, as far as Paperclip's pod and `config.env` say so.
pub fn is_set(request: &Request, inherit: InheritEnv, name: &str) -> bool {
    request.config_env.iter().any(|variable| variable.name == name)
        || inherited_value(request, inherit, name).is_some()
}

fn inherited_value(request: &Request, inherit: InheritEnv, name: &str) -> Option<PodValue> {
    let is_inherited = inherit != InheritEnv::None && !denies(request, inherit, name);
    let pod = PaperclipPod::read(request.paperclip_pod.as_ref().filter(|_| is_inherited)?).ok()?;
    pod.variable(name).cloned()
}

/// Whether a variable is not inherited: what the operator denies never is.
fn denies(request: &Request, inherit: InheritEnv, name: &str) -> bool {
    let operators = &request.host.denied_env;
    if inherit == InheritEnv::Filtered {
        is_denied(name, operators)
    } else {
        is_denied_always(name, operators)
    }
}

impl Environment {
    /// Replaces a variable's value, or adds the variable at the end.
    fn set(&mut self, name: &str, value: VariableValue) {
        match self.variables.iter_mut().find(|variable| variable.name == name) {
            Some(variable) => variable.value = value,
            None => self.variables.push(Variable { name: name.to_owned(), value }),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.variables.iter().any(|variable| variable.name == name)
    }

    /// Adds the ids of the run and the URL of Paperclip's API.
    fn add_run(&mut self, request: &Request, paperclip_pod: &PaperclipPod, inherit: InheritEnv) {
        self.set_plain("PAPERCLIP_AGENT_ID", &request.agent.id);
        self.set_plain("PAPERCLIP_COMPANY_ID", &request.agent.company_id);
        let host_api_url =
            || VariableValue::Plain(request.host.api_url.as_deref().unwrap_or(DEFAULT_API_URL).to_owned());
        let api_url = match paperclip_pod.variable(API_URL) {
            Some(PodValue::Shown(url)) if !url.is_empty() => VariableValue::Plain(url.clone()),
            Some(PodValue::Hidden) => VariableValue::Secret(Source::PaperclipPodEnv(API_URL.to_owned())),
            Some(PodValue::Reference(source)) => {
                portable(source).map_or_else(host_api_url, VariableValue::From)
            }
            Some(PodValue::Shown(_)) | None => host_api_url(),
        };
        // It may be in a Secret or ConfigMap that is inherited as a whole, which the default would override.
        let may_be_inherited = inherit != InheritEnv::None && !paperclip_pod.env_from.is_empty();
        let is_default = request.host.api_url.is_none() && paperclip_pod.variable(API_URL).is_none();
        if !(is_default && may_be_inherited) {
            self.set(API_URL, api_url);
        }
        self.set_plain("PAPERCLIP_RUN_ID", &request.run_id);
        for name in SCRATCH_VARIABLES {
            self.set_plain(name, SCRATCH_DIR);
        }
    }

    /// Adds why the agent was woken and where it works.
    fn add_context(&mut self, request: &Request) {
        let context = &request.context;
        let blank = Map::new();
        let workspace = context.get("paperclipWorkspace").and_then(Value::as_object).unwrap_or(&blank);
        let trimmed = |key| text(context, key).map(trim).filter(|text| !text.is_empty());
        let json = |key| objects(context.get(key)).map(|list| json_text(&list));
        let wake =
            context.get("paperclipWake").filter(|wake| wake.as_object().is_some_and(|wake| !wake.is_empty()));
        let owned = |text: &str| text.to_owned();
        let tools = context.get("paperclipRuntimeTools").and_then(Value::as_object).unwrap_or(&blank);
        let rest = tools.get("rest").and_then(Value::as_object).unwrap_or(&blank);
        let variables: [(&str, Option<String>); 25] = [
            ("PAPERCLIP_TASK_ID", task_id(request).map(owned)),
            ("PAPERCLIP_ISSUE_WORK_MODE", work_mode(context).map(owned)),
            ("PAPERCLIP_WAKE_REASON", trimmed("wakeReason").map(owned)),
            (
                "PAPERCLIP_WAKE_COMMENT_ID",
                trimmed("wakeCommentId").or_else(|| trimmed("commentId")).map(owned),
            ),
            ("PAPERCLIP_APPROVAL_ID", trimmed("approvalId").map(owned)),
            ("PAPERCLIP_APPROVAL_STATUS", trimmed("approvalStatus").map(owned)),
            ("PAPERCLIP_WAKE_PAYLOAD_JSON", wake.map(json_text)),
            ("PAPERCLIP_WORKSPACE_CWD", text(workspace, "cwd").map(owned)),
            ("PAPERCLIP_WORKSPACE_SOURCE", text(workspace, "source").map(owned)),
            ("PAPERCLIP_WORKSPACE_STRATEGY", text(workspace, "strategy").map(owned)),
            ("PAPERCLIP_WORKSPACE_ID", text(workspace, "workspaceId").map(owned)),
            ("PAPERCLIP_WORKSPACE_REPO_URL", text(workspace, "repoUrl").map(owned)),
            ("PAPERCLIP_WORKSPACE_REPO_REF", text(workspace, "repoRef").map(owned)),
            ("PAPERCLIP_WORKSPACE_BRANCH", text(workspace, "branchName").map(owned)),
            ("PAPERCLIP_WORKSPACE_WORKTREE_PATH", text(workspace, "worktreePath").map(owned)),
            ("AGENT_HOME", text(workspace, "agentHome").map(owned)),
            ("PAPERCLIP_LINKED_ISSUE_IDS", linked_issues(context)),
            ("PAPERCLIP_WORKSPACES_JSON", json("paperclipWorkspaces")),
            ("PAPERCLIP_RUNTIME_SERVICE_INTENTS_JSON", json("paperclipRuntimeServiceIntents")),
            ("PAPERCLIP_RUNTIME_SERVICES_JSON", json("paperclipRuntimeServices")),
            ("PAPERCLIP_RUNTIME_PRIMARY_URL", text(context, "paperclipRuntimePrimaryUrl").map(owned)),
            ("PAPERCLIP_RUNTIME_TOOLS_MCP_URL", text(tools, "mcpEndpoint").map(owned)),
            ("PAPERCLIP_RUNTIME_TOOLS_EXPIRES_AT", text(tools, "expiresAt").map(owned)),
            ("PAPERCLIP_RUNTIME_TOOLS_CONNECTIONS_SEARCH_URL", text(rest, "connectionsSearch").map(owned)),
            ("PAPERCLIP_RUNTIME_TOOLS_CONNECTION_REQUEST_URL", text(rest, "connectionRequest").map(owned)),
        ];
        for (name, value) in variables {
            match value {
                Some(value) if !fits(name, &value) => self.move_to_file(name, &value),
                Some(value) => self.set_plain(name, &value),
                None => {}
            }
        }
    }

    /// Puts a value that no program could be started with into a file that the prompt names, and the file's path into the variable
    /// `NAME_FILE`.
    fn move_to_file(&mut self, name: &str, value: &str) {
        let files = overflow::files(name, if name.ends_with("_JSON") { "json" } else { "txt" }, value);
        let locations: Vec<String> = files.iter().map(ContextFile::location).collect();
        self.set_plain(&format!("{name}_FILE"), &locations.join(":"));
        self.files.extend(files);
    }

    /// Sets a literal, unless no program could be started with it.
    fn set_plain(&mut self, name: &str, value: &str) {
        if !fits(name, value) {
            self.warnings.push(format!(
                "{name} is left out: it would be {} bytes, and Linux starts no program with a variable over {VARIABLE_MAX_BYTES}",
                variable_bytes(name, value)
            ));
        } else if value.contains('\0') {
            self.warnings.push(format!("{name} is left out: its value holds a NUL character"));
        } else {
            self.set(name, VariableValue::Plain(value.to_owned()));
        }
    }

    fn add_config(
        &mut self,
        request: &Request,
        agent_type: &dyn AgentType,
        own: &[(String, String)],
    ) -> Result<(), Refusal> {
        let is_forced = |name: &str| {
            own.iter().any(|(forced, _)| forced == name)
                || agent_type.forced_env().iter().any(|(forced, _)| *forced == name)
        };
        for variable in &request.config_env {
            let name = variable.name.as_str();
            name::variable(name)
                .map_err(|rule| Refusal::new(format!("env.{name}"), format!("the name `{name}` {rule}")))?;
            if mcp::is_token(name) && !agent_type.has_mcp_tokens_in_env() {
                continue;
            }
            let is_runtime = RUNTIME_VARIABLES.contains(&name) || name == API_KEY && request.has_auth_token;
            if is_runtime || is_forced(name) {
                let remedy = if name == API_URL {
                    "; operators set `paperclip_api_url` in the host's configuration"
                } else {
                    ""
                };
                self.warnings.push(format!(
                    "config field env.{name}: the run sets this variable itself; it is not used{remedy}"
                ));
            } else {
                self.set(name, VariableValue::Secret(Source::ConfigEnv(name.to_owned())));
            }
        }
        Ok(())
    }

    /// Adds a reference, unless the name is already set.
    fn add_reference(&mut self, name: &str, source: &Value) {
        if self.has(name) {
            return;
        }
        match portable(source) {
            Some(source) => {
                self.variables.push(Variable { name: name.to_owned(), value: VariableValue::From(source) });
            }
            None => self.warnings.push(format!(
                "{name} is left out: in Paperclip's pod its value comes from a source that only that pod has"
            )),
        }
    }

    /// Lists the variables of which the pod's value is not inherited, or only a part, unless something else has set them.
    fn warn_of_server_files(&mut self, withheld: &BTreeMap<&str, Option<VariableValue>>) {
        let is_missing = |(name, kept): &(&&str, &Option<VariableValue>)| {
            let variable = self.variables.iter().find(|variable| variable.name == **name);
            variable.map(|variable| &variable.value) == kept.as_ref()
        };
        let names: Vec<&str> = withheld.iter().filter(is_missing).map(|(name, _)| *name).collect();
        if !names.is_empty() {
            self.warnings.push(format!(
                "not inherited from Paperclip's pod, because they name files of the server below {DATA_DIR}, which the agent does not have: {}; set those that it needs in `config.env`, or for all agents in `env` of [agents]",
                names.join(", ")
            ));
        }
    }

    /// Overrides the server's secrets that an inherited Secret or ConfigMap may hold with an empty value.
    fn blank_out(&mut self, inherit: InheritEnv, extra: &[String]) {
        for name in overridden_names(extra) {
            let is_denied = inherit == InheritEnv::Filtered || is_denied_always(&name, extra);
            if is_denied && !self.has(&name) && name::variable(&name).is_ok() {
                self.set(&name, VariableValue::Plain(String::new()));
            }
        }
    }

    /// Escapes `$(NAME)` and `$$` in literals, which the kubelet would replace.
    fn escape_literals(&mut self) {
        let names: BTreeSet<String> = self.variables.iter().map(|variable| variable.name.clone()).collect();
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for variable in &mut self.variables {
            if let VariableValue::Plain(value) = &mut variable.value {
                *value = escape(value, &names).into_owned();
            }
        }
    }
}

/// Whether a program can be started with the variable.
fn fits(name: &str, value: &str) -> bool {
    variable_bytes(name, value) <= VARIABLE_MAX_BYTES
}

fn variable_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len() + "=\0".len()
}

/// Returns a reference that another Pod can have; `None` if it leads to a file of Paperclip's pod.
fn portable(source: &Value) -> Option<Value> {
    let kinds = ["secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef"];
    let (kind, reference) = source.as_object()?.iter().find(|(kind, _)| kinds.contains(&kind.as_str()))?;
    let mut reference = reference.as_object()?.clone();
    // It names a container of Paperclip's pod; without it, it refers to the container that has the variable.
    reference.shift_remove("containerName");
    Some(Value::Object([(kind.clone(), Value::Object(reference))].into_iter().collect()))
}

/// Returns how the task is to be worked on, such as `planning`.
fn work_mode(context: &Map<String, Value>) -> Option<&str> {
    let direct = context.get("paperclipIssue").and_then(|issue| issue["workMode"].as_str());
    let of_wake = || context.get("paperclipWake").and_then(|wake| wake["issue"]["workMode"].as_str());
    direct
        .map(trim)
        .filter(|mode| !mode.is_empty())
        .or_else(|| of_wake().map(trim))
        .filter(|mode| !mode.is_empty())
}

fn linked_issues(context: &Map<String, Value>) -> Option<String> {
    let ids: Vec<&str> = context
        .get("issueIds")?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .filter(|id| !trim(id).is_empty())
        .collect();
    (!ids.is_empty()).then(|| ids.join(","))
}

/// Returns the objects and lists of a list; `None` if there are none.
fn objects(value: Option<&Value>) -> Option<Value> {
    let kept: Vec<Value> =
        value?.as_array()?.iter().filter(|item| item.is_object() || item.is_array()).cloned().collect();
    (!kept.is_empty()).then_some(Value::Array(kept))
}
