//! `plugins push`: puts a plugin into a running daemon.

use std::path::Path;

use bytes::Bytes;
use http::Method;
use paperclip_diagnostic::Diagnostic;
use paperclip_guest::Plugin;
use paperclip_prepare::token;

use super::daemon_client::{DaemonRequest, address, refused, send};
use crate::args::DaemonArgs;
use crate::exit::{CommandError, Exit, usage};
use crate::plugins::runtime;

/// Verifies the plugin here first, which names its agent type, and then puts it into the daemon.
pub(crate) async fn push(
    file: &Path,
    admin_token_file: &Path,
    daemon: &DaemonArgs,
) -> Result<Exit, CommandError> {
    let plugin = Plugin::load_file(&runtime()?, file).map_err(usage)?;
    put(&plugin, admin_token_file, daemon).await?;
    Ok(Exit::Succeeded)
}

/// Puts a plugin into a daemon, and says whether it is new there.
///
/// # Errors
/// No daemon answers, or it refuses.
pub(super) async fn put(
    plugin: &Plugin,
    admin_token_file: &Path,
    daemon: &DaemonArgs,
) -> Result<(), CommandError> {
    let listen = address(daemon);
    let token = token::read(admin_token_file).map_err(usage)?.into_iter().next();
    let request = DaemonRequest {
        method: Method::PUT,
        path: format!("/v1/plugins/{}", plugin.adapter_type()),
        content_type: "application/wasm",
        token,
        body: Bytes::copy_from_slice(plugin.file()),
    };
    let (status, answer) = send(&listen, daemon, request).await?;
    if !status.is_success() {
        return Err(refused("push_refused", &answer));
    }
    // What the daemon says it has is what was sent, or something was lost on the way.
    if answer["digest"] != plugin.digest() {
        let found = answer["digest"].as_str().unwrap_or("none").to_owned();
        let problem =
            Diagnostic::new("push_refused", format!("the daemon has sha256:{found:.12}, another plugin"));
        return Err(usage(problem.with_hint("try again")));
    }
    let is_new = !answer["changed"].is_null();
    println!(
        "{} {} (sha256:{:.12}) is in use{}",
        plugin.adapter_type(),
        plugin.version(),
        plugin.digest(),
        if is_new { "" } else { ", as before" }
    );
    Ok(())
}
