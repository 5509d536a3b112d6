//! What a client sends beside an execution context: files that only Paperclip's server has, and MCP servers.
//!
//! [`Supplied::merge`] moves everything that is secret into `config.env` of the context, where a host keeps it from plugins.

use std::borrow::Cow;

use k8s_openapi::ByteString;
use paperclip_contract::types::ContextFile;
use paperclip_diagnostic::Diagnose;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The largest total size of the files of a run.
pub(crate) const FILES_MAX_BYTES: usize = 3 << 20;
/// How many files a message about their size names.
const NAMED_FILES: usize = 3;
/// The folder of the instructions and of the files that they refer to.
const INSTRUCTIONS_FOLDER: &str = "instructions";
/// The prefix of the variables with the tokens of MCP servers. Plugins leave them out of the agent's environment.
const MCP_TOKEN_PREFIX: &str = "PAPERCLIP_MCP_TOKEN_";
/// The variable with the token of Paperclip's tools for connections.
const TOOLS_TOKEN: &str = "PAPERCLIP_RUNTIME_TOOLS_TOKEN";

/// What a client sends beside an execution context.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Supplied {
    /// Instructions below `instructions/`, skills below `skills/NAME/`, and others. With them nothing is read from this machine's disk.
    pub files: Option<Vec<SuppliedFile>>,
    /// The path of the instructions below `instructions/`.
    pub instructions_entry: Option<String>,
    pub mcp_servers: Vec<McpServer>,
}

/// A file for the agent, with its content as text or in base64.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuppliedFile {
    path: String,
    text: Option<String>,
    base64: Option<String>,
    /// Permission bits.
    mode: Option<u32>,
}

/// An MCP server for the agent.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct McpServer {
    name: String,
    url: String,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    connection_id: Option<String>,
}

impl std::fmt::Debug for McpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpServer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why what a client sends is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuppliedError {
    #[error("executionTarget: {0} is not where this agent runs: it runs in the host's cluster")]
    RemoteTarget(String),
    #[error("files: {path:?} must have exactly one of `text` and `base64`")]
    Content { path: String },
    #[error("files: {path:?} is not base64: {reason}")]
    Base64 { path: String, reason: String },
    #[error(
        "files: they are {bytes} bytes together, and a run gets at most {FILES_MAX_BYTES}; the largest are {largest}"
    )]
    TooLarge { bytes: usize, largest: String },
    #[error(
        "{what}: with {file} the instructions and skills have more than {FILES_MAX_BYTES} bytes together, and a run gets at most that many"
    )]
    Budget { what: String, file: String },
    #[error("instructionsEntry: files has no `{INSTRUCTIONS_FOLDER}/{0}`")]
    NoInstructions(String),
}

impl Diagnose for SuppliedError {
    fn code(&self) -> &'static str {
        "bad_context"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            SuppliedError::RemoteTarget(_) => "set the agent's environment to the local one in Paperclip",
            SuppliedError::Content { .. } | SuppliedError::Base64 { .. } => {
                "send the file's content as one of them"
            }
            SuppliedError::TooLarge { .. } | SuppliedError::Budget { .. } => {
                "give the agent fewer skills, or put large files into its workspace"
            }
            SuppliedError::NoInstructions(_) => "send that file, or leave instructionsEntry out",
        };
        Some(hint.into())
    }
}

/// The files of a run, and which of them are its instructions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    pub files: Vec<ContextFile>,
    pub instructions_path: Option<String>,
}

impl Supplied {
    /// Returns the files for the agent; none if the client sends no files, and the host reads them from its disk.
    ///
    /// # Errors
    /// A file has no content, or they are too large.
    pub fn files(&self) -> Result<Option<Files>, SuppliedError> {
        let Some(supplied) = &self.files else { return Ok(None) };
        let mut files = Vec::with_capacity(supplied.len());
        let mut sizes: Vec<(usize, &str)> = Vec::with_capacity(supplied.len());
        for SuppliedFile { path, text, base64, mode } in supplied {
            let (content, is_base64, bytes) = match (text, base64) {
                (Some(text), None) => (text, false, text.len()),
                (None, Some(base64)) => {
                    let decoded: ByteString =
                        serde_json::from_value(base64.as_str().into()).map_err(|error| {
                            SuppliedError::Base64 { path: path.clone(), reason: error.to_string() }
                        })?;
                    (base64, true, decoded.0.len())
                }
                (Some(_), Some(_)) | (None, None) => {
                    return Err(SuppliedError::Content { path: path.clone() });
                }
            };
            sizes.push((bytes, path));
            files.push(ContextFile { path: path.clone(), content: content.clone(), is_base64, mode: *mode });
        }
        let bytes: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
        if bytes > FILES_MAX_BYTES {
            sizes.sort_unstable_by(|one, other| other.cmp(one));
            let largest: Vec<String> =
                sizes.iter().take(NAMED_FILES).map(|(bytes, path)| format!("{path} ({bytes})")).collect();
            return Err(SuppliedError::TooLarge { bytes, largest: largest.join(", ") });
        }
        let instructions_path = match &self.instructions_entry {
            None => None,
            Some(entry) => {
                let path = format!("{INSTRUCTIONS_FOLDER}/{entry}");
                if !files.iter().any(|file| file.path == path) {
                    return Err(SuppliedError::NoInstructions(entry.clone()));
                }
                Some(path)
            }
        };
        Ok(Some(Files { files, instructions_path }))
    }

    /// Returns the context with the MCP servers, and with Paperclip's tools for connections and the history of the task where plugins find
    /// them. Tokens are in `config.env`.
    ///
    /// # Errors
    /// The context names a place to run that is not this host's cluster.
    pub fn merge(&self, context: Value) -> Result<Value, SuppliedError> {
        let completed = match complete(&context)? {
            Cow::Owned(completed) => Some(completed),
            Cow::Borrowed(_) => None,
        };
        let mut context = completed.unwrap_or(context);
        let mut tokens = Map::new();
        let mut servers = Vec::new();
        for (index, server) in self.mcp_servers.iter().enumerate() {
            let McpServer { name, url, token, connection_id } = server;
            let name_of_token = format!("{MCP_TOKEN_PREFIX}{}", index + 1);
            let token_env = token.as_ref().map(|_| &name_of_token);
            servers.push(
                json!({"name": name, "url": url, "tokenEnv": token_env, "connectionId": connection_id}),
            );
            tokens.extend(token.clone().map(|token| (name_of_token.clone(), token.into())));
        }
        if !servers.is_empty() {
            let servers = Map::from_iter([("paperclipMcpServers".to_owned(), servers.into())]);
            extend(&mut context["context"], servers);
        }
        add_tokens(&mut context, tokens);
        Ok(context)
    }
}

/// Returns an execution context in which Paperclip's tools for connections and the history of the task are where plugins find them, and
/// the tools' token where a host keeps secrets.
///
/// # Errors
/// The context names a place to run that is not this host's cluster.
pub(crate) fn complete(context: &Value) -> Result<Cow<'_, Value>, SuppliedError> {
    let target = &context["executionTarget"];
    if target["kind"] == "remote" {
        let transport = target["transport"].as_str().unwrap_or("remote");
        return Err(SuppliedError::RemoteTarget(format!("a remote environment ({transport})")));
    }
    let mut of_run = Map::new();
    let mut tokens = Map::new();
    let in_place = &context["context"]["paperclipRuntimeTools"];
    let tools = [in_place, &context["runtimeTools"]].into_iter().find_map(Value::as_object);
    // What is in its place without a token is complete.
    if let Some(tools) = tools.filter(|tools| !in_place.is_object() || tools.contains_key("bearerToken")) {
        let mut tools = tools.clone();
        let token = tools.remove("bearerToken").filter(Value::is_string);
        tokens.extend(token.map(|token| (TOOLS_TOKEN.to_owned(), token)));
        of_run.insert("paperclipRuntimeTools".to_owned(), tools.into());
    }
    let history = &context["executionContinuation"];
    let wake = &context["context"]["paperclipWake"];
    if history.is_object() && wake.is_object() && !wake["executionContinuation"].is_object() {
        let mut wake = wake.clone();
        wake["executionContinuation"] = history.clone();
        of_run.insert("paperclipWake".to_owned(), wake);
    }
    if of_run.is_empty() {
        return Ok(Cow::Borrowed(context));
    }
    let mut context = context.clone();
    extend(&mut context["context"], of_run);
    add_tokens(&mut context, tokens);
    Ok(Cow::Owned(context))
}

/// Returns whether a variable is a token that came with a run. Its value is always masked.
pub(crate) fn is_token(name: &str) -> bool {
    name == TOOLS_TOKEN || name.starts_with(MCP_TOKEN_PREFIX)
}

/// Adds tokens to `config.env`.
fn add_tokens(context: &mut Value, tokens: Map<String, Value>) {
    if tokens.is_empty() {
        return;
    }
    if context["config"].is_null() {
        context["config"] = json!({});
    }
    if context["config"].is_object() {
        extend(&mut context["config"]["env"], tokens);
    }
}

/// Adds members to an object. What is not an object stays as it is: the intake names it in its error.
fn extend(object: &mut Value, members: Map<String, Value>) {
    if object.is_null() && !members.is_empty() {
        *object = json!({});
    }
    if let Some(object) = object.as_object_mut() {
        object.extend(members);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supplied(value: Value) -> Supplied {
        serde_json::from_value(value).expect("what a client sends")
    }

    #[test]
    fn tokens_go_where_the_host_keeps_secrets() {
        let context = json!({
            "runId": "r", "config": {"env": {"A": "a"}},
            "context": {"paperclipRuntimeTools": {"guidance": "g", "bearerToken": "tools-token"}, "paperclipWake": {"reason": "w"}},
            "executionContinuation": {"version": 1, "objective": "o"}, "unknown": {"x": 1},
        });
        let servers = json!([{"name": "P", "url": "http://p", "token": "mcp-token", "connectionId": "c"}, {"name": "Q", "url": "http://q"}]);
        let merged = supplied(json!({"mcpServers": servers})).merge(context).expect("a good context");
        assert_eq!(
            merged["config"]["env"],
            json!({"A": "a", "PAPERCLIP_MCP_TOKEN_1": "mcp-token", "PAPERCLIP_RUNTIME_TOOLS_TOKEN": "tools-token"})
        );
        let of_run = &merged["context"];
        assert_eq!(of_run["paperclipRuntimeTools"], json!({"guidance": "g"}));
        assert_eq!(of_run["paperclipMcpServers"][0]["tokenEnv"], "PAPERCLIP_MCP_TOKEN_1");
        assert_eq!(of_run["paperclipMcpServers"][1]["tokenEnv"], Value::Null);
        assert_eq!(of_run["paperclipWake"]["executionContinuation"]["objective"], "o");
        assert!(!of_run.to_string().contains("-token\""), "{of_run}");
        let alone = json!({"runId": "r", "runtimeTools": {"guidance": "g", "bearerToken": "t"}});
        let merged = Supplied::default().merge(alone).expect("a good context");
        assert_eq!(merged["config"]["env"][TOOLS_TOKEN], "t");
        assert_eq!(merged["context"]["paperclipRuntimeTools"]["guidance"], "g");
        let plain = json!({"runId": "r", "config": {}});
        assert_eq!(Supplied::default().merge(plain.clone()).expect("good")["config"], plain["config"]);
    }

    #[test]
    fn a_remote_target_is_refused_and_a_local_one_is_not() {
        let target =
            |target: Value| Supplied::default().merge(json!({"runId": "r", "executionTarget": target}));
        assert!(target(json!({"kind": "local"})).is_ok() && target(json!(null)).is_ok());
        let error = target(json!({"kind": "remote", "transport": "ssh"})).expect_err("remote");
        assert!(error.to_string().contains("(ssh)"), "{error}");
    }

    #[test]
    fn files_are_text_or_base64_and_bounded() {
        let files = |files: Value, entry: Option<&str>| {
            supplied(json!({"files": files, "instructionsEntry": entry})).files()
        };
        assert_eq!(Supplied::default().files(), Ok(None), "the host reads its disk");
        let good = json!([
            {"path": "instructions/AGENTS.md", "text": "Be kind."},
            {"path": "skills/r/run.sh", "base64": "IyE=", "mode": 493},
        ]);
        let Files { files: read, instructions_path } =
            files(good.clone(), Some("AGENTS.md")).unwrap().unwrap();
        assert_eq!(instructions_path.as_deref(), Some("instructions/AGENTS.md"));
        assert_eq!((read[0].is_base64, read[1].is_base64, read[1].mode), (false, true, Some(0o755)));
        for (sent, entry, says) in [
            (json!([{"path": "a"}]), None, "\"a\" must have exactly one"),
            (json!([{"path": "a", "text": "", "base64": ""}]), None, "\"a\" must have exactly one"),
            (json!([{"path": "a", "base64": "*"}]), None, "\"a\" is not base64"),
            (good, Some("OTHER.md"), "`instructions/OTHER.md`"),
            (
                json!([{"path": "a", "text": "x".repeat(FILES_MAX_BYTES)}, {"path": "b", "text": "x"}]),
                None,
                "are a (3145728), b (1)",
            ),
        ] {
            let error = files(sent, entry).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
