//! Facts about a Pod that its containers may ask for: `fieldRef` and `resourceFieldRef`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use paperclip_kubernetes::Quantity as Amount;

use crate::node::{NODE_IP, NODE_NAME, POD_IP};

/// The value of a field path.
///
/// # Errors
/// Kubernetes does not support the path here.
pub(crate) fn field_value(pod: &Pod, path: &str) -> Result<String, String> {
    let metadata = &pod.metadata;
    let text = |value: &Option<String>| Ok(value.clone().unwrap_or_default());
    match path {
        "metadata.name" => text(&metadata.name),
        "metadata.namespace" => text(&metadata.namespace),
        "metadata.uid" => text(&metadata.uid),
        "spec.nodeName" => Ok(NODE_NAME.to_owned()),
        "spec.serviceAccountName" => {
            Ok(pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).unwrap_or_default())
        }
        "status.podIP" | "status.podIPs" => Ok(POD_IP.to_owned()),
        "status.hostIP" | "status.hostIPs" => Ok(NODE_IP.to_owned()),
        _ => entry(path, "metadata.labels", metadata.labels.as_ref())
            .or_else(|| entry(path, "metadata.annotations", metadata.annotations.as_ref()))
            .ok_or_else(|| format!("unsupported fieldPath: {path}")),
    }
}

/// The amount of a resource that a container requests or is limited to; without a limit it is what this machine has.
///
/// # Errors
/// Kubernetes does not support the resource or the divisor here, or there is no such container.
pub(crate) fn resource_value(
    pod: &Pod,
    own_container: &str,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let name = selector.container_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(own_container);
    let spec = pod.spec.as_ref();
    let inits = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let mains = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let container = inits
        .iter()
        .chain(mains)
        .find(|container| container.name == name)
        .ok_or_else(|| format!("container {name} not found"))?;
    let resources = container.resources.clone().unwrap_or_default();
    let (kind, resource) = selector.resource.split_once('.').unwrap_or_default();
    let declared = match kind {
        "limits" => amount(resources.limits.as_ref(), resource),
        "requests" => amount(resources.requests.as_ref(), resource)
            .or_else(|| amount(resources.limits.as_ref(), resource)),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let found = match (kind, declared) {
        (_, Some(found)) => found,
        ("requests", None) => "0".to_owned(),
        (_, None) => capacity(resource)
            .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?,
    };
    let divisor = selector.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
    let divisor = if matches!(divisor, "" | "0") { "1" } else { divisor };
    let [amount, unit] = [found.as_str(), divisor].map(Amount::parse);
    amount
        .ok()
        .zip(unit.ok())
        .and_then(|(amount, unit)| amount.in_units_of(unit))
        .map(|value| value.to_string())
        .ok_or_else(|| format!("{found} / {divisor} is no amount of {}", selector.resource))
}

fn entry(path: &str, set: &str, values: Option<&BTreeMap<String, String>>) -> Option<String> {
    let key = path.strip_prefix(set)?.strip_prefix("['")?.strip_suffix("']")?;
    Some(values.and_then(|values| values.get(key)).cloned().unwrap_or_default())
}

fn amount(amounts: Option<&BTreeMap<String, Quantity>>, resource: &str) -> Option<String> {
    amounts?.get(resource).map(|quantity| quantity.0.clone())
}

/// The amount of a resource that this machine has.
fn capacity(resource: &str) -> Option<String> {
    match resource {
        "cpu" => Some(std::thread::available_parallelism().map_or(1, usize::from).to_string()),
        "memory" => Some(memory_capacity()),
        "ephemeral-storage" => Some("0".to_owned()),
        _ => None,
    }
}

fn memory_capacity() -> String {
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = table.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    total.map_or_else(|| "0".to_owned(), |kibibytes| format!("{}Ki", kibibytes.trim()))
}
