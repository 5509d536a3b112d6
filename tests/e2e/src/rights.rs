//! The permissions of the Role in `deploy/base`: a host with exactly these works, and `paperclip-host check` names each missing one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::kubectl::Kubectl;

/// Role and service account of the same name.
const NAME: &str = "paperclip-host";
/// How long the API server may take to apply a changed Role.
const HEED: Duration = Duration::from_secs(10);

/// Creates the service account with its Role, and writes a kubeconfig with its permissions.
pub(crate) fn grant(kubectl: &Kubectl, manifests: &Path, kubeconfig: &Path) -> Result<()> {
    let role = read_role(manifests)?;
    kubectl.apply(&role.to_string())?;
    kubectl.run(&format!("create serviceaccount {NAME}"))?;
    let namespace = &kubectl.namespace;
    kubectl.run(&format!("create rolebinding {NAME} --role={NAME} --serviceaccount={namespace}:{NAME}"))?;
    let token = kubectl.run(&format!("create token {NAME}"))?;
    let mut config = kubectl.json("config view --raw --minify --flatten")?;
    config["users"][0]["user"] = json!({"token": token});
    Ok(fs::write(kubeconfig, config.to_string())?)
}

/// Removes each permission in turn: the check must fail or warn, and its hint must name the permission. With all of them it must pass.
pub(crate) fn each_is_needed(
    kubectl: &Kubectl,
    manifests: &Path,
    program: &Path,
    kubeconfig: &Path,
) -> Result<()> {
    let role = read_role(manifests)?;
    let check = || check(program, kubeconfig, &kubectl.namespace);
    until("pass with all rights", || Ok(complaints(&check()?).is_empty()))?;
    for (rule, verb) in rights(&role) {
        let mut less = role.clone();
        let verbs = less["rules"][rule]["verbs"].as_array_mut().context("a rule has no verbs")?;
        let resource = role["rules"][rule]["resources"][0].as_str().unwrap_or_default();
        verbs.retain(|other| other != verb.as_str());
        if verbs.is_empty() {
            // The API rejects a rule without verbs.
            less["rules"].as_array_mut().context("no rules")?.remove(rule);
        }
        kubectl.apply(&less.to_string())?;
        let hint = format!("Add the verb `{verb}` on `{resource}`");
        until(&format!("say {hint:?}"), || {
            let complaints = complaints(&check()?);
            Ok(complaints.len() == 1 && complaints[0].contains(&hint))
        })?;
    }
    kubectl.apply(&role.to_string())
}

fn read_role(manifests: &Path) -> Result<Value> {
    let path = manifests.join("role.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_saphyr::from_str(&text)?)
}

/// The verbs of a Role, each with the index of its rule.
fn rights(role: &Value) -> Vec<(usize, String)> {
    let rules = role["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    let verbs = |rule: &Value| rule["verbs"].as_array().cloned().unwrap_or_default();
    rules
        .iter()
        .enumerate()
        .flat_map(|(index, rule)| {
            verbs(rule).into_iter().filter_map(move |verb| Some((index, verb.as_str()?.to_owned())))
        })
        .collect()
}

fn check(program: &Path, kubeconfig: &Path, namespace: &str) -> Result<Value> {
    let mut command = Command::new(program);
    command.args(["check", "--json", "--namespace", namespace, "--kubeconfig"]).arg(kubeconfig);
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let no_report = || format!("`check` printed no report: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(no_report)
}

/// Returns the checks that did not pass, each with its hint.
fn complaints(report: &Value) -> Vec<String> {
    let checks = report["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bad = checks.iter().filter(|check| check["level"] != "info" && is_about_rights(check));
    bad.map(ToString::to_string).collect()
}

/// Other checks are about the agent's config: outside a cluster there is no default image.
fn is_about_rights(check: &Value) -> bool {
    check["code"].as_str().is_some_and(|code| code.starts_with("k8s_rbac_"))
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + HEED;
    while !is_so()? {
        if Instant::now() > deadline {
            bail!("`paperclip-host check` does not {what}");
        }
    }
    Ok(())
}

/// Returns the folder of the manifests.
pub(crate) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/base")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_grants_exactly_what_the_check_requires() {
        let role = read_role(&manifests()).unwrap();
        let mut granted: Vec<String> = rights(&role)
            .into_iter()
            .map(|(rule, verb)| format!("{verb} {}", role["rules"][rule]["resources"][0].as_str().unwrap()))
            .collect();
        let mut asked: Vec<String> = paperclip_kit::check::ACCESS
            .iter()
            .map(|access| format!("{} {}", access.verb, access.target()))
            .collect();
        granted.sort();
        asked.sort();
        assert_eq!(granted, asked);
    }
}
