//! Paperclip's pod: the pod that Paperclip itself runs in, and that agents inherit from.

use std::fmt;

use serde_json::Value;

/// The mount path of Paperclip's data volume, in its pod as in those of agents.
pub const DATA_DIR: &str = "/paperclip";
/// The name of Paperclip's container in the manifests that Paperclip publishes.
const CONTAINER: &str = "paperclip";
/// The annotation by which `kubectl logs` and `kubectl exec` choose a container.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// Names of containers that admission webhooks, operators and charts add to pods of other programs.
const SIDECARS: [&str; 22] = [
    "alloy",
    "aws-for-fluent-bit",
    "cloud-sql-proxy",
    "cloudsql-proxy",
    "config-reloader",
    "consul-dataplane",
    "daprd",
    "datadog-agent",
    "envoy",
    "envoy-sidecar",
    "filebeat",
    "fluent-bit",
    "fluentd",
    "istio-proxy",
    "kuma-sidecar",
    "linkerd-proxy",
    "oauth2-proxy",
    "opentelemetry-collector",
    "otc-container",
    "promtail",
    "tailscale",
    "vault-agent",
];

/// Paperclip's container is not known among the others of its pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownContainer {
    /// The names of all containers.
    pub containers: Vec<String>,
}

impl UnknownContainer {
    /// How to fix it.
    pub const HINT: &'static str = "name Paperclip's container `paperclip`, or name it in the pod's annotation kubectl.kubernetes.io/default-container";
}

impl fmt::Display for UnknownContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.containers.is_empty() {
            return f.write_str("it has no containers");
        }
        write!(f, "which of its containers is Paperclip's is not known: {}", self.containers.join(", "))
    }
}

impl std::error::Error for UnknownContainer {}

/// Returns the index in `spec.containers` of the container that Paperclip runs in. It is the first of these that exists:
/// 1. the container named `paperclip`;
/// 2. the one that the annotation `kubectl.kubernetes.io/default-container` names;
/// 3. the only one that mounts the data volume at [`DATA_DIR`];
/// 4. the only one whose name is not that of a known sidecar.
///
/// # Errors
/// None of them exists.
///
/// ```
/// use paperclip_kubernetes::paperclip_pod::container_index;
/// use serde_json::json;
///
/// let pod = json!({"spec": {"containers": [{"name": "istio-proxy"}, {"name": "server"}]}});
/// assert_eq!(container_index(&pod), Ok(1));
/// let pod = json!({"spec": {"containers": [{"name": "web"}, {"name": "worker"}]}});
/// assert_eq!(container_index(&pod).unwrap_err().containers, ["web", "worker"]);
/// ```
pub fn container_index(pod: &Value) -> Result<usize, UnknownContainer> {
    let containers = pod["spec"]["containers"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    let named = |name: &str| containers.iter().position(|container| container["name"] == name);
    let default = pod["metadata"]["annotations"][DEFAULT_CONTAINER].as_str();
    named(CONTAINER)
        .or_else(|| named(default?))
        .or_else(|| only(containers, mounts_data))
        .or_else(|| only(containers, |container| !is_sidecar(container)))
        .ok_or_else(|| {
            let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
            UnknownContainer { containers: containers.iter().map(name).collect() }
        })
}

/// Returns the container that Paperclip runs in, by the rule of [`container_index`].
///
/// # Errors
/// Those of [`container_index`].
pub fn container(pod: &Value) -> Result<&Value, UnknownContainer> {
    container_index(pod).map(|index| &pod["spec"]["containers"][index])
}

/// Returns the index of the container that `is_it` is true of, unless it is true of several.
fn only(containers: &[Value], is_it: impl Fn(&Value) -> bool) -> Option<usize> {
    let mut found = containers.iter().enumerate().filter(|(_, container)| is_it(container));
    let (index, _) = found.next()?;
    found.next().is_none().then_some(index)
}

fn mounts_data(container: &Value) -> bool {
    let mut mounts = container["volumeMounts"].as_array().into_iter().flatten();
    mounts.any(|mount| mount["mountPath"].as_str().is_some_and(|path| path.trim_end_matches('/') == DATA_DIR))
}

fn is_sidecar(container: &Value) -> bool {
    container["name"].as_str().is_some_and(|name| SIDECARS.contains(&name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(default: Option<&str>, containers: &[(&str, &[&str])]) -> Value {
        let containers: Vec<Value> = containers
            .iter()
            .map(|(name, mounts)| {
                let mounts: Vec<Value> =
                    mounts.iter().map(|path| json!({"name": "v", "mountPath": path})).collect();
                json!({"name": name, "volumeMounts": mounts})
            })
            .collect();
        json!({
            "metadata": {"annotations": {DEFAULT_CONTAINER: default}},
            "spec": {"containers": containers},
        })
    }

    #[test]
    fn paperclips_container_is_found_by_the_first_rule_that_applies() {
        const DATA: &[&str] = &["/var/log", "/paperclip"];
        type Row<'a> = (&'a str, Option<&'a str>, &'a [(&'a str, &'a [&'a str])], usize);
        let rows: &[Row<'_>] = &[
            ("the name", None, &[("istio-proxy", &[]), ("paperclip", &[])], 1),
            ("the name before all", Some("web"), &[("web", DATA), ("paperclip", &[]), ("x", &[])], 1),
            ("the annotation", Some("web"), &[("data", DATA), ("web", &[])], 1),
            ("an annotation that names none", Some("old"), &[("web", &[]), ("data", DATA)], 1),
            ("the data volume", None, &[("web", &["/paperclip/cache"]), ("server", DATA)], 1),
            ("the data volume with a slash", None, &[("web", &[]), ("server", &["/paperclip/"])], 1),
            ("the data volume before sidecars", None, &[("server", &[]), ("envoy", DATA)], 1),
            ("two mount it", None, &[("vault-agent", DATA), ("server", DATA)], 1),
            ("no sidecar", None, &[("istio-proxy", &[]), ("linkerd-proxy", &[]), ("server", &[])], 2),
            ("alone", None, &[("main", &[])], 0),
        ];
        for (what, default, containers, index) in rows {
            assert_eq!(container_index(&pod(*default, containers)), Ok(*index), "{what}");
        }
        for sidecar in SIDECARS {
            assert_eq!(container_index(&pod(None, &[(sidecar, &[]), ("main", &[])])), Ok(1), "{sidecar}");
        }
    }

    #[test]
    fn a_container_that_is_unknown_is_refused_with_all_names() {
        type Containers<'a> = &'a [(&'a str, &'a [&'a str])];
        let rows: [(Option<&str>, Containers<'_>); 4] = [
            (None, &[("web", &[]), ("worker", &[])]),
            (Some("old"), &[("web", &[]), ("worker", &[]), ("istio-proxy", &[])]),
            (None, &[("web", &["/paperclip"]), ("worker", &["/paperclip"])]),
            (None, &[("istio-proxy", &[])]),
        ];
        for (default, containers) in rows {
            let error = container_index(&pod(default, containers)).expect_err("refused");
            let names: Vec<&str> = containers.iter().map(|(name, _)| *name).collect();
            assert_eq!(error.containers, names);
            assert!(error.to_string().contains(&names.join(", ")), "{error}");
        }
        for empty in [json!(null), json!({"spec": {"containers": "none"}}), pod(None, &[])] {
            assert_eq!(container(&empty), Err(UnknownContainer { containers: Vec::new() }), "{empty}");
        }
    }
}
