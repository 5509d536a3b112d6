//! What a ConfigMap with a plugin contains: the agent type in a label, and the component in one key of `binaryData`, plain or compressed.

use std::io;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;

/// The label whose value is the agent type.
pub const PLUGIN_LABEL: &str = "paperclip.io/plugin";

/// The endings of the component's key.
const PLAIN: &str = ".wasm";
const COMPRESSED: &str = ".wasm.zst";
/// The highest level of zstd that needs no more memory to decompress.
const LEVEL: i32 = 19;
/// What an object of Kubernetes may have, less what its metadata may take. `binaryData` is base64.
const MAX_BASE64_BYTES: usize = (1 << 20) + (1 << 18);

/// A plugin does not fit into a ConfigMap.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("it has {bytes} bytes when compressed; a ConfigMap has at most 1 MiB")]
    TooLarge { bytes: usize },
    #[error("it cannot be compressed: {0}")]
    Compress(#[from] io::Error),
}

/// Returns a ConfigMap with a plugin.
///
/// # Errors
/// The plugin is too large for one.
pub fn pack(adapter_type: &str, name: Option<&str>, component: &[u8]) -> Result<ConfigMap, PackError> {
    let compressed = zstd::bulk::compress(component, LEVEL)?;
    if compressed.len().div_ceil(3) * 4 > MAX_BASE64_BYTES {
        return Err(PackError::TooLarge { bytes: compressed.len() });
    }
    // A name of an object has no `_`.
    let default = || format!("paperclip-plugin-{}", adapter_type.replace('_', "-"));
    let mut config_map = ConfigMap::default();
    config_map.metadata.name = Some(name.map_or_else(default, str::to_owned));
    config_map.metadata.labels = Some([(PLUGIN_LABEL.to_owned(), adapter_type.to_owned())].into());
    config_map.binary_data = Some([(format!("{adapter_type}{COMPRESSED}"), ByteString(compressed))].into());
    Ok(config_map)
}

/// Returns the agent type that the label of a ConfigMap names.
pub fn adapter_type(config_map: &ConfigMap) -> Option<&str> {
    config_map.metadata.labels.as_ref()?.get(PLUGIN_LABEL).map(String::as_str)
}

/// Returns the component in a ConfigMap, which has at most `max_bytes`.
///
/// # Errors
/// There is none, or several, or it cannot be decompressed.
pub fn unpack(config_map: &ConfigMap, max_bytes: usize) -> Result<Vec<u8>, String> {
    let data = config_map.binary_data.iter().flatten();
    let mut components = data.filter(|(key, _)| key.ends_with(PLAIN) || key.ends_with(COMPRESSED));
    let (Some((key, ByteString(bytes))), None) = (components.next(), components.next()) else {
        return Err(format!("its binaryData must have one key that ends with {PLAIN} or {COMPRESSED}"));
    };
    if key.ends_with(PLAIN) {
        return Ok(bytes.clone());
    }
    zstd::bulk::decompress(bytes, max_bytes).map_err(|error| format!("{key}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_map(data: &[(&str, &[u8])]) -> ConfigMap {
        let data = data.iter().map(|(key, bytes)| ((*key).to_owned(), ByteString(bytes.to_vec())));
        ConfigMap { binary_data: Some(data.collect()), ..ConfigMap::default() }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let packed = pack("acme_k8s", None, b"component").unwrap();
        assert_eq!(unpack(&packed, 9).unwrap(), b"component");
        assert_eq!(adapter_type(&packed), Some("acme_k8s"));
        let object = serde_json::to_value(&packed).unwrap();
        assert_eq!((&object["apiVersion"], &object["kind"]), (&"v1".into(), &"ConfigMap".into()));
        assert_eq!(object["metadata"]["name"], "paperclip-plugin-acme-k8s");
        assert_eq!(object["metadata"]["labels"]["paperclip.io/plugin"], "acme_k8s");
        assert!(object["binaryData"]["acme_k8s.wasm.zst"].is_string(), "{object}");
        assert_eq!(pack("acme_k8s", Some("mine"), b"").unwrap().metadata.name.as_deref(), Some("mine"));
    }

    #[test]
    fn a_component_may_be_plain() {
        assert_eq!(unpack(&config_map(&[("p.wasm", b"component")]), 9).unwrap(), b"component");
    }

    #[test]
    fn what_is_no_component_is_said() {
        let large = zstd::bulk::compress(b"too large", 0).unwrap();
        for (data, says) in [
            (&[("readme", &b"x"[..])][..], "must have one key"),
            (&[("a.wasm", b"x"), ("b.wasm", b"x")], "must have one key"),
            (&[("p.wasm.zst", b"no zstd")], "p.wasm.zst: "),
            (&[("p.wasm.zst", &large)], "p.wasm.zst: "),
        ] {
            let error = unpack(&config_map(data), 8).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
