//! How Codex is called. Everything of its configuration file is given by options.

use paperclip_kit::config::fields::Fields;
use paperclip_kit::config::schema::{ConfigField, FieldKind};
use paperclip_kit::manifest::command::{link_skills, quoted};
use paperclip_kit::manifest::mcp::McpServer;
use paperclip_kit::manifest::{Call, option};
use paperclip_kit::refusal::Refusal;
use serde_json::json;

/// Options that the run sets itself.
const RESERVED_OPTIONS: [&str; 4] = ["--json", "--skip-git-repo-check", "resume", "-"];
/// Where a login of the image's or of Paperclip's user is.
const SHARED_LOGIN: &str = "/paperclip/.codex/auth.json";

/// The program's arguments: it reads the prompt from its standard input. Options come before `resume`.
///
/// # Errors
/// A config field holds what Codex would not take.
pub(crate) fn arguments(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
    let mut args = Vec::new();
    if config.flag("search", false) {
        args.push("--search".to_owned());
    }
    args.extend(["exec", "--json", "--skip-git-repo-check"].map(String::from));
    if config.flag("dangerouslyBypassApprovalsAndSandbox", true) {
        args.push("--dangerously-bypass-approvals-and-sandbox".to_owned());
    } else {
        set(&mut args, "sandbox_mode", "\"workspace-write\"");
        set(&mut args, "sandbox_workspace_write.network_access", "true");
    }
    option(&mut args, "--model", config.trimmed("model")?);
    let effort = match config.trimmed("modelReasoningEffort")? {
        Some(effort) => Some(effort),
        None => config.trimmed("effort")?,
    };
    if let Some(effort) = effort {
        set_text(&mut args, "model_reasoning_effort", effort);
    }
    if config.flag("fastMode", false) {
        set(&mut args, "service_tier", "\"fast\"");
        set(&mut args, "features.fast_mode", "true");
    }
    add_provider(&mut args, config)?;
    add_mcp_servers(&mut args, call.mcp_servers);
    args.extend(config.extra_args("extraArgs", &RESERVED_OPTIONS)?.into_iter().map(str::to_owned));
    option(&mut args, "resume", call.session);
    args.push("-".to_owned());
    Ok(args)
}

/// A gateway: a provider of its own, or another address of the built-in one.
fn add_provider(args: &mut Vec<String>, config: &mut Fields<'_>) -> Result<(), Refusal> {
    let name = config.trimmed("modelProvider")?;
    let base_url = config.trimmed("baseUrl")?;
    let env_key = config.trimmed("envKey")?;
    let Some(name) = name else {
        if let Some(url) = base_url {
            set_text(args, "openai_base_url", url);
        }
        return Ok(());
    };
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        let message = format!("`{name}` must be letters, digits, `-` and `_`");
        return Err(Refusal::new("modelProvider", message));
    }
    set_text(args, "model_provider", name);
    if let Some(url) = base_url {
        let table = format!("model_providers.{name}");
        set_text(args, &format!("{table}.name"), name);
        set_text(args, &format!("{table}.base_url"), url);
        set_text(args, &format!("{table}.wire_api"), "responses");
        set_text(args, &format!("{table}.env_key"), env_key.unwrap_or("OPENAI_API_KEY"));
    }
    Ok(())
}

/// The MCP servers. The command line has the names of the variables with their tokens.
fn add_mcp_servers(args: &mut Vec<String>, servers: &[McpServer]) {
    for McpServer { name, url, token } in servers {
        set_text(args, &format!("mcp_servers.{name}.url"), url);
        if let Some(token) = token {
            set_text(args, &format!("mcp_servers.{name}.bearer_token_env_var"), token);
        }
    }
}

fn set(args: &mut Vec<String>, key: &str, toml: &str) {
    args.extend(["-c".to_owned(), format!("{key}={toml}")]);
}

/// Sets a text, which is spelled alike in TOML and JSON.
fn set_text(args: &mut Vec<String>, key: &str, text: &str) {
    set(args, key, &json!(text).to_string());
}

fn home(call: &Call<'_>, config: &mut Fields<'_>) -> Result<String, Refusal> {
    Ok(config.trimmed("codexHome")?.map_or_else(|| format!("{}/codex", call.agent_dir), str::to_owned))
}

/// # Errors
/// `codexHome` is not a path.
pub(crate) fn environment(
    call: &Call<'_>,
    config: &mut Fields<'_>,
) -> Result<Vec<(String, String)>, Refusal> {
    let home = home(call, config)?;
    if !home.starts_with('/') {
        return Err(Refusal::new("codexHome", format!("`{home}` must be an absolute path")));
    }
    Ok(vec![("CODEX_HOME".to_owned(), home)])
}

/// Makes Codex's home, which it does not, with the login that the agents share and with the run's skills.
///
/// # Errors
/// `codexHome` is not text.
pub(crate) fn setup(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
    let home = home(call, config)?;
    let (dir, login) = (quoted(&home), quoted(&format!("{home}/auth.json")));
    let mut lines = vec![
        format!("mkdir -p {dir}"),
        format!("if [ -e {SHARED_LOGIN} ] && [ ! -e {login} ]; then ln -s {SHARED_LOGIN} {login}; fi"),
    ];
    lines.extend(
        call.bundle_dir.map(|bundle| link_skills(&format!("{bundle}/skills"), &format!("{home}/skills"))),
    );
    Ok(lines)
}

/// The fields of this agent type in the form.
pub(crate) fn config_fields() -> Vec<ConfigField> {
    let efforts = [
        ("", "The model's default"),
        ("minimal", "Minimal"),
        ("low", "Low"),
        ("medium", "Medium"),
        ("high", "High"),
        ("xhigh", "Extra high"),
        ("max", "Maximum"),
        ("ultra", "Ultra"),
    ];
    let own = [
        ConfigField::new(FieldKind::Select, "modelReasoningEffort", "Reasoning effort", "How hard the model thinks.")
            .options(&efforts)
            .default(""),
        ConfigField::new(FieldKind::Toggle, "fastMode", "Fast mode", "Faster answers at a higher price.").default(false),
        ConfigField::new(FieldKind::Toggle, "search", "Web search", "Let the model search the web.").default(false),
        ConfigField::new(
            FieldKind::Toggle,
            "dangerouslyBypassApprovalsAndSandbox",
            "Skip approvals and sandbox",
            "The Pod is the sandbox. Without this Codex makes one of its own, which needs user namespaces or Landlock.",
        )
        .default(true),
        ConfigField::new(
            FieldKind::Text,
            "modelProvider",
            "Model provider",
            "The name of a provider that speaks the Responses API. Empty: OpenAI.",
        ),
        ConfigField::new(FieldKind::Text, "baseUrl", "Base URL", "The provider's address."),
        ConfigField::new(
            FieldKind::Text,
            "envKey",
            "Key variable",
            "The variable of env with that provider's key. Empty: OPENAI_API_KEY.",
        ),
        ConfigField::new(
            FieldKind::Text,
            "codexHome",
            "Codex home",
            "Where logins and sessions are. Empty: a folder of the agent on the shared volume.",
        ),
    ];
    own.into_iter().map(|field| ConfigField { group: "Codex", ..field }).collect()
}

#[cfg(test)]
mod tests {
    use paperclip_kit::manifest::{self, Source};
    use paperclip_kit::request::{Attempt, EnvName};
    use paperclip_parity::manifest as parity;
    use serde_json::Value;

    use super::*;
    use crate::agent::Codex;

    const CASES: &str = include_str!("../../../tests/fixtures/cases/manifest.ndjson");

    const CALL: Call<'_> = Call {
        session: None,
        bundle_dir: Some("/b"),
        instructions_file: None,
        agent_dir: "/paperclip/agents/a-1",
        mcp_config_file: None,
        mcp_servers: &[],
    };

    fn args(config: &Value, call: Call<'_>) -> String {
        arguments(&call, &mut Fields::new(config.as_object().unwrap())).unwrap().join(" ")
    }

    #[test]
    fn options_come_before_the_thread() {
        let config = json!({"model": "gpt-5.6-sol", "modelReasoningEffort": "high", "fastMode": true, "search": true, "extraArgs": ["--add-dir", "/x"]});
        assert_eq!(
            args(&config, Call { session: Some("t-1"), ..CALL }),
            "--search exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox --model gpt-5.6-sol -c model_reasoning_effort=\"high\" -c service_tier=\"fast\" -c features.fast_mode=true --add-dir /x resume t-1 -"
        );
    }

    #[test]
    fn a_sandbox_of_its_own_and_a_gateway_are_options() {
        let config = json!({"dangerouslyBypassApprovalsAndSandbox": false, "modelProvider": "gw", "baseUrl": "https://gw/v1", "envKey": "GW_KEY"});
        assert_eq!(
            args(&config, CALL),
            "exec --json --skip-git-repo-check -c sandbox_mode=\"workspace-write\" -c sandbox_workspace_write.network_access=true -c model_provider=\"gw\" -c model_providers.gw.name=\"gw\" -c model_providers.gw.base_url=\"https://gw/v1\" -c model_providers.gw.wire_api=\"responses\" -c model_providers.gw.env_key=\"GW_KEY\" -"
        );
        let config = json!({"modelProvider": "a.b"});
        let refusal = arguments(&CALL, &mut Fields::new(config.as_object().unwrap())).unwrap_err();
        assert_eq!(refusal.field, "modelProvider");
    }

    #[test]
    fn mcp_servers_are_options_that_name_the_variables_of_their_tokens() {
        let server = |name: &str, token: Option<&str>| McpServer {
            name: name.to_owned(),
            url: format!("https://mcp/{name}"),
            token: token.map(str::to_owned),
        };
        let servers = [server("p-1", Some("PAPERCLIP_MCP_TOKEN_1")), server("open", None)];
        assert_eq!(
            args(&json!({}), Call { mcp_servers: &servers, ..CALL }),
            "exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -c mcp_servers.p-1.url=\"https://mcp/p-1\" -c mcp_servers.p-1.bearer_token_env_var=\"PAPERCLIP_MCP_TOKEN_1\" -c mcp_servers.open.url=\"https://mcp/open\" -"
        );
    }

    #[test]
    fn the_token_of_an_mcp_server_is_in_the_environment_from_the_secret() {
        let mut request = parity::request(&parity::cases(CASES)[0]);
        let token = EnvName { name: "PAPERCLIP_MCP_TOKEN_1".to_owned(), value: None };
        request.config_env.push(token);
        let servers = json!([{"name": "p", "url": "http://p/mcp", "tokenEnv": "PAPERCLIP_MCP_TOKEN_1"}]);
        request.context.insert("paperclipMcpServers".to_owned(), servers);
        let plan = manifest::plan(&request, Attempt::FIRST, &Codex).unwrap();
        assert!(plan.args.contains(&"mcp_servers.p.url=\"http://p/mcp\"".to_owned()), "{:?}", plan.args);
        let env = &plan.job["spec"]["template"]["spec"]["containers"][0]["env"];
        let variables = env.as_array().unwrap();
        let variable = variables.iter().find(|variable| variable["name"] == "PAPERCLIP_MCP_TOKEN_1").unwrap();
        let key = &variable["valueFrom"]["secretKeyRef"]["key"];
        assert_eq!(
            plan.secrets[0].entries[key.as_str().unwrap()],
            Source::ConfigEnv("PAPERCLIP_MCP_TOKEN_1".to_owned())
        );
        assert!(plan.secrets.iter().all(|secret| !secret.name.ends_with("-file")), "{:?}", plan.secrets);
    }

    #[test]
    fn the_home_is_made_before_the_start() {
        let config = json!({});
        let mut fields = Fields::new(config.as_object().unwrap());
        let lines = setup(&CALL, &mut fields).unwrap().join("\n");
        assert!(lines.starts_with("mkdir -p '/paperclip/agents/a-1/codex'\n"), "{lines}");
        assert!(lines.contains("'/paperclip/agents/a-1/codex/skills'"), "{lines}");
        let variables = environment(&CALL, &mut fields).unwrap();
        assert_eq!(variables, [("CODEX_HOME".to_owned(), "/paperclip/agents/a-1/codex".to_owned())]);
    }
}
