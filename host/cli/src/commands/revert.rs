//! `plugins revert`: makes a running daemon go back to the previous version of a plugin.

use bytes::Bytes;
use http::Method;
use paperclip_prepare::config::Listen;

use super::daemon_client::{DaemonRequest, address, refused, send, token_of};
use crate::args::DaemonArgs;
use crate::exit::{CommandError, Exit, usage};

pub(crate) async fn revert(adapter_type: &str, daemon: &DaemonArgs) -> Result<Exit, CommandError> {
    let listen = address(daemon);
    let token = match &listen {
        Listen::Unix(_) => None,
        Listen::Tcp(_) | Listen::Tls(_) => token_of(daemon).map_err(usage)?,
    };
    let request = DaemonRequest {
        method: Method::POST,
        path: format!("/v1/plugins/{adapter_type}/revert"),
        content_type: "application/json",
        token,
        body: Bytes::new(),
    };
    let (status, answer) = send(&listen, daemon, request).await?;
    if !status.is_success() {
        return Err(refused("revert_refused", &answer));
    }
    let digest = |field: &str| answer[field].as_str().unwrap_or("none").to_owned();
    println!("{adapter_type}: sha256:{:.12} instead of sha256:{:.12}", digest("to"), digest("from"));
    Ok(Exit::Succeeded)
}
