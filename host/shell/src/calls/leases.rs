//! Leases, compared and swapped by their resourceVersion: those of guards, and those of host instances.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::{Lease as KubeLease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::core::params::{DeleteParams, GetParams, Preconditions};
use paperclip_contract::types::ApiError;
use paperclip_engine::api::{ApiReply, EPOCH_ANNOTATION, HostLease, Lease};
use paperclip_engine::ownership::{HOST_LEASE_S, LeaseView};
use paperclip_engine::time::Timestamp as EngineTimestamp;

use super::{named, post_params, resource, send, unless_missing};
use crate::connect::Cluster;
use crate::exchange;
use crate::watches::{MANAGED_BY, MANAGER};

/// The requested guard key, from which the Lease's name is made.
const KEY_ANNOTATION: &str = "paperclip.io/guard-key";
/// The host that drives the holder.
const HOST_ANNOTATION: &str = "paperclip.io/host";
/// The Lease of the host's instance.
const INSTANCE_ANNOTATION: &str = "paperclip.io/host-instance";
/// Where other replicas reach a host.
const ADDRESS_ANNOTATION: &str = "paperclip.io/address";
/// The version of a host.
const VERSION_ANNOTATION: &str = "paperclip.io/version";
/// Says what a Lease is.
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Its value for the Lease of a host instance. That of a guard has none.
const HOST_COMPONENT: &str = "host";

pub(super) async fn get(cluster: &Cluster, namespace: &str, name: &str) -> Result<ApiReply, ApiError> {
    Ok(ApiReply::Lease(read(cluster, namespace, name).await?.map(guard)))
}

pub(super) async fn create(cluster: &Cluster, lease: Lease) -> Result<ApiReply, ApiError> {
    let created = Lease { uid: String::new(), resource_version: String::new(), ..lease };
    let created = create_object(cluster, of_guard(created)?).await?;
    Ok(ApiReply::Lease(Some(guard(created))))
}

/// Replaces it; another resourceVersion or UID by now answers 409.
pub(super) async fn update(cluster: &Cluster, lease: Lease) -> Result<ApiReply, ApiError> {
    let updated = replace_object(cluster, of_guard(lease)?).await?;
    Ok(ApiReply::Lease(Some(guard(updated))))
}

pub(super) async fn delete(cluster: &Cluster, lease: Lease) -> Result<ApiReply, ApiError> {
    delete_object(cluster, &lease.namespace, &lease.name, lease.uid, lease.resource_version).await
}

pub(super) async fn get_host(cluster: &Cluster, namespace: &str, name: &str) -> Result<ApiReply, ApiError> {
    Ok(ApiReply::HostLease(read(cluster, namespace, name).await?.map(host)))
}

pub(super) async fn create_host(cluster: &Cluster, lease: HostLease) -> Result<ApiReply, ApiError> {
    let created = HostLease { uid: String::new(), resource_version: String::new(), ..lease };
    let created = create_object(cluster, of_host(created)?).await?;
    Ok(ApiReply::HostLease(Some(host(created))))
}

/// Replaces it; another resourceVersion or UID by now answers 409, and a deleted one 404.
pub(super) async fn renew_host(cluster: &Cluster, lease: HostLease) -> Result<ApiReply, ApiError> {
    let renewed = replace_object(cluster, of_host(lease)?).await?;
    Ok(ApiReply::HostLease(Some(host(renewed))))
}

pub(super) async fn delete_host(cluster: &Cluster, lease: HostLease) -> Result<ApiReply, ApiError> {
    delete_object(cluster, &lease.namespace, &lease.name, lease.uid, lease.resource_version).await
}

/// Returns what a Lease of ours is.
pub(crate) fn view(lease: KubeLease) -> LeaseView {
    let labels = lease.metadata.labels.as_ref();
    let component = labels.and_then(|labels| labels.get(COMPONENT_LABEL));
    if component.is_some_and(|component| component == HOST_COMPONENT) {
        LeaseView::Host(host(lease))
    } else {
        LeaseView::Guard(guard(lease))
    }
}

async fn read(cluster: &Cluster, namespace: &str, name: &str) -> Result<Option<KubeLease>, ApiError> {
    let request = resource::<KubeLease>(namespace)?.get(named(name)?, &GetParams::default());
    let answer = unless_missing(send(cluster, request).await)?;
    answer.map(|answer| answer.json()).transpose()
}

async fn create_object(cluster: &Cluster, lease: KubeLease) -> Result<KubeLease, ApiError> {
    let path = resource::<KubeLease>(lease.metadata.namespace.as_deref().unwrap_or_default())?;
    send(cluster, path.create(&post_params(), body(&lease)?)).await?.json()
}

async fn replace_object(cluster: &Cluster, lease: KubeLease) -> Result<KubeLease, ApiError> {
    let path = resource::<KubeLease>(lease.metadata.namespace.as_deref().unwrap_or_default())?;
    let name = named(lease.metadata.name.as_deref().unwrap_or_default())?;
    send(cluster, path.replace(name, &post_params(), body(&lease)?)).await?.json()
}

async fn delete_object(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    uid: String,
    resource_version: String,
) -> Result<ApiReply, ApiError> {
    let preconditions =
        Preconditions { uid: none_if_empty(uid), resource_version: none_if_empty(resource_version) };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    let request = resource::<KubeLease>(namespace)?.delete(named(name)?, &params);
    send(cluster, request).await?;
    Ok(ApiReply::Done)
}

fn body(lease: &KubeLease) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(lease).map_err(|error| exchange::not_sent(error.to_string()))
}

fn of_guard(lease: Lease) -> Result<KubeLease, ApiError> {
    let mut annotations = vec![(KEY_ANNOTATION, lease.key), (HOST_ANNOTATION, lease.host)];
    if !lease.instance.is_empty() {
        annotations.push((INSTANCE_ANNOTATION, lease.instance));
    }
    if lease.epoch > 0 {
        annotations.push((EPOCH_ANNOTATION, lease.epoch.to_string()));
    }
    let spec = spec(&lease.name, lease.holder, lease.duration_s, lease.renewed_at)?;
    Ok(KubeLease {
        metadata: ObjectMeta {
            namespace: Some(lease.namespace),
            name: Some(lease.name),
            uid: none_if_empty(lease.uid),
            resource_version: none_if_empty(lease.resource_version),
            labels: Some(labels(None)),
            annotations: Some(owned(annotations)),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    })
}

fn of_host(lease: HostLease) -> Result<KubeLease, ApiError> {
    let address = lease.address.map(|address| (ADDRESS_ANNOTATION, address));
    let annotations = address.into_iter().chain([(VERSION_ANNOTATION, lease.version)]);
    let spec = spec(&lease.name, lease.host, HOST_LEASE_S, lease.renewed_at)?;
    Ok(KubeLease {
        metadata: ObjectMeta {
            namespace: Some(lease.namespace),
            name: Some(lease.name),
            uid: none_if_empty(lease.uid),
            resource_version: none_if_empty(lease.resource_version),
            labels: Some(labels(Some(HOST_COMPONENT))),
            annotations: Some(owned(annotations)),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    })
}

fn spec(
    name: &str,
    holder: String,
    duration_s: u32,
    renewed_at: EngineTimestamp,
) -> Result<LeaseSpec, ApiError> {
    let renewed_ms = i64::try_from(renewed_at.as_millis()).unwrap_or(i64::MAX);
    let renewed = Timestamp::from_millisecond(renewed_ms)
        .map_err(|error| exchange::not_sent(format!("Lease {name}: no time: {error}")))?;
    Ok(LeaseSpec {
        holder_identity: Some(holder),
        lease_duration_seconds: Some(i32::try_from(duration_s).unwrap_or(i32::MAX)),
        renew_time: Some(MicroTime(renewed)),
        ..LeaseSpec::default()
    })
}

fn labels(component: Option<&str>) -> BTreeMap<String, String> {
    let component = component.map(|component| (COMPONENT_LABEL, component.to_owned()));
    owned(component.into_iter().chain([(MANAGED_BY, MANAGER.to_owned())]))
}

fn owned<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A Lease without holder, duration or time, as another program may have written it, counts as one of no host from 1970.
fn guard(lease: KubeLease) -> Lease {
    let KubeLease { metadata, spec } = lease;
    let spec = spec.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    let mut take = |key: &str| annotations.remove(key).unwrap_or_default();
    Lease {
        key: take(KEY_ANNOTATION),
        host: take(HOST_ANNOTATION),
        instance: take(INSTANCE_ANNOTATION),
        epoch: take(EPOCH_ANNOTATION).parse().unwrap_or(0),
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        duration_s: spec.lease_duration_seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0),
        renewed_at: time(&spec),
        holder: spec.holder_identity.unwrap_or_default(),
    }
}

fn host(lease: KubeLease) -> HostLease {
    let KubeLease { metadata, spec } = lease;
    let spec = spec.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    HostLease {
        address: annotations.remove(ADDRESS_ANNOTATION),
        version: annotations.remove(VERSION_ANNOTATION).unwrap_or_default(),
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        renewed_at: time(&spec),
        host: spec.holder_identity.unwrap_or_default(),
    }
}

fn time(spec: &LeaseSpec) -> EngineTimestamp {
    let millis = spec.renew_time.as_ref().and_then(|time| u64::try_from(time.0.as_millisecond()).ok());
    millis.map(EngineTimestamp::from_millis).unwrap_or_default()
}

fn none_if_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lease_of_a_guard_round_trips() {
        let lease = Lease {
            namespace: "n".into(),
            name: "l".into(),
            uid: "u".into(),
            resource_version: "7".into(),
            key: "agent/a b".into(),
            holder: "run-1".into(),
            host: "host-1".into(),
            instance: "paperclip-host-1".into(),
            epoch: 5_000_000_000,
            duration_s: 60,
            renewed_at: EngineTimestamp::from_millis(1_767_323_045_123),
        };
        let kube = of_guard(lease.clone()).expect("a time");
        let json = serde_json::to_value(&kube).expect("JSON");
        assert_eq!(json["spec"]["renewTime"], "2026-01-02T03:04:05.123000Z");
        assert_eq!(json["metadata"]["labels"]["app.kubernetes.io/managed-by"], "paperclip");
        assert_eq!(json["metadata"]["annotations"]["paperclip.io/guard-key"], "agent/a b");
        assert_eq!(guard(kube.clone()), lease);
        assert_eq!(view(kube), LeaseView::Guard(lease));
    }

    #[test]
    fn the_lease_of_a_host_round_trips() {
        let lease = HostLease {
            namespace: "n".into(),
            name: "paperclip-host-1".into(),
            uid: "u".into(),
            resource_version: "7".into(),
            host: "host-1".into(),
            address: Some("https://10.0.0.1:7400".into()),
            version: "1.2.3".into(),
            renewed_at: EngineTimestamp::from_millis(1_767_323_045_123),
        };
        let kube = of_host(lease.clone()).expect("a time");
        let json = serde_json::to_value(&kube).expect("JSON");
        assert_eq!(json["spec"]["leaseDurationSeconds"], 40);
        assert_eq!(json["metadata"]["annotations"]["paperclip.io/address"], "https://10.0.0.1:7400");
        assert_eq!(view(kube), LeaseView::Host(lease));
    }

    #[test]
    fn an_empty_lease_is_a_guard_of_no_host() {
        let lease = guard(KubeLease::default());
        assert_eq!(
            (lease.holder.as_str(), lease.duration_s, lease.renewed_at, lease.is_released()),
            ("", 0, EngineTimestamp::EPOCH, true)
        );
    }
}
