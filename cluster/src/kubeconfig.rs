//! The kubeconfig with which `kubectl` and other clients connect.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

/// The name of cluster, user and context in a kubeconfig.
const NAME: &str = "paperclip-local";

/// Returns a kubeconfig as JSON, which is YAML too. `kubectl` sends its token over TLS only, so the server's URL is `https`.
pub(crate) fn write(server: &str, certificate_pem: &str, token: Option<&str>) -> String {
    let user = token.map_or_else(|| json!({}), |token| json!({"token": token}));
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": NAME,
            "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(certificate_pem)},
        }],
        "users": [{"name": NAME, "user": user}],
        "contexts": [{
            "name": NAME,
            "context": {"cluster": NAME, "user": NAME, "namespace": "default"},
        }],
        "current-context": NAME,
    });
    format!("{config:#}\n")
}
