//! A node with a store of its own, and ways to wait for what it does.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::node::objects;
use crate::node::{LogOptions, LogStream, NodeHandle, NodeOptions, start};
use crate::resource::Resource;
use crate::store::{
    ChangeKind, DeleteOptions, Key, Object, Propagation, Store, StoreOptions, is_deleting, meta,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) const NAMESPACE: &str = "n";

pub(super) struct Bench {
    pub(super) store: Store,
    pub(super) folder: tempfile::TempDir,
    node: Option<NodeHandle>,
}

impl Bench {
    pub(super) async fn new() -> Bench {
        Bench::with(|_| ()).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut NodeOptions)) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(StoreOptions::default()).unwrap();
        let mut bench = Bench { store, folder, node: None };
        bench.start(change).await;
        bench
    }

    pub(super) async fn start(&mut self, change: impl FnOnce(&mut NodeOptions)) {
        let mut options = NodeOptions::new(self.folder.path());
        options.job_backoff = Duration::from_millis(10);
        options.restart_backoff = Duration::from_millis(10);
        change(&mut options);
        self.node = Some(start(self.store.clone(), options).await.unwrap());
    }

    pub(super) async fn stop(&mut self) {
        self.node.take().unwrap().shutdown().await;
    }

    /// A crash: nothing is reported.
    pub(super) fn crash(&mut self) {
        self.node = None;
    }

    pub(super) fn create(&self, resource: Resource, mut object: Value) -> Arc<Object> {
        object["metadata"]["namespace"] = json!(NAMESPACE);
        objects::create(&self.store, resource, object).unwrap()
    }

    /// A Job with one container `main` that runs a shell script. `change` has the Job before it is created.
    pub(super) fn job(&self, name: &str, script: &str, change: impl FnOnce(&mut Value)) -> Arc<Object> {
        let mut job = json!({
            "metadata": {"name": name},
            "spec": {
                "backoffLimit": 0,
                "completions": 1,
                "parallelism": 1,
                "template": {
                    "metadata": {"labels": {"app": "test"}},
                    "spec": {
                        "restartPolicy": "Never",
                        "terminationGracePeriodSeconds": 30,
                        "containers": [shell("main", script)],
                    },
                },
            },
        });
        change(&mut job);
        self.create(Resource::Jobs, job)
    }

    /// A Pod with the given specification.
    pub(super) fn pod(&self, name: &str, mut spec: Value) -> Arc<Object> {
        if spec["restartPolicy"].is_null() {
            spec["restartPolicy"] = json!("Never");
        }
        self.create(Resource::Pods, json!({"metadata": {"name": name}, "spec": spec}))
    }

    pub(super) fn key(&self, resource: Resource, name: &str) -> Key {
        Key::new(resource, NAMESPACE, name)
    }

    pub(super) fn get(&self, resource: Resource, name: &str) -> Option<Arc<Object>> {
        self.store.get(&self.key(resource, name))
    }

    pub(super) fn delete(&self, resource: Resource, name: &str, propagation: Propagation) {
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        self.store.delete(&self.key(resource, name), &options).unwrap();
    }

    pub(super) fn update(&self, resource: Resource, name: &str, change: impl FnOnce(&mut Object)) {
        let changed = self.store.update(&self.key(resource, name), |object| {
            change(object);
            Ok(())
        });
        changed.unwrap();
    }

    /// The first state of an object of this kind, from now on, that matches.
    pub(super) async fn until(&self, resource: Resource, matches: impl Fn(&Object) -> bool) -> Arc<Object> {
        let (revision, objects) = self.store.list(resource, Some(NAMESPACE));
        if let Some(found) = objects.into_iter().find(|object| matches(object)) {
            return found;
        }
        let mut watch = self.store.watch(resource, Some(NAMESPACE.to_owned()), revision).unwrap();
        let found = async {
            loop {
                let change = watch.next().await.unwrap();
                if change.kind != ChangeKind::Deleted && matches(&change.object) {
                    return change.object.clone();
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| self.give_up(resource))
    }

    pub(super) async fn until_named(
        &self,
        resource: Resource,
        name: &str,
        matches: impl Fn(&Object) -> bool,
    ) -> Arc<Object> {
        self.until(resource, |object| meta(object, "name") == name && matches(object)).await
    }

    /// Waits for the Job to be over, and gives the condition that says so.
    pub(super) async fn finished(&self, job: &str) -> (Arc<Object>, Value) {
        let over = |job: &Object| {
            conditions(job).into_iter().find(|c| c["type"] == "Complete" || c["type"] == "Failed")
        };
        let job = self.until_named(Resource::Jobs, job, |job| over(job).is_some()).await;
        let condition = over(&job).unwrap();
        (job, condition)
    }

    /// Waits until no object of this kind has this name.
    pub(super) async fn until_deleted(&self, resource: Resource, name: &str) {
        let revision = self.store.revision();
        let mut watch = self.store.watch(resource, Some(NAMESPACE.to_owned()), revision).unwrap();
        let deleted = async {
            while self.get(resource, name).is_some() {
                watch.next().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, deleted).await.is_err() {
            self.give_up(resource);
        }
    }

    /// The only Pod there is, once it matches.
    pub(super) async fn pod_until(&self, matches: impl Fn(&Object) -> bool) -> Arc<Object> {
        self.until(Resource::Pods, matches).await
    }

    pub(super) async fn event(&self, reason: &str) -> Arc<Object> {
        self.until(Resource::Events, |event| event["reason"] == reason).await
    }

    pub(super) async fn open_log(&self, pod: &Object, container: &str, options: LogOptions) -> LogStream {
        let pod = serde_json::from_value(pod.clone()).unwrap();
        let logs = self.node.as_ref().unwrap().logs();
        logs.open(&pod, Some(container), &options).await.unwrap().unwrap()
    }

    pub(super) async fn log(&self, pod: &Object, container: &str) -> String {
        text(self.open_log(pod, container, LogOptions::default()).await).await
    }

    /// Waits until the log of a running container has this line.
    pub(super) async fn until_logged(&self, pod: &Object, container: &str, line: &str) {
        let options = LogOptions { follow: true, ..LogOptions::default() };
        let mut log = self.open_log(pod, container, options).await;
        let mut served = Vec::new();
        let found = async {
            while let Some(bytes) = log.try_next().await.unwrap() {
                served.extend_from_slice(&bytes);
                if String::from_utf8_lossy(&served).lines().any(|found| found == line) {
                    return;
                }
            }
            panic!("the log ended without {line:?}");
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap();
    }

    fn give_up(&self, resource: Resource) -> ! {
        let objects = self.store.list(resource, Some(NAMESPACE)).1;
        let events: Vec<Value> = self
            .store
            .list(Resource::Events, Some(NAMESPACE))
            .1
            .iter()
            .map(|event| json!([event["reason"], event["message"]]))
            .collect();
        panic!("waited in vain; there is {objects:#?} and {events:#?}");
    }
}

pub(super) async fn text(log: LogStream) -> String {
    let pieces: Vec<bytes::Bytes> = tokio::time::timeout(PATIENCE, log.try_collect()).await.unwrap().unwrap();
    String::from_utf8(pieces.concat()).unwrap()
}

pub(super) fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "image:1", "command": ["sh", "-c", script]})
}

pub(super) fn conditions(object: &Object) -> Vec<Value> {
    object["status"]["conditions"].as_array().cloned().unwrap_or_default()
}

pub(super) fn condition(object: &Object, kind: &str) -> Value {
    conditions(object).into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// The state of the main container with this name.
pub(super) fn state<'a>(pod: &'a Object, container: &str) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let mut statuses = lists.iter().flat_map(|list| pod["status"][*list].as_array().into_iter().flatten());
    statuses.find(|status| status["name"] == container).map_or(&Value::Null, |status| &status["state"])
}

pub(super) fn exit_code(pod: &Object, container: &str) -> Option<i64> {
    state(pod, container)["terminated"]["exitCode"].as_i64()
}

pub(super) fn is_running(pod: &Object) -> bool {
    pod["status"]["phase"] == "Running" && !is_deleting(pod)
}

pub(super) fn is_over(pod: &Object) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}
