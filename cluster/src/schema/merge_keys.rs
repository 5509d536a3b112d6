//! Which lists a strategic merge patch merges item by item, and by which key.
//!
//! The `patchStrategy` and `patchMergeKey` tags of the Kubernetes API types; every other list is replaced as a whole.

use serde_json::{Value, json};

/// How a list is merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListMerge {
    /// Items with the same value in this field are one item.
    ByKey(&'static str),
    /// A set of plain values.
    Union,
}

const MERGED_LISTS: &[(&str, &str, ListMerge)] = &[
    ("ObjectMeta", "ownerReferences", ListMerge::ByKey("uid")),
    ("ObjectMeta", "finalizers", ListMerge::Union),
    ("PodSpec", "volumes", ListMerge::ByKey("name")),
    ("PodSpec", "containers", ListMerge::ByKey("name")),
    ("PodSpec", "initContainers", ListMerge::ByKey("name")),
    ("PodSpec", "ephemeralContainers", ListMerge::ByKey("name")),
    ("PodSpec", "imagePullSecrets", ListMerge::ByKey("name")),
    ("PodSpec", "hostAliases", ListMerge::ByKey("ip")),
    ("PodSpec", "topologySpreadConstraints", ListMerge::ByKey("topologyKey")),
    ("PodSpec", "schedulingGates", ListMerge::ByKey("name")),
    ("PodSpec", "resourceClaims", ListMerge::ByKey("name")),
    ("Container", "env", ListMerge::ByKey("name")),
    ("Container", "ports", ListMerge::ByKey("containerPort")),
    ("Container", "volumeMounts", ListMerge::ByKey("mountPath")),
    ("Container", "volumeDevices", ListMerge::ByKey("devicePath")),
    ("EphemeralContainer", "env", ListMerge::ByKey("name")),
    ("EphemeralContainer", "volumeMounts", ListMerge::ByKey("mountPath")),
    ("PodStatus", "conditions", ListMerge::ByKey("type")),
    ("PodStatus", "podIPs", ListMerge::ByKey("ip")),
    ("PodStatus", "hostIPs", ListMerge::ByKey("ip")),
    ("JobStatus", "conditions", ListMerge::ByKey("type")),
    ("NamespaceStatus", "conditions", ListMerge::ByKey("type")),
    ("NodeStatus", "conditions", ListMerge::ByKey("type")),
    ("NodeStatus", "addresses", ListMerge::ByKey("type")),
    ("NodeSpec", "podCIDRs", ListMerge::Union),
    ("PersistentVolumeClaimStatus", "conditions", ListMerge::ByKey("type")),
    ("ServiceAccount", "secrets", ListMerge::ByKey("name")),
];

/// How a field of a structure, by its short name, is merged; `None` if it is replaced.
pub(super) fn find(structure: &str, field: &str) -> Option<ListMerge> {
    let entry = MERGED_LISTS.iter().find(|(s, f, _)| *s == structure && *f == field);
    entry.map(|(_, _, merge)| *merge)
}

impl ListMerge {
    /// Writes the merge into the OpenAPI schema of a field, where `kubectl apply` reads it.
    pub(super) fn annotate(self, property: &mut Value) {
        property["x-kubernetes-patch-strategy"] = json!("merge");
        if let ListMerge::ByKey(key) = self {
            property["x-kubernetes-patch-merge-key"] = json!(key);
        }
    }
}
