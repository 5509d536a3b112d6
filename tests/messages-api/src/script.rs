//! The scripts: what the APIs answer to a conversation.

use serde_json::{Value, json};

use crate::mcp::TOOL;
use crate::shell::Shell;

/// What the tool of the script `tool` prints.
const COMMAND: &str = "echo from the shell; echo SHELL_DONE";

/// An answer of OpenAI's and Google's APIs.
#[derive(Debug, PartialEq)]
pub(crate) enum Turn {
    Say,
    /// A text, and a call of the tool that runs commands.
    Shell {
        name: String,
        arguments: Value,
    },
    /// A text that does not end.
    Hang,
}

impl Turn {
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Turn::Say => "All done.",
            Turn::Shell { .. } => "Let me see.",
            Turn::Hang => "Let me think",
        }
    }
}

/// What a request says of the conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conversation<'a> {
    /// A tool has been used.
    pub(crate) has_result: bool,
    /// The tool that runs commands, if the agent has one.
    pub(crate) shell: Option<Shell<'a>>,
    /// The agent has tools, and that of the MCP server is none of them.
    pub(crate) lacks_mcp_tool: bool,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(request: &Value, has_result: bool, shell: Option<Shell<'a>>) -> Conversation<'a> {
        let tools = &request["tools"];
        let has_tools = tools.as_array().is_some_and(|tools| !tools.is_empty());
        Conversation { has_result, shell, lacks_mcp_tool: has_tools && !tools.to_string().contains(TOOL) }
    }
}

/// Returns the answer of a script, `None` if it refuses the key:
/// - `ok`: a text;
/// - `tool`: a command, and a text once its result is there;
/// - `mcp`: a text, if the tool of [`crate::mcp`] is among those of the agent;
/// - `hang`: a text that does not end;
/// - any other: refused, so that a mistake is not taken for an answer.
pub(crate) fn turn(script: &str, conversation: Conversation<'_>) -> Option<Turn> {
    match (script, conversation.shell) {
        ("tool", Some(shell)) if !conversation.has_result => {
            Some(Turn::Shell { name: shell.name.to_owned(), arguments: shell.arguments(COMMAND) })
        }
        ("ok" | "tool", _) => Some(Turn::Say),
        ("mcp", _) if !conversation.lacks_mcp_tool => Some(Turn::Say),
        ("hang", _) => Some(Turn::Hang),
        _ => None,
    }
}

/// An answer of the Messages API.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    Refused { status: u16, kind: &'static str, message: &'static str },
    Message { blocks: Vec<Block>, output_tokens: u64 },
}

/// A content block of a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Block {
    Text(String),
    /// A call of the tool Bash with this input.
    Bash(Value),
}

/// Returns the Messages API's answer of a script:
/// - `ok`: a text;
/// - `background-SECONDS`: starts a background task of that many seconds, then a text;
/// - `overloaded`: always status 529;
/// - `too-long-resumed`: refuses a conversation that has a former turn, else a text;
/// - `kill-child`: a tool whose child is killed, then a text;
/// - `eat-MIB`: a tool whose child allocates that much memory, then a text;
/// - `expensive`: a tool after an expensive message, for ever.
///
/// An unknown script is refused, so that a mistake is not taken for an answer.
pub(crate) fn reply(script: &str, request: &Value) -> Reply {
    let messages = request["messages"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    let (name, number) = match script.rsplit_once('-') {
        Some((name, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => (name, number),
        _ => (script, ""),
    };
    let command = |command: String| json!({"command": command, "description": "scripted"});
    match name {
        "ok" => say("All done."),
        "background" => first_a_tool(messages, {
            let mut input = command(format!("sleep {number}; echo finished"));
            input["run_in_background"] = true.into();
            input
        }),
        "overloaded" => Reply::Refused { status: 529, kind: "overloaded_error", message: "Overloaded" },
        "too-long-resumed" if messages.iter().any(|message| message["role"] == "assistant") => {
            Reply::Refused {
                status: 400,
                kind: "invalid_request_error",
                message: "prompt is too long: 208310 tokens > 200000 maximum",
            }
        }
        "too-long-resumed" => say("All done."),
        "kill-child" => first_a_tool(messages, command("sh -c 'kill -9 $$'".to_owned())),
        "eat" => {
            first_a_tool(messages, command(format!("dd if=/dev/zero of=/dev/null bs={number}M count=1")))
        }
        "expensive" => Reply::Message {
            blocks: vec![Block::Bash(command("echo again".to_owned()))],
            output_tokens: 100_000,
        },
        _ => {
            Reply::Refused { status: 400, kind: "invalid_request_error", message: "there is no such script" }
        }
    }
}

fn say(text: &str) -> Reply {
    Reply::Message { blocks: vec![Block::Text(text.to_owned())], output_tokens: 7 }
}

/// A tool call, and a text once its result is there.
fn first_a_tool(messages: &[Value], input: Value) -> Reply {
    let has_result = messages.iter().any(|message| {
        let blocks = message["content"].as_array().into_iter().flatten();
        blocks.into_iter().any(|block| block["type"] == "tool_result")
    });
    if has_result {
        return say("All done.");
    }
    Reply::Message {
        blocks: vec![Block::Text("Let me see.".to_owned()), Block::Bash(input)],
        output_tokens: 42,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_called_until_its_result_is_there() {
        let first = json!({"messages": [{"role": "user", "content": "go"}]});
        let Reply::Message { blocks, .. } = reply("background-25", &first) else { panic!("refused") };
        assert!(
            matches!(&blocks[1], Block::Bash(input) if input["command"] == "sleep 25; echo finished"),
            "{blocks:?}"
        );
        let then = json!({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]});
        assert_eq!(reply("background-25", &then), say("All done."));
    }

    #[test]
    fn a_command_is_run_once_where_there_is_a_shell() {
        let (name, schema) = (json!("bash"), json!({"properties": {"command": {"type": "string"}}}));
        let shell = Shell::find([(&name, &schema)].into_iter());
        let of = |has_result, shell| Conversation::new(&Value::Null, has_result, shell);
        let turns =
            [turn("tool", of(false, shell)), turn("tool", of(true, shell)), turn("tool", of(false, None))];
        assert!(matches!(&turns[0], Some(Turn::Shell { arguments, .. }) if arguments["command"] == COMMAND));
        assert_eq!(turns[1..], [Some(Turn::Say), Some(Turn::Say)]);
        assert_eq!(turn("refused", of(false, shell)), None);
    }

    #[test]
    fn an_agent_without_the_tool_of_the_mcp_server_is_refused() {
        let with = |tools: Value| turn("mcp", Conversation::new(&json!({"tools": tools}), false, None));
        assert_eq!(with(json!([{"name": "mcp__scripted__say_hello"}])), Some(Turn::Say));
        assert_eq!(with(json!([{"name": "bash"}])), None);
        assert_eq!(with(json!([])), Some(Turn::Say), "a request beside the conversation");
    }

    #[test]
    fn only_a_resumed_conversation_is_too_long() {
        let fresh = json!({"messages": [{"role": "user"}]});
        let resumed = json!({"messages": [{"role": "user"}, {"role": "assistant"}, {"role": "user"}]});
        assert_eq!(reply("too-long-resumed", &fresh), say("All done."));
        assert!(matches!(reply("too-long-resumed", &resumed), Reply::Refused { status: 400, .. }));
        assert!(matches!(reply("no-such-script", &fresh), Reply::Refused { status: 400, .. }));
    }
}
