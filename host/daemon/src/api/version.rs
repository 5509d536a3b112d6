//! `/v1/version`: what a client may use.

use axum::Json;
use serde_json::{Value, json};

/// The version of this API. A client of another major version cannot use it.
const API: &str = "1";
/// Members, parameters and routes beyond those that every version has. A client may use what is listed.
const FEATURES: [&str; 9] =
    ["cursor", "files", "mcp_servers", "push_cancel", "quota", "resumes", "skills", "taken", "text"];

pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "api": API,
        "host": env!("CARGO_PKG_VERSION"),
        "contract": paperclip_guest::supported_contracts(),
        "features": FEATURES,
    }))
}
