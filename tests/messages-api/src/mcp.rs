//! A server of the Model Context Protocol with one tool, which asks for a token.

use std::net::TcpStream;

use anyhow::Result;
use serde_json::{Value, json};

use crate::answer;

/// The name of its tool. Agents put more around it.
pub(crate) const TOOL: &str = "say_hello";
/// What `Authorization` has to be.
const AUTHORIZATION: &str = "Bearer scripted-mcp-token-0123456789";

/// Answers a JSON-RPC request.
pub(crate) fn serve(stream: &TcpStream, method: &str, authorization: &str, request: &Value) -> Result<()> {
    if authorization != AUTHORIZATION {
        return answer(stream, 401, &json!({"error": "invalid_token"}));
    }
    // There is no stream of events beside the answers.
    if method != "POST" {
        return answer(stream, 405, &json!({"error": "POST only"}));
    }
    match result(request) {
        Some(result) => {
            answer(stream, 200, &json!({"jsonrpc": "2.0", "id": request["id"], "result": result}))
        }
        None => answer(stream, 202, &Value::Null),
    }
}

/// Returns the result of a request, `None` for a notification.
fn result(request: &Value) -> Option<Value> {
    request.get("id")?;
    Some(match request["method"].as_str().unwrap_or_default() {
        "initialize" => {
            json!({"protocolVersion": request["params"]["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted", "version": "1.0.0"}})
        }
        "tools/list" => {
            json!({"tools": [{"name": TOOL, "description": "Says hello.", "inputSchema": {"type": "object", "properties": {}}}]})
        }
        "tools/call" => json!({"content": [{"type": "text", "text": "hello"}]}),
        _ => json!({}),
    })
}
