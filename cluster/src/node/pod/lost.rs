//! Pods whose processes were lost with an earlier process of the cluster, as with a node that was restarted.
//!
//! They are not resumed, since their output was lost meanwhile. Each is `Failed`, and its processes have ended with
//! code 255 and reason `Unknown`, as the kubelet reports containers of which the runtime knows nothing any more. What
//! had not started yet is run as if nothing had happened.

use serde_json::json;

use crate::node::NODE_NAME;
use crate::resource::Resource;
use crate::store::{Key, Object, Store, now_seconds};

/// Marks every Pod of this node that had started and has not ended.
pub(super) fn mark(store: &Store) {
    for pod in store.list(Resource::Pods, None).1 {
        if is_lost(&pod) {
            let _already_deleted = store.update(&Key::of(Resource::Pods, &pod), |pod| {
                fail(pod);
                Ok(())
            });
        }
    }
}

fn is_lost(pod: &Object) -> bool {
    let is_over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let has_started = statuses(pod).any(|status| status["containerID"].is_string());
    pod["spec"]["nodeName"] == NODE_NAME && !is_over && has_started
}

fn statuses(pod: &Object) -> impl Iterator<Item = &Object> {
    LISTS.iter().flat_map(|list| pod["status"][*list].as_array().into_iter().flatten())
}

const LISTS: [&str; 2] = ["initContainerStatuses", "containerStatuses"];

fn fail(pod: &mut Object) {
    let now = now_seconds();
    pod["status"]["phase"] = json!("Failed");
    for list in LISTS {
        for status in pod["status"][list].as_array_mut().into_iter().flatten() {
            if status["state"]["terminated"].is_object() {
                continue;
            }
            let started = status["state"]["running"]["startedAt"].clone();
            status["state"] = json!({"terminated": {
                "exitCode": 255,
                "reason": "Unknown",
                "startedAt": if started.is_null() { json!("1970-01-01T00:00:00Z") } else { started },
                "finishedAt": now,
                "containerID": status["containerID"],
            }});
            status["ready"] = json!(false);
            status["started"] = json!(false);
        }
    }
    for condition in pod["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if matches!(
            condition["type"].as_str(),
            Some("Ready" | "ContainersReady" | "PodReadyToStartContainers")
        ) && condition["status"] != "False"
        {
            condition["status"] = json!("False");
            condition["reason"] = json!("PodFailed");
            condition["lastTransitionTime"] = json!(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreOptions;

    #[test]
    fn what_had_started_is_lost_and_what_had_not_is_not() {
        let store = Store::new(StoreOptions::default()).unwrap();
        let pod = |name: &str, phase: &str, status: serde_json::Value| {
            let pod = json!({
                "metadata": {"name": name, "namespace": "n"},
                "spec": {"nodeName": "local"},
                "status": {"phase": phase, "containerStatuses": [status]},
            });
            store.create(Resource::Pods, pod).unwrap();
        };
        let running =
            json!({"name": "c", "containerID": "local://u/c/0", "state": {"running": {"startedAt": "x"}}});
        pod("running", "Running", running.clone());
        pod("waiting", "Pending", json!({"name": "c", "state": {"waiting": {}}}));
        pod("done", "Succeeded", running);
        mark(&store);
        let read = |name: &str| store.get(&Key::new(Resource::Pods, "n", name)).unwrap()["status"].clone();
        assert_eq!(read("running")["phase"], "Failed");
        let end = &read("running")["containerStatuses"][0]["state"]["terminated"];
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(255), &json!("Unknown")));
        assert_eq!(read("waiting")["phase"], "Pending");
        assert_eq!(read("done")["phase"], "Succeeded");
    }
}
