//! Secrets and ConfigMaps that a Job owns: they go when it goes, at whatever point this process dies.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::PartialObjectMeta;
use paperclip_contract::types::{ApiError, Label, NewConfigMap, NewSecret, ObjectRef, SecretSource};
use paperclip_engine::api::ApiReply;
use paperclip_engine::intake::Secrets;
use serde::Serialize;

use super::{post_params, resource, send};
use crate::connect::Cluster;
use crate::{exchange, snapshot};

pub(super) async fn create_secret(
    cluster: &Cluster,
    secrets: &Secrets,
    wanted: &NewSecret,
) -> Result<ApiReply, ApiError> {
    let mut data = BTreeMap::new();
    for entry in &wanted.entries {
        let Some(value) = secrets.resolve(&entry.source) else {
            return Err(exchange::not_sent(format!(
                "Secret {}: there is no value for key {} from {}",
                wanted.name,
                entry.key,
                source_name(&entry.source)
            )));
        };
        data.insert(entry.key.clone(), ByteString(value.as_bytes().to_vec()));
    }
    let secret = Secret {
        metadata: metadata(&wanted.namespace, &wanted.name, &wanted.labels, &wanted.owner),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    create(cluster, &wanted.namespace, &secret).await
}

pub(super) async fn create_config_map(
    cluster: &Cluster,
    wanted: &NewConfigMap,
) -> Result<ApiReply, ApiError> {
    let data = wanted.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    let map = ConfigMap {
        metadata: metadata(&wanted.namespace, &wanted.name, &wanted.labels, &wanted.owner),
        data: Some(data),
        ..ConfigMap::default()
    };
    create(cluster, &wanted.namespace, &map).await
}

async fn create<K>(cluster: &Cluster, namespace: &str, object: &K) -> Result<ApiReply, ApiError>
where
    K: kube::Resource<DynamicType = ()> + Serialize,
{
    let body = serde_json::to_vec(object).map_err(|error| exchange::not_sent(error.to_string()))?;
    let request = resource::<K>(namespace)?.create(&post_params(), body);
    let created: PartialObjectMeta<K> = send(cluster, request).await?.json()?;
    Ok(ApiReply::Created(snapshot::object_ref(&created.metadata)))
}

fn metadata(namespace: &str, name: &str, labels: &[Label], owner: &ObjectRef) -> ObjectMeta {
    let labels = labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: None,
            // To block would need the right to set finalizers on Jobs.
            block_owner_deletion: Some(false),
        }]),
        ..ObjectMeta::default()
    }
}

/// Where a value should have come from. Never the value.
fn source_name(source: &SecretSource) -> String {
    match source {
        SecretSource::Prompt(_) => "the prompt".to_owned(),
        SecretSource::AuthToken => "authToken: the execution context has none".to_owned(),
        SecretSource::ConfigEnv(name) => {
            format!("config.env.{name}: the execution context has no such entry")
        }
        SecretSource::SelfPodEnv(name) => format!("selfPod.env.{name}: the own Pod has no such literal"),
    }
}
