//! OpenAI's APIs: Responses and chat completions.

use std::net::TcpStream;

use anyhow::Result;
use serde_json::{Value, json};

use crate::script::{Conversation, Turn, turn};
use crate::shell::Shell;
use crate::{Events, answer, unique};

const REFUSAL: &str = "Incorrect API key provided.";

/// Answers a request of the Responses API.
pub(crate) fn respond(stream: &TcpStream, script: &str, request: &Value) -> Result<()> {
    let items = request["input"].as_array().into_iter().flatten();
    let has_result =
        items.clone().any(|item| item["type"].as_str().is_some_and(|kind| kind.ends_with("_output")));
    let tools = request["tools"].as_array().into_iter().flatten();
    let shell = Shell::find(tools.map(|tool| (&tool["name"], &tool["parameters"])));
    let Some(turn) = turn(script, Conversation::new(request, has_result, shell)) else {
        return refuse(stream);
    };
    let response = json!({"id": format!("resp_{}", unique()), "object": "response", "created_at": 1,
        "model": request["model"], "status": "in_progress", "output": [], "usage": null});
    let mut events = Events::start(stream)?;
    send(&mut events, "response.created", json!({"response": response}))?;
    let text = turn.text();
    let message = |status: &str, content: Value| json!({"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content});
    send(
        &mut events,
        "response.output_item.added",
        json!({"output_index": 0, "item": message("in_progress", json!([]))}),
    )?;
    let place = json!({"item_id": "msg_1", "output_index": 0, "content_index": 0});
    let at_place = |member: &str, value: Value| {
        let mut event = place.clone();
        event[member] = value;
        event
    };
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    send(&mut events, "response.content_part.added", at_place("part", part("")))?;
    send(&mut events, "response.output_text.delta", at_place("delta", text.into()))?;
    if turn == Turn::Hang {
        return events.hang();
    }
    send(&mut events, "response.output_text.done", at_place("text", text.into()))?;
    let mut output = vec![message("completed", json!([part(text)]))];
    send(&mut events, "response.output_item.done", json!({"output_index": 0, "item": output[0]}))?;
    if let Turn::Shell { name, arguments } = &turn {
        let id = unique();
        let call = json!({"type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"),
            "name": name, "arguments": arguments.to_string(), "status": "completed"});
        send(&mut events, "response.output_item.added", json!({"output_index": 1, "item": call}))?;
        send(&mut events, "response.output_item.done", json!({"output_index": 1, "item": call}))?;
        output.push(call);
    }
    let usage = json!({"input_tokens": 1200, "input_tokens_details": {"cached_tokens": 200}, "output_tokens": 42,
        "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 1242});
    let mut completed = response;
    completed["status"] = "completed".into();
    completed["output"] = output.into();
    completed["usage"] = usage;
    send(&mut events, "response.completed", json!({"response": completed}))
}

fn send(events: &mut Events<'_>, kind: &str, mut event: Value) -> Result<()> {
    event["type"] = kind.into();
    events.send(Some(kind), &event)
}

/// Answers a request for a chat completion, which is to be streamed.
pub(crate) fn complete(stream: &TcpStream, script: &str, request: &Value) -> Result<()> {
    let messages = request["messages"].as_array().into_iter().flatten();
    let has_result = messages.clone().any(|message| message["role"] == "tool");
    let tools = request["tools"].as_array().into_iter().flatten();
    let shell = Shell::find(tools.map(|tool| (&tool["function"]["name"], &tool["function"]["parameters"])));
    let Some(turn) = turn(script, Conversation::new(request, has_result, shell)) else {
        return refuse(stream);
    };
    let mut events = Events::start(stream)?;
    let id = format!("chatcmpl-{}", unique());
    let chunk = |choices: Value| json!({"id": id, "object": "chat.completion.chunk", "created": 1, "model": request["model"], "choices": choices});
    let delta =
        |delta: Value, reason: Value| chunk(json!([{"index": 0, "delta": delta, "finish_reason": reason}]));
    events.send(None, &delta(json!({"role": "assistant", "content": turn.text()}), Value::Null))?;
    if turn == Turn::Hang {
        return events.hang();
    }
    let mut reason = "stop";
    if let Turn::Shell { name, arguments } = &turn {
        let call = json!({"index": 0, "id": format!("call_{}", unique()), "type": "function",
            "function": {"name": name, "arguments": arguments.to_string()}});
        events.send(None, &delta(json!({"tool_calls": [call]}), Value::Null))?;
        reason = "tool_calls";
    }
    events.send(None, &delta(json!({}), reason.into()))?;
    let mut last = chunk(json!([]));
    last["usage"] = json!({"prompt_tokens": 1200, "completion_tokens": 42, "total_tokens": 1242,
        "prompt_tokens_details": {"cached_tokens": 200}, "completion_tokens_details": {"reasoning_tokens": 5}});
    events.send(None, &last)?;
    events.send_text("[DONE]")
}

fn refuse(stream: &TcpStream) -> Result<()> {
    let error = json!({"message": REFUSAL, "type": "invalid_request_error", "param": null, "code": "invalid_api_key"});
    answer(stream, 401, &json!({"error": error}))
}
