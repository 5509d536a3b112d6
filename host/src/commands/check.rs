//! `check`: Paperclip's environment test.

use paperclip_diagnostic::Diagnostic;
use paperclip_guest::Tools;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::access;
use crate::args::CheckArgs;
use crate::documents;
use crate::exit::{Exit, usage};
use crate::plugins;
use crate::pretty::style::{DIM, ERROR, SUCCESS, WARNING};
use crate::probe::{self, Probe};

/// What came of the test: Paperclip's `AdapterEnvironmentTestResult`, as far as the plugin tells it.
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

pub(crate) async fn check(args: &CheckArgs) -> anyhow::Result<Exit> {
    let context = args.context.as_deref().map(documents::parse_context).transpose()?.unwrap_or_default();
    let self_pod = args.self_pod.as_deref().map(documents::read_self_pod).transpose()?;
    let runtime = plugins::runtime()?;
    let asked = args.plugin.adapter.clone().or_else(|| documents::adapter_type(&context, None).ok());
    let plugin = plugins::get_or_only(&runtime, args.plugin.plugins.as_deref(), asked.as_deref())?;
    let adapter_type = plugin.adapter_type().to_owned();
    let tools = Tools::new(plugin);

    // Not made sure of here: whether the cluster answers is what the test is there to tell.
    let connected = access::open(&args.access, None).await?;
    let cluster = connected.cluster;
    let self_pod = match self_pod {
        Some(pod) => Some(pod),
        None => access::own_pod(&cluster, args.access.kubeconfig.as_slice()).await?,
    };
    let input = json!({
        "config": without_env(&context["config"]),
        "selfPod": self_pod,
        "namespace": args.namespace.as_deref().unwrap_or(cluster.default_namespace()),
    });
    let probes: Vec<Probe> =
        serde_json::from_str(&tools.plan_check(&input.to_string())?.map_err(bad_config)?)?;
    let answers = probe::answer_all(&cluster, probes).await;
    if let Some(local) = connected.local {
        local.shutdown().await;
    }
    let report = tools.judge_check(&json!(answers).to_string())?.map_err(bad_config)?;
    show(&adapter_type, &report, args.json)
}

fn bad_config(message: String) -> anyhow::Error {
    usage(Diagnostic::new("bad_config", message).with_hint("correct that field of the config"))
}

/// Values of `config.env` are nobody's business here.
pub(crate) fn without_env(config: &Value) -> Value {
    let mut config = config.as_object().cloned().unwrap_or_default();
    config.remove("env");
    Value::Object(config)
}

fn show(adapter_type: &str, json: &str, as_json: bool) -> anyhow::Result<Exit> {
    let report: Report = serde_json::from_str(json)?;
    if as_json {
        let mut document: Map<String, Value> = serde_json::from_str(json)?;
        document.insert("adapterType".to_owned(), adapter_type.into());
        document.insert("testedAt".to_owned(), jiff::Timestamp::now().to_string().into());
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        anstream::print!("{}", render(&report));
    }
    // A warning is no reason not to run agents.
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
            text.push_str(&format!("  {hint}\n"));
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

    #[test]
    fn a_report_for_a_person() {
        let report: Report = serde_json::from_value(json!({"status": "fail", "checks": [
            {"code": "k8s_api_reachable", "level": "info", "message": "The Kubernetes API answers."},
            {"code": "k8s_rbac_job_patch", "level": "error", "message": "May not patch jobs.", "hint": "Add the verb."},
            {"code": "k8s_secret_missing", "level": "warn", "message": "No Secret.", "hint": "Create it."},
        ]}))
        .unwrap();
        assert_eq!(
            anstream::adapter::strip_str(&render(&report)).to_string(),
            "✔ The Kubernetes API answers. k8s_api_reachable\n\
             ✘ May not patch jobs. k8s_rbac_job_patch\n  Add the verb.\n\
             ! No Secret. k8s_secret_missing\n  Create it.\n\
             fail 3 checks, 1 errors, 1 warnings\n"
        );
    }
}
