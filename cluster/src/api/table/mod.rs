//! Tables: what `kubectl get` prints, made by the server.

mod duration;
mod pod;
mod rows;

use serde_json::{Value, json};

use super::media::{Include, metadata_of};
use crate::resource::Resource;
use crate::store::Object;

/// A column; one of priority 1 is shown by `-o wide` only.
struct Column {
    name: &'static str,
    kind: &'static str,
    priority: u8,
}

const fn shown(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 0 }
}

const fn wide(name: &'static str) -> Column {
    Column { name, kind: "string", priority: 1 }
}

const fn count(name: &'static str) -> Column {
    Column { name, kind: "integer", priority: 0 }
}

const NAMESPACES: &[Column] = &[shown("Name"), shown("Status"), shown("Age")];
const PODS: &[Column] = &[
    shown("Name"),
    shown("Ready"),
    shown("Status"),
    shown("Restarts"),
    shown("Age"),
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];
const SECRETS: &[Column] = &[shown("Name"), shown("Type"), count("Data"), shown("Age")];
const CONFIG_MAPS: &[Column] = &[shown("Name"), count("Data"), shown("Age")];
const EVENTS: &[Column] = &[
    shown("Last Seen"),
    shown("Type"),
    shown("Reason"),
    shown("Object"),
    wide("Subobject"),
    wide("Source"),
    shown("Message"),
    wide("First Seen"),
    wide("Count"),
    wide("Name"),
];
const CLAIMS: &[Column] = &[
    shown("Name"),
    shown("Status"),
    shown("Volume"),
    shown("Capacity"),
    shown("Access Modes"),
    shown("StorageClass"),
    shown("VolumeAttributesClass"),
    shown("Age"),
    wide("VolumeMode"),
];
const SERVICE_ACCOUNTS: &[Column] = &[shown("Name"), count("Secrets"), shown("Age")];
const NODES: &[Column] = &[
    shown("Name"),
    shown("Status"),
    shown("Roles"),
    shown("Age"),
    shown("Version"),
    wide("Internal-IP"),
    wide("External-IP"),
    wide("OS-Image"),
    wide("Kernel-Version"),
    wide("Container-Runtime"),
];
const JOBS: &[Column] = &[
    shown("Name"),
    shown("Status"),
    shown("Completions"),
    shown("Duration"),
    shown("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];
const LEASES: &[Column] = &[shown("Name"), shown("Holder"), shown("Age")];

/// A `meta.k8s.io/v1` Table of some objects. A watch sends the columns only once.
pub(super) fn of<'a>(
    resource: Resource,
    objects: impl IntoIterator<Item = &'a Object>,
    include: Include,
    metadata: &Value,
    has_columns: bool,
) -> Value {
    let columns = columns(resource);
    let definitions = columns.iter().map(|column| {
        let format = if column.name == "Name" { "name" } else { "" };
        json!({
            "name": column.name,
            "type": column.kind,
            "format": format,
            "description": "",
            "priority": column.priority,
        })
    });
    let rows = objects.into_iter().map(|object| {
        let mut row = json!({"cells": rows::cells(resource, object)});
        match include {
            Include::Nothing => {}
            Include::Metadata => row["object"] = metadata_of(object),
            Include::Object => row["object"] = object.clone(),
        }
        row
    });
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": if has_columns { definitions.collect::<Vec<_>>() } else { Vec::new() },
        "rows": rows.collect::<Vec<_>>(),
    })
}

const fn columns(resource: Resource) -> &'static [Column] {
    match resource {
        Resource::Namespaces => NAMESPACES,
        Resource::Pods => PODS,
        Resource::Secrets => SECRETS,
        Resource::ConfigMaps => CONFIG_MAPS,
        Resource::Events => EVENTS,
        Resource::PersistentVolumeClaims => CLAIMS,
        Resource::ServiceAccounts => SERVICE_ACCOUNTS,
        Resource::Nodes => NODES,
        Resource::Jobs => JOBS,
        Resource::Leases => LEASES,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{columns, of, rows};
    use crate::api::media::Include;
    use crate::resource::Resource;

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        for resource in Resource::ALL {
            assert_eq!(rows::cells(resource, &json!({})).len(), columns(resource).len(), "{resource:?}");
        }
    }

    #[test]
    fn a_job_shows_how_far_it_is() {
        let job = |status, spec| {
            let job = json!({"metadata": {"name": "j"}, "spec": spec, "status": status});
            of(Resource::Jobs, [&job], Include::Nothing, &json!({}), true)["rows"][0]["cells"].clone()
        };
        let done = json!({
            "succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:30Z",
            "conditions": [{"type": "Complete", "status": "True"}],
        });
        let cells = job(done, json!({"completions": 1}));
        assert_eq!((&cells[1], &cells[2], &cells[3]), (&json!("Complete"), &json!("1/1"), &json!("90s")));
        let suspended = job(
            json!({"conditions": [{"type": "Suspended", "status": "True"}]}),
            json!({"completions": 1, "suspend": true}),
        );
        assert_eq!((&suspended[1], &suspended[2]), (&json!("Suspended"), &json!("0/1")));
    }

    #[test]
    fn a_pod_shows_the_reason_of_its_state() {
        let shown = |status| {
            let pod = json!({"spec": {"containers": [{"name": "a"}]}, "status": status});
            let cells = rows::cells(Resource::Pods, &pod);
            (cells[1].clone(), cells[2].clone())
        };
        let waiting = json!({"phase": "Pending", "containerStatuses": [
            {"name": "a", "state": {"waiting": {"reason": "ContainerCreating"}}},
        ]});
        assert_eq!(shown(waiting), (json!("0/1"), json!("ContainerCreating")));
        let running = json!({"phase": "Running", "containerStatuses": [
            {"name": "a", "ready": true, "state": {"running": {}}},
        ]});
        assert_eq!(shown(running), (json!("1/1"), json!("Running")));
        let failed = json!({"phase": "Failed", "containerStatuses": [
            {"name": "a", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}},
        ]});
        assert_eq!(shown(failed), (json!("0/1"), json!("Error")));
        let init = json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 2}}},
        ]});
        assert_eq!(shown(init), (json!("0/1"), json!("Init:ExitCode:2")));
    }
}
