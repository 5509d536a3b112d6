//! Leases: the guard's, compared and swapped by their resourceVersion.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::{Lease as KubeLease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::core::params::{DeleteParams, GetParams, Preconditions};
use paperclip_contract::types::ApiError;
use paperclip_engine::api::{ApiReply, Lease};
use paperclip_engine::time::Timestamp as EngineTimestamp;

use super::{named, post_params, resource, send, unless_missing};
use crate::connect::Cluster;
use crate::exchange;
use crate::watches::{MANAGED_BY, MANAGER};

/// The requested guard key, from which the Lease's name is made.
const KEY_ANNOTATION: &str = "paperclip.io/guard-key";
/// The host that drives the holder.
const HOST_ANNOTATION: &str = "paperclip.io/host";

pub(super) async fn get(cluster: &Cluster, namespace: &str, name: &str) -> Result<ApiReply, ApiError> {
    let request = resource::<KubeLease>(namespace)?.get(named(name)?, &GetParams::default());
    let answer = unless_missing(send(cluster, request).await)?;
    let lease: Option<KubeLease> = answer.map(|answer| answer.json()).transpose()?;
    Ok(ApiReply::Lease(lease.map(from_kube)))
}

pub(super) async fn create(cluster: &Cluster, lease: Lease) -> Result<ApiReply, ApiError> {
    let path = resource::<KubeLease>(&lease.namespace)?;
    let created = Lease { uid: String::new(), resource_version: String::new(), ..lease };
    let request = path.create(&post_params(), body(created)?);
    let created: KubeLease = send(cluster, request).await?.json()?;
    Ok(ApiReply::Lease(Some(from_kube(created))))
}

/// Replaces it; another resourceVersion or UID by now answers 409.
pub(super) async fn update(cluster: &Cluster, lease: Lease) -> Result<ApiReply, ApiError> {
    let path = resource::<KubeLease>(&lease.namespace)?;
    let name = named(&lease.name)?.to_owned();
    let request = path.replace(&name, &post_params(), body(lease)?);
    let updated: KubeLease = send(cluster, request).await?.json()?;
    Ok(ApiReply::Lease(Some(from_kube(updated))))
}

pub(super) async fn delete(cluster: &Cluster, lease: Lease) -> Result<ApiReply, ApiError> {
    let preconditions = Preconditions {
        uid: none_if_empty(lease.uid),
        resource_version: none_if_empty(lease.resource_version),
    };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    let request = resource::<KubeLease>(&lease.namespace)?.delete(named(&lease.name)?, &params);
    send(cluster, request).await?;
    Ok(ApiReply::Done)
}

fn body(lease: Lease) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(&to_kube(lease)?).map_err(|error| exchange::not_sent(error.to_string()))
}

fn to_kube(lease: Lease) -> Result<KubeLease, ApiError> {
    let renewed_ms = i64::try_from(lease.renewed_at.as_millis()).unwrap_or(i64::MAX);
    let renewed = Timestamp::from_millisecond(renewed_ms)
        .map_err(|error| exchange::not_sent(format!("Lease {}: no time: {error}", lease.name)))?;
    let annotations = [(KEY_ANNOTATION, lease.key), (HOST_ANNOTATION, lease.host)];
    Ok(KubeLease {
        metadata: ObjectMeta {
            namespace: Some(lease.namespace),
            name: Some(lease.name),
            uid: none_if_empty(lease.uid),
            resource_version: none_if_empty(lease.resource_version),
            labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())])),
            annotations: Some(annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(lease.holder),
            lease_duration_seconds: Some(i32::try_from(lease.duration_s).unwrap_or(i32::MAX)),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        }),
    })
}

/// A Lease without holder, duration or time, as another program may have written it, counts as expired in 1970.
fn from_kube(lease: KubeLease) -> Lease {
    let KubeLease { metadata, spec } = lease;
    let spec = spec.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    let mut take = |key: &str| annotations.remove(key).unwrap_or_default();
    Lease {
        key: take(KEY_ANNOTATION),
        host: take(HOST_ANNOTATION),
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        duration_s: spec.lease_duration_seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0),
        renewed_at: spec
            .renew_time
            .and_then(|time| u64::try_from(time.0.as_millisecond()).ok())
            .map(EngineTimestamp::from_millis)
            .unwrap_or_default(),
    }
}

fn none_if_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_round_trips() {
        let lease = Lease {
            namespace: "n".into(),
            name: "l".into(),
            uid: "u".into(),
            resource_version: "7".into(),
            key: "agent/a b".into(),
            holder: "run-1".into(),
            host: "host-1".into(),
            duration_s: 60,
            renewed_at: EngineTimestamp::from_millis(1_767_323_045_123),
        };
        let kube = to_kube(lease.clone()).expect("a time");
        let json = serde_json::to_value(&kube).expect("JSON");
        assert_eq!(json["spec"]["renewTime"], "2026-01-02T03:04:05.123000Z");
        assert_eq!(json["metadata"]["labels"]["app.kubernetes.io/managed-by"], "paperclip");
        assert_eq!(json["metadata"]["annotations"]["paperclip.io/guard-key"], "agent/a b");
        assert_eq!(from_kube(kube), lease);
    }

    #[test]
    fn an_empty_lease_is_expired() {
        let lease = from_kube(KubeLease::default());
        assert_eq!(
            (lease.holder.as_str(), lease.duration_s, lease.renewed_at),
            ("", 0, EngineTimestamp::EPOCH)
        );
    }
}
