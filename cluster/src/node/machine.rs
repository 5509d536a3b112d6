//! The `Node` object of this machine.

use serde_json::json;

use super::{NODE_IP, NODE_NAME};
use crate::resource::Resource;
use crate::store::{Key, Store, now_seconds};

/// Writes the node as ready, unless an earlier process has.
pub(super) fn register(store: &Store) {
    if store.get(&Key::new(Resource::Nodes, "", NODE_NAME)).is_some() {
        return;
    }
    let now = now_seconds();
    let processors = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let amounts = json!({"cpu": processors, "pods": "110"});
    let node = json!({
        "metadata": {
            "name": NODE_NAME,
            "labels": {
                "kubernetes.io/hostname": NODE_NAME,
                "kubernetes.io/os": std::env::consts::OS,
                "kubernetes.io/arch": std::env::consts::ARCH,
            },
        },
        "spec": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": NODE_IP},
                {"type": "Hostname", "address": NODE_NAME},
            ],
            "allocatable": amounts,
            "capacity": amounts,
            "conditions": [{
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "containers run as processes of this machine",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }],
            "nodeInfo": {
                "architecture": std::env::consts::ARCH,
                "operatingSystem": std::env::consts::OS,
                "containerRuntimeVersion": "local://processes",
                "kubeletVersion": concat!("v", env!("CARGO_PKG_VERSION"), "-paperclip-local"),
                "bootID": "",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "machineID": "",
                "osImage": "local",
                "systemUUID": "",
            },
        },
    });
    if let Err(error) = store.create(Resource::Nodes, node) {
        tracing::warn!(%error, "the node is not registered");
    }
}
