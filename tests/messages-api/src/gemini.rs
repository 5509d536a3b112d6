//! Google's `generateContent`.

use std::net::TcpStream;

use anyhow::Result;
use serde_json::{Value, json};

use crate::script::{Conversation, Turn, turn};
use crate::shell::Shell;
use crate::{Events, answer};

/// Answers a request for content, streamed or not.
pub(crate) fn generate(stream: &TcpStream, script: &str, request: &Value, is_streamed: bool) -> Result<()> {
    let contents = request["contents"].as_array().into_iter().flatten();
    let mut parts = contents.flat_map(|content| content["parts"].as_array().into_iter().flatten());
    let has_result = parts.any(|part| part.get("functionResponse").is_some());
    let tools = request["tools"].as_array().into_iter().flatten();
    let functions = tools.flat_map(|tool| tool["functionDeclarations"].as_array().into_iter().flatten());
    let parameters = |function: &'_ Value| -> Value {
        function.get("parametersJsonSchema").unwrap_or(&function["parameters"]).clone()
    };
    let declared: Vec<(Value, Value)> =
        functions.map(|function| (function["name"].clone(), parameters(function))).collect();
    let shell = Shell::find(declared.iter().map(|(name, parameters)| (name, parameters)));
    let Some(turn) = turn(script, Conversation::new(request, has_result, shell)) else {
        let error = json!({"code": 401, "message": "API keys are not supported by this API or the key is invalid.",
            "status": "UNAUTHENTICATED", "details": []});
        return answer(stream, 401, &json!({"error": error}));
    };
    if !is_streamed {
        return answer(stream, 200, &candidate(&json!([{"text": turn.text()}]), Some("STOP")));
    }
    let mut events = Events::start(stream)?;
    events.send(None, &candidate(&json!([{"text": turn.text()}]), None))?;
    if turn == Turn::Hang {
        return events.hang();
    }
    if let Turn::Shell { name, arguments } = &turn {
        let call = json!([{"functionCall": {"name": name, "args": arguments}}]);
        events.send(None, &candidate(&call, None))?;
    }
    events.send(None, &candidate(&json!([]), Some("STOP")))
}

fn candidate(parts: &Value, reason: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some(reason) = reason {
        candidate["finishReason"] = reason.into();
    }
    json!({"candidates": [candidate], "modelVersion": "scripted", "usageMetadata": {"promptTokenCount": 1200,
        "candidatesTokenCount": 42, "totalTokenCount": 1247, "cachedContentTokenCount": 200, "thoughtsTokenCount": 5}})
}
