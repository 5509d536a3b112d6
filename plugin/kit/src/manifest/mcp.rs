//! The MCP servers that Paperclip gives a run, as a file that configures the agent's program.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::request::Request;

/// The member of the context with the servers, without their tokens.
const CONTEXT_KEY: &str = "paperclipMcpServers";
/// The prefix of the names in `config.env` of the servers' tokens.
const TOKEN_PREFIX: &str = "PAPERCLIP_MCP_TOKEN_";

/// An MCP server that the agent reaches by HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpServer {
    /// Letters, digits, `-` and `_`, unique among the servers of a run.
    pub name: String,
    pub url: String,
    /// The name in `config.env` of its token.
    pub token: Option<String>,
}

/// A part of a JSON document that contains secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JsonPart {
    Text(String),
    /// The value of this name in `config.env`, as the content of a JSON string.
    ConfigEnv(String),
}

/// Whether a name of `config.env` is that of a server's token. Where a file has the tokens, the environment does not.
pub fn is_token(name: &str) -> bool {
    name.starts_with(TOKEN_PREFIX)
}

/// Reads the servers of a run.
pub fn servers(request: &Request) -> Vec<McpServer> {
    let mut servers: Vec<McpServer> = Vec::new();
    for server in request.context.get(CONTEXT_KEY).and_then(Value::as_array).into_iter().flatten() {
        let Some(url) = server["url"].as_str() else { continue };
        let name = identifier(server["name"].as_str().unwrap_or_default());
        let count = servers.iter().filter(|known| known.name == name).count();
        let name = if count == 0 { name } else { format!("{name}-{}", servers.len() + 1) };
        let token = server["tokenEnv"].as_str().filter(|name| is_token(name)).map(str::to_owned);
        servers.push(McpServer { name, url: url.to_owned(), token });
    }
    servers
}

/// Returns the document that several programs read: `{"mcpServers": {NAME: {"type": "http", "url", "headers"}}}`.
pub fn document(servers: &[McpServer]) -> Vec<JsonPart> {
    document_of("mcpServers", "http", servers)
}

/// Returns a document of another spelling: `{MEMBER: {NAME: {"type": KIND, "url", "headers"}}}`.
pub fn document_of(member: &str, kind: &str, servers: &[McpServer]) -> Vec<JsonPart> {
    let mut parts = vec![JsonPart::Text(format!("{{\"{member}\":{{"))];
    for (index, server) in servers.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let head =
            format!("{comma}{}:{{\"type\":\"{kind}\",\"url\":{}", json!(server.name), json!(server.url));
        match &server.token {
            Some(token) => parts.extend([
                JsonPart::Text(format!("{head},\"headers\":{{\"Authorization\":\"Bearer ")),
                JsonPart::ConfigEnv(token.clone()),
                JsonPart::Text("\"}}".to_owned()),
            ]),
            None => parts.push(JsonPart::Text(format!("{head}}}"))),
        }
    }
    parts.push(JsonPart::Text("}}".to_owned()));
    parts
}

fn identifier(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' })
        .collect();
    if name.trim_matches('-').is_empty() { "server".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_name_of_its_own_and_its_token_by_reference() {
        let context = json!({"paperclipMcpServers": [
            {"name": "Paperclip projects", "url": "http://p/mcp", "tokenEnv": "PAPERCLIP_MCP_TOKEN_1"},
            {"name": "Paperclip-projects", "url": "http://q/mcp?a=\"b\"", "tokenEnv": "ANTHROPIC_API_KEY"},
            {"name": "é", "url": "http://r"}, {"name": "no url"}, 7,
        ]});
        let request = Request { context: context.as_object().cloned().unwrap(), ..Request::default() };
        let servers = servers(&request);
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["Paperclip-projects", "Paperclip-projects-2", "server"]);
        let written: String = document(&servers)
            .iter()
            .map(|part| match part {
                JsonPart::Text(text) => text.clone(),
                JsonPart::ConfigEnv(name) => format!("<{name}>"),
            })
            .collect();
        let document: Value = serde_json::from_str(&written).unwrap();
        let expected = json!({"type": "http", "url": "http://p/mcp", "headers": {"Authorization": "Bearer <PAPERCLIP_MCP_TOKEN_1>"}});
        assert_eq!(document["mcpServers"]["Paperclip-projects"], expected);
        let without = json!({"type": "http", "url": "http://q/mcp?a=\"b\""});
        assert_eq!(
            document["mcpServers"]["Paperclip-projects-2"], without,
            "no other secret goes to a server"
        );
    }
}
