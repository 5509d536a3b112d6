//! The cells of each resource's rows.

use serde_json::{Value, json};

use super::duration::{between, since};
use super::pod::{self, has_condition, list};
use crate::resource::Resource;
use crate::store::{Object, is_deleting, meta};

const NONE: &str = "<none>";
const UNSET: &str = "<unset>";

pub(super) fn cells(resource: Resource, object: &Object) -> Vec<Value> {
    let name = meta(object, "name");
    let age = since(object["metadata"]["creationTimestamp"].as_str());
    match resource {
        Resource::Namespaces => vec![json!(name), json!(text(&object["status"]["phase"])), json!(age)],
        Resource::Pods => pod_cells(object, name, &age),
        Resource::Secrets => {
            vec![json!(name), json!(text(&object["type"])), json!(size(&object["data"])), json!(age)]
        }
        Resource::ConfigMaps => {
            let entries = size(&object["data"]) + size(&object["binaryData"]);
            vec![json!(name), json!(entries), json!(age)]
        }
        Resource::Events => event_cells(object, name),
        Resource::PersistentVolumeClaims => claim_cells(object, name, &age),
        Resource::ServiceAccounts => vec![json!(name), json!(list(&object["secrets"]).len()), json!(age)],
        Resource::Nodes => node_cells(object, name, &age),
        Resource::Jobs => job_cells(object, name, &age),
        Resource::Leases => vec![json!(name), json!(text(&object["spec"]["holderIdentity"])), json!(age)],
    }
}

fn pod_cells(pod: &Object, name: &str, age: &str) -> Vec<Value> {
    let pod::Summary { ready, status, restarts } = pod::summary(pod);
    vec![
        json!(name),
        json!(ready),
        json!(status),
        json!(restarts),
        json!(age),
        json!(or(&pod["status"]["podIP"], NONE)),
        json!(or(&pod["spec"]["nodeName"], NONE)),
        json!(or(&pod["status"]["nominatedNodeName"], NONE)),
        json!(NONE),
    ]
}

fn job_cells(job: &Object, name: &str, age: &str) -> Vec<Value> {
    let (spec, status) = (&job["spec"], &job["status"]);
    let succeeded = status["succeeded"].as_i64().unwrap_or_default();
    let parallelism = spec["parallelism"].as_i64().unwrap_or_default();
    let completions = match spec["completions"].as_i64() {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let duration = between(status["startTime"].as_str(), status["completionTime"].as_str());
    let containers = list(&spec["template"]["spec"]["containers"]);
    let column = |field: &str| {
        containers.iter().map(|container| text(&container[field])).collect::<Vec<_>>().join(",")
    };
    vec![
        json!(name),
        json!(job_status(job)),
        json!(completions),
        json!(duration.unwrap_or_default()),
        json!(age),
        json!(column("name")),
        json!(column("image")),
        json!(selector(&spec["selector"]["matchLabels"])),
    ]
}

fn job_status(job: &Object) -> &'static str {
    let has = |condition| has_condition(&job["status"], condition);
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if is_deleting(job) {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn event_cells(event: &Object, name: &str) -> Vec<Value> {
    let first = event["firstTimestamp"].as_str().or_else(|| event["eventTime"].as_str());
    let last = event["lastTimestamp"].as_str().or(first);
    let about = &event["involvedObject"];
    let source = match event["source"]["host"].as_str() {
        Some(host) => format!("{}, {host}", text(&event["source"]["component"])),
        None => text(&event["source"]["component"]).to_owned(),
    };
    let object = format!("{}/{}", text(&about["kind"]).to_lowercase(), text(&about["name"]));
    vec![
        json!(since(last)),
        json!(text(&event["type"])),
        json!(text(&event["reason"])),
        json!(object),
        json!(text(&about["fieldPath"])),
        json!(source),
        json!(text(&event["message"]).trim()),
        json!(since(first)),
        json!(event["count"].as_i64().unwrap_or(1).to_string()),
        json!(name),
    ]
}

fn claim_cells(claim: &Object, name: &str, age: &str) -> Vec<Value> {
    let status = &claim["status"];
    let phase = if is_deleting(claim) { "Terminating" } else { text(&status["phase"]) };
    let modes: Vec<&str> = list(&status["accessModes"]).iter().map(|mode| short_mode(text(mode))).collect();
    vec![
        json!(name),
        json!(phase),
        json!(text(&claim["spec"]["volumeName"])),
        json!(text(&status["capacity"]["storage"])),
        json!(modes.join(",")),
        json!(text(&claim["spec"]["storageClassName"])),
        json!(or(&claim["spec"]["volumeAttributesClassName"], UNSET)),
        json!(age),
        json!(or(&claim["spec"]["volumeMode"], UNSET)),
    ]
}

fn short_mode(mode: &str) -> &str {
    match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        other => other,
    }
}

fn node_cells(node: &Object, name: &str, age: &str) -> Vec<Value> {
    let info = &node["status"]["nodeInfo"];
    let ready = if has_condition(&node["status"], "Ready") { "Ready" } else { "NotReady" };
    let scheduling = if node["spec"]["unschedulable"] == true { ",SchedulingDisabled" } else { "" };
    let address = |kind: &str| {
        let found = list(&node["status"]["addresses"]).iter().find(|address| address["type"] == kind);
        found.map_or_else(|| NONE.to_owned(), |address| text(&address["address"]).to_owned())
    };
    vec![
        json!(name),
        json!(format!("{ready}{scheduling}")),
        json!(NONE),
        json!(age),
        json!(text(&info["kubeletVersion"])),
        json!(address("InternalIP")),
        json!(address("ExternalIP")),
        json!(or(&info["osImage"], "<unknown>")),
        json!(or(&info["kernelVersion"], "<unknown>")),
        json!(or(&info["containerRuntimeVersion"], "<unknown>")),
    ]
}

fn selector(labels: &Value) -> String {
    let Some(labels) = labels.as_object().filter(|labels| !labels.is_empty()) else { return NONE.to_owned() };
    labels.iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(",")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn or<'a>(value: &'a Value, fallback: &'a str) -> &'a str {
    value.as_str().filter(|text| !text.is_empty()).unwrap_or(fallback)
}

fn size(map: &Value) -> usize {
    map.as_object().map_or(0, serde_json::Map::len)
}
