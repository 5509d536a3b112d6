//! How the Gemini CLI is called.

use paperclip_kit::config::fields::Fields;
use paperclip_kit::config::schema::{ConfigField, FieldKind};
use paperclip_kit::manifest::command::{link_skills, quoted};
use paperclip_kit::manifest::mcp::McpServer;
use paperclip_kit::manifest::{Call, option};
use paperclip_kit::refusal::Refusal;
use serde_json::{Value, json};

/// Options that the run sets itself, and their short forms.
const RESERVED_OPTIONS: [&str; 10] = [
    "--output-format",
    "-o",
    "--approval-mode",
    "--yolo",
    "-y",
    "--resume",
    "-r",
    "--prompt",
    "-p",
    "--prompt-interactive",
];
/// No run has more turns than this.
const TURNS_MAX: u32 = 1_000_000;
/// Files of a login that the agents share.
const LOGIN_FILES: [&str; 2] = ["oauth_creds.json", "google_accounts.json"];

/// The program's arguments: it reads the prompt from its standard input.
///
/// # Errors
/// A config field holds what the CLI would not take.
pub(crate) fn arguments(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
    let modes = ["yolo", "auto_edit", "default", "plan"].map(|mode| (mode, mode));
    let mode = config.choice("approvalMode", &modes, "yolo")?;
    let mut args: Vec<String> = ["--output-format", "stream-json", "--approval-mode", mode, "--skip-trust"]
        .map(String::from)
        .to_vec();
    option(&mut args, "--model", config.trimmed("model")?.filter(|model| *model != "auto"));
    option(&mut args, "--resume", call.session);
    option(&mut args, "--include-directories", call.bundle_dir);
    args.extend(config.extra_args("extraArgs", &RESERVED_OPTIONS)?.into_iter().map(str::to_owned));
    Ok(args)
}

fn home(call: &Call<'_>) -> String {
    format!("{}/gemini", call.agent_dir)
}

/// The folder of settings, sessions and skills is the agent's own.
pub(crate) fn environment(call: &Call<'_>) -> Vec<(String, String)> {
    vec![("GEMINI_CLI_HOME".to_owned(), home(call))]
}

/// Makes the agent's folder, with the settings that have no option, the login that the agents share, and the run's skills.
///
/// # Errors
/// A config field holds what the CLI would not take.
pub(crate) fn setup(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
    let dir = format!("{}/.gemini", home(call));
    let settings = settings(call, config)?.to_string();
    let mut lines = vec![
        format!("mkdir -p {}", quoted(&dir)),
        format!("printf '%s\\n' {} >{}", quoted(&settings), quoted(&format!("{dir}/settings.json"))),
    ];
    lines.extend(LOGIN_FILES.map(|file| {
        let (from, to) = (format!("/paperclip/.gemini/{file}"), quoted(&format!("{dir}/{file}")));
        format!("if [ -e {from} ] && [ ! -e {to} ]; then ln -s {from} {to}; fi")
    }));
    lines.extend(
        call.bundle_dir.map(|bundle| link_skills(&format!("{bundle}/skills"), &format!("{dir}/skills"))),
    );
    Ok(lines)
}

fn settings(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Value, Refusal> {
    let mut settings = json!({"general": {"disableAutoUpdate": true}});
    let kinds = [
        ("gemini-api-key", Some("gemini-api-key")),
        ("vertex-ai", Some("vertex-ai")),
        ("oauth-personal", Some("oauth-personal")),
    ];
    if let Some(kind) = config.choice("authType", &kinds, None)? {
        settings["security"] = json!({"auth": {"selectedType": kind}});
    }
    if let Some(turns) = config.limit("maxTurnsPerRun", TURNS_MAX)? {
        settings["model"] = json!({"maxSessionTurns": turns});
    }
    if !call.mcp_servers.is_empty() {
        settings["mcpServers"] = call.mcp_servers.iter().map(mcp_server).collect();
    }
    Ok(settings)
}

/// A member of the settings' `mcpServers`. The CLI replaces `${NAME}` by the value of the variable.
fn mcp_server(McpServer { name, url, token }: &McpServer) -> (String, Value) {
    let mut server = json!({"type": "http", "url": url});
    if let Some(token) = token {
        server["headers"] = json!({"Authorization": format!("Bearer ${{{token}}}")});
    }
    (name.clone(), server)
}

/// The fields of this agent type in the form.
pub(crate) fn config_fields() -> Vec<ConfigField> {
    let modes = [("yolo", "All tools"), ("auto_edit", "Edits"), ("default", "None"), ("plan", "Plan only")];
    let kinds = [
        ("", "As the environment says"),
        ("gemini-api-key", "GEMINI_API_KEY"),
        ("vertex-ai", "Vertex AI"),
        ("oauth-personal", "A login"),
    ];
    let own = [
        ConfigField::new(
            FieldKind::Select,
            "approvalMode",
            "Approved tools",
            "Nobody is there to approve others: a tool that is not approved is refused.",
        )
        .options(&modes)
        .default("yolo"),
        ConfigField::new(
            FieldKind::Number,
            "maxTurnsPerRun",
            "Turns a run",
            "After this many turns the CLI stops and Paperclip continues in another run. 0: no limit.",
        )
        .default(0),
        ConfigField::new(
            FieldKind::Select,
            "authType",
            "Credentials",
            "Which credentials are used. A gateway (GOOGLE_GEMINI_BASE_URL) needs GEMINI_API_KEY here.",
        )
        .options(&kinds)
        .default(""),
    ];
    own.into_iter().map(|field| ConfigField { group: "Gemini", ..field }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> = Call {
        session: None,
        bundle_dir: None,
        instructions_file: None,
        agent_dir: "/paperclip/agents/a-1",
        mcp_config_file: None,
        mcp_servers: &[],
    };

    fn fields(config: &Value) -> Fields<'_> {
        Fields::new(config.as_object().unwrap())
    }

    #[test]
    fn every_option_has_its_place() {
        let config =
            json!({"model": "gemini-2.5-pro", "approvalMode": "auto_edit", "extraArgs": ["--debug"]});
        let call = Call { session: Some("u-1"), bundle_dir: Some("/b"), ..CALL };
        assert_eq!(
            arguments(&call, &mut fields(&config)).unwrap().join(" "),
            "--output-format stream-json --approval-mode auto_edit --skip-trust --model gemini-2.5-pro --resume u-1 --include-directories /b --debug"
        );
        let config = json!({"model": "auto", "extraArgs": ["--yolo"]});
        assert_eq!(arguments(&CALL, &mut fields(&config)).unwrap_err().field, "extraArgs[0]");
    }

    #[test]
    fn what_has_no_option_is_in_the_settings_of_the_agent() {
        let config = json!({"maxTurnsPerRun": 7, "authType": "gemini-api-key"});
        let lines = setup(&CALL, &mut fields(&config)).unwrap().join("\n");
        let settings = r#"{"general":{"disableAutoUpdate":true},"security":{"auth":{"selectedType":"gemini-api-key"}},"model":{"maxSessionTurns":7}}"#;
        assert!(
            lines.contains(&format!("'{settings}' >'/paperclip/agents/a-1/gemini/.gemini/settings.json'")),
            "{lines}"
        );
        assert_eq!(environment(&CALL)[0].1, "/paperclip/agents/a-1/gemini");
        let servers = [McpServer {
            name: "p".to_owned(),
            url: "http://p/mcp".to_owned(),
            token: Some("PAPERCLIP_MCP_TOKEN_1".to_owned()),
        }];
        let call = Call { mcp_servers: &servers, ..CALL };
        assert_eq!(
            super::settings(&call, &mut fields(&json!({}))).unwrap()["mcpServers"],
            json!({"p": {"type": "http", "url": "http://p/mcp", "headers": {"Authorization": "Bearer ${PAPERCLIP_MCP_TOKEN_1}"}}}),
            "the file has the name of the variable"
        );
        assert_eq!(setup(&CALL, &mut fields(&json!({"authType": "x"}))).unwrap_err().field, "authType");
    }
}
