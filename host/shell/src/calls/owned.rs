//! Secrets and ConfigMaps that a Job owns: they are deleted with it, at whatever point this process dies.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::PartialObjectMeta;
use kube::core::params::{GetParams, Patch, PatchParams};
use paperclip_contract::types::{ApiError, Label, NewConfigMap, NewSecret, ObjectRef, SecretSource};
use paperclip_engine::api::{ApiReply, NO_VALUE, OwnedKind};
use paperclip_engine::intake::Secrets;
use paperclip_kubernetes::shared;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{FIELD_MANAGER, named, post_params, resource, send, unless_missing};
use crate::connect::Cluster;
use crate::{exchange, snapshot};

pub(super) async fn create_secret(
    cluster: &Cluster,
    secrets: &Secrets,
    request: &NewSecret,
) -> Result<ApiReply, ApiError> {
    let mut data = BTreeMap::new();
    for entry in &request.entries {
        let Some(value) = secrets.resolve(&entry.source) else {
            let message = format!(
                "Secret {}: there is no value for key {} from {}",
                request.name,
                entry.key,
                source_name(&entry.source)
            );
            return Err(ApiError { reason: Some(NO_VALUE.to_owned()), ..exchange::not_sent(message) });
        };
        data.insert(entry.key.clone(), ByteString(value.as_bytes().to_vec()));
    }
    let secret = Secret {
        metadata: metadata(&request.namespace, &request.name, &request.labels, &request.owner),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    create(cluster, &request.namespace, &secret).await
}

pub(super) async fn create_config_map(
    cluster: &Cluster,
    request: &NewConfigMap,
) -> Result<ApiReply, ApiError> {
    create(cluster, &request.namespace, &config_map(request)?).await
}

fn config_map(request: &NewConfigMap) -> Result<ConfigMap, ApiError> {
    let data = request.entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    let mut binary = BTreeMap::new();
    for entry in &request.binary_entries {
        let bytes: ByteString = serde_json::from_value(entry.value.clone().into()).map_err(|error| {
            exchange::not_sent(format!("ConfigMap {}: key {}: {error}", request.name, entry.key))
        })?;
        binary.insert(entry.key.clone(), bytes);
    }
    Ok(ConfigMap {
        metadata: metadata(&request.namespace, &request.name, &request.labels, &request.owner),
        data: Some(data),
        binary_data: (!binary.is_empty()).then_some(binary),
        immutable: request.is_shared.then_some(true),
    })
}

/// Returns the name that a shared ConfigMap with the content of this one has.
pub(super) async fn get_content_name(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<ApiReply, ApiError> {
    let request = resource::<ConfigMap>(namespace)?.get(named(name)?, &GetParams::default());
    let Some(answer) = unless_missing(send(cluster, request).await)? else {
        return Ok(ApiReply::ContentName(None));
    };
    let Content { data, binary_data } = answer.json()?;
    Ok(ApiReply::ContentName(Some(shared::name(&data, &binary_data))))
}

/// The content of a ConfigMap as the API writes it: bytes are base64.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Content {
    data: BTreeMap<String, String>,
    binary_data: BTreeMap<String, String>,
}

/// Adds an owner to a ConfigMap. A strategic merge adds to the list by UID, so that runs that join at the same time do not remove each
/// other.
pub(super) async fn add_owner(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    owner: &ObjectRef,
) -> Result<ApiReply, ApiError> {
    let patch = json!({"metadata": {"ownerReferences": owner_references(owner)}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let request = resource::<ConfigMap>(namespace)?.patch(named(name)?, &params, &Patch::Strategic(patch));
    let joined: PartialObjectMeta<ConfigMap> = send(cluster, request).await?.json()?;
    Ok(ApiReply::Created(snapshot::object_ref(&joined.metadata)))
}

pub(super) async fn create<K>(cluster: &Cluster, namespace: &str, object: &K) -> Result<ApiReply, ApiError>
where
    K: kube::Resource<DynamicType = ()> + Serialize,
{
    let body = serde_json::to_vec(object).map_err(|error| exchange::not_sent(error.to_string()))?;
    let request = resource::<K>(namespace)?.create(&post_params(), body);
    let created: PartialObjectMeta<K> = send(cluster, request).await?.json()?;
    Ok(ApiReply::Created(snapshot::object_ref(&created.metadata)))
}

/// Returns the owners of an object. Only its metadata is requested: a Secret's values stay in the cluster.
pub(super) async fn get_owners(
    cluster: &Cluster,
    kind: OwnedKind,
    namespace: &str,
    name: &str,
) -> Result<ApiReply, ApiError> {
    let found = match kind {
        OwnedKind::Secret => owners_of::<Secret>(cluster, namespace, name).await,
        OwnedKind::ConfigMap => owners_of::<ConfigMap>(cluster, namespace, name).await,
    };
    unless_missing(found).map(ApiReply::Owners)
}

async fn owners_of<K>(cluster: &Cluster, namespace: &str, name: &str) -> Result<Vec<String>, ApiError>
where
    K: kube::Resource<DynamicType = ()>,
{
    let request = resource::<K>(namespace)?.get_metadata(named(name)?, &GetParams::default());
    let found: PartialObjectMeta<K> = send(cluster, request).await?.json()?;
    Ok(found.metadata.owner_references.unwrap_or_default().into_iter().map(|owner| owner.uid).collect())
}

fn metadata(namespace: &str, name: &str, labels: &[Label], owner: &ObjectRef) -> ObjectMeta {
    let labels = labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
    ObjectMeta {
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        labels: Some(labels),
        owner_references: Some(owner_references(owner)),
        ..ObjectMeta::default()
    }
}

fn owner_references(owner: &ObjectRef) -> Vec<OwnerReference> {
    vec![OwnerReference {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
        controller: None,
        // Blocking would need the permission to set finalizers on Jobs.
        block_owner_deletion: Some(false),
    }]
}

/// Returns the source of a missing value, never a value.
fn source_name(source: &SecretSource) -> String {
    match source {
        SecretSource::Prompt(_) => "the prompt".to_owned(),
        SecretSource::AuthToken => "authToken: the execution context has none".to_owned(),
        SecretSource::ConfigEnv(name) => {
            format!("config.env.{name}: the execution context has no such entry")
        }
        SecretSource::Json(_) => "a JSON document: the execution context lacks one of its values".to_owned(),
        SecretSource::PaperclipPodEnv(name) => {
            format!("selfPod.env.{name}: Paperclip's pod has no such literal")
        }
    }
}
