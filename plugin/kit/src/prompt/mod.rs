//! Assembles the prompt of a run: why the agent was woken, the handoff of an earlier session, the task, and the agent's own template.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::javascript::{length, trim};
use crate::refusal::Refusal;
use crate::request::{Request, text};

mod markdown;
pub mod overflow;
mod task;
mod template;
mod wake;

pub use overflow::ContextFile;
pub use template::{INSERTED_MAX_BYTES, render};

/// The template of an agent that has none of its own.
pub const DEFAULT_TEMPLATE: &str = include_str!("default_task.md");
/// The same for a turn of a chat.
pub const DEFAULT_CONVERSATION_TEMPLATE: &str = include_str!("default_conversation.md");
/// The longest prompt.
pub const PROMPT_MAX_BYTES: usize = 8 * 1024 * 1024;

/// A prompt, and the sizes of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub text: String,
    pub metrics: Metrics,
    /// What is too long for it.
    pub files: Vec<ContextFile>,
}

/// Sizes of the prompt and its parts, in UTF-16 units as Paperclip counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    pub prompt_chars: usize,
    /// Of an agent that has its instructions in the prompt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub instructions_chars: usize,
    pub bootstrap_prompt_chars: usize,
    pub wake_prompt_chars: usize,
    pub session_handoff_chars: usize,
    pub task_context_chars: usize,
    pub heartbeat_prompt_chars: usize,
}

/// Assembles the prompt: instructions and bootstrap (without a session), wake, handoff, task, and the main template, which is left out if a resumed
/// session has a wake and if the wake asks for a recovery. The parts are separated by a blank line; blank parts are left out. A part
/// of the context that is longer than [`overflow::INLINE_MAX_BYTES`] is in a file that the prompt names, as `variables` are.
///
/// # Errors
/// The prompt is larger than [`PROMPT_MAX_BYTES`], or a template inserts more than [`INSERTED_MAX_BYTES`]; the refusal names the largest part.
pub fn assemble(
    request: &Request,
    is_resuming: bool,
    instructions: Option<&str>,
    variables: &[ContextFile],
) -> Result<Prompt, Refusal> {
    let data = template_data(request);
    // A resumed session has its instructions already.
    let instructions = instructions.filter(|_| !is_resuming).map(trim).unwrap_or_default().to_owned();
    let template = |key: &str| text(&request.config, key);
    let bootstrap = if is_resuming {
        String::new()
    } else {
        let key = "bootstrapPromptTemplate";
        trim(&rendered(key, trim_blank(template(key)), &data)?).to_owned()
    };
    let is_conversation = request.context.get("conversationMode") == Some(&Value::Bool(true));
    let wake = request.context.get("paperclipWake").unwrap_or(&Value::Null);
    let task = task::text(request, is_resuming).to_owned();
    let setting = wake::Setting { is_resuming, is_conversation, has_task: !task.is_empty() };
    let is_recovery = wake::is_recovery(wake);
    let wake = wake::text(wake, setting);
    let handoff = trim(text(&request.context, "paperclipSessionHandoffMarkdown").unwrap_or("")).to_owned();
    let default = if is_conversation { DEFAULT_CONVERSATION_TEMPLATE } else { DEFAULT_TEMPLATE };
    let main = if is_resuming && !wake.is_empty() || is_recovery {
        String::new()
    } else {
        rendered("promptTemplate", template("promptTemplate").unwrap_or(default), &data)?
    };
    let mut metrics = Metrics {
        prompt_chars: 0,
        instructions_chars: length(&instructions),
        bootstrap_prompt_chars: length(&bootstrap),
        wake_prompt_chars: length(&wake),
        session_handoff_chars: length(&handoff),
        task_context_chars: length(&task),
        heartbeat_prompt_chars: length(&main),
    };

    let mut files = Vec::new();
    let sections = [
        ("instructionsFilePath", overflow::inline(instructions, "instructions", &mut files)),
        ("bootstrapPromptTemplate", bootstrap),
        ("context.paperclipWake", overflow::inline(wake, "wake", &mut files)),
        ("context.paperclipSessionHandoffMarkdown", overflow::inline(handoff, "handoff", &mut files)),
        ("context.paperclipTaskMarkdown", overflow::inline(task, "task", &mut files)),
        ("context", overflow::variables_note(variables)),
        ("promptTemplate", main),
        ("context.paperclipRuntimeTools", runtime_tools(request)),
    ];
    let joined = sections
        .iter()
        .map(|(_, section)| trim(section))
        .filter(|section| !section.is_empty())
        .collect::<Vec<_>>()
        .join("\n\n");
    if joined.len() > PROMPT_MAX_BYTES {
        return Err(too_large(joined.len(), &sections));
    }
    metrics.prompt_chars = length(&joined);
    Ok(Prompt { text: joined, metrics, files })
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn rendered(field: &'static str, template: &str, data: &Value) -> Result<String, Refusal> {
    render(template, data).ok_or_else(|| {
        Refusal::new(
            field,
            format!(
                "its placeholders insert more than {INSERTED_MAX_BYTES} bytes: insert less, or let the agent read the \
                 text from its workspace"
            ),
        )
    })
}

/// Returns how the agent uses the tools for connections that Paperclip gives this run.
fn runtime_tools(request: &Request) -> String {
    let tools = request.context.get("paperclipRuntimeTools").and_then(Value::as_object);
    let Some(guidance) = tools.and_then(|tools| text(tools, "guidance")) else { return String::new() };
    format!(
        "# Connections to services\n\n{}\n\nThe tools are at `$PAPERCLIP_RUNTIME_TOOLS_CONNECTIONS_SEARCH_URL` and `$PAPERCLIP_RUNTIME_TOOLS_CONNECTION_REQUEST_URL`, and by MCP at `$PAPERCLIP_RUNTIME_TOOLS_MCP_URL`; send the header `Authorization: Bearer $PAPERCLIP_RUNTIME_TOOLS_TOKEN`.",
        trim(guidance)
    )
}

/// Returns the values that templates may refer to.
fn template_data(request: &Request) -> Value {
    let agent = &request.agent;
    json!({
        "agentId": agent.id,
        "companyId": agent.company_id,
        "runId": request.run_id,
        "company": {"id": agent.company_id},
        "agent": {
            "id": agent.id,
            "companyId": agent.company_id,
            "name": agent.name,
            "adapterType": agent.adapter_type,
        },
        "run": {"id": request.run_id, "source": "on_demand"},
        "context": request.context,
    })
}

fn trim_blank(template: Option<&str>) -> &str {
    template.filter(|text| !trim(text).is_empty()).unwrap_or("")
}

fn too_large(prompt_bytes: usize, sections: &[(&str, String)]) -> Refusal {
    let largest = sections.iter().max_by_key(|(_, section)| section.len());
    let (field, section) =
        largest.map_or(("promptTemplate", ""), |(field, section)| (*field, section.as_str()));
    Refusal::new(
        field,
        format!(
            "the prompt would be {prompt_bytes} bytes, {} of them from this field; an agent gets at most {PROMPT_MAX_BYTES} bytes: shorten it, or let the agent read the text from its workspace",
            section.len()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(config: Value, context: Value) -> Request {
        let object = |value: Value| value.as_object().cloned().unwrap();
        Request {
            run_id: "r1".into(),
            agent: crate::request::Agent {
                id: "a1".into(),
                company_id: "c1".into(),
                name: "Nova".into(),
                adapter_type: "t".into(),
            },
            config: object(config),
            context: object(context),
            ..Request::default()
        }
    }

    #[test]
    fn joins_the_parts_in_order_with_blank_lines() {
        let request = request(
            json!({"promptTemplate": " main {{run.source}} \n", "bootstrapPromptTemplate": " boot {{company.id}} "}),
            json!({
                "paperclipWake": {"reason": "w"},
                "paperclipSessionHandoffMarkdown": "\n# hand 😀\n",
                "paperclipTaskMarkdown": " the task ",
            }),
        );
        let prompt = assemble(&request, false, None, &[]).unwrap();
        let parts: Vec<&str> = prompt.text.split("\n\n").collect();
        assert_eq!((parts[0], parts[1]), ("boot c1", "# Why you were woken"));
        assert_eq!(parts[3..], ["- Reason: w", "# hand 😀", "the task", "main on_demand"]);
        let Metrics {
            bootstrap_prompt_chars,
            session_handoff_chars,
            task_context_chars,
            heartbeat_prompt_chars,
            ..
        } = prompt.metrics;
        assert_eq!([bootstrap_prompt_chars, session_handoff_chars, task_context_chars], [7, 9, 8]);
        assert_eq!((heartbeat_prompt_chars, prompt.metrics.prompt_chars), (17, length(&prompt.text)));
    }

    #[test]
    fn a_resumed_session_gets_no_bootstrap_and_no_template_beside_a_wake() {
        let config = json!({"promptTemplate": "main", "bootstrapPromptTemplate": "boot"});
        let woken = request(config.clone(), json!({"paperclipWake": {"reason": "w"}}));
        let text = assemble(&woken, true, None, &[]).unwrap().text;
        assert!(
            text.starts_with("# What is new since your last run") && text.ends_with("- Reason: w"),
            "{text}"
        );
        assert_eq!(assemble(&request(config, json!({})), true, None, &[]).unwrap().text, "main");
    }

    #[test]
    fn the_agent_gets_no_template_when_it_recovers_a_task() {
        let wake = json!({"paperclipWake": {"recovery": {"cause": "adapter_failed"}}});
        let text =
            assemble(&request(json!({"promptTemplate": "main"}), wake), false, None, &[]).unwrap().text;
        assert!(text.contains("## Recovery") && !text.contains("main"), "{text}");
    }

    #[test]
    fn a_template_that_is_not_text_is_replaced_by_the_default() {
        let prompt = |context: Value| {
            assemble(&request(json!({"promptTemplate": 3}), context), false, None, &[]).unwrap().text
        };
        let task = prompt(json!({}));
        assert!(task.starts_with("You are agent a1 (Nova). Continue your Paperclip work.\n"), "{task}");
        for need in [
            "`done`",
            "/api/issues/$PAPERCLIP_TASK_ID/comments",
            "$PAPERCLIP_SCRATCH_DIR",
            "ask_user_questions",
        ] {
            assert!(task.contains(need), "{need}");
        }
        let chat = prompt(json!({"conversationMode": true, "paperclipTaskMarkdown": "Chat mode: answer."}));
        assert!(
            chat.starts_with(
                "Chat mode: answer.\n\nYou are agent a1 (Nova). Continue your Paperclip conversation"
            ),
            "{chat}"
        );
        assert!(!chat.contains("`in_review`"), "{chat}");
    }

    #[test]
    fn refuses_a_prompt_over_the_limit_and_names_its_largest_part() {
        let main = "é".repeat(PROMPT_MAX_BYTES / 2);
        let request = request(json!({"promptTemplate": main, "bootstrapPromptTemplate": "x"}), json!({}));
        assert_eq!(assemble(&request, true, None, &[]).unwrap().text.len(), PROMPT_MAX_BYTES);
        let refusal = assemble(&request, false, None, &[]).unwrap_err();
        assert_eq!(refusal.field, "promptTemplate");
        assert!(refusal.message.contains("8388611 bytes"), "{refusal}");
    }

    #[test]
    fn tools_for_connections_are_explained() {
        let tools = json!({"paperclipRuntimeTools": {"guidance": " Search first. ", "rest": {}}});
        let prompt = assemble(&request(json!({"promptTemplate": "main"}), tools), false, None, &[]).unwrap();
        assert!(
            prompt.text.starts_with("main\n\n# Connections to services\n\nSearch first.\n\n"),
            "{}",
            prompt.text
        );
    }

    #[test]
    fn a_description_of_200_kb_is_in_a_file() {
        let context = json!({"paperclipTaskMarkdown": "word ".repeat(40_000), "paperclipWake": {"reason": "issue_assigned"}});
        let prompt = assemble(&request(json!({}), context), false, None, &[]).unwrap();
        assert!(prompt.text.len() < 30_000, "{}", prompt.text.len());
        assert!(prompt.text.contains("`/tmp/bundle/context/task.md`"));
        assert_eq!(prompt.files[0].text.len(), 199_999);
        assert_eq!(prompt.metrics.task_context_chars, 199_999);
    }
}
