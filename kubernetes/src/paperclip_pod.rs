//! Paperclip's pod: the pod that Paperclip itself runs in, and that agents inherit from.

use serde_json::Value;

/// The name of Paperclip's container in the manifests that Paperclip publishes.
const CONTAINER: &str = "paperclip";

/// Returns the index in `spec.containers` of the container that Paperclip runs in: the one named `paperclip`, else the
/// first. `None` if the pod has no containers.
pub fn container_index(pod: &Value) -> Option<usize> {
    let containers = pod["spec"]["containers"].as_array()?;
    let named = containers.iter().position(|container| container["name"] == CONTAINER);
    named.or((!containers.is_empty()).then_some(0))
}

/// Returns the container that Paperclip runs in, by the rule of [`container_index`].
pub fn container(pod: &Value) -> Option<&Value> {
    pod["spec"]["containers"].get(container_index(pod)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn container_named_paperclip_is_found_else_the_first() {
        let pod = |names: &[&str]| {
            let containers: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"spec": {"containers": containers}})
        };
        assert_eq!(container_index(&pod(&["istio-proxy", "paperclip"])), Some(1));
        assert_eq!(container_index(&pod(&["main", "sidecar"])), Some(0));
        assert_eq!(container_index(&pod(&[])), None);
        assert_eq!(container_index(&json!({"spec": {"containers": "none"}})), None);
        assert_eq!(container(&pod(&["main"])), Some(&json!({"name": "main"})));
        assert_eq!(container(&json!(null)), None);
    }
}
