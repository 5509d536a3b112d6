//! Defaults of a Pod and of a Pod template.

use serde_json::{Value, json};

use super::{each, fill};
use crate::store::Object;

/// Of files in Secret and ConfigMap volumes: rw-r--r--.
const FILE_MODE: u32 = 0o644;

pub(super) fn apply(pod: &mut Object) {
    fill(&mut pod["spec"], "enableServiceLinks", json!(true));
    fill(&mut pod["spec"], "serviceAccountName", json!("default"));
    let account = pod["spec"]["serviceAccountName"].clone();
    fill(&mut pod["spec"], "serviceAccount", account);
    for list in ["containers", "initContainers"] {
        each(&mut pod["spec"], list).for_each(request_limits);
    }
    apply_spec(&mut pod["spec"]);
}

pub(super) fn start(pod: &mut Object) {
    pod["status"] = json!({"phase": "Pending", "qosClass": quality_of_service(&pod["spec"])});
}

/// The defaults that a template has too.
pub(super) fn apply_spec(spec: &mut Value) {
    fill(spec, "restartPolicy", json!("Always"));
    fill(spec, "terminationGracePeriodSeconds", json!(30));
    fill(spec, "dnsPolicy", json!("ClusterFirst"));
    fill(spec, "securityContext", json!({}));
    fill(spec, "schedulerName", json!("default-scheduler"));
    for list in ["containers", "initContainers"] {
        each(spec, list).for_each(apply_container);
    }
    each(spec, "volumes").for_each(apply_volume);
}

fn apply_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    fill(container, "imagePullPolicy", json!(policy));
    fill(container, "resources", json!({}));
    fill(container, "terminationMessagePath", json!("/dev/termination-log"));
    fill(container, "terminationMessagePolicy", json!("File"));
    for port in each(container, "ports") {
        fill(port, "protocol", json!("TCP"));
    }
    for variable in each(container, "env") {
        if let Some(reference) = variable.pointer_mut("/valueFrom/fieldRef") {
            fill(reference, "apiVersion", json!("v1"));
        }
        if let Some(reference) = variable.pointer_mut("/valueFrom/resourceFieldRef") {
            fill(reference, "divisor", json!("0"));
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get_mut(name) else { continue };
        let seconds =
            [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)];
        for (field, value) in seconds {
            fill(probe, field, json!(value));
        }
        if let Some(get) = probe.get_mut("httpGet") {
            fill(get, "path", json!("/"));
            fill(get, "scheme", json!("HTTP"));
        }
    }
}

fn apply_volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|fields| fields.len() == 1 && fields.contains_key("name")) {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        if let Some(source) = volume.get_mut(source) {
            fill(source, "defaultMode", json!(FILE_MODE));
        }
    }
    if let Some(path) = volume.get_mut("hostPath") {
        fill(path, "type", json!(""));
    }
    if let Some(projected) = volume.get_mut("projected") {
        for part in each(projected, "sources") {
            if let Some(token) = part.get_mut("serviceAccountToken") {
                fill(token, "expirationSeconds", json!(3600));
            }
        }
    }
}

/// A limit without a request is a request too.
fn request_limits(container: &mut Value) {
    let Some(Value::Object(limits)) = container.pointer("/resources/limits").cloned() else { return };
    for (name, limit) in limits {
        fill(&mut container["resources"]["requests"], &name, limit);
    }
}

/// Whether an image is named without a tag, or with `latest`.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// `Guaranteed` if every container limits CPU and memory to what it requests, `BestEffort` if none asks for anything.
fn quality_of_service(spec: &Value) -> &'static str {
    let containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| spec[list].as_array().into_iter().flatten())
        .map(|container| &container["resources"]);
    let mut is_guaranteed = true;
    let mut is_best_effort = true;
    for resources in containers {
        for name in ["cpu", "memory"] {
            let (limit, request) = (&resources["limits"][name], &resources["requests"][name]);
            is_guaranteed &= !limit.is_null() && limit == request;
            is_best_effort &= limit.is_null() && request.is_null();
        }
    }
    match (is_best_effort, is_guaranteed) {
        (true, _) => "BestEffort",
        (false, true) => "Guaranteed",
        (false, false) => "Burstable",
    }
}
