//! `/v1/plugins` and `/v1/adapters`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use paperclip_guest::{Changed, Plugin, PluginList, Tools};
use paperclip_prepare::environment::{self, Subject};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::App;
use super::body::check_values;
use crate::refusal::{Kind, Refusal};

pub(super) async fn list(State(app): State<App>) -> Result<Json<PluginList>, Refusal> {
    app.supervisor.list_plugins().await.map(Json)
}

pub(super) async fn reload(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let changed = app.supervisor.reload_plugins().await?;
    let shown = serde_json::to_value(app.supervisor.list_plugins().await?).map_err(internal)?;
    let mut answer = json!({ "changed": changed });
    if let (Value::Object(answer), Value::Object(shown)) = (&mut answer, shown) {
        answer.extend(shown);
    }
    Ok(Json(answer))
}

/// Puts a plugin into this host. Answers with the version that is in use now.
pub(super) async fn install(
    State(app): State<App>,
    adapter_type: Result<Path<String>, PathRejection>,
    wasm: Bytes,
) -> Result<Json<Value>, Refusal> {
    let Path(adapter_type) = adapter_type?;
    let changed = app.supervisor.install_plugin(adapter_type.clone(), wasm).await?;
    let plugin = plugin(&app, &adapter_type).await?;
    Ok(Json(json!({
        "adapterType": adapter_type,
        "version": plugin.version(),
        "digest": plugin.digest(),
        "changed": changed,
    })))
}

pub(super) async fn revert(
    State(app): State<App>,
    adapter_type: Result<Path<String>, PathRejection>,
) -> Result<Json<Changed>, Refusal> {
    app.supervisor.revert_plugin(&adapter_type?).map(Json)
}

/// Describes an agent type to Paperclip's server.
pub(super) async fn adapter(
    State(app): State<App>,
    adapter_type: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let plugin = plugin(&app, &adapter_type?).await?;
    let descriptor = plugin.descriptor();
    let parse = |text: &str| serde_json::from_str::<Value>(text).map_err(internal);
    Ok(Json(json!({
        "adapterType": descriptor.adapter_type,
        "label": descriptor.label,
        "version": descriptor.version,
        "digest": plugin.digest(),
        "models": descriptor.models.iter().map(|model| json!({
            "id": model.id, "label": model.label, "provider": model.provider,
        })).collect::<Vec<_>>(),
        "configSchema": parse(&descriptor.config_schema_json)?,
        "capabilities": parse(&descriptor.capabilities_json)?,
        "doc": descriptor.doc,
    })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckRequest {
    /// The agent's config, without secrets of its environment.
    #[serde(default)]
    config: Value,
    /// Paperclip's pod, as in an execution context.
    #[serde(default, rename = "paperclipPod")]
    paperclip_pod: Value,
}

/// Runs Paperclip's environment test with this host's cluster and Paperclip's pod.
pub(super) async fn check(
    State(app): State<App>,
    adapter_type: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let tools = Tools::new(plugin(&app, &adapter_type?).await?);
    let request: CheckRequest = parse(&body, "send {\"config\": {...}, \"paperclipPod\": {...}} or nothing")?;
    let (host, clusters) = (app.supervisor.host(), app.supervisor.clusters());
    let named = json!({"paperclipPod": request.paperclip_pod});
    let pod = app.supervisor.find_paperclip_pod(&named).await?;
    let subject = Subject {
        host,
        config: &request.config,
        paperclip_pod: pod,
        is_local: clusters.is_default_local,
        // By Paperclip's server, which asks.
        are_files_sent: true,
    };
    let report = environment::test(&tools, &clusters.default, subject).await;
    let report = report.map_err(|error| Refusal::of(Kind::Internal, &error))?;
    serde_json::from_str(&report).map(Json).map_err(internal)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SkillsRequest {
    /// The agent's config: its fields `paperclipRuntimeSkills` and `paperclipSkillSync`.
    #[serde(default)]
    config: Value,
    /// The skills that the agent is to have from now on, instead of those of its config.
    #[serde(default)]
    desired: Option<Vec<String>>,
}

/// Returns Paperclip's snapshot of an agent's skills.
pub(super) async fn skills(
    State(app): State<App>,
    adapter_type: Result<Path<String>, PathRejection>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let plugin = plugin(&app, &adapter_type?).await?;
    let SkillsRequest { config, desired } =
        parse(&body, "send {\"config\": {...}, \"desired\": [...]} or nothing")?;
    let snapshot = Tools::new(plugin).skills(&json!({ "config": config, "desired": desired }).to_string());
    let snapshot = snapshot.map_err(|error| {
        Refusal::new(Kind::Internal, error.to_string(), "use another version of the plugin")
    })?;
    let snapshot = snapshot.map_err(|error| {
        Refusal::new(Kind::BadRequest, format!("skills: {error}"), "correct that field and try again")
    })?;
    serde_json::from_str(&snapshot).map(Json).map_err(internal)
}

/// Parses a body that may be left out.
fn parse<T: Default + DeserializeOwned>(body: &Bytes, hint: &str) -> Result<T, Refusal> {
    if body.is_empty() {
        return Ok(T::default());
    }
    check_values(body)?;
    serde_json::from_slice(body)
        .map_err(|error| Refusal::new(Kind::BadRequest, format!("the body is {error}"), hint))
}

pub(super) async fn plugin(app: &App, adapter_type: &str) -> Result<Arc<Plugin>, Refusal> {
    app.supervisor.plugin(adapter_type, Kind::NotFound).await
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn internal(error: serde_json::Error) -> Refusal {
    Refusal::new(Kind::Internal, error.to_string(), "report it: the plugin's description is not JSON")
}
