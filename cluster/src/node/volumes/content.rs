//! The files of volumes whose content is in objects: Secrets, ConfigMaps, and fields of the Pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapProjection, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, SecretProjection, Volume,
    VolumeProjection,
};

use crate::node::env::{field_value, resource_value};
use crate::node::objects::Objects;

/// The mode of files that have none: readable by everybody, as in Kubernetes. The folder above is private.
const DEFAULT_MODE: i32 = 0o644;

/// A file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Below the volume's folder.
    pub(super) path: String,
    pub(super) mode: i32,
    pub(super) bytes: Vec<u8>,
}

/// The files of a volume, or why the volume can't be made yet, in the kubelet's words.
pub(super) fn files(volume: &Volume, pod: &Pod, objects: &Objects) -> Result<Vec<File>, String> {
    if let Some(secret) = &volume.secret {
        let projection = SecretProjection {
            name: secret.secret_name.clone().unwrap_or_default(),
            items: secret.items.clone(),
            optional: secret.optional,
        };
        return of_secret(&projection, secret.default_mode.unwrap_or(DEFAULT_MODE), objects);
    }
    if let Some(map) = &volume.config_map {
        let projection =
            ConfigMapProjection { name: map.name.clone(), items: map.items.clone(), optional: map.optional };
        return of_config_map(&projection, map.default_mode.unwrap_or(DEFAULT_MODE), objects);
    }
    if let Some(downward) = &volume.downward_api {
        let mode = downward.default_mode.unwrap_or(DEFAULT_MODE);
        return of_pod(downward.items.as_deref().unwrap_or_default(), mode, pod);
    }
    if let Some(projected) = &volume.projected {
        let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        let mut files = BTreeMap::new();
        for source in projected.sources.as_deref().unwrap_or_default() {
            for file in projected_files(source, mode, pod, objects)? {
                files.insert(file.path.clone(), file);
            }
        }
        return Ok(files.into_values().collect());
    }
    Ok(Vec::new())
}

fn projected_files(
    source: &VolumeProjection,
    mode: i32,
    pod: &Pod,
    objects: &Objects,
) -> Result<Vec<File>, String> {
    match source {
        VolumeProjection { secret: Some(secret), .. } => of_secret(secret, mode, objects),
        VolumeProjection { config_map: Some(map), .. } => of_config_map(map, mode, objects),
        VolumeProjection { downward_api: Some(downward), .. } => {
            of_pod(downward.items.as_deref().unwrap_or_default(), mode, pod)
        }
        VolumeProjection { service_account_token: Some(_), .. } => {
            Err("service account tokens are not issued by the local cluster".to_owned())
        }
        VolumeProjection { .. } => {
            Err("this kind of projection is not known to the local cluster".to_owned())
        }
    }
}

fn of_secret(source: &SecretProjection, mode: i32, objects: &Objects) -> Result<Vec<File>, String> {
    let is_optional = source.optional.unwrap_or_default();
    let Some(secret) = objects.get::<Secret>(&source.name) else {
        return absent(is_optional, format!("secret \"{}\" not found", source.name));
    };
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    pick(data, source.items.as_deref(), mode, is_optional, "secret")
}

fn of_config_map(source: &ConfigMapProjection, mode: i32, objects: &Objects) -> Result<Vec<File>, String> {
    let is_optional = source.optional.unwrap_or_default();
    let Some(map) = objects.get::<ConfigMap>(&source.name) else {
        return absent(is_optional, format!("configmap \"{}\" not found", source.name));
    };
    let texts = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let bytes = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    pick(texts.chain(bytes).collect(), source.items.as_deref(), mode, is_optional, "config")
}

fn absent(is_optional: bool, message: String) -> Result<Vec<File>, String> {
    if is_optional { Ok(Vec::new()) } else { Err(message) }
}

fn pick(
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    is_optional: bool,
    kind: &str,
) -> Result<Vec<File>, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.into_iter().map(|(path, bytes)| File { path, mode, bytes }).collect());
    };
    let mut files = Vec::new();
    for item in items {
        match data.remove(&item.key) {
            Some(bytes) => {
                files.push(File {
                    path: item.path.clone(),
                    mode: item.mode.unwrap_or(mode),
                    bytes: bytes.clone(),
                });
                // A key can be requested under several paths.
                data.insert(item.key.clone(), bytes);
            }
            None if is_optional => {}
            None => return Err(format!("references non-existent {kind} key: {}", item.key)),
        }
    }
    Ok(files)
}

fn of_pod(items: &[DownwardAPIVolumeFile], mode: i32, pod: &Pod) -> Result<Vec<File>, String> {
    items
        .iter()
        .map(|item| {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => volume_field(pod, &field.field_path)?,
                (None, Some(resource)) => resource_value(pod, "", resource)?,
                (None, None) => String::new(),
            };
            let mode = item.mode.unwrap_or(mode);
            Ok(File { path: item.path.clone(), mode, bytes: text.into_bytes() })
        })
        .collect()
}

/// As [`field_value`], and whole sets of labels and annotations, which only a file can contain.
fn volume_field(pod: &Pod, path: &str) -> Result<String, String> {
    let set = match path {
        "metadata.labels" => &pod.metadata.labels,
        "metadata.annotations" => &pod.metadata.annotations,
        _ => return field_value(pod, path),
    };
    let lines: Vec<String> = set
        .iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", serde_json::Value::from(value.as_str())))
        .collect();
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resource::Resource;
    use crate::store::{Store, StoreOptions};

    fn objects() -> Objects {
        let store = Store::new(StoreOptions::default()).unwrap();
        let secret = json!({"metadata": {"name": "s", "namespace": "n"}, "data": {"a": "QQ==", "b": "Qg=="}});
        store.create(Resource::Secrets, secret).unwrap();
        let map = json!({
            "metadata": {"name": "m", "namespace": "n"}, "data": {"text": "t"}, "binaryData": {"bytes": "/w=="},
        });
        store.create(Resource::ConfigMaps, map).unwrap();
        Objects::new(store, "n")
    }

    fn made(volume: serde_json::Value) -> Result<Vec<(String, i32, Vec<u8>)>, String> {
        let mut volume = volume;
        volume["name"] = json!("v");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"x": "1", "a": "say \"hi\""}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "1Gi"}}}]},
        }))
        .unwrap();
        let files = files(&serde_json::from_value(volume).unwrap(), &pod, &objects())?;
        Ok(files.into_iter().map(|file| (file.path, file.mode, file.bytes)).collect())
    }

    fn file(path: &str, mode: i32, text: &[u8]) -> (String, i32, Vec<u8>) {
        (path.to_owned(), mode, text.to_vec())
    }

    #[test]
    fn volumes_of_objects() {
        let cases = [
            (
                json!({"secret": {"secretName": "s"}}),
                Ok(vec![file("a", 0o644, b"A"), file("b", 0o644, b"B")]),
            ),
            (
                json!({"secret": {"secretName": "s", "defaultMode": 256, "items": [
                    {"key": "a", "path": "deep/x"}, {"key": "a", "path": "y", "mode": 288},
                ]}}),
                Ok(vec![file("deep/x", 0o400, b"A"), file("y", 0o440, b"A")]),
            ),
            (json!({"secret": {"secretName": "none"}}), Err("secret \"none\" not found")),
            (json!({"secret": {"secretName": "none", "optional": true}}), Ok(vec![])),
            (
                json!({"secret": {"secretName": "s", "items": [{"key": "z", "path": "z"}]}}),
                Err("references non-existent secret key: z"),
            ),
            (
                json!({"configMap": {"name": "m"}}),
                Ok(vec![file("bytes", 0o644, b"\xff"), file("text", 0o644, b"t")]),
            ),
            (json!({"configMap": {"name": "none"}}), Err("configmap \"none\" not found")),
            (
                json!({"downwardAPI": {"items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory"}},
                ]}}),
                Ok(vec![
                    file("labels", 0o644, b"a=\"say \\\"hi\\\"\"\nx=\"1\""),
                    file("memory", 0o644, b"1073741824"),
                ]),
            ),
            (
                json!({"projected": {"sources": [
                    {"secret": {"name": "s", "items": [{"key": "a", "path": "prompt.000"}]}},
                    {"configMap": {"name": "m", "items": [{"key": "text", "path": "t"}]}},
                ]}}),
                Ok(vec![file("prompt.000", 0o644, b"A"), file("t", 0o644, b"t")]),
            ),
            (json!({"emptyDir": {}}), Ok(vec![])),
        ];
        for (volume, expected) in cases {
            assert_eq!(made(volume.clone()), expected.map_err(str::to_owned), "{volume}");
        }
    }
}
