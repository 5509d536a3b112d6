//! The environment of the agent's container: what is inherited, what the run is about, what the config adds.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::agent_type::AgentType;
use super::denied_env::{is_denied, overridden_names};
use super::labels::task_id;
use super::own_pod::{OwnPod, OwnValue};
use super::secrets::Source;
use crate::config::InheritEnv;
use crate::javascript::{json_text, trim};
use crate::kubernetes::environment::{VARIABLE_MAX_BYTES, name as variable_name, unexpanded};
use crate::refusal::Refusal;
use crate::request::{Request, text};

/// Where Paperclip listens if nobody says otherwise.
const DEFAULT_API_URL: &str = "http://localhost:3100";
const API_URL: &str = "PAPERCLIP_API_URL";
const API_KEY: &str = "PAPERCLIP_API_KEY";
/// What a run knows better than its config.
const RUNTIME_VARIABLES: [&str; 3] = ["PAPERCLIP_RUN_ID", "PAPERCLIP_AGENT_ID", "PAPERCLIP_COMPANY_ID"];

/// A variable of the agent's container.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    pub name: String,
    pub value: VariableValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum VariableValue {
    /// A literal, written so that the kubelet leaves it as it is.
    Plain(String),
    /// A value that the run's Secret holds.
    Secret(Source),
    /// `valueFrom`, as Paperclip's own container has it.
    From(Value),
}

/// The variables, each name once, in the container's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Environment {
    pub variables: Vec<Variable>,
    pub env_from: Vec<Value>,
    pub warnings: Vec<String>,
}

/// Puts the environment together. Each source overrides those before it: own pod's literals, the run and its context,
/// `config.env`, the agent type's forced variables; own pod's references fill what is left.
///
/// # Errors
/// A name in `config.env` that Kubernetes would refuse.
pub fn build(
    request: &Request,
    own_pod: &OwnPod,
    inherit: InheritEnv,
    agent_type: &dyn AgentType,
) -> Result<Environment, Refusal> {
    let denied = |name: &str| inherit == InheritEnv::Filtered && is_denied(name, &request.host.denied_env);
    let inherited = if inherit == InheritEnv::None { &[] } else { own_pod.variables.as_slice() };
    let mut environment = Environment::default();
    for variable in inherited.iter().filter(|variable| !denied(&variable.name)) {
        match &variable.value {
            OwnValue::Shown(value) if value.is_empty() => {}
            OwnValue::Shown(value) => environment.set(&variable.name, VariableValue::Plain(value.clone())),
            OwnValue::Hidden => {
                environment.set(
                    &variable.name,
                    VariableValue::Secret(Source::PaperclipPodEnv(variable.name.clone())),
                );
            }
            OwnValue::From(_) => {}
        }
    }
    environment.add_run(request, own_pod);
    environment.add_context(request);
    if request.has_auth_token {
        environment.set(API_KEY, VariableValue::Secret(Source::AuthToken));
    }
    environment.add_config(request, agent_type)?;
    for (name, value) in agent_type.forced_env() {
        environment.set(name, VariableValue::Plain((*value).to_owned()));
    }
    for variable in inherited.iter().filter(|variable| !denied(&variable.name)) {
        if let OwnValue::From(source) = &variable.value {
            environment.add_reference(&variable.name, source);
        }
    }
    if inherit != InheritEnv::None && !own_pod.env_from.is_empty() {
        environment.env_from.clone_from(&own_pod.env_from);
        if inherit == InheritEnv::Filtered {
            environment.blank_out(&request.host.denied_env);
        }
    }
    environment.keep_literal();
    Ok(environment)
}

/// The value of a variable that the plugin may see, as the container will have it: that of `config.env`, else the inherited
/// literal.
pub fn shown_value(request: &Request, inherit: InheritEnv, name: &str) -> Option<String> {
    if let Some(own) = request.config_env.iter().rev().find(|variable| variable.name == name) {
        return own.value.clone();
    }
    let is_inherited = match inherit {
        InheritEnv::None => false,
        InheritEnv::All => true,
        InheritEnv::Filtered => !is_denied(name, &request.host.denied_env),
    };
    let pod = OwnPod::read(request.self_pod.as_ref().filter(|_| is_inherited)?);
    match &pod.variables.iter().rev().find(|variable| variable.name == name)?.value {
        OwnValue::Shown(value) => Some(value.clone()),
        OwnValue::Hidden | OwnValue::From(_) => None,
    }
}

impl Environment {
    /// Sets a variable where it stands, or at the end.
    fn set(&mut self, name: &str, value: VariableValue) {
        match self.variables.iter_mut().find(|variable| variable.name == name) {
            Some(variable) => variable.value = value,
            None => self.variables.push(Variable { name: name.to_owned(), value }),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.variables.iter().any(|variable| variable.name == name)
    }

    /// Who runs, and where Paperclip is to be found.
    fn add_run(&mut self, request: &Request, own_pod: &OwnPod) {
        self.set_plain("PAPERCLIP_AGENT_ID", &request.agent.id);
        self.set_plain("PAPERCLIP_COMPANY_ID", &request.agent.company_id);
        let host_api_url =
            || VariableValue::Plain(request.host.api_url.as_deref().unwrap_or(DEFAULT_API_URL).to_owned());
        let own = own_pod.variables.iter().rev().find(|variable| variable.name == API_URL);
        let api_url = match own.map(|variable| &variable.value) {
            Some(OwnValue::Shown(url)) if !url.is_empty() => VariableValue::Plain(url.clone()),
            Some(OwnValue::Hidden) => VariableValue::Secret(Source::PaperclipPodEnv(API_URL.to_owned())),
            Some(OwnValue::From(source)) => portable(source).map_or_else(host_api_url, VariableValue::From),
            Some(OwnValue::Shown(_)) | None => host_api_url(),
        };
        self.set(API_URL, api_url);
        self.set_plain("PAPERCLIP_RUN_ID", &request.run_id);
    }

    /// Why the agent was woken and where it works.
    fn add_context(&mut self, request: &Request) {
        let context = &request.context;
        let blank = Map::new();
        let workspace = context.get("paperclipWorkspace").and_then(Value::as_object).unwrap_or(&blank);
        let trimmed = |key| text(context, key).map(trim).filter(|text| !text.is_empty());
        let json = |key| objects(context.get(key)).map(|list| json_text(&list));
        let wake =
            context.get("paperclipWake").filter(|wake| wake.as_object().is_some_and(|wake| !wake.is_empty()));
        let own = |text: &str| text.to_owned();
        let variables: [(&str, Option<String>); 20] = [
            ("PAPERCLIP_TASK_ID", task_id(request).map(own)),
            ("PAPERCLIP_WAKE_REASON", trimmed("wakeReason").map(own)),
            ("PAPERCLIP_WAKE_COMMENT_ID", trimmed("wakeCommentId").or_else(|| trimmed("commentId")).map(own)),
            ("PAPERCLIP_APPROVAL_ID", trimmed("approvalId").map(own)),
            ("PAPERCLIP_APPROVAL_STATUS", trimmed("approvalStatus").map(own)),
            ("PAPERCLIP_WAKE_PAYLOAD_JSON", wake.map(json_text)),
            ("PAPERCLIP_WORKSPACE_CWD", text(workspace, "cwd").map(own)),
            ("PAPERCLIP_WORKSPACE_SOURCE", text(workspace, "source").map(own)),
            ("PAPERCLIP_WORKSPACE_STRATEGY", text(workspace, "strategy").map(own)),
            ("PAPERCLIP_WORKSPACE_ID", text(workspace, "workspaceId").map(own)),
            ("PAPERCLIP_WORKSPACE_REPO_URL", text(workspace, "repoUrl").map(own)),
            ("PAPERCLIP_WORKSPACE_REPO_REF", text(workspace, "repoRef").map(own)),
            ("PAPERCLIP_WORKSPACE_BRANCH", text(workspace, "branchName").map(own)),
            ("PAPERCLIP_WORKSPACE_WORKTREE_PATH", text(workspace, "worktreePath").map(own)),
            ("AGENT_HOME", text(workspace, "agentHome").map(own)),
            ("PAPERCLIP_LINKED_ISSUE_IDS", linked_issues(context)),
            ("PAPERCLIP_WORKSPACES_JSON", json("paperclipWorkspaces")),
            ("PAPERCLIP_RUNTIME_SERVICE_INTENTS_JSON", json("paperclipRuntimeServiceIntents")),
            ("PAPERCLIP_RUNTIME_SERVICES_JSON", json("paperclipRuntimeServices")),
            ("PAPERCLIP_RUNTIME_PRIMARY_URL", text(context, "paperclipRuntimePrimaryUrl").map(own)),
        ];
        for (name, value) in variables {
            if let Some(value) = value {
                self.set_plain(name, &value);
            }
        }
    }

    /// Sets a literal, unless a program could not be started with it.
    fn set_plain(&mut self, name: &str, value: &str) {
        let variable_bytes = name.len() + value.len() + "=\0".len();
        if variable_bytes > VARIABLE_MAX_BYTES {
            self.warnings.push(format!(
                "{name} is left out: it would be {variable_bytes} bytes, and no program starts with a variable over {VARIABLE_MAX_BYTES}"
            ));
        } else if value.contains('\0') {
            self.warnings.push(format!("{name} is left out: its value holds a NUL character"));
        } else {
            self.set(name, VariableValue::Plain(value.to_owned()));
        }
    }

    fn add_config(&mut self, request: &Request, agent_type: &dyn AgentType) -> Result<(), Refusal> {
        for variable in &request.config_env {
            let name = variable.name.as_str();
            variable_name(name)
                .map_err(|rule| Refusal::new(format!("env.{name}"), format!("the name `{name}` {rule}")))?;
            let is_runtime = RUNTIME_VARIABLES.contains(&name) || name == API_KEY && request.has_auth_token;
            if is_runtime || agent_type.forced_env().iter().any(|(forced, _)| *forced == name) {
                self.warnings.push(format!(
                    "config field env.{name}: the run sets this variable itself; it is not used"
                ));
            } else {
                self.set(name, VariableValue::Secret(Source::ConfigEnv(name.to_owned())));
            }
        }
        Ok(())
    }

    /// Adds a reference, unless something else has taken the name.
    fn add_reference(&mut self, name: &str, source: &Value) {
        if self.has(name) {
            return;
        }
        match portable(source) {
            Some(source) => {
                self.variables.push(Variable { name: name.to_owned(), value: VariableValue::From(source) });
            }
            None => self.warnings.push(format!(
                "{name} is left out: Paperclip's pod takes it from a source that only that pod has"
            )),
        }
    }

    /// Overrides the server's secrets that an inherited Secret or ConfigMap may hold.
    fn blank_out(&mut self, extra: &[String]) {
        for name in overridden_names(extra) {
            if !self.has(&name) && variable_name(&name).is_ok() {
                self.set(&name, VariableValue::Plain(String::new()));
            }
        }
    }

    /// Keeps the kubelet from replacing `$(NAME)` and `$$` in literals.
    fn keep_literal(&mut self) {
        let names: BTreeSet<String> = self.variables.iter().map(|variable| variable.name.clone()).collect();
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for variable in &mut self.variables {
            if let VariableValue::Plain(value) = &mut variable.value {
                *value = unexpanded(value, &names).into_owned();
            }
        }
    }
}

/// A reference as another Pod may have it: none where it leads into a volume of Paperclip's own.
fn portable(source: &Value) -> Option<Value> {
    let kinds = ["secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef"];
    let (kind, reference) = source.as_object()?.iter().find(|(kind, _)| kinds.contains(&kind.as_str()))?;
    let mut reference = reference.as_object()?.clone();
    // It names a container of Paperclip's pod; without it, the container at hand is meant.
    reference.shift_remove("containerName");
    Some(Value::Object([(kind.clone(), Value::Object(reference))].into_iter().collect()))
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

/// The objects and lists of a list, if there are any.
fn objects(value: Option<&Value>) -> Option<Value> {
    let kept: Vec<Value> =
        value?.as_array()?.iter().filter(|item| item.is_object() || item.is_array()).cloned().collect();
    (!kept.is_empty()).then_some(Value::Array(kept))
}
