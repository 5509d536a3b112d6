//! The Secrets of a run: the prompt, the run's token, and every other value that is not public.

use std::collections::BTreeMap;

use paperclip_kubernetes::validation::is_config_key;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::environment::{Variable, VariableValue};
use super::mcp::JsonPart;
use crate::prompt::ContextFile;

/// Where the prompt is mounted.
pub const PROMPT_DIR: &str = "/tmp/prompt";
/// The largest part of the prompt in one Secret, of the API's limit of 1 MiB.
pub const PIECE_MAX_BYTES: usize = 900 * 1024;
/// Up to this size the prompt shares a Secret with the variables, whose size only the host knows.
const SHARED_MAX_BYTES: usize = 256 * 1024;
const PROMPT_KEY: &str = "prompt.txt";
const CONTEXT_KEY: &str = "context.txt";
const FILE_KEY: &str = "file.json";
/// The prefix of the keys of the prompt's pieces. A variable whose name starts with it gets a numbered key.
const PROMPT_KEY_PREFIX: &str = "prompt.";

/// A Secret that the Job owns: the source of the value of each key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretPlan {
    pub name: String,
    pub namespace: String,
    pub entries: BTreeMap<String, Source>,
}

/// The source of a value. Written as `{"from": "prompt" | "context.N" | "authToken" | "config.env.NAME" | "selfPod.env.NAME" | "json"}`; a piece of
/// the prompt also has its byte range, `start` to `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "WrittenSource", try_from = "WrittenSource")]
pub enum Source {
    Prompt,
    /// A byte range of the prompt, at character boundaries.
    PromptPiece {
        start: usize,
        end: usize,
    },
    /// The text of this number among the plan's context files.
    Context(usize),
    AuthToken,
    ConfigEnv(String),
    PaperclipPodEnv(String),
    Json(Vec<JsonPart>),
}

#[derive(Serialize, Deserialize)]
struct WrittenSource {
    from: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<JsonPart>>,
}

impl From<Source> for WrittenSource {
    fn from(source: Source) -> WrittenSource {
        let mut parts = None;
        let (from, range) = match source {
            Source::Prompt => ("prompt".to_owned(), None),
            Source::PromptPiece { start, end } => ("prompt".to_owned(), Some((start, end))),
            Source::Context(number) => (format!("context.{number}"), None),
            Source::AuthToken => ("authToken".to_owned(), None),
            Source::ConfigEnv(name) => (format!("config.env.{name}"), None),
            Source::PaperclipPodEnv(name) => (format!("selfPod.env.{name}"), None),
            Source::Json(of_document) => {
                parts = Some(of_document);
                ("json".to_owned(), None)
            }
        };
        WrittenSource { from, start: range.map(|(start, _)| start), end: range.map(|(_, end)| end), parts }
    }
}

impl TryFrom<WrittenSource> for Source {
    type Error = String;

    fn try_from(written: WrittenSource) -> Result<Source, String> {
        let WrittenSource { from, start, end, parts } = written;
        match (from.as_str(), start.zip(end)) {
            ("prompt", None) => Ok(Source::Prompt),
            ("prompt", Some((start, end))) => Ok(Source::PromptPiece { start, end }),
            ("json", _) => Ok(Source::Json(parts.unwrap_or_default())),
            ("authToken", _) => Ok(Source::AuthToken),
            (name, _) => name
                .strip_prefix("config.env.")
                .map(|name| Source::ConfigEnv(name.to_owned()))
                .or_else(|| name.strip_prefix("context.")?.parse().ok().map(Source::Context))
                .or_else(|| {
                    name.strip_prefix("selfPod.env.").map(|name| Source::PaperclipPodEnv(name.to_owned()))
                })
                .ok_or_else(|| format!("`{name}` is not a source of a Secret's value")),
        }
    }
}

/// The Secrets of a run and how its Pod reads them.
#[derive(Debug, Clone, PartialEq)]
pub struct Secrets {
    pub plans: Vec<SecretPlan>,
    /// The container's `env`.
    pub env: Vec<Value>,
    /// The volume for [`PROMPT_DIR`], without its name.
    pub prompt_volume: Value,
    /// The files of the prompt, as a word of the script.
    pub prompt_files: &'static str,
    /// The sources of a projected volume for the context files.
    pub context_sources: Vec<Value>,
}

/// A file whose content has secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The path below the bundle's folder.
    pub path: String,
    pub content: Vec<JsonPart>,
}

/// Distributes the prompt, the variables, the context files and a file with secrets over Secrets.
pub fn plan(
    job_name: &str,
    namespace: &str,
    variables: &[Variable],
    prompt: &str,
    context_files: &[ContextFile],
    secret_file: Option<&SecretFile>,
) -> Secrets {
    let run_secret = format!("{job_name}-run");
    let mut entries = BTreeMap::new();
    let mut env = Vec::with_capacity(variables.len());
    for (index, variable) in variables.iter().enumerate() {
        env.push(match &variable.value {
            VariableValue::Plain(value) => json!({"name": variable.name, "value": value}),
            VariableValue::From(source) => json!({"name": variable.name, "valueFrom": source}),
            VariableValue::Secret(source) => {
                let key = data_key(index, &variable.name);
                entries.insert(key.clone(), source.clone());
                json!({"name": variable.name, "valueFrom": {"secretKeyRef": {"name": run_secret, "key": key}}})
            }
        });
    }
    // A host that resumes the run reads them back by these entries, to mask them.
    let of_file = secret_file.iter().flat_map(|file| &file.content);
    entries.extend(of_file.filter_map(|part| match part {
        JsonPart::ConfigEnv(name) => Some((name.clone(), Source::ConfigEnv(name.clone()))),
        JsonPart::Text(_) => None,
    }));
    let secret = |name: &str, entries| SecretPlan { name: name.into(), namespace: namespace.into(), entries };
    let pieces = prompt_pieces(prompt);
    let prompt_files = if pieces.len() > 1 { "/tmp/prompt/prompt.*" } else { "/tmp/prompt/prompt.txt" };
    let mut plans = Vec::new();
    let mut projected = Vec::new();
    for (index, source) in pieces.iter().enumerate() {
        let (key, name) = if pieces.len() > 1 {
            (format!("{PROMPT_KEY_PREFIX}{index:03}"), format!("{job_name}-prompt-{index:03}"))
        } else if prompt.len() <= SHARED_MAX_BYTES {
            entries.insert(PROMPT_KEY.to_owned(), source.clone());
            (PROMPT_KEY.to_owned(), run_secret.clone())
        } else {
            (PROMPT_KEY.to_owned(), format!("{job_name}-prompt"))
        };
        projected.push((name.clone(), json!([{"key": key, "path": key}])));
        if name != run_secret {
            plans.push(secret(&name, BTreeMap::from([(key, source.clone())])));
        }
    }
    if !entries.is_empty() {
        plans.insert(0, secret(&run_secret, entries));
    }
    let mut context_sources = Vec::new();
    for (number, file) in context_files.iter().enumerate() {
        let name = format!("{job_name}-context-{number:03}");
        let items = json!([{"key": CONTEXT_KEY, "path": file.path}]);
        context_sources.push(json!({"secret": {"name": name, "items": items}}));
        plans.push(secret(&name, BTreeMap::from([(CONTEXT_KEY.to_owned(), Source::Context(number))])));
    }
    if let Some(file) = secret_file {
        let name = format!("{job_name}-file");
        let items = json!([{"key": FILE_KEY, "path": file.path}]);
        context_sources.push(json!({"secret": {"name": name, "items": items}}));
        plans
            .push(secret(&name, BTreeMap::from([(FILE_KEY.to_owned(), Source::Json(file.content.clone()))])));
    }
    Secrets { plans, env, prompt_volume: prompt_volume(projected), prompt_files, context_sources }
}

/// Returns one volume of all Secrets of the prompt.
fn prompt_volume(secrets: Vec<(String, Value)>) -> Value {
    if let [(name, items)] = secrets.as_slice() {
        return json!({"secret": {"secretName": name, "items": items}});
    }
    let sources: Vec<Value> =
        secrets.into_iter().map(|(name, items)| json!({"secret": {"name": name, "items": items}})).collect();
    json!({"projected": {"sources": sources}})
}

/// Returns the key of a variable: its name, unless that is illegal as a key or may be one of the prompt's.
fn data_key(index: usize, name: &str) -> String {
    if is_config_key(name) && !name.starts_with(PROMPT_KEY_PREFIX) {
        name.to_owned()
    } else {
        format!("env-{index:03}")
    }
}

fn prompt_pieces(prompt: &str) -> Vec<Source> {
    if prompt.len() <= PIECE_MAX_BYTES {
        return vec![Source::Prompt];
    }
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < prompt.len() {
        let end = prompt.floor_char_boundary((start + PIECE_MAX_BYTES).min(prompt.len()));
        pieces.push(Source::PromptPiece { start, end });
        start = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn variable(name: &str, value: VariableValue) -> Variable {
        Variable { name: name.into(), value }
    }

    #[test]
    fn writes_and_reads_sources_by_name() {
        for (source, written) in [
            (Source::Prompt, json!({"from": "prompt"})),
            (Source::PromptPiece { start: 0, end: 9 }, json!({"from": "prompt", "start": 0, "end": 9})),
            (Source::Context(2), json!({"from": "context.2"})),
            (Source::AuthToken, json!({"from": "authToken"})),
            (
                Source::Json(vec![JsonPart::Text("a".into()), JsonPart::ConfigEnv("K".into())]),
                json!({"from": "json", "parts": [{"text": "a"}, {"configEnv": "K"}]}),
            ),
            (Source::ConfigEnv("A.B".into()), json!({"from": "config.env.A.B"})),
            (Source::PaperclipPodEnv("K".into()), json!({"from": "selfPod.env.K"})),
        ] {
            assert_eq!(serde_json::to_value(&source).unwrap(), written);
            assert_eq!(serde_json::from_value::<Source>(written).unwrap(), source);
        }
        assert!(serde_json::from_value::<Source>(json!({"from": "elsewhere"})).is_err());
    }

    #[test]
    fn a_small_prompt_shares_the_secret_of_the_variables() {
        let variables = [
            variable("A", VariableValue::Secret(Source::ConfigEnv("A".into()))),
            variable("B", VariableValue::Plain("b".into())),
            variable("prompt.txt", VariableValue::Secret(Source::ConfigEnv("prompt.txt".into()))),
        ];
        let secrets = plan("j", "n", &variables, "hi", &[], None);
        assert_eq!(secrets.plans.len(), 1);
        assert_eq!(secrets.plans[0].entries.keys().collect::<Vec<_>>(), ["A", "env-002", "prompt.txt"]);
        assert_eq!(secrets.plans[0].entries["prompt.txt"], Source::Prompt);
        assert_eq!(secrets.prompt_files, "/tmp/prompt/prompt.txt");
        assert_eq!(secrets.env[2]["valueFrom"]["secretKeyRef"]["key"], "env-002");
        let names = |prompt_bytes| {
            let secrets = plan("j", "n", &variables, &"x".repeat(prompt_bytes), &[], None);
            secrets.plans.into_iter().map(|plan| plan.name).collect::<Vec<_>>()
        };
        assert_eq!(names(256 << 10), ["j-run"]);
        assert_eq!(names((256 << 10) + 1), ["j-run", "j-prompt"]);
    }

    #[test]
    fn a_large_prompt_has_secrets_of_its_own() {
        let one = plan("j", "n", &[], &"x".repeat(PIECE_MAX_BYTES), &[], None);
        assert_eq!(one.plans.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>(), ["j-prompt"]);
        assert_eq!(one.prompt_volume["secret"]["secretName"], "j-prompt");

        let token = [variable("T", VariableValue::Secret(Source::AuthToken))];
        let split = plan("j", "n", &token, &"x".repeat(PIECE_MAX_BYTES + 1), &[], None);
        let names: Vec<_> = split.plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["j-run", "j-prompt-000", "j-prompt-001"]);
        assert_eq!(split.prompt_files, "/tmp/prompt/prompt.*");
        let sources = split.prompt_volume["projected"]["sources"].as_array().unwrap();
        assert_eq!(sources[1]["secret"]["items"], json!([{"key": "prompt.001", "path": "prompt.001"}]));
    }

    #[test]
    fn each_context_file_has_a_secret_of_its_own() {
        let file = |path: &str| ContextFile { path: path.into(), text: "t".into() };
        let files = [file("context/a.md"), file("context/b.md")];
        let secrets = plan("j", "n", &[], "hi", &files, None);
        let names: Vec<_> = secrets.plans.iter().map(|plan| plan.name.as_str()).collect();
        assert_eq!(names, ["j-run", "j-context-000", "j-context-001"]);
        let expected = json!({"secret": {"name": "j-context-001", "items": [{"key": "context.txt", "path": "context/b.md"}]}});
        assert_eq!(secrets.context_sources[1], expected);
        assert_eq!(secrets.plans[2].entries["context.txt"], Source::Context(1));
    }

    #[test]
    fn the_secrets_of_a_file_can_be_read_back() {
        let content = vec![JsonPart::Text("x".into()), JsonPart::ConfigEnv("PAPERCLIP_MCP_TOKEN_1".into())];
        let file = SecretFile { path: "context/mcp.json".into(), content: content.clone() };
        let secrets = plan("j", "n", &[], "hi", &[], Some(&file));
        let token = Source::ConfigEnv("PAPERCLIP_MCP_TOKEN_1".into());
        assert_eq!(secrets.plans[0].entries["PAPERCLIP_MCP_TOKEN_1"], token);
        assert_eq!(secrets.env, Vec::<Value>::new(), "the environment does not have it");
        assert_eq!(
            (secrets.plans[1].name.as_str(), &secrets.plans[1].entries["file.json"]),
            ("j-file", &Source::Json(content))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn joined_pieces_are_the_prompt(unit in "[aé😀]{1,7}", count in 1..600_000_usize) {
            let prompt = unit.repeat(count);
            let mut joined = String::new();
            for piece in prompt_pieces(&prompt) {
                match piece {
                    Source::PromptPiece { start, end } => {
                        prop_assert!(end - start <= PIECE_MAX_BYTES && end > start);
                        joined.push_str(&prompt[start..end]);
                    }
                    _ => joined.push_str(&prompt),
                }
            }
            prop_assert!(joined == prompt);
        }
    }
}
