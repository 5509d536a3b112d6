//! How the Claude Code CLI is called.

use paperclip_kit::config::fields::Fields;
use paperclip_kit::config::schema::{ConfigField, FieldKind};
use paperclip_kit::manifest::{Call, option};
use paperclip_kit::refusal::Refusal;

/// No run has more turns than this.
const TURNS_MAX: u32 = 1_000_000;

/// Options that the run sets itself, and their short forms: output and session of another kind could not be read.
const RESERVED_OPTIONS: [&str; 9] = [
    "--print",
    "-p",
    "--output-format",
    "--input-format",
    "--resume",
    "-r",
    "--continue",
    "-c",
    "--session-id",
];

/// The CLI's arguments: it reads the prompt from its standard input and prints its stream of events.
///
/// # Errors
/// A config field holds what the CLI would not take.
pub(crate) fn arguments(call: &Call<'_>, config: &mut Fields<'_>) -> Result<Vec<String>, Refusal> {
    let mut args: Vec<String> =
        ["--print", "-", "--output-format", "stream-json", "--verbose"].map(String::from).to_vec();
    option(&mut args, "--resume", call.session);
    if config.flag("dangerouslySkipPermissions", true) {
        args.push("--dangerously-skip-permissions".into());
    }
    option(&mut args, "--model", config.text("model")?);
    option(&mut args, "--effort", config.text("effort")?);
    let turns = config.limit("maxTurnsPerRun", TURNS_MAX)?.map(|turns| turns.to_string());
    option(&mut args, "--max-turns", turns.as_deref());
    let budget = config.amount("maxCostUsd")?.map(|usd| usd.to_string());
    option(&mut args, "--max-budget-usd", budget.as_deref());
    // A resumed session has its instructions already.
    let instructions_file = call.instructions_file.filter(|_| call.session.is_none());
    option(&mut args, "--append-system-prompt-file", instructions_file);
    option(&mut args, "--add-dir", call.bundle_dir);
    if let Some(file) = call.mcp_config_file {
        // Strict: the servers of the image or the workspace are not the run's.
        args.extend(["--mcp-config", file, "--strict-mcp-config"].map(String::from));
    }
    args.extend(config.extra_args("extraArgs", &RESERVED_OPTIONS)?.into_iter().map(str::to_owned));
    Ok(args)
}

/// The fields of this agent type in the form in which operators configure such an agent.
pub(crate) fn config_fields() -> Vec<ConfigField> {
    let own = [
        ConfigField::new(
            FieldKind::Number,
            "maxTurnsPerRun",
            "Turns a run",
            "After this many turns the CLI stops and Paperclip continues in another run. 0: no limit.",
        )
        .default(1000),
        ConfigField::new(
            FieldKind::Number,
            "maxCostUsd",
            "Cost a run (USD)",
            "A run that costs more ends as budget_exhausted. 0: no limit.",
        )
        .default(0),
        ConfigField::new(
            FieldKind::Toggle,
            "dangerouslySkipPermissions",
            "Skip permission prompts",
            "Nobody is there to answer them: without this the agent can only read.",
        )
        .default(true),
    ];
    own.into_iter().map(|field| ConfigField { group: "Claude", ..field }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Claude;
    use paperclip_kit::manifest;
    use paperclip_kit::request::{Attempt, Request};
    use paperclip_parity::manifest as parity;
    use serde_json::{Value, json};

    const CASES: &str = include_str!("../../../tests/fixtures/cases/manifest.ndjson");

    fn args(config: &Value, call: Call<'_>) -> Vec<String> {
        arguments(&call, &mut Fields::new(config.as_object().unwrap())).unwrap()
    }

    const FRESH: Call<'_> = Call {
        session: None,
        bundle_dir: None,
        instructions_file: None,
        agent_dir: "/paperclip/agents/a",
        mcp_config_file: None,
        mcp_servers: &[],
    };

    #[test]
    fn every_option_has_its_place() {
        let config = json!({
            "model": "opus", "effort": "high", "maxTurnsPerRun": 7, "maxCostUsd": 2.5, "dangerouslySkipPermissions": false,
            "extraArgs": ["--x", 3, ""],
        });
        let call = Call { bundle_dir: Some("/b"), instructions_file: Some("/b/i.md"), ..FRESH };
        let first = ["--print", "-", "--output-format", "stream-json", "--verbose"];
        let options = ["--model", "opus", "--effort", "high", "--max-turns", "7", "--max-budget-usd", "2.5"];
        let bundle = ["--append-system-prompt-file", "/b/i.md", "--add-dir", "/b", "--x", ""];
        assert_eq!(args(&config, call), [&first[..], &options, &bundle].concat());
        let resumed = Call { session: Some("s"), ..call };
        let bundle = ["--add-dir", "/b", "--x", ""];
        assert_eq!(args(&config, resumed), [&first[..], &["--resume", "s"], &options, &bundle].concat());
    }

    #[test]
    fn extra_arguments_cannot_override_output_and_session() {
        for option in RESERVED_OPTIONS {
            let config = json!({"extraArgs": ["--x", format!("{option}=y")]});
            let refusal = arguments(&FRESH, &mut Fields::new(config.as_object().unwrap())).unwrap_err();
            assert_eq!(refusal.field, "extraArgs[1]", "{option}");
            assert_eq!(refusal.message, format!("`{option}` is set by the run itself; remove it"));
        }
    }

    #[test]
    fn values_of_other_types_count_as_not_given() {
        let config = json!({
            "model": 3, "effort": "", "maxTurnsPerRun": "7", "dangerouslySkipPermissions": "no", "extraArgs": "--x",
        });
        assert_eq!(args(&config, FRESH), args(&json!({}), FRESH));
        for turns in [json!(0), json!(-1), json!(null)] {
            assert_eq!(args(&json!({"maxTurnsPerRun": turns}), FRESH), args(&json!({}), FRESH));
        }
    }

    #[test]
    fn a_budget_is_passed_to_the_cli_and_is_not_negative() {
        for (amount, expected) in [(json!(0), None), (json!(5), Some("5")), (json!(0.75), Some("0.75"))] {
            let args = args(&json!({"maxCostUsd": amount}), FRESH);
            let at = args.iter().position(|arg| arg == "--max-budget-usd");
            assert_eq!(at.map(|at| args[at + 1].as_str()), expected, "{amount}");
        }
        let config = json!({"maxCostUsd": -1});
        let refusal = arguments(&FRESH, &mut Fields::new(config.as_object().unwrap())).unwrap_err();
        assert_eq!(refusal.field, "maxCostUsd");
    }

    #[test]
    fn mcp_servers_are_in_a_file_of_a_secret() {
        let file = "/tmp/bundle/context/mcp.json";
        assert_eq!(
            args(&json!({}), Call { mcp_config_file: Some(file), ..FRESH })[6..],
            ["--mcp-config", file, "--strict-mcp-config"]
        );
        let mut request = parity::request(&parity::cases(CASES)[0]);
        request
            .config_env
            .push(paperclip_kit::request::EnvName { name: "PAPERCLIP_MCP_TOKEN_1".into(), value: None });
        let servers = json!([{"name": "P", "url": "http://p/mcp", "tokenEnv": "PAPERCLIP_MCP_TOKEN_1"}]);
        request.context.insert("paperclipMcpServers".into(), servers);
        let plan = manifest::plan(&request, Attempt::FIRST, &Claude).unwrap();
        assert!(plan.args.contains(&file.to_owned()), "{:?}", plan.args);
        let env = plan.job["spec"]["template"]["spec"]["containers"][0]["env"].to_string();
        assert!(!env.contains("PAPERCLIP_MCP_TOKEN_1"), "{env}");
        let volumes = plan.job["spec"]["template"]["spec"]["volumes"].to_string();
        assert!(volumes.contains("context/mcp.json"), "{volumes}");
    }

    #[test]
    fn manifests_equal_the_reference_adapters_except_for_intended_differences() {
        for case in parity::cases(CASES) {
            let plan = manifest::plan(&parity::request(&case), Attempt::FIRST, &Claude).unwrap();
            let differences = parity::differences(&case, &plan.to_json());
            assert_eq!(differences, Vec::<String>::new(), "{}", case.name);
        }
    }

    #[test]
    fn what_a_run_puts_into_the_cluster() {
        for case in parity::cases(CASES) {
            let plan = manifest::plan(&parity::request(&case), Attempt::FIRST, &Claude).unwrap();
            insta::assert_json_snapshot!(case.name.replace('@', "_on_"), plan.to_json());
        }
    }

    #[test]
    fn the_comparison_notices_every_change() {
        let case = &parity::cases(CASES)[2];
        let plan = manifest::plan(&parity::request(case), Attempt::FIRST, &Claude).unwrap().to_json();
        for path in [
            "/namespace",
            "/prompt",
            "/args/0",
            "/promptMetrics/promptChars",
            "/secrets/0/entries/A/from",
            "/job/metadata/labels/paperclip.io~1task-id",
            "/job/spec/suspend",
            "/job/spec/template/spec/volumes/0/name",
            "/job/spec/template/spec/containers/0/env/0/name",
            "/job/spec/template/spec/containers/0/command/2",
        ] {
            let mut changed = plan.clone();
            *changed.pointer_mut(path).unwrap() = json!("changed");
            assert!(!parity::differences(case, &changed).is_empty(), "{path}");
        }
    }

    #[test]
    fn the_forms_defaults_are_those_of_a_run_but_for_the_turns() {
        let shown = paperclip_kit::cli::config_fields::<Claude>()
            .into_iter()
            .filter(|field| field.key != "maxTurnsPerRun");
        let config = shown.filter_map(|field| Some((field.key.to_owned(), field.default?))).collect();
        let mut request = parity::request(&parity::cases(CASES)[0]);
        let planned = |request: &Request| manifest::plan(request, Attempt::FIRST, &Claude).unwrap();
        let bare = planned(&request);
        request.config = config;
        assert_eq!(planned(&request), bare);
    }
}
