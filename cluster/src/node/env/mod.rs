//! The environment of a container.

mod fields;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVarSource, Pod, Secret};
use paperclip_kubernetes::environment::expand;

pub(crate) use fields::{field_value, resource_value};

use super::objects::Objects;

/// The variables that a container inherits from the process that runs the cluster: those of an image, and those needed to
/// reach the network from this machine. Nothing else, as the cluster's own environment may hold secrets.
const INHERITED: [&str; 21] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
];

/// Names and values, each name once.
pub(crate) type Environment = BTreeMap<String, String>;

/// The variables that every container has before those that it declares.
pub(crate) fn inherited(pod: &Pod) -> Environment {
    let taken = INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let host_name = ("HOSTNAME".to_owned(), pod.metadata.name.clone().unwrap_or_default());
    taken.chain([host_name]).collect()
}

/// The variables that a container declares: `envFrom` in order, then `env` in order, later values over earlier ones. `$(NAME)` in a
/// literal value is replaced by a variable that is declared before it.
///
/// # Errors
/// The kubelet's message if a Secret, a ConfigMap or a key is not there.
pub(crate) fn declared(container: &Container, pod: &Pod, objects: &Objects) -> Result<Environment, String> {
    let mut environment = Environment::new();
    for source in container.env_from.as_deref().unwrap_or_default() {
        environment.extend(all_of(source, objects)?);
    }
    for variable in container.env.as_deref().unwrap_or_default() {
        let value = match &variable.value_from {
            None => {
                let text = variable.value.as_deref().unwrap_or_default();
                Some(expand(text, |name| environment.get(name).map(String::as_str)))
            }
            Some(source) => one_of(source, container, pod, objects)?,
        };
        if let Some(value) = value {
            environment.insert(variable.name.clone(), value);
        }
    }
    Ok(environment)
}

/// Every entry of a Secret or ConfigMap. Keys that can't be names of variables are left out.
fn all_of(source: &EnvFromSource, objects: &Objects) -> Result<Environment, String> {
    let mut found = Environment::new();
    if let Some(reference) = &source.config_map_ref {
        match objects.get::<ConfigMap>(&reference.name) {
            Some(map) => found.extend(map.data.unwrap_or_default()),
            None if reference.optional.unwrap_or_default() => {}
            None => return Err(format!("configmap \"{}\" not found", reference.name)),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match objects.get::<Secret>(&reference.name) {
            Some(secret) => {
                let data = secret.data.unwrap_or_default();
                found.extend(data.into_iter().map(|(key, value)| (key, text(&value.0))));
            }
            None if reference.optional.unwrap_or_default() => {}
            None => return Err(format!("secret \"{}\" not found", reference.name)),
        }
    }
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let named = found.into_iter().map(|(key, value)| (format!("{prefix}{key}"), value));
    Ok(named.filter(|(name, _)| is_name(name)).collect())
}

/// The value of one reference; `None` if it is optional and not there.
fn one_of(
    source: &EnvVarSource,
    container: &Container,
    pod: &Pod,
    objects: &Objects,
) -> Result<Option<String>, String> {
    if let Some(reference) = &source.secret_key_ref {
        let is_optional = reference.optional.unwrap_or_default();
        let Some(secret) = objects.get::<Secret>(&reference.name) else {
            return absent(is_optional, || format!("secret \"{}\" not found", reference.name));
        };
        return match secret.data.unwrap_or_default().get(&reference.key) {
            Some(value) => Ok(Some(text(&value.0))),
            None => absent(is_optional, || {
                let namespace = objects.namespace();
                format!("couldn't find key {} in Secret {namespace}/{}", reference.key, reference.name)
            }),
        };
    }
    if let Some(reference) = &source.config_map_key_ref {
        let is_optional = reference.optional.unwrap_or_default();
        let Some(map) = objects.get::<ConfigMap>(&reference.name) else {
            return absent(is_optional, || format!("configmap \"{}\" not found", reference.name));
        };
        return match map.data.unwrap_or_default().remove(&reference.key) {
            Some(value) => Ok(Some(value)),
            None => absent(is_optional, || {
                let namespace = objects.namespace();
                format!("couldn't find key {} in ConfigMap {namespace}/{}", reference.key, reference.name)
            }),
        };
    }
    if let Some(field) = &source.field_ref {
        return field_value(pod, &field.field_path).map(Some);
    }
    if let Some(resource) = &source.resource_field_ref {
        return resource_value(pod, &container.name, resource).map(Some);
    }
    Ok(None)
}

fn absent(is_optional: bool, message: impl FnOnce() -> String) -> Result<Option<String>, String> {
    if is_optional { Ok(None) } else { Err(message()) }
}

/// A variable cannot contain a zero byte; other bytes that are not UTF-8 are replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "")
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

#[cfg(test)]
mod tests;
