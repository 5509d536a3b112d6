//! `plugins config-map`: a plugin as a ConfigMap, for `kubectl apply`.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paperclip_diagnostic::Diagnostic;
use paperclip_guest::Plugin;
use paperclip_shell::plugin_config_maps::PLUGIN_LABEL;
use serde_json::{Value, json};

use crate::exit::{CommandError, Exit, usage};
use crate::plugins::runtime;

/// The highest level of zstd that needs no more memory to decompress.
const LEVEL: i32 = 19;
/// What an object of Kubernetes may have, less what its metadata may take.
const MAX_BASE64_BYTES: usize = (1 << 20) + (1 << 18);

pub(crate) fn config_map(file: &Path, name: Option<&str>) -> Result<Exit, CommandError> {
    let plugin = Plugin::load_file(&runtime()?, file).map_err(usage)?;
    let compressed = zstd::bulk::compress(plugin.file(), LEVEL)?;
    let data = STANDARD.encode(&compressed);
    if data.len() > MAX_BASE64_BYTES {
        let what = format!("{} has {} bytes when compressed", file.display(), compressed.len());
        let problem = Diagnostic::new("plugin_too_large", format!("{what}; a ConfigMap has at most 1 MiB"));
        return Err(usage(problem.with_hint("use the plugins folder or `plugins push`")));
    }
    println!("{:#}", manifest(plugin.adapter_type(), name, &data));
    Ok(Exit::Succeeded)
}

fn manifest(adapter_type: &str, name: Option<&str>, data: &str) -> Value {
    // A name of an object has no `_`.
    let default = format!("paperclip-plugin-{}", adapter_type.replace('_', "-"));
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name.unwrap_or(&default),
            "labels": {PLUGIN_LABEL: adapter_type},
        },
        "binaryData": {format!("{adapter_type}.wasm.zst"): data},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_type_is_the_label_and_the_key() {
        let object = manifest("acme_k8s", None, "AA==");
        assert_eq!(object["metadata"]["name"], "paperclip-plugin-acme-k8s");
        assert_eq!(object["metadata"]["labels"]["paperclip.io/plugin"], "acme_k8s");
        assert_eq!(object["binaryData"]["acme_k8s.wasm.zst"], "AA==");
        assert_eq!(manifest("acme_k8s", Some("mine"), "")["metadata"]["name"], "mine");
    }
}
