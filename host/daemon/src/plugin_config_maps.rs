//! Plugins that ConfigMaps of the cluster have.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use paperclip_guest::{MAX_PLUGIN_BYTES, PluginConfigMap, Source};
use paperclip_shell::plugin_config_maps::{ConfigMaps, PLUGIN_LABEL, PluginConfigMaps};

use crate::supervisor::Supervisor;

/// The endings of a key of `binaryData`: a component, plain or compressed.
const PLAIN: &str = ".wasm";
const COMPRESSED: &str = ".wasm.zst";

/// Swaps in the plugins of a namespace's ConfigMaps whenever one of them changes, until the future is dropped.
pub(crate) async fn follow_config_maps(supervisor: Supervisor, namespace: &str) {
    let mut config_maps = PluginConfigMaps::watch(&supervisor.clusters().default, namespace);
    loop {
        let known = config_maps.changed().await;
        if let Err(error) = supervisor.set_plugin_config_maps(plugins(namespace, &known)).await {
            tracing::warn!(%error, hint = error.hint, "the plugins of ConfigMaps are not used");
        }
    }
}

/// Takes the plugins out of ConfigMaps.
fn plugins(namespace: &str, config_maps: &ConfigMaps) -> Vec<PluginConfigMap> {
    let plugin = |(name, config_map): (&String, &ConfigMap)| {
        let label = config_map.metadata.labels.as_ref().and_then(|labels| labels.get(PLUGIN_LABEL));
        PluginConfigMap {
            source: Source::ConfigMap {
                name: format!("{namespace}/{name}"),
                adapter_type: label.cloned().unwrap_or_default(),
            },
            plugin: component(config_map).map(Into::into),
        }
    };
    config_maps.iter().map(plugin).collect()
}

/// Returns the component in a ConfigMap.
fn component(config_map: &ConfigMap) -> Result<Vec<u8>, String> {
    let data = config_map.binary_data.iter().flatten();
    let is_component = |key: &str| key.ends_with(PLAIN) || key.ends_with(COMPRESSED);
    let mut components = data.filter(|(key, _)| is_component(key));
    let (Some((key, ByteString(bytes))), None) = (components.next(), components.next()) else {
        return Err(format!("its binaryData must have one key that ends with {PLAIN} or {COMPRESSED}"));
    };
    if key.ends_with(PLAIN) {
        return Ok(bytes.clone());
    }
    let limit = usize::try_from(MAX_PLUGIN_BYTES).unwrap_or(usize::MAX);
    zstd::bulk::decompress(bytes, limit).map_err(|error| format!("{key}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_map(data: &[(&str, &[u8])]) -> ConfigMap {
        let data = data.iter().map(|(key, bytes)| ((*key).to_owned(), ByteString(bytes.to_vec())));
        ConfigMap { binary_data: Some(data.collect()), ..ConfigMap::default() }
    }

    #[test]
    fn a_component_is_plain_or_compressed() {
        let compressed = zstd::bulk::compress(b"component", 0).unwrap();
        assert_eq!(component(&config_map(&[("p.wasm", b"component")])).unwrap(), b"component");
        assert_eq!(component(&config_map(&[("p.wasm.zst", &compressed)])).unwrap(), b"component");
    }

    #[test]
    fn what_is_no_component_is_said() {
        for (data, says) in [
            (&[("readme", &b"x"[..])][..], "must have one key"),
            (&[("a.wasm", b"x"), ("b.wasm", b"x")], "must have one key"),
            (&[("p.wasm.zst", b"no zstd")], "p.wasm.zst: "),
        ] {
            let error = component(&config_map(data)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn the_label_names_the_agent_type() {
        let mut labelled = config_map(&[("p.wasm", b"x")]);
        labelled.metadata.labels = Some([(PLUGIN_LABEL.to_owned(), "acme_k8s".to_owned())].into());
        let known = ConfigMaps::from([("acme".to_owned(), labelled)]);
        let found = plugins("paperclip", &known);
        assert_eq!(found[0].source.to_string(), "ConfigMap paperclip/acme");
        assert_eq!(found[0].source.expected_type().as_deref(), Some("acme_k8s"));
    }
}
