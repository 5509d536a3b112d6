//! The records of runs, as ConfigMaps. What a list needs of them is in their metadata.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp as KubeTimestamp;
use kube::core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::{ObjectList, PartialObjectMeta};
use paperclip_contract::types::ApiError;
use paperclip_engine::api::ApiReply;
use paperclip_engine::run_record::{Earlier, Ended, RecordState, RecordSummary, RunRecord, record_name};
use paperclip_engine::time::Timestamp;
use serde_json::{Map, Value, json};

use super::{FIELD_MANAGER, named, post_params, resource, send, unless_missing};
use crate::connect::Cluster;
use crate::exchange;
use crate::watches::{MANAGED_BY, MANAGER};

/// Says what a ConfigMap is.
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Its value for the record of a run.
const RECORD_COMPONENT: &str = "run-record";
/// The run's id, which need not be a valid label value.
const RUN_ANNOTATION: &str = "paperclip.io/run-id";
const HOST_ANNOTATION: &str = "paperclip.io/host";
const INSTANCE_ANNOTATION: &str = "paperclip.io/host-instance";
const ACCEPTED_ANNOTATION: &str = "paperclip.io/accepted-at";
const ENDED_ANNOTATION: &str = "paperclip.io/ended-at";
/// Says that somebody has requested the end of the run, and why.
const CANCEL_ANNOTATION: &str = "paperclip.io/cancel-requested";
/// The run that this one continues.
const CONTINUES_ANNOTATION: &str = "paperclip.io/continues";
/// What the run is.
const FACTS_KEY: &str = "run.json";
/// What came of it.
const RESULT_KEY: &str = "result.json";
/// What another host needs to adopt it.
const RECOVERY_KEY: &str = "recovery.json.gz";
/// Records that one answer of a list contains at most.
const PAGE: u32 = 500;

pub(super) async fn get(cluster: &Cluster, namespace: &str, name: &str) -> Result<ApiReply, ApiError> {
    let request = resource::<ConfigMap>(namespace)?.get(named(name)?, &GetParams::default());
    let Some(answer) = unless_missing(send(cluster, request).await)? else {
        return Ok(ApiReply::RunRecord(None));
    };
    let record = read(answer.json()?)?;
    Ok(ApiReply::RunRecord(Some(Box::new(record))))
}

pub(super) async fn create(cluster: &Cluster, record: RunRecord) -> Result<ApiReply, ApiError> {
    let body =
        serde_json::to_vec(&config_map(&record)?).map_err(|error| exchange::not_sent(error.to_string()))?;
    let request = resource::<ConfigMap>(&record.namespace)?.create(&post_params(), body);
    written(cluster, record, request).await
}

/// Changes it; another resourceVersion by now answers 409, and a deleted one 404. One that was not read is not changed.
pub(super) async fn update(cluster: &Cluster, record: RunRecord) -> Result<ApiReply, ApiError> {
    if record.resource_version.is_empty() {
        let message = format!("ConfigMap {} was not read", record.name);
        return Err(ApiError { status: Some(409), ..exchange::not_sent(message) });
    }
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(patch(&record)?);
    let request = resource::<ConfigMap>(&record.namespace)?.patch(named(&record.name)?, &params, &patch);
    written(cluster, record, request).await
}

/// Adds to it that the end of the run is requested. Whoever has the run may change it at the same time.
pub(super) async fn note_cancel(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    uid: &str,
    reason: &str,
) -> Result<ApiReply, ApiError> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let mut patch = json!({ "metadata": { "annotations": { CANCEL_ANNOTATION: reason } } });
    if !uid.is_empty() {
        patch["metadata"]["uid"] = json!(uid);
    }
    let request = resource::<ConfigMap>(namespace)?.patch(named(name)?, &params, &Patch::Merge(patch));
    send(cluster, request).await?;
    Ok(ApiReply::Done)
}

pub(super) async fn delete(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    uid: String,
) -> Result<ApiReply, ApiError> {
    let uid = Some(uid).filter(|uid| !uid.is_empty());
    let preconditions = Preconditions { uid, resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    let request = resource::<ConfigMap>(namespace)?.delete(named(name)?, &params);
    send(cluster, request).await?;
    Ok(ApiReply::Done)
}

/// Reads the metadata of all records, page by page.
pub(super) async fn list(cluster: &Cluster, namespace: &str) -> Result<ApiReply, ApiError> {
    let selector = format!("{MANAGED_BY}={MANAGER},{COMPONENT_LABEL}={RECORD_COMPONENT}");
    let mut params = ListParams { limit: Some(PAGE), ..ListParams::default() }.labels(&selector);
    let mut found = Vec::new();
    loop {
        let request = resource::<ConfigMap>(namespace)?.list_metadata(&params);
        let page: ObjectList<PartialObjectMeta<ConfigMap>> = send(cluster, request).await?.json()?;
        found.extend(page.items.into_iter().filter_map(|item| summary(item.metadata)));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(ApiReply::RunRecords(found));
        }
    }
}

/// Sends a change and returns the record in its new version. The answer has the metadata only: the content is as it was sent.
async fn written(
    cluster: &Cluster,
    record: RunRecord,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<ApiReply, ApiError> {
    const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
    let request = request.map(|mut request| {
        request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA));
        request
    });
    let answer: PartialObjectMeta<ConfigMap> = send(cluster, request).await?.json()?;
    let ObjectMeta { uid, resource_version, .. } = answer.metadata;
    let state = match record.state {
        RecordState::Claimed { .. } => RecordState::Claimed { recovery: None },
        other @ (RecordState::Ended(_) | RecordState::Continues(_)) => other,
    };
    Ok(ApiReply::RunRecord(Some(Box::new(RunRecord {
        uid: uid.unwrap_or_default(),
        resource_version: resource_version.unwrap_or_default(),
        state,
        ..record
    }))))
}

fn annotations(record: &RunRecord) -> Result<BTreeMap<String, String>, ApiError> {
    let mut pairs = vec![
        (RUN_ANNOTATION, record.run_id.clone()),
        (HOST_ANNOTATION, record.host.clone()),
        (INSTANCE_ANNOTATION, record.instance.clone()),
        (ACCEPTED_ANNOTATION, rfc3339(record, record.accepted_at)?),
    ];
    if let Some(reason) = &record.cancel_requested {
        pairs.push((CANCEL_ANNOTATION, reason.clone()));
    }
    match &record.state {
        RecordState::Claimed { .. } => {}
        RecordState::Ended(ended) => pairs.push((ENDED_ANNOTATION, rfc3339(record, ended.at)?)),
        RecordState::Continues(earlier) => pairs.push((CONTINUES_ANNOTATION, earlier.run_id.clone())),
    }
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn data(record: &RunRecord) -> Result<BTreeMap<String, String>, ApiError> {
    let text = |value: Result<String, serde_json::Error>| {
        value.map_err(|error| exchange::not_sent(format!("ConfigMap {}: {error}", record.name)))
    };
    let mut data = BTreeMap::from([(FACTS_KEY.to_owned(), text(serde_json::to_string(&record.facts))?)]);
    if let RecordState::Ended(Ended { state, result, omitted, at: _ }) = &record.state {
        let result = json!({ "state": state, "result": result, "omitted": omitted });
        data.insert(RESULT_KEY.to_owned(), text(serde_json::to_string(&result))?);
    }
    Ok(data)
}

fn config_map(record: &RunRecord) -> Result<ConfigMap, ApiError> {
    let labels = [(MANAGED_BY, MANAGER), (COMPONENT_LABEL, RECORD_COMPONENT)];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let recovery = match &record.state {
        RecordState::Claimed { recovery } => recovery.clone(),
        RecordState::Ended(_) | RecordState::Continues(_) => None,
    };
    let owner = match &record.state {
        RecordState::Continues(earlier) => Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: record_name(&earlier.run_id),
            uid: earlier.record_uid.clone(),
            ..OwnerReference::default()
        }]),
        RecordState::Claimed { .. } | RecordState::Ended(_) => None,
    };
    Ok(ConfigMap {
        metadata: ObjectMeta {
            namespace: Some(record.namespace.clone()),
            name: Some(record.name.clone()),
            labels: Some(labels),
            annotations: Some(annotations(record)?),
            owner_references: owner,
            ..ObjectMeta::default()
        },
        data: Some(data(record)?),
        binary_data: recovery.map(|bytes| BTreeMap::from([(RECOVERY_KEY.to_owned(), ByteString(bytes))])),
        immutable: None,
    })
}

/// The merge patch that makes a record say this. Recovery data stays as it is until the end, and is removed then.
fn patch(record: &RunRecord) -> Result<Value, ApiError> {
    let mut patch = json!({
        "metadata": {
            "uid": record.uid, "resourceVersion": record.resource_version, "annotations": annotations(record)?,
        },
        "data": data(record)?,
    });
    match &record.state {
        RecordState::Claimed { recovery: None } | RecordState::Continues(_) => {}
        RecordState::Claimed { recovery: Some(bytes) } => {
            patch["binaryData"] = json!({ RECOVERY_KEY: ByteString(bytes.clone()) });
        }
        RecordState::Ended(_) => patch["binaryData"] = json!({ RECOVERY_KEY: null }),
    }
    Ok(patch)
}

fn read(map: ConfigMap) -> Result<RunRecord, ApiError> {
    let ConfigMap { metadata, data, binary_data, .. } = map;
    let name = metadata.name.clone().unwrap_or_default();
    let broken = |key: &str, error: &dyn std::fmt::Display| ApiError {
        // It was read, and reading it again does not help.
        status: Some(422),
        reason: Some("Invalid".to_owned()),
        message: format!(
            "{key} of ConfigMap {name}: {error}: delete the ConfigMap, then the run can be started again"
        ),
        retry_after_ms: None,
    };
    let mut data = data.unwrap_or_default();
    let facts = data.remove(FACTS_KEY).unwrap_or_default();
    let facts = serde_json::from_str(&facts).map_err(|error| broken(FACTS_KEY, &error))?;
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    let cancel_requested = annotations.remove(CANCEL_ANNOTATION);
    let continues = annotations.remove(CONTINUES_ANNOTATION);
    let mut take = |key: &str| annotations.remove(key).unwrap_or_default();
    let (run_id, host, instance) = (take(RUN_ANNOTATION), take(HOST_ANNOTATION), take(INSTANCE_ANNOTATION));
    let (accepted_at, ended_at) = (time(&take(ACCEPTED_ANNOTATION)), time(&take(ENDED_ANNOTATION)));
    let state = match (continues, data.remove(RESULT_KEY)) {
        (Some(run_id), _) => {
            let owner = metadata.owner_references.clone().unwrap_or_default().into_iter().next();
            RecordState::Continues(Earlier { run_id, record_uid: owner.unwrap_or_default().uid })
        }
        (None, None) => RecordState::Claimed {
            recovery: binary_data.and_then(|mut binary| binary.remove(RECOVERY_KEY)).map(|bytes| bytes.0),
        },
        (None, Some(text)) => {
            let Outcome { state, result, omitted } =
                serde_json::from_str(&text).map_err(|error| broken(RESULT_KEY, &error))?;
            RecordState::Ended(Ended { at: ended_at.unwrap_or_default(), state, result, omitted })
        }
    };
    Ok(RunRecord {
        namespace: metadata.namespace.unwrap_or_default(),
        name,
        uid: metadata.uid.unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        run_id,
        facts,
        host,
        instance,
        accepted_at: accepted_at.unwrap_or_default(),
        cancel_requested,
        state,
    })
}

#[derive(serde::Deserialize)]
struct Outcome {
    state: String,
    result: Map<String, Value>,
    #[serde(default)]
    omitted: Vec<String>,
}

/// Returns what a list says of a record; none of one that is deleted with another.
fn summary(metadata: ObjectMeta) -> Option<RecordSummary> {
    let annotations = metadata.annotations.unwrap_or_default();
    if annotations.contains_key(CONTINUES_ANNOTATION) {
        return None;
    }
    let get = |key: &str| annotations.get(key).map(String::as_str).unwrap_or_default();
    Some(RecordSummary {
        instance: get(INSTANCE_ANNOTATION).to_owned(),
        accepted_at: time(get(ACCEPTED_ANNOTATION)).unwrap_or_default(),
        ended_at: time(get(ENDED_ANNOTATION)),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
    })
}

fn rfc3339(record: &RunRecord, at: Timestamp) -> Result<String, ApiError> {
    let ms = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    let at = KubeTimestamp::from_millisecond(ms);
    at.map(|at| at.to_string())
        .map_err(|error| exchange::not_sent(format!("ConfigMap {}: {error}", record.name)))
}

fn time(text: &str) -> Option<Timestamp> {
    let at: KubeTimestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_engine::run_record::RunFacts;

    fn record() -> RunRecord {
        RunRecord {
            namespace: "n".into(),
            name: record_name("run/1"),
            uid: "u".into(),
            resource_version: "7".into(),
            run_id: "run/1".into(),
            facts: RunFacts { agent_id: "a".into(), ..RunFacts::default() },
            host: "h".into(),
            instance: "paperclip-host-1".into(),
            accepted_at: Timestamp::from_millis(1_767_323_045_123),
            cancel_requested: Some("enough".into()),
            state: RecordState::Claimed { recovery: Some(vec![31, 139, 0]) },
        }
    }

    /// What an API server stores of it.
    fn stored(record: &RunRecord) -> ConfigMap {
        let mut map = config_map(record).expect("good");
        map.metadata.uid = Some(record.uid.clone());
        map.metadata.resource_version = Some(record.resource_version.clone());
        map
    }

    fn ended() -> RunRecord {
        let result = json!({"exitCode": 0, "summary": "done"}).as_object().cloned().expect("an object");
        record().ended(Timestamp::from_millis(1_767_323_099_000), "succeeded", result)
    }

    #[test]
    fn a_record_round_trips_before_and_after_the_end_of_its_run() {
        for record in [record(), ended()] {
            assert_eq!(read(stored(&record)).expect("its own"), record);
        }
        let metadata = stored(&ended()).metadata;
        assert_eq!(
            metadata.annotations.as_ref().expect("some")["paperclip.io/ended-at"],
            "2026-01-02T03:04:59Z"
        );
        let summary = summary(metadata).expect("of a run of its own");
        assert_eq!(summary.ended_at, Some(Timestamp::from_millis(1_767_323_099_000)));
        assert_eq!((summary.instance.as_str(), summary.uid.as_str()), ("paperclip-host-1", "u"));
    }

    #[test]
    fn the_record_of_a_continuing_run_goes_with_that_of_the_earlier_one() {
        let later = record().continued_by("run/2");
        let map = stored(&RunRecord { uid: "u2".into(), ..later.clone() });
        let owner = &map.metadata.owner_references.as_ref().expect("one")[0];
        assert_eq!((owner.name.as_str(), owner.uid.as_str()), (record_name("run/1").as_str(), "u"));
        assert_eq!(summary(map.metadata.clone()), None, "it is not collected by its age");
        let found = read(map).expect("its own");
        let earlier = Earlier { run_id: "run/1".into(), record_uid: "u".into() };
        assert_eq!((found.run_id.as_str(), found.state), ("run/2", RecordState::Continues(earlier)));
    }

    #[test]
    fn the_end_of_a_run_removes_its_recovery_data_and_a_takeover_keeps_it() {
        let end = patch(&ended()).expect("good");
        assert_eq!(end["metadata"]["resourceVersion"], "7");
        assert_eq!(end["binaryData"], json!({"recovery.json.gz": null}));
        let taken = RunRecord { state: RecordState::Claimed { recovery: None }, ..record() };
        assert_eq!(patch(&taken).expect("good").get("binaryData"), None);
    }

    #[test]
    fn a_record_that_somebody_has_edited_is_named_with_the_remedy() {
        let mut map = stored(&record());
        map.data = None;
        let error = read(map).expect_err("broken").message;
        assert!(error.contains(&record_name("run/1")) && error.contains("delete the ConfigMap"), "{error}");
    }
}
