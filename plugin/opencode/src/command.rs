//! How opencode is called. All of its configuration is in the environment: no file is written.

use paperclip_kit::config::fields::Fields;
use paperclip_kit::config::schema::{ConfigField, FieldKind};
use paperclip_kit::manifest::{Call, ClaimMount, option};
use paperclip_kit::refusal::Refusal;
use serde_json::{Map, Value, json};

/// Options that the run sets itself, and their short forms.
const RESERVED_OPTIONS: [&str; 7] =
    ["--format", "--session", "-s", "--continue", "-c", "--print-logs", "--log-level"];
/// Where the former adapter mounted an agent's own claim.
const CLAIM_DIR: &str = "/opencode-db";
/// A folder that is deleted with the Pod.
const POD_DIR: &str = "/tmp/paperclip";

/// Where the agent's sessions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Database {
    /// In a folder of the agent on the shared volume.
    SharedHome,
    /// In a claim of the agent's own, as the former adapter made it.
    DedicatedPvc,
    /// In the Pod: each run starts without a session.
    Ephemeral,
}

/// The program's arguments: it reads the prompt from its standard input.
///
/// # Errors
/// A config field holds what opencode would not take.
pub(crate) fn arguments(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
    let mut args: Vec<String> = ["run", "--format", "json"].map(String::from).to_vec();
    let is_kept = database(config)? != Database::Ephemeral;
    option(&mut args, "--session", call.session.filter(|_| is_kept));
    option(&mut args, "--model", Some(model(config)?));
    option(&mut args, "--variant", config.trimmed("variant")?);
    if config.flag("dangerouslySkipPermissions", true) {
        args.push("--auto".to_owned());
    }
    // Without its log, an unknown model is an error without a cause. The log goes to standard error and is empty in a good run.
    args.extend(["--print-logs", "--log-level", "ERROR"].map(String::from));
    args.extend(config.extra_args("extraArgs", &RESERVED_OPTIONS)?.into_iter().map(str::to_owned));
    Ok(args)
}

/// Reads the model, which names its provider.
fn model<'a>(config: &mut Fields<'a>) -> Result<&'a str, Refusal> {
    let example = "such as `openai/gpt-5.2-codex`";
    let Some(model) = config.trimmed("model")? else {
        return Err(Refusal::new("model", format!("is missing: set it to PROVIDER/MODEL, {example}")));
    };
    match model.split_once('/') {
        Some((provider, name)) if !provider.is_empty() && !name.is_empty() => Ok(model),
        Some(_) | None => Err(Refusal::new("model", format!("`{model}` must be PROVIDER/MODEL, {example}"))),
    }
}

fn database(config: &mut Fields<'_>) -> Result<Database, Refusal> {
    let modes = [
        ("shared_home", Database::SharedHome),
        ("dedicated_pvc", Database::DedicatedPvc),
        ("ephemeral", Database::Ephemeral),
    ];
    config.choice("agentDbMode", &modes, Database::SharedHome)
}

fn database_dir(call: &Call<'_>, config: &mut Fields<'_>) -> Result<String, Refusal> {
    Ok(match database(config)? {
        Database::SharedHome => format!("{}/opencode", call.agent_dir),
        Database::DedicatedPvc => CLAIM_DIR.to_owned(),
        Database::Ephemeral => POD_DIR.to_owned(),
    })
}

/// The claim of the agent's own, which the former adapter named after the agent.
///
/// # Errors
/// `agentDbMode` names no mode.
pub(crate) fn claims(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<ClaimMount>, Refusal> {
    if database(config)? != Database::DedicatedPvc {
        return Ok(Vec::new());
    }
    let agent = call.agent_dir.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    Ok(vec![ClaimMount { claim_name: format!("opencode-db-{agent}"), path: CLAIM_DIR }])
}

/// Makes the folder of the sessions, which opencode does not.
///
/// # Errors
/// `agentDbMode` names no mode.
pub(crate) fn setup(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
    Ok(vec![format!("mkdir -p {}", database_dir(call, config)?)])
}

/// Where the sessions are, and the configuration as JSON.
///
/// # Errors
/// A config field holds what opencode would not take.
pub(crate) fn environment(
    call: &Call<'_>,
    config: &mut Fields<'_>,
) -> Result<Vec<(String, String)>, Refusal> {
    let mut variables = vec![
        ("OPENCODE_DB".to_owned(), format!("{}/opencode.db", database_dir(call, config)?)),
        ("OPENCODE_CONFIG_CONTENT".to_owned(), config_content(call, config)?.to_string()),
    ];
    variables.extend(call.mcp_config_file.map(|file| ("OPENCODE_CONFIG".to_owned(), file.to_owned())));
    Ok(variables)
}

fn config_content(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Value, Refusal> {
    let mut content = json!({"autoupdate": false, "share": "disabled"});
    if config.flag("dangerouslySkipPermissions", true) {
        content["permission"] = json!({"external_directory": "allow"});
    }
    let mut providers = providers(config)?;
    if let Some((provider, name)) = model(config)?.split_once('/') {
        // So that a model that opencode's catalogue lacks can be used.
        register(&mut providers, provider, name);
    }
    content["provider"] = Value::Object(providers);
    if let Some(small) = config.trimmed("smallModel")? {
        content["small_model"] = json!(small);
    }
    if let Some(dir) = call.bundle_dir {
        content["skills"] = json!({"paths": [format!("{dir}/skills")]});
    }
    if let Some(file) = call.instructions_file {
        content["instructions"] = json!([file]);
    }
    Ok(content)
}

/// Reads the field `providers`: an object, or its JSON.
fn providers(config: &mut Fields<'_>) -> Result<Map<String, Value>, Refusal> {
    let refused = || {
        let message = "must be an object of providers as opencode's configuration has them, such as {\"NAME\": {\"options\": {\"baseURL\": …}}}";
        Refusal::new("providers", message)
    };
    match config.value("providers") {
        None => Ok(Map::new()),
        Some(Value::Object(providers)) => Ok(providers.clone()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Map::new()),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| refused()),
        Some(_) => Err(refused()),
    }
}

fn register(providers: &mut Map<String, Value>, provider: &str, model: &str) {
    let provider = providers.entry(provider).or_insert_with(|| json!({}));
    let Some(provider) = provider.as_object_mut() else { return };
    let models = provider.entry("models").or_insert_with(|| json!({}));
    if let Some(models) = models.as_object_mut() {
        models.entry(model).or_insert_with(|| json!({}));
    }
}

/// The fields of this agent type in the form.
pub(crate) fn config_fields() -> Vec<ConfigField> {
    let variants = [
        ("", "The model's default"),
        ("minimal", "Minimal"),
        ("low", "Low"),
        ("medium", "Medium"),
        ("high", "High"),
        ("xhigh", "Extra high"),
        ("max", "Maximum"),
    ];
    let modes = [
        ("shared_home", "A folder of the agent on the shared volume"),
        ("dedicated_pvc", "The agent's own claim opencode-db-AGENT"),
        ("ephemeral", "None: no session is kept"),
    ];
    let own = [
        ConfigField::new(FieldKind::Select, "variant", "Variant", "How hard the model thinks.")
            .options(&variants)
            .default(""),
        ConfigField::new(
            FieldKind::Text,
            "smallModel",
            "Small model",
            "PROVIDER/MODEL for titles and summaries. Empty: opencode's choice.",
        ),
        ConfigField::new(
            FieldKind::Textarea,
            "providers",
            "Providers",
            "Further providers, as JSON in the shape of opencode's configuration. {env:NAME} is the value of a variable.",
        ),
        ConfigField::new(
            FieldKind::Toggle,
            "dangerouslySkipPermissions",
            "Skip permission prompts",
            "Nobody is there to answer them: without this a run ends at the first tool that asks.",
        )
        .default(true),
        ConfigField::new(
            FieldKind::Select,
            "agentDbMode",
            "Sessions",
            "Where the agent's sessions are kept. A database on NFS may be locked for ever.",
        )
        .options(&modes)
        .default("shared_home"),
    ];
    own.into_iter().map(|field| ConfigField { group: "opencode", ..field }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> = Call {
        session: None,
        bundle_dir: Some("/b"),
        instructions_file: Some("/b/i.md"),
        agent_dir: "/paperclip/agents/a-1",
        mcp_config_file: None,
        mcp_servers: &[],
    };

    fn fields(config: &Value) -> Fields<'_> {
        Fields::new(config.as_object().unwrap())
    }

    #[test]
    fn every_option_has_its_place() {
        let config = json!({"model": "openai/gpt-5.5", "variant": "high", "extraArgs": ["--thinking"]});
        let call = Call { session: Some("ses_1"), ..CALL };
        assert_eq!(
            arguments(&call, &mut fields(&config)).unwrap().join(" "),
            "run --format json --session ses_1 --model openai/gpt-5.5 --variant high --auto --print-logs --log-level ERROR --thinking"
        );
        let config = json!({"model": "a/b", "dangerouslySkipPermissions": false, "agentDbMode": "ephemeral"});
        assert_eq!(
            arguments(&call, &mut fields(&config)).unwrap().join(" "),
            "run --format json --model a/b --print-logs --log-level ERROR"
        );
    }

    #[test]
    fn a_model_names_its_provider() {
        for (config, message) in [
            (json!({}), "is missing: set it to PROVIDER/MODEL, such as `openai/gpt-5.2-codex`"),
            (json!({"model": "gpt-5"}), "`gpt-5` must be PROVIDER/MODEL, such as `openai/gpt-5.2-codex`"),
            (json!({"model": "/x"}), "`/x` must be PROVIDER/MODEL, such as `openai/gpt-5.2-codex`"),
        ] {
            let refusal = arguments(&CALL, &mut fields(&config)).unwrap_err();
            assert_eq!((refusal.field.as_str(), refusal.message.as_str()), ("model", message));
        }
    }

    #[test]
    fn the_configuration_is_in_the_environment() {
        let config = json!({"model": "own/m", "smallModel": "own/s", "providers": r#"{"own": {"options": {"apiKey": "{env:KEY}"}}}"#});
        let variables = environment(&CALL, &mut fields(&config)).unwrap();
        assert_eq!(variables[0].1, "/paperclip/agents/a-1/opencode/opencode.db");
        let content: Value = serde_json::from_str(&variables[1].1).unwrap();
        assert_eq!(
            content,
            json!({"autoupdate": false, "share": "disabled", "permission": {"external_directory": "allow"},
                "provider": {"own": {"options": {"apiKey": "{env:KEY}"}, "models": {"m": {}}}}, "small_model": "own/s",
                "skills": {"paths": ["/b/skills"]}, "instructions": ["/b/i.md"]})
        );
        let wrong = json!({"model": "own/m", "providers": "["});
        assert_eq!(environment(&CALL, &mut fields(&wrong)).unwrap_err().field, "providers");
    }

    #[test]
    fn the_former_adapters_claim_is_used_where_it_is_configured() {
        let config = json!({"model": "a/b", "agentDbMode": "dedicated_pvc"});
        let claims = claims(&CALL, &mut fields(&config)).unwrap();
        assert_eq!(claims, [ClaimMount { claim_name: "opencode-db-a-1".to_owned(), path: "/opencode-db" }]);
        let variables = environment(&CALL, &mut fields(&config)).unwrap();
        assert_eq!(variables[0].1, "/opencode-db/opencode.db");
    }
}
