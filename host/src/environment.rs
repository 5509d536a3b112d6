//! Variables whose values the host alone knows: `config.env`, and the literals of Paperclip's own pod.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paperclip_contract::types::{Request, SecretSource};
use paperclip_diagnostic::Diagnose;
use paperclip_engine::intake::Secrets;
use serde_json::Value;

/// The longest `NAME=value` that a Linux kernel passes to a program, its closing NUL included (MAX_ARG_STRLEN).
const VARIABLE_MAX_BYTES: usize = 128 << 10;
/// What all of `config.env` may be: it shares a Secret of at most 1 MiB with a short prompt and what is inherited.
const VARIABLES_MAX_BYTES: usize = 512 << 10;

/// Why the variables of a config cannot be those of an agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error(
        "env.{name}: the variable is {bytes} bytes, and no program starts with one over {VARIABLE_MAX_BYTES}"
    )]
    TooLong { name: String, bytes: usize },
    #[error("env.{name}: the value holds a NUL character, which no variable can")]
    Nul { name: String },
    #[error(
        "env: the variables are {bytes} bytes together, and a run's Secret has capacity for {VARIABLES_MAX_BYTES}"
    )]
    TooMany { bytes: usize },
}

impl Diagnose for Unfit {
    fn code(&self) -> &'static str {
        "bad_context"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            Unfit::TooLong { .. } => "put the text into a file of the agent's workspace",
            Unfit::Nul { .. } => "remove it",
            Unfit::TooMany { .. } => "put long texts into files of the agent's workspace",
        };
        Some(hint.into())
    }
}

/// Refuses what no container starts with, or no Secret holds.
///
/// # Errors
/// The field and the mend.
pub(crate) fn check(request: &Request, secrets: &Secrets) -> Result<(), Unfit> {
    let mut all_bytes = 0;
    for entry in &request.config_env {
        let name = &entry.name;
        let source = SecretSource::ConfigEnv(name.clone());
        let value = secrets.resolve(&source).unwrap_or_default();
        let bytes = name.len() + value.len() + "=\0".len();
        if bytes > VARIABLE_MAX_BYTES {
            return Err(Unfit::TooLong { name: name.clone(), bytes });
        }
        if value.contains('\0') {
            return Err(Unfit::Nul { name: name.clone() });
        }
        all_bytes += bytes;
    }
    if all_bytes > VARIABLES_MAX_BYTES {
        return Err(Unfit::TooMany { bytes: all_bytes });
    }
    Ok(())
}

/// Takes the volumes out of a pod that hold files of the host's own, such as the token that opens it: agents inherit what
/// the pod mounts of Secrets.
pub(crate) fn withhold(pod: &mut Value, files: &[PathBuf]) {
    let holds = |mount: &Value| {
        let folder = mount["mountPath"].as_str().map(Path::new);
        folder.is_some_and(|folder| files.iter().any(|file| file.starts_with(folder)))
    };
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mounts = containers.flat_map(|container| container["volumeMounts"].as_array().into_iter().flatten());
    let withheld: Vec<Value> =
        mounts.filter(|mount| holds(mount)).map(|mount| mount["name"].clone()).collect();
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
        // Others, such as the claim that Paperclip's data are on, are shared on purpose.
        volumes.retain(|volume| volume["secret"].is_null() || !withheld.contains(&volume["name"]));
    }
}

/// Which container Paperclip itself runs in: the one named `paperclip`, else the first.
fn own_container(pod: &Value) -> Option<usize> {
    let containers = pod["spec"]["containers"].as_array()?;
    let named = containers.iter().position(|container| container["name"] == "paperclip");
    named.or((!containers.is_empty()).then_some(0))
}

/// The literal that Paperclip's own container has under a name; of several the last, as in the container.
pub(crate) fn own_literal<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let container = &pod["spec"]["containers"][own_container(pod)?];
    let mut entries = container["env"].as_array()?.iter().rev();
    entries.find(|entry| entry["name"] == name)?["value"].as_str()
}

/// Writes the literals of Paperclip's own container as that container sees them: `$(NAME)` replaced by the variables
/// before it, `$$` by `$`. They reach agents out of a Secret, where nobody replaces anything any more.
///
/// A literal that refers to a variable whose value only the container knows is taken out. Returns warnings about those.
pub(crate) fn expand_own_literals(pod: &mut Value) -> Vec<String> {
    let Some(index) = own_container(pod) else { return Vec::new() };
    let container = &mut pod["spec"]["containers"][index];
    let inherits_whole = container["envFrom"].as_array().is_some_and(|sources| !sources.is_empty());
    let Some(entries) = container.get_mut("env").and_then(Value::as_array_mut) else { return Vec::new() };
    let mut known = Known { variables: BTreeMap::new(), inherits_whole };
    let mut warnings = Vec::new();
    entries.retain_mut(|entry| {
        let Some(name) = entry["name"].as_str().map(str::to_owned) else { return true };
        let expanded = match entry["value"].as_str() {
            Some(literal) => known.expand(literal),
            None if entry["valueFrom"].is_object() => Err(name.clone()),
            None => Ok(String::new()),
        };
        let is_literal = entry["value"].is_string();
        if let (true, Err(unknown)) = (is_literal, &expanded) {
            warnings.push(format!(
                "{name} is not inherited from Paperclip's pod: its value refers to {unknown}, which only that pod knows"
            ));
        }
        if let (true, Ok(text)) = (is_literal, &expanded) {
            entry["value"] = Value::from(text.as_str());
        }
        let is_kept = !is_literal || expanded.is_ok();
        known.variables.insert(name, expanded.ok());
        is_kept
    });
    warnings
}

/// The variables that come before a literal.
struct Known {
    /// None: it is there, and the container alone knows its value.
    variables: BTreeMap<String, Option<String>>,
    /// There are more, out of whole Secrets and ConfigMaps.
    inherits_whole: bool,
}

impl Known {
    /// As `k8s.io/kubernetes/third_party/forked/golang/expansion` does it. The error is the name of what is not known.
    fn expand(&self, literal: &str) -> Result<String, String> {
        let mut text = String::with_capacity(literal.len());
        let mut rest = literal;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some((name, after)) =
                rest.strip_prefix('(').and_then(|inside| inside.split_once(')'))
            {
                match self.variables.get(name) {
                    Some(Some(value)) => text.push_str(value),
                    Some(None) => return Err(name.to_owned()),
                    None if self.inherits_whole => return Err(name.to_owned()),
                    None => text.push_str(&format!("$({name})")),
                }
                rest = after;
            } else {
                text.push('$');
            }
        }
        text.push_str(rest);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expanded(env: &Value, env_from: &Value) -> (Value, Vec<String>) {
        let mut pod = json!({"spec": {"containers": [
            {"name": "side", "env": [{"name": "A", "value": "$(B)"}]},
            {"name": "paperclip", "env": env, "envFrom": env_from},
        ]}});
        let warnings = expand_own_literals(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["env"][0]["value"], "$(B)");
        (pod["spec"]["containers"][1]["env"].clone(), warnings)
    }

    #[test]
    fn what_opens_the_host_is_not_inherited() {
        let mut pod = json!({"spec": {
            "containers": [{"volumeMounts": [
                {"name": "token", "mountPath": "/etc/paperclip-host"},
                {"name": "cloud", "mountPath": "/etc/cloud"},
                {"name": "data", "mountPath": "/paperclip"},
            ]}],
            "volumes": [
                {"name": "token", "secret": {"secretName": "t"}},
                {"name": "cloud", "secret": {"secretName": "c"}},
                {"name": "data", "persistentVolumeClaim": {"claimName": "d"}},
            ],
        }});
        withhold(&mut pod, &["/etc/paperclip-host/token".into(), "/paperclip/host.toml".into()]);
        let left: Vec<_> = pod["spec"]["volumes"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
        assert_eq!(left, ["cloud", "data"]);
    }

    #[test]
    fn literals_are_written_as_the_container_sees_them() {
        let env = json!([
            {"name": "HOST", "value": "db"},
            {"name": "URL", "value": "postgres://$(HOST)/$(LATER)?a=$$(HOST)$"},
            {"name": "LATER", "value": "x"},
            {"name": "BOTH", "value": "$(URL) $(LATER) $(unclosed"},
            {"name": "EMPTY", "value": ""},
            {"name": "NOTHING"},
            {"name": "AFTER", "value": "[$(EMPTY)$(NOTHING)]"},
        ]);
        let (env, warnings) = expanded(&env, &json!([]));
        let values: Vec<_> = env.as_array().unwrap().iter().map(|entry| &entry["value"]).collect();
        let url = "postgres://db/$(LATER)?a=$(HOST)$";
        let both = format!("{url} x $(unclosed");
        assert_eq!(
            values,
            [&json!("db"), &json!(url), &json!("x"), &json!(both), &json!(""), &json!(null), &json!("[]")]
        );
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn what_only_the_pod_knows_is_left_out_and_told() {
        let reference = json!({"fieldRef": {"fieldPath": "status.podIP"}});
        let env = json!([
            {"name": "POD_IP", "valueFrom": reference},
            {"name": "SELF", "value": "http://$(POD_IP):3100"},
            {"name": "NEXT", "value": "$(SELF)/x"},
            {"name": "KEPT", "value": "$$(POD_IP)"},
        ]);
        let (env, warnings) = expanded(&env, &json!([]));
        assert_eq!(
            env,
            json!([{"name": "POD_IP", "valueFrom": reference}, {"name": "KEPT", "value": "$(POD_IP)"}])
        );
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0].starts_with("SELF is not inherited") && warnings[0].contains("POD_IP"),
            "{warnings:?}"
        );
        assert!(warnings[1].contains("refers to SELF"), "{warnings:?}");
        let whole = json!([{"secretRef": {"name": "s"}}]);
        assert_eq!(expanded(&json!([{"name": "A", "value": "$(OUT_OF_S)"}]), &whole).0, json!([]));
    }

    #[test]
    fn the_last_literal_of_a_name_is_the_containers() {
        let pod = json!({"spec": {"containers": [{"name": "main", "env": [
            {"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B", "valueFrom": {}},
        ]}]}});
        assert_eq!(own_literal(&pod, "A"), Some("2"));
        assert_eq!(own_literal(&pod, "B"), None);
        assert_eq!(own_literal(&json!({}), "A"), None);
        assert_eq!(expand_own_literals(&mut json!({"spec": {"containers": []}})), Vec::<String>::new());
    }
}
