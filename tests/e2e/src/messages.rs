//! A scripted Messages API for an agent's real CLI.
//!
//! The first part of a request's path names the script that answers it, so that one server runs all scripts.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

/// What the model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    /// It answers at once.
    Answers,
    /// It requests a command, and answers when it receives the output.
    UsesTool,
    /// It requests a command that does not end.
    Hangs,
    /// The key is rejected.
    Unauthorized,
}

impl Script {
    const ALL: [Script; 4] = [Script::Answers, Script::UsesTool, Script::Hangs, Script::Unauthorized];

    /// The first part of the path.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Script::Answers => "answers",
            Script::UsesTool => "uses-tool",
            Script::Hangs => "hangs",
            Script::Unauthorized => "unauthorized",
        }
    }
}

/// Listens on a free port of all interfaces until the process ends, and returns the port.
pub(crate) fn serve() -> io::Result<u16> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(&client));
        }
    });
    Ok(port)
}

/// Serves one request per connection.
fn answer(mut client: &TcpStream) -> io::Result<()> {
    let (line, body) = read_request(client)?;
    let (status, kind, text) = reply(&line, &body);
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    )?;
    // The answer to HEAD has no body.
    if line.starts_with("HEAD ") { Ok(()) } else { client.write_all(text.as_bytes()) }
}

fn read_request(client: &TcpStream) -> io::Result<(String, Value)> {
    let mut reader = BufReader::new(client);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok((first, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Status, content type and body of the answer to a request, by its first line and its body.
fn reply(line: &str, body: &Value) -> (&'static str, &'static str, String) {
    const JSON: &str = "application/json";
    let path = line.split(' ').nth(1).unwrap_or_default();
    let script = Script::ALL.into_iter().find(|script| path.split('/').nth(1) == Some(script.name()));
    let Some(script) = script.filter(|_| line.starts_with("POST ") && path.contains("/v1/messages")) else {
        return ("404 Not Found", JSON, String::new());
    };
    if path.contains("count_tokens") {
        return ("200 OK", JSON, json!({"input_tokens": 10}).to_string());
    }
    if script == Script::Unauthorized {
        let error = json!({"type": "authentication_error", "message": "invalid x-api-key"});
        return ("401 Unauthorized", JSON, json!({"type": "error", "error": error}).to_string());
    }
    ("200 OK", "text/event-stream", turn(script, body))
}

/// One turn of the model, as server-sent events.
fn turn(script: Script, request: &Value) -> String {
    let command = match script {
        Script::UsesTool if !has_tool_result(request) => Some("echo hi; seq 1 2000"),
        Script::Hangs => Some("sleep 300"),
        Script::Answers | Script::UsesTool | Script::Unauthorized => None,
    };
    // A request that offers no tools is one of the CLI's own, such as for a title.
    let command = command.filter(|_| request["tools"].as_array().is_some_and(|tools| !tools.is_empty()));
    let usage = json!({"input_tokens": 100, "output_tokens": 1});
    let message = json!({
        "id": "msg_0001", "type": "message", "role": "assistant", "model": request["model"], "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    let (start, delta, stop_reason) = match command {
        Some(command) => (
            json!({"type": "tool_use", "id": "toolu_0001", "name": "Bash", "input": {}}),
            json!({"type": "input_json_delta", "partial_json": json!({"command": command, "description": "d"}).to_string()}),
            "tool_use",
        ),
        None => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": "All done: naïve café ☕."}),
            "end_turn",
        ),
    };
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": null},
            "usage": {"output_tokens": 7},
        }),
        json!({"type": "message_stop"}),
    ];
    let event =
        |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    events.iter().map(event).collect()
}

fn has_tool_result(request: &Value) -> bool {
    let messages = request["messages"].as_array().into_iter().flatten();
    let mut parts = messages.filter_map(|message| message["content"].as_array()).flatten();
    parts.any(|part| part["type"] == "tool_result")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_chooses_the_script() {
        let tools = json!({"tools": [{"name": "Bash"}], "messages": []});
        let answer = |path: &str, body: &Value| reply(&format!("POST {path} HTTP/1.1"), body);
        assert!(answer("/answers/v1/messages?beta=true", &tools).2.contains("end_turn"));
        assert!(answer("/uses-tool/v1/messages", &tools).2.contains("seq 1 2000"));
        assert!(answer("/uses-tool/v1/messages", &json!({"messages": []})).2.contains("end_turn"));
        assert_eq!(answer("/unauthorized/v1/messages", &tools).0, "401 Unauthorized");
        assert_eq!(answer("/else/v1/messages", &tools).0, "404 Not Found");
        let result = json!([{"role": "user", "content": [{"type": "tool_result"}]}]);
        let body = json!({"tools": [{"name": "Bash"}], "messages": result});
        assert!(answer("/uses-tool/v1/messages", &body).2.contains("end_turn"));
        assert!(answer("/hangs/v1/messages", &body).2.contains("sleep 300"));
    }
}
