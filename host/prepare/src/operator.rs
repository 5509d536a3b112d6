//! What the operator decides for every run, whatever its agent's config says.

use std::borrow::Cow;
use std::path::Path;

use paperclip_engine::policy::Grant;
use paperclip_kubernetes::environment::fits;
use paperclip_kubernetes::paperclip_pod::container_index;
use serde_json::{Value, json};

use crate::config::Config;

/// Where Kubernetes mounts the token of a pod's service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// A token is far smaller.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// Returns the name of the service account that this process runs as, if it runs in a cluster.
pub(crate) fn own_account() -> Option<String> {
    let token = paperclip_files::read(Path::new(TOKEN), MAX_TOKEN_BYTES).ok()?;
    account_of(std::str::from_utf8(&token).ok()?)
}

/// Returns the name of the account in a token of Kubernetes: `system:serviceaccount:<namespace>:<name>` is its subject.
fn account_of(token: &str) -> Option<String> {
    use base64::Engine as _;
    let claims = token.trim().split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let account = claims["sub"].as_str()?.strip_prefix("system:serviceaccount:")?;
    account.split_once(':').map(|(_, name)| name.to_owned())
}

/// Puts a run whose config names no namespace into that of its company, if the operator gives it one.
pub(crate) fn in_company_namespace<'a>(config: &Config, context: Cow<'a, Value>) -> Cow<'a, Value> {
    let company = context["agent"]["companyId"].as_str().and_then(|id| config.companies.get(id));
    let Some(namespace) = company.and_then(|company| company.namespace.as_deref()) else { return context };
    let named = context["config"]["namespace"].as_str().map(str::trim);
    if named.is_some_and(|name| !name.is_empty()) || !context["config"].is_object() {
        return context;
    }
    let mut context = context;
    context.to_mut()["config"]["namespace"] = json!(namespace);
    context
}

/// Removes the volumes of Secrets that Paperclip's pod mounts and the grant does not name, and returns a warning that names them.
pub(crate) fn deny_secret_volumes(pod: &mut Value, grant: &Grant) -> Option<String> {
    let is_granted = |name: &str| grant.secrets.iter().any(|pattern| pattern.matches(name));
    let mut denied = Vec::new();
    pod.pointer_mut("/spec/volumes")?.as_array_mut()?.retain(|volume| {
        let name = volume["secret"]["secretName"].as_str();
        let name = name.filter(|name| !is_granted(name));
        denied.extend(name.map(str::to_owned));
        name.is_none()
    });
    (!denied.is_empty()).then(|| {
        format!(
            "not mounted from Paperclip's pod: Secret {}; an operator can add it to `secrets` of the grant",
            denied.join(", ")
        )
    })
}

/// Removes the variables that agents must not inherit from Paperclip's pod, before any plugin sees them.
pub(crate) fn deny_variables(pod: &mut Value, denied: &[String]) {
    let Ok(index) = container_index(pod) else { return };
    if let Some(variables) = pod["spec"]["containers"][index]["env"].as_array_mut() {
        let is_denied = |name: &str| denied.iter().any(|pattern| fits(pattern, name));
        variables.retain(|variable| !variable["name"].as_str().is_some_and(is_denied));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_account_from_the_subject_of_its_token() {
        use base64::Engine as _;
        let token = |claims: &Value| {
            let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
            format!("e30.{claims}.signature\n")
        };
        let own = token(&json!({"sub": "system:serviceaccount:paperclip:paperclip-host"}));
        assert_eq!(account_of(&own).as_deref(), Some("paperclip-host"));
        for other in
            [token(&json!({"sub": "somebody"})), token(&json!({})), "no token".to_owned(), String::new()]
        {
            assert_eq!(account_of(&other), None);
        }
    }

    #[test]
    fn agents_mount_secrets_of_paperclips_pod_that_are_granted_and_no_other() {
        let volume = |name: &str| json!({"name": name, "secret": {"secretName": name}});
        let data = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data"}});
        let mut pod = json!({"spec": {"containers": [], "volumes": [volume("ssh"), data, volume("team-ca"), volume("tls")]}});
        let grant: Grant = serde_json::from_value(json!({"secrets": ["team-*"]})).expect("a grant");
        let warning = deny_secret_volumes(&mut pod, &grant).expect("a warning");
        assert!(warning.contains("Secret ssh, tls;") && warning.contains("`secrets`"), "{warning}");
        assert_eq!(pod["spec"]["volumes"], json!([data, volume("team-ca")]));
        assert_eq!(deny_secret_volumes(&mut pod, &grant), None);
        let bare = json!({"spec": {"containers": []}});
        let mut unchanged = bare.clone();
        assert_eq!(deny_secret_volumes(&mut unchanged, &grant), None);
        assert_eq!(unchanged, bare);
    }

    #[test]
    fn a_company_with_a_namespace_runs_there() {
        let config: Config = toml::from_str("[companies.acme]\nnamespace = \"acme\"\n").expect("good");
        let namespace = |company: &str, agent_config: Value| {
            let context = json!({"agent": {"companyId": company}, "config": agent_config});
            in_company_namespace(&config, Cow::Owned(context))["config"]["namespace"].clone()
        };
        assert_eq!(namespace("acme", json!({})), "acme");
        assert_eq!(namespace("acme", json!({"namespace": " "})), "acme");
        assert_eq!(namespace("acme", json!({"namespace": "other"})), "other", "the grant refuses it");
        assert_eq!(namespace("other", json!({})), Value::Null);
    }

    #[test]
    fn what_the_operator_denies_is_removed_from_the_pod() {
        let mut pod = json!({"spec": {"containers": [{"name": "paperclip", "env": [
            {"name": "LICENCE", "value": "x"}, {"name": "STRIPE_KEY", "value": "y"}, {"name": "KEY", "value": "z"},
        ]}]}});
        deny_variables(&mut pod, &["LICENCE".to_owned(), "STRIPE_*".to_owned()]);
        assert_eq!(pod["spec"]["containers"][0]["env"], json!([{"name": "KEY", "value": "z"}]));
    }
}
