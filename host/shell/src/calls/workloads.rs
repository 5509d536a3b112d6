//! Jobs, their Pods, Events and logs.

use http::HeaderMap;
use http::header::WARNING;
use k8s_openapi::List;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::core::PartialObjectMeta;
use kube::core::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::subresource::LogParams;
use paperclip_contract::types::{ApiError, ClusterEvent, Label, ObjectRef, PodSnapshot, ReadLog};
use paperclip_engine::api::{ApiReply, SUPERSEDED};
use serde_json::Value;

use super::{FIELD_MANAGER, init, named, post_params, resource, send, unless_missing};
use crate::connect::Cluster;
use crate::exchange::Answer;
use crate::watches::JobVersion;
use crate::{exchange, snapshot};

/// Most Pods of a Job whose Events are read, newest first.
const MAX_PODS_WITH_EVENTS: usize = 3;
/// How often a change is sent if the Job changes at the same time.
const VERSION_ATTEMPTS: u32 = 5;

/// Lists Jobs. The server is asked only if the shared watch does not prove that there are none.
pub(super) async fn list_jobs(
    cluster: &Cluster,
    namespace: &str,
    labels: &[Label],
) -> Result<ApiReply, ApiError> {
    if cluster.watches().has_no_job(namespace, labels).await {
        return Ok(ApiReply::Jobs(Vec::new()));
    }
    let selector: Vec<String> = labels.iter().map(|label| format!("{}={}", label.key, label.value)).collect();
    let request = resource::<Job>(namespace)?.list(&ListParams::default().labels(&selector.join(",")));
    let jobs: List<Job> = send(cluster, request).await?.json()?;
    Ok(ApiReply::Jobs(jobs.items.iter().map(snapshot::job).collect()))
}

/// Dry-run create of a Pod. The server's warnings come as headers.
pub(super) async fn try_pod(cluster: &Cluster, manifest_json: String) -> Result<ApiReply, ApiError> {
    let namespace = manifest_namespace(&manifest_json)?;
    let params = PostParams { dry_run: true, ..post_params() };
    let request = resource::<Pod>(&namespace)?.create(&params, manifest_json.into_bytes());
    let answer = send(cluster, request).await?;
    Ok(ApiReply::Warnings(warnings(&answer.headers)))
}

pub(super) async fn create_job(cluster: &Cluster, manifest_json: String) -> Result<ApiReply, ApiError> {
    let namespace = manifest_namespace(&manifest_json)?;
    init::ensure(cluster, &namespace, &manifest_json).await?;
    let request = resource::<Job>(&namespace)?.create(&post_params(), manifest_json.into_bytes());
    let created: PartialObjectMeta<Job> = send(cluster, request).await?.json()?;
    Ok(ApiReply::Created(snapshot::object_ref(&created.metadata)))
}

/// Merge patch with the UID as a precondition: another Job of the same name causes a 409. So does a greater epoch.
pub(super) async fn patch_job(
    cluster: &Cluster,
    job: &ObjectRef,
    patch_json: &str,
    epoch: Option<u64>,
) -> Result<ApiReply, ApiError> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let name = named(&job.name)?;
    let patch = |version: Option<String>| {
        let patch = Patch::Merge(pin(patch_json, &job.uid, version)?);
        Ok(resource::<Job>(&job.namespace)?.patch(name, &params, &patch))
    };
    let patched: Job = fenced(cluster, job, epoch, patch).await?.json()?;
    Ok(ApiReply::Job(Some(snapshot::job(&patched))))
}

/// Rule 18: with explicit propagation and a UID precondition. A greater epoch causes a 409.
pub(super) async fn delete_job(
    cluster: &Cluster,
    job: ObjectRef,
    epoch: Option<u64>,
) -> Result<ApiReply, ApiError> {
    let name = named(&job.name)?;
    let delete = |resource_version: Option<String>| {
        let preconditions = Some(Preconditions { uid: Some(job.uid.clone()), resource_version });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        Ok(resource::<Job>(&job.namespace)?.delete(name, &params))
    };
    fenced(cluster, &job, epoch, delete).await?;
    Ok(ApiReply::Done)
}

type SentRequest = Result<http::Request<Vec<u8>>, kube::core::request::Error>;

/// Sends a change of a Job that must not take effect after another host has raised the Job's epoch: at a resourceVersion at which the
/// Job had no greater one. The watch mostly knows it; after a conflict the Job is read.
async fn fenced(
    cluster: &Cluster,
    job: &ObjectRef,
    epoch: Option<u64>,
    request: impl Fn(Option<String>) -> Result<SentRequest, ApiError>,
) -> Result<Answer, ApiError> {
    let Some(epoch) = epoch else { return send(cluster, request(None)?).await };
    let mut known = cluster.watches().version_of(&job.namespace, &job.uid);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let version = match known.take() {
            Some(version) if version.epoch <= epoch => version,
            Some(_) | None => read_version(cluster, job).await?,
        };
        if version.epoch > epoch {
            return Err(superseded(job, version.epoch, epoch));
        }
        match send(cluster, request(Some(version.resource_version))?).await {
            Err(error) if is_other_version(&error) && attempts < VERSION_ATTEMPTS => {}
            outcome => return outcome,
        }
    }
}

async fn read_version(cluster: &Cluster, job: &ObjectRef) -> Result<JobVersion, ApiError> {
    let request = resource::<Job>(&job.namespace)?.get(named(&job.name)?, &GetParams::default());
    let read: PartialObjectMeta<Job> = send(cluster, request).await?.json()?;
    if read.metadata.uid.as_deref() != Some(job.uid.as_str()) {
        let uid = read.metadata.uid.unwrap_or_default();
        return Err(ApiError {
            status: Some(409),
            reason: Some("Conflict".to_owned()),
            message: format!(
                "Precondition failed: UID in precondition: {}, UID in object meta: {uid}",
                job.uid
            ),
            retry_after_ms: None,
        });
    }
    Ok(JobVersion::of(&read.metadata))
}

fn superseded(job: &ObjectRef, of_job: u64, epoch: u64) -> ApiError {
    ApiError {
        status: Some(409),
        reason: Some(SUPERSEDED.to_owned()),
        message: format!(
            "Job {} is of another host: its epoch is {of_job}, this host's is {epoch}",
            job.name
        ),
        retry_after_ms: None,
    }
}

/// Whether the Job has changed since its version was read. Another UID is another Job.
fn is_other_version(error: &ApiError) -> bool {
    error.status == Some(409) && !error.message.contains("UID in precondition")
}

pub(super) async fn get_job(cluster: &Cluster, namespace: &str, name: &str) -> Result<ApiReply, ApiError> {
    let request = resource::<Job>(namespace)?.get(named(name)?, &GetParams::default());
    let answer = unless_missing(send(cluster, request).await)?;
    let job: Option<Job> = answer.map(|answer| answer.json()).transpose()?;
    Ok(ApiReply::Job(job.as_ref().map(snapshot::job)))
}

/// Rule 17: selected by the Job's name, then only those that this Job controls by UID. Newest first.
pub(super) async fn list_pods(cluster: &Cluster, job: &ObjectRef) -> Result<Vec<PodSnapshot>, ApiError> {
    let selector = format!("batch.kubernetes.io/job-name={}", named(&job.name)?);
    let request = resource::<Pod>(&job.namespace)?.list(&ListParams::default().labels(&selector));
    let pods: List<Pod> = send(cluster, request).await?.json()?;
    let mut pods: Vec<PodSnapshot> =
        pods.items.iter().filter_map(snapshot::pod).filter(|pod| pod.job_uid == job.uid).collect();
    pods.sort_by(|a, b| (b.created_at_ms, &b.pod.name).cmp(&(a.created_at_ms, &a.pod.name)));
    Ok(pods)
}

/// Events about the Job, then about its newest Pods; each part oldest first.
pub(super) async fn list_events(cluster: &Cluster, job: &ObjectRef) -> Result<ApiReply, ApiError> {
    let mut events = events_about(cluster, job).await?;
    for pod in list_pods(cluster, job).await?.iter().take(MAX_PODS_WITH_EVENTS) {
        events.extend(events_about(cluster, &pod.pod).await?);
    }
    Ok(ApiReply::Events(events))
}

async fn events_about(cluster: &Cluster, object: &ObjectRef) -> Result<Vec<ClusterEvent>, ApiError> {
    let selector = format!("involvedObject.uid={}", object.uid);
    let request = resource::<Event>(&object.namespace)?.list(&ListParams::default().fields(&selector));
    let events: List<Event> = send(cluster, request).await?.json()?;
    let mut events: Vec<ClusterEvent> = events.items.iter().map(snapshot::event).collect();
    events.sort_by_key(|event| event.last_seen_at_ms);
    Ok(events)
}

pub(super) async fn read_log(cluster: &Cluster, read: &ReadLog) -> Result<ApiReply, ApiError> {
    let params = LogParams {
        container: Some(read.container.clone()),
        tail_lines: Some(read.tail_lines.into()),
        // The API refuses a limit of 0.
        limit_bytes: Some(read.limit_bytes.into()).filter(|limit| *limit > 0),
        previous: read.is_previous,
        ..LogParams::default()
    };
    let request = resource::<Pod>(&read.pod.namespace)?.logs(named(&read.pod.name)?, &params);
    let answer = send(cluster, request).await?;
    Ok(ApiReply::LogText(String::from_utf8_lossy(&answer.body).into_owned()))
}

fn manifest_namespace(manifest_json: &str) -> Result<String, ApiError> {
    let manifest: Value = serde_json::from_str(manifest_json)
        .map_err(|error| exchange::not_sent(format!("the manifest is not JSON: {error}")))?;
    match manifest["metadata"]["namespace"].as_str() {
        Some(namespace) => Ok(namespace.to_owned()),
        None => Err(exchange::not_sent("the manifest has no metadata.namespace".to_owned())),
    }
}

/// The patch with `metadata.uid` and, if given, `metadata.resourceVersion`, which the API server compares.
fn pin(patch_json: &str, uid: &str, resource_version: Option<String>) -> Result<Value, ApiError> {
    let patch = serde_json::from_str(patch_json);
    let Ok(Value::Object(mut patch)) = patch else {
        return Err(exchange::not_sent("the patch is not a JSON object".to_owned()));
    };
    let metadata = patch.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
    let Some(metadata) = metadata.as_object_mut() else {
        return Err(exchange::not_sent("the patch's metadata is not a JSON object".to_owned()));
    };
    metadata.insert("uid".to_owned(), uid.into());
    if let Some(resource_version) = resource_version {
        metadata.insert("resourceVersion".to_owned(), resource_version.into());
    }
    Ok(Value::Object(patch))
}

/// Texts of `Warning: 299 - "text"` headers (RFC 7234, section 5.5), as the API server writes them.
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(WARNING).iter();
    values.map(|value| warning_text(&String::from_utf8_lossy(value.as_bytes()))).collect()
}

fn warning_text(value: &str) -> String {
    let Some((_, quoted)) = value.split_once('"') else { return value.trim().to_owned() };
    let mut text = String::new();
    let mut chars = quoted.chars();
    while let Some(char) = chars.next() {
        match char {
            '"' => break,
            '\\' => text.extend(chars.next()),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_carries_the_uid_beside_its_own_fields() {
        let pinned =
            pin(r#"{"metadata":{"labels":{"a":"b"}},"spec":{"suspend":false}}"#, "u", None).expect("a patch");
        assert_eq!(
            pinned,
            json!({"metadata": {"labels": {"a": "b"}, "uid": "u"}, "spec": {"suspend": false}})
        );
        assert_eq!(
            pin(r#"{"spec":{}}"#, "u", None).expect("a patch"),
            json!({"metadata": {"uid": "u"}, "spec": {}})
        );
        let versioned = pin(r#"{"spec":{}}"#, "u", Some("7".to_owned())).expect("a patch");
        assert_eq!(versioned["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
        assert!(pin("[]", "u", None).is_err());
        assert!(pin(r#"{"metadata":3}"#, "u", None).is_err());
    }

    #[test]
    fn a_warning_is_unquoted() {
        assert_eq!(
            warning_text(r#"299 - "unknown field \"spec.foo\"" "Fri, 02 Jan 2026""#),
            r#"unknown field "spec.foo""#
        );
        assert_eq!(warning_text("odd"), "odd");
    }
}
