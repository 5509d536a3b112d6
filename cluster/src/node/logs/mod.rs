//! Container logs: where they lie, and the `log` endpoint of a Pod as API server and kubelet answer it together.
//!
//! The rules are those of the kubelet but for one: no reader loses what is rotated. A request is served from the oldest file that is kept, not
//! from the current one alone, and no file goes that a reader has still to come to. A follow ends when the container has ended and all was
//! served.

mod file;
mod follow;
mod record;
mod select;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

pub(crate) use file::LogFile;
pub use file::Rotation;
use file::Start;
pub(crate) use record::Output;

use crate::error::ApiError;
use follow::Follower;
use select::Selection;

/// The options of a log request: the query parameters of `GET .../pods/{name}/log`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    /// Continue until the container has ended.
    pub follow: bool,
    /// Start each line with the time of its first record, RFC 3339 with nanoseconds.
    pub timestamps: bool,
    /// Only records of this second and later: fractions are cut off, as the API server does.
    pub since_time: Option<Timestamp>,
    /// Only records of the last so many seconds.
    pub since_seconds: Option<i64>,
    /// Start with the last so many records.
    pub tail_lines: Option<i64>,
    /// End after so many bytes.
    pub limit_bytes: Option<i64>,
    /// The container instance before this one.
    pub previous: bool,
}

/// The bytes of a log as they become known.
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// Every container log of the node.
#[derive(Clone, Debug)]
pub struct Logs {
    folder: PathBuf,
    rotation: Rotation,
    /// The logs of this process, until their Pods or they themselves are removed.
    known: Arc<Mutex<HashMap<PathBuf, LogFile>>>,
}

/// One instance of a container; the first is attempt 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) pod_uid: String,
    pub(crate) container: String,
    pub(crate) attempt: u32,
}

/// How many instances of a container have a log: the current one and the one before it.
const KEPT_INSTANCES: u32 = 2;

const ID_SCHEME: &str = "local://";

impl Instance {
    /// The `containerID` of its status. It ends with the attempt.
    pub(crate) fn id(&self) -> String {
        format!("{ID_SCHEME}{}/{}/{}", self.pod_uid, self.container, self.attempt)
    }

    fn of_id(pod: &Pod, id: &str) -> Option<Instance> {
        let mut parts = id.strip_prefix(ID_SCHEME)?.splitn(3, '/');
        Some(Instance {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            pod_uid: parts.next()?.to_owned(),
            container: parts.next()?.to_owned(),
            attempt: parts.next()?.parse().ok()?,
        })
    }
}

impl Logs {
    /// Logs below `folder`, laid out as the kubelet's `/var/log/pods`.
    pub(crate) fn new(folder: PathBuf, rotation: Rotation) -> Logs {
        Logs { folder, rotation, known: Arc::default() }
    }

    /// Starts the log of an instance.
    ///
    /// # Errors
    /// The file can't be created.
    pub(crate) fn create(&self, instance: &Instance) -> io::Result<LogFile> {
        let path = self.path(instance);
        let log = LogFile::create(&path, self.rotation)?;
        if let Some(outdated) = instance.attempt.checked_sub(KEPT_INSTANCES) {
            self.remove_attempt(instance, outdated);
        }
        self.known().insert(path, log.clone());
        Ok(log)
    }

    /// The instance has ended and all of its output is written: followers may end.
    pub(crate) fn end(&self, instance: &Instance) {
        if let Some(log) = self.known().get(&self.path(instance)) {
            log.end();
        }
    }

    /// Deletes the logs of a Pod that is deleted. Open streams continue.
    pub(crate) fn forget(&self, namespace: &str, pod: &str, pod_uid: &str) {
        let folder = self.pod_folder(namespace, pod, pod_uid);
        self.known().retain(|path, _| !path.starts_with(&folder));
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %folder.display(), "the logs of a pod can't be removed");
        }
    }

    /// The last `limit_bytes` of an instance's output, without timestamps.
    pub(crate) async fn tail(&self, instance: &Instance, lines: i64, limit_bytes: usize) -> Vec<u8> {
        let options = LogOptions { tail_lines: Some(lines), ..LogOptions::default() };
        let mut tail = Vec::new();
        if let Ok(mut stream) = self.read(instance, &options).await {
            while let Some(Ok(bytes)) = stream.next().await {
                tail.extend_from_slice(&bytes);
            }
        }
        tail.split_off(tail.len().saturating_sub(limit_bytes))
    }

    /// Answers a request for the log of a container of `pod`, as the Pod is now. `None` is an empty answer
    /// (204): the Pod is not on a node yet.
    ///
    /// # Errors
    /// Each with the words of API server or kubelet: `BadRequest` if the container is unknown, must be named, or has
    /// not started; `Invalid` for impossible options.
    pub async fn open(
        &self,
        pod: &Pod,
        container: Option<&str>,
        options: &LogOptions,
    ) -> Result<Option<LogStream>, ApiError> {
        check(pod, options)?;
        let container = choose_container(pod, container)?;
        if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default().is_empty() {
            return Ok(None);
        }
        let id = instance_id(pod, &container, options.previous)?;
        let missing = || ApiError::internal(format!("unable to retrieve container logs for {id}"));
        let instance = Instance::of_id(pod, &id).ok_or_else(missing)?;
        self.read(&instance, options).await.map(Some).map_err(|_| missing())
    }

    async fn read(&self, instance: &Instance, options: &LogOptions) -> io::Result<LogStream> {
        let log = self.log(instance)?;
        let tail = options.tail_lines.and_then(|lines| u64::try_from(lines).ok());
        // The last lines are looked for in the current file alone, as the kubelet does.
        let (place, file) = log.read_from(if tail.is_some() { Start::Current } else { Start::Oldest })?;
        let start = match tail {
            None => 0,
            Some(lines) => {
                let mut file = file.try_clone()?;
                tokio::task::spawn_blocking(move || select::tail_start(&mut file, lines))
                    .await
                    .map_err(io::Error::other)??
            }
        };
        let selection = Selection::new(
            since(options, Timestamp::now()),
            options.timestamps,
            // A tail that is followed has a start but no end.
            tail.filter(|_| !options.follow),
            options.limit_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        );
        Ok(Follower::open(place, file, start, selection, options.follow).await?.into_stream().boxed())
    }

    /// The log of an instance that this process or an earlier one has started.
    fn log(&self, instance: &Instance) -> io::Result<LogFile> {
        let path = self.path(instance);
        let known = self.known().get(&path).cloned();
        known.map_or_else(|| LogFile::reopen(&path, self.rotation), Ok)
    }

    /// Removes the files of an instance that no request can select any more.
    fn remove_attempt(&self, instance: &Instance, attempt: u32) {
        let outdated = self.path(&Instance { attempt, ..instance.clone() });
        self.known().remove(&outdated);
        let Some((folder, name)) = outdated.parent().zip(outdated.file_name().and_then(|name| name.to_str()))
        else {
            return;
        };
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|file| file.starts_with(name))
                && let Err(error) = std::fs::remove_file(entry.path())
            {
                tracing::warn!(%error, file = %entry.path().display(), "an old log can't be removed");
            }
        }
    }

    fn pod_folder(&self, namespace: &str, pod: &str, pod_uid: &str) -> PathBuf {
        self.folder.join(format!("{namespace}_{pod}_{pod_uid}"))
    }

    fn path(&self, instance: &Instance) -> PathBuf {
        self.pod_folder(&instance.namespace, &instance.pod, &instance.pod_uid)
            .join(&instance.container)
            .join(format!("{}.log", instance.attempt))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PathBuf, LogFile>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The API server's validation of `PodLogOptions`.
fn check(pod: &Pod, options: &LogOptions) -> Result<(), ApiError> {
    let positive = "must be greater than 0";
    let broken = match options {
        LogOptions { tail_lines: Some(n @ ..0), .. } => {
            format!("tailLines: Invalid value: {n}: must be greater than or equal to 0")
        }
        LogOptions { limit_bytes: Some(n @ ..1), .. } => {
            format!("limitBytes: Invalid value: {n}: {positive}")
        }
        LogOptions { since_seconds: Some(_), since_time: Some(_), .. } => {
            "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned()
        }
        LogOptions { since_seconds: Some(n @ ..1), .. } => {
            format!("sinceSeconds: Invalid value: {n}: {positive}")
        }
        LogOptions { .. } => return Ok(()),
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Err(ApiError::unprocessable(format!("PodLogOptions \"{name}\" is invalid: {broken}")))
}

/// The API server's choice of a container.
fn choose_container(pod: &Pod, requested: Option<&str>) -> Result<String, ApiError> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let names = |containers: &[k8s_openapi::api::core::v1::Container]| {
        containers.iter().map(|container| container.name.clone()).collect::<Vec<_>>()
    };
    let mains = spec.map(|spec| names(&spec.containers)).unwrap_or_default();
    let inits = spec.and_then(|spec| spec.init_containers.as_deref()).map(names).unwrap_or_default();
    match (requested.filter(|name| !name.is_empty()), mains.as_slice()) {
        (Some(name), _) if mains.iter().chain(&inits).any(|known| known == name) => Ok(name.to_owned()),
        (Some(name), _) => {
            Err(ApiError::bad_request(format!("container {name} is not valid for pod {pod_name}")))
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => {
            let mut message = format!(
                "a container name must be specified for pod {pod_name}, choose one of: [{}]",
                mains.join(" ")
            );
            if !inits.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", inits.join(" ")));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

/// The kubelet's `validateContainerLogStatus`: which instance's log there is to read.
fn instance_id(pod: &Pod, container: &str, previous: bool) -> Result<String, ApiError> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let refuse = |what: String| Err(ApiError::bad_request(what));
    let Some(status) = find_status(pod, container) else {
        return refuse(format!("container \"{container}\" in pod \"{pod_name}\" is not available"));
    };
    let id_of = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
        let terminated = state.and_then(|state| state.terminated.as_ref());
        terminated.and_then(|ended| ended.container_id.clone()).filter(|id| !id.is_empty())
    };
    let last = id_of(status.last_state.as_ref());
    if previous {
        return last.map_or_else(
            || {
                refuse(format!(
                    "previous terminated container \"{container}\" in pod \"{pod_name}\" not found"
                ))
            },
            Ok,
        );
    }
    let state = status.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        return Ok(status.container_id.clone().unwrap_or_default());
    }
    if state.is_some_and(|state| state.terminated.is_some()) {
        return id_of(state).or(last).map_or_else(
            || refuse(format!("container \"{container}\" in pod \"{pod_name}\" is terminated")),
            Ok,
        );
    }
    if let Some(id) = last {
        return Ok(id);
    }
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let Some(waiting) = waiting else {
        return refuse(format!(
            "container \"{container}\" in pod \"{pod_name}\" is waiting to start - no logs yet"
        ));
    };
    let reason = waiting.reason.as_deref().unwrap_or_default();
    refuse(format!("container \"{container}\" in pod \"{pod_name}\" is waiting to start: {reason}"))
}

fn find_status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = [&status.container_statuses, &status.init_container_statuses];
    all.into_iter().flatten().flatten().find(|status| status.name == container)
}

fn since(options: &LogOptions, now: Timestamp) -> Option<Timestamp> {
    match (options.since_time, options.since_seconds) {
        (Some(time), _) => {
            // `as_second` cuts towards zero, which is the floor of every time a log can have.
            Timestamp::from_second(time.as_second()).ok()
        }
        (None, Some(seconds)) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
