//! `/v1/plugins` and `/v1/adapters`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use paperclip_guest::{Changed, Shown};
use serde_json::{Value, json};

use super::App;
use crate::supervisor::{Kind, Refusal};

pub(super) async fn list(State(app): State<App>) -> Json<Shown> {
    Json(app.supervisor.catalogue().show())
}

pub(super) async fn reload(State(app): State<App>) -> Result<Json<Value>, Refusal> {
    let changed = app.supervisor.reload_plugins().await?;
    let shown = serde_json::to_value(app.supervisor.catalogue().show()).map_err(internal)?;
    let mut answer = json!({ "changed": changed });
    if let (Value::Object(answer), Value::Object(shown)) = (&mut answer, shown) {
        answer.extend(shown);
    }
    Ok(Json(answer))
}

pub(super) async fn revert(
    State(app): State<App>,
    adapter_type: Result<Path<String>, PathRejection>,
) -> Result<Json<Changed>, Refusal> {
    app.supervisor.revert_plugin(&adapter_type?).map(Json)
}

/// What Paperclip's server asks an adapter.
pub(super) async fn adapter(
    State(app): State<App>,
    adapter_type: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let plugin = app
        .supervisor
        .catalogue()
        .get(&adapter_type?)
        .map_err(|error| Refusal { kind: Kind::NotFound, ..Refusal::of_error(Kind::NoPlugin, &error) })?;
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

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn internal(error: serde_json::Error) -> Refusal {
    Refusal::new(Kind::Internal, error.to_string(), "report it: the plugin's description is no JSON")
}
