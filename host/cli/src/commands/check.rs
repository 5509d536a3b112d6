//! `check`: runs Paperclip's environment test.

use paperclip_engine::intake;
use paperclip_guest::Tools;
use paperclip_prepare::access::Fallback;
use paperclip_prepare::environment::{self, Subject};
use paperclip_prepare::plugins::BuiltinPlugins;
use paperclip_prepare::{HostContext, documents, paperclip_pod};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::args::CheckArgs;
use crate::exit::{CommandError, Exit, failed, usage};
use crate::plugins;
use crate::pretty::style::{DIM, ERROR, SUCCESS, WARNING};

/// The part of Paperclip's `AdapterEnvironmentTestResult` that comes from the plugin.
#[derive(Debug, Deserialize)]
struct Report {
    status: String,
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
struct Check {
    code: String,
    level: String,
    message: String,
    hint: Option<String>,
}

pub(crate) async fn check(args: CheckArgs, builtins: BuiltinPlugins) -> Result<Exit, CommandError> {
    let context = args.context.as_deref().map(documents::read_context).transpose().map_err(usage)?;
    let context = context.unwrap_or_default();
    let config = args.configuration().map_err(usage)?;
    let pod = config.self_pod.as_deref().map(paperclip_pod::read).transpose().map_err(usage)?;
    let named = args.plugin.adapter.as_deref().or_else(|| intake::adapter_type(&context));
    // What a run needs of the cluster is the same for all agent types; only the hint about credentials is not.
    let plugin = plugins::get_or_first(builtins, config.plugins.as_deref(), named)?;
    let adapter_type = plugin.adapter_type().to_owned();
    let tools = Tools::new(plugin);

    // Without a request to the cluster: whether it answers is part of the test.
    let connected = config.cluster.open(Fallback::Local, None).await.map_err(usage)?;
    let pod = match pod {
        Some(pod) => Some(pod),
        None => paperclip_pod::find(&config, &connected.cluster, &context).await.map_err(failed)?,
    };
    let host = HostContext::new(config, None);
    let subject = Subject {
        host: &host,
        config: &context["config"],
        paperclip_pod: pod,
        is_local: connected.is_local(),
        are_files_sent: false,
    };
    let report = environment::test(&tools, &connected.cluster, subject).await;
    connected.shutdown().await;
    let report = report.map_err(failed)?;
    show(&adapter_type, &report, args.json)
}

fn show(adapter_type: &str, json: &str, as_json: bool) -> Result<Exit, CommandError> {
    let report: Report = serde_json::from_str(json)?;
    if as_json {
        let mut document: Map<String, Value> = serde_json::from_str(json)?;
        document.insert("adapterType".to_owned(), adapter_type.into());
        document.insert("testedAt".to_owned(), jiff::Timestamp::now().to_string().into());
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        anstream::print!("{}", render(&report));
    }
    // Agents can run in spite of a warning.
    Ok(if report.status == "fail" { Exit::Failed } else { Exit::Succeeded })
}

fn render(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let (style, mark) = match check.level.as_str() {
            "error" => (ERROR, "✘"),
            "warn" => (WARNING, "!"),
            _ => (SUCCESS, "✔"),
        };
        text.push_str(&format!("{style}{mark}{style:#} {} {DIM}{}{DIM:#}\n", check.message, check.code));
        if let Some(hint) = &check.hint {
            text.push_str(&format!("  {DIM}hint:{DIM:#} {hint}\n"));
        }
    }
    let count = |level: &str| report.checks.iter().filter(|check| check.level == level).count();
    let (style, verdict) = match report.status.as_str() {
        "fail" => (ERROR, "fail"),
        "warn" => (WARNING, "warn"),
        _ => (SUCCESS, "pass"),
    };
    text.push_str(&format!(
        "{style}{verdict}{style:#} {} checks, {} errors, {} warnings\n",
        report.checks.len(),
        count("error"),
        count("warn")
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn renders_a_report_with_hints() {
        let report: Report = serde_json::from_value(json!({"status": "fail", "checks": [
            {"code": "k8s_api_reachable", "level": "info", "message": "The Kubernetes API answers."},
            {"code": "k8s_rbac_job_patch", "level": "error", "message": "Cannot patch jobs.", "hint": "Add the verb."},
            {"code": "k8s_secret_missing", "level": "warn", "message": "No Secret.", "hint": "Create it."},
        ]}))
        .unwrap();
        assert_eq!(
            anstream::adapter::strip_str(&render(&report)).to_string(),
            "✔ The Kubernetes API answers. k8s_api_reachable\n\
             ✘ Cannot patch jobs. k8s_rbac_job_patch\n  hint: Add the verb.\n\
             ! No Secret. k8s_secret_missing\n  hint: Create it.\n\
             fail 3 checks, 1 errors, 1 warnings\n"
        );
    }
}
