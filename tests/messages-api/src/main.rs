//! Scripted model APIs on loopback: what the agents' CLIs get in place of a provider.
//!
//! `messages-api PORT-FILE` listens on a free port of 127.0.0.1 and writes it into the file. The first part of a request's path names the script,
//! as in `ANTHROPIC_BASE_URL=http://127.0.0.1:PORT/ok`: see [`script::reply`] for the Messages API, and [`script::turn`] for the Responses API,
//! chat completions and `generateContent`. `/mcp` below it is an MCP server. It ends with its parent process.

mod gemini;
mod mcp;
mod openai;
mod script;
mod shell;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use script::{Block, Reply};

/// How often it is checked whether the parent process lives.
const PARENT_CHECK: Duration = Duration::from_millis(200);
/// The largest request: the CLI sends its tools and the whole conversation.
const MAX_BODY_BYTES: usize = 64 << 20;

fn main() -> Result<()> {
    let file = std::env::args_os().nth(1).context("usage: messages-api PORT-FILE")?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
    let port = listener.local_addr()?.port();
    // Whoever sees the file reads the whole number.
    let half = std::path::Path::new(&file).with_extension("tmp");
    std::fs::write(&half, port.to_string()).with_context(|| format!("cannot write {}", half.display()))?;
    std::fs::rename(&half, &file)?;
    std::thread::spawn(end_with_parent);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // A client that closes its connection early is not this server's trouble.
            let _ = serve(&stream);
        });
    }
    Ok(())
}

fn end_with_parent() {
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        std::thread::sleep(PARENT_CHECK);
    }
    std::process::exit(0);
}

/// Answers the one request of a connection.
fn serve(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
        if name.eq_ignore_ascii_case("authorization") {
            value.trim().clone_into(&mut authorization);
        }
    }
    if length > MAX_BODY_BYTES {
        bail!("a request of {length} bytes");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let script = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if path.ends_with("/count_tokens") {
        return answer(stream, 200, &json!({"input_tokens": 10}));
    }
    if path.ends_with("/mcp") {
        return mcp::serve(stream, &method, &authorization, &request);
    }
    if method == "POST" && path.ends_with("/responses") {
        return openai::respond(stream, script, &request);
    }
    if method == "POST" && path.ends_with("/chat/completions") {
        return openai::complete(stream, script, &request);
    }
    match path.rsplit_once(':').map(|(_, operation)| operation) {
        Some("generateContent") => return gemini::generate(stream, script, &request, false),
        Some("streamGenerateContent") => return gemini::generate(stream, script, &request, true),
        Some(_) | None => {}
    }
    if method != "POST" || !path.ends_with("/v1/messages") {
        return answer(
            stream,
            404,
            &json!({"type": "error", "error": {"type": "not_found_error", "message": path}}),
        );
    }
    match script::reply(script, &request) {
        Reply::Refused { status, kind, message } => {
            answer(stream, status, &json!({"type": "error", "error": {"type": kind, "message": message}}))
        }
        Reply::Message { blocks, output_tokens } => {
            send_message(stream, &request["model"], &blocks, output_tokens)
        }
    }
}

fn answer(mut stream: &TcpStream, status: u16, body: &Value) -> Result<()> {
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

/// Server-sent events, as the answer to a request.
struct Events<'a>(&'a TcpStream);

impl<'a> Events<'a> {
    fn start(mut stream: &'a TcpStream) -> Result<Events<'a>> {
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
        Ok(Events(stream))
    }

    fn send(&mut self, name: Option<&str>, event: &Value) -> Result<()> {
        if let Some(name) = name {
            writeln!(self.0, "event: {name}")?;
        }
        self.send_text(&event.to_string())
    }

    fn send_text(&mut self, text: &str) -> Result<()> {
        write!(self.0, "data: {text}\n\n")?;
        Ok(())
    }

    /// Sends nothing more until the client has closed the connection.
    fn hang(&mut self) -> Result<()> {
        while self.0.read(&mut [0; 512])? > 0 {}
        Ok(())
    }
}

/// Sends a message as server-sent events.
fn send_message(stream: &TcpStream, model: &Value, blocks: &[Block], output_tokens: u64) -> Result<()> {
    let mut events = Events::start(stream)?;
    let mut send = |event: Value| events.send(event["type"].as_str(), &event);
    send(json!({"type": "message_start", "message": {
        "id": "msg_scripted", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 100, "output_tokens": 1},
    }}))?;
    for (index, block) in blocks.iter().enumerate() {
        let (start, delta) = match block {
            Block::Text(text) => {
                (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": text}))
            }
            Block::Bash(input) => (
                json!({"type": "tool_use", "id": format!("toolu_{index}_{}", unique()), "name": "Bash", "input": {}}),
                json!({"type": "input_json_delta", "partial_json": input.to_string()}),
            ),
        };
        send(json!({"type": "content_block_start", "index": index, "content_block": start}))?;
        send(json!({"type": "content_block_delta", "index": index, "delta": delta}))?;
        send(json!({"type": "content_block_stop", "index": index}))?;
    }
    let uses_tools = blocks.iter().any(|block| matches!(block, Block::Bash(_)));
    let reason = if uses_tools { "tool_use" } else { "end_turn" };
    send(
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": output_tokens}}),
    )?;
    send(json!({"type": "message_stop"}))
}

/// A number that no other call returns.
fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
