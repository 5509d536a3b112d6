//! Plugins that ConfigMaps of the cluster have.

use k8s_openapi::api::core::v1::ConfigMap;
use paperclip_guest::{MAX_PLUGIN_BYTES, PluginConfigMap, Source};
use paperclip_shell::plugin_config_maps::{PluginConfigMaps, adapter_type, unpack};

use crate::supervisor::Supervisor;

/// Swaps in the plugins of a namespace's ConfigMaps whenever one of them changes, until the future is dropped.
pub(crate) async fn follow_config_maps(supervisor: Supervisor, namespace: &str) {
    let mut config_maps = PluginConfigMaps::watch(&supervisor.clusters().default, namespace);
    loop {
        let known = config_maps.changed().await;
        let plugins = known.iter().map(|(name, config_map)| plugin(namespace, name, config_map)).collect();
        if let Err(error) = supervisor.set_plugin_config_maps(plugins).await {
            tracing::warn!(%error, hint = error.hint, "the plugins of ConfigMaps are not used");
        }
    }
}

fn plugin(namespace: &str, name: &str, config_map: &ConfigMap) -> PluginConfigMap {
    let max_bytes = usize::try_from(MAX_PLUGIN_BYTES).unwrap_or(usize::MAX);
    PluginConfigMap {
        source: Source::ConfigMap {
            name: format!("{namespace}/{name}"),
            adapter_type: adapter_type(config_map).unwrap_or_default().to_owned(),
        },
        plugin: unpack(config_map, max_bytes).map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_shell::plugin_config_maps::pack;

    #[test]
    fn a_plugin_is_named_by_its_config_map_and_of_the_type_of_its_label() {
        let plugin = plugin("paperclip", "acme", &pack("acme_k8s", None, b"component").unwrap());
        assert_eq!(plugin.source.to_string(), "ConfigMap paperclip/acme");
        assert_eq!(plugin.source.expected_type().as_deref(), Some("acme_k8s"));
        assert_eq!(plugin.plugin.as_deref(), Ok(&b"component"[..]));
    }
}
