//! Assembles the prompt of a run: why the agent was woken, the handoff of an earlier session, and the agent's own template.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::javascript::{length, trim};
use crate::refusal::Refusal;
use crate::request::{Request, text};

mod template;
mod wake;

pub use template::render;

/// The template of an agent that has none of its own.
pub const DEFAULT_TEMPLATE: &str =
    "You are agent {{agent.id}} ({{agent.name}}). Continue your Paperclip work.";
/// The longest prompt.
pub const PROMPT_MAX_BYTES: usize = 8 * 1024 * 1024;

/// A prompt, and the sizes of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    pub text: String,
    pub metrics: Metrics,
}

/// Sizes of the prompt and its parts, in UTF-16 units as Paperclip counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    pub prompt_chars: usize,
    pub bootstrap_prompt_chars: usize,
    pub wake_prompt_chars: usize,
    pub session_handoff_chars: usize,
    pub heartbeat_prompt_chars: usize,
}

/// Assembles the prompt: bootstrap (without a session), wake, handoff, and the main template (unless a resumed session has a wake).
/// The parts are separated by a blank line; blank parts are left out.
///
/// # Errors
/// The prompt is larger than [`PROMPT_MAX_BYTES`]; the refusal names the largest part.
pub fn assemble(request: &Request, is_resuming: bool) -> Result<Prompt, Refusal> {
    let data = template_data(request);
    let template = |key: &str| text(&request.config, key);
    let bootstrap = if is_resuming {
        String::new()
    } else {
        trim(&render(trim_blank(template("bootstrapPromptTemplate")), &data)).to_owned()
    };
    let wake = request.context.get("paperclipWake").map(wake::text).unwrap_or_default();
    let handoff = trim(text(&request.context, "paperclipSessionHandoffMarkdown").unwrap_or("")).to_owned();
    let main = if is_resuming && !wake.is_empty() {
        String::new()
    } else {
        render(template("promptTemplate").unwrap_or(DEFAULT_TEMPLATE), &data)
    };

    let sections = [
        ("bootstrapPromptTemplate", &bootstrap),
        ("context.paperclipWake", &wake),
        ("context.paperclipSessionHandoffMarkdown", &handoff),
        ("promptTemplate", &main),
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
    let metrics = Metrics {
        prompt_chars: length(&joined),
        bootstrap_prompt_chars: length(&bootstrap),
        wake_prompt_chars: length(&wake),
        session_handoff_chars: length(&handoff),
        heartbeat_prompt_chars: length(&main),
    };
    Ok(Prompt { text: joined, metrics })
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

fn too_large(prompt_bytes: usize, sections: &[(&str, &String)]) -> Refusal {
    let (field, section) =
        sections.iter().max_by_key(|(_, section)| section.len()).copied().unwrap_or(sections[0]);
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
            json!({"paperclipWake": {"reason": "w"}, "paperclipSessionHandoffMarkdown": "\n# hand 😀\n"}),
        );
        let prompt = assemble(&request, false).unwrap();
        assert_eq!(prompt.text, "boot c1\n\nWake reason: w\n\n# hand 😀\n\nmain on_demand");
        let expected = Metrics {
            prompt_chars: 50,
            bootstrap_prompt_chars: 7,
            wake_prompt_chars: 14,
            session_handoff_chars: 9,
            heartbeat_prompt_chars: 17,
        };
        assert_eq!(prompt.metrics, expected);
    }

    #[test]
    fn a_resumed_session_gets_no_bootstrap_and_no_template_beside_a_wake() {
        let config = json!({"promptTemplate": "main", "bootstrapPromptTemplate": "boot"});
        let woken = request(config.clone(), json!({"paperclipWake": {"reason": "w"}}));
        assert_eq!(assemble(&woken, true).unwrap().text, "Wake reason: w");
        assert_eq!(assemble(&request(config, json!({})), true).unwrap().text, "main");
    }

    #[test]
    fn a_template_that_is_not_text_is_replaced_by_the_default() {
        let prompt = assemble(&request(json!({"promptTemplate": 3}), json!({})), false).unwrap();
        assert_eq!(prompt.text, "You are agent a1 (Nova). Continue your Paperclip work.");
    }

    #[test]
    fn refuses_a_prompt_over_the_limit_and_names_its_largest_part() {
        let main = "é".repeat(PROMPT_MAX_BYTES / 2);
        let request = request(json!({"promptTemplate": main, "bootstrapPromptTemplate": "x"}), json!({}));
        assert_eq!(assemble(&request, true).unwrap().text.len(), PROMPT_MAX_BYTES);
        let refusal = assemble(&request, false).unwrap_err();
        assert_eq!(refusal.field, "promptTemplate");
        assert!(refusal.message.contains("8388611 bytes"), "{refusal}");
    }
}
