//! `plugins revert`: makes a running daemon go back to the previous version of a plugin.

use std::io;
use std::path::Path;

use http::header::{AUTHORIZATION, HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::config::Listen;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::exit::{CommandError, Exit, usage};

pub(crate) async fn revert(
    adapter_type: &str,
    listen: Option<Listen>,
    token_file: Option<&Path>,
) -> Result<Exit, CommandError> {
    let listen = listen.unwrap_or_default();
    let token = token_file.map(std::fs::read_to_string).transpose().map_err(|error| {
        usage(
            Diagnostic::new("file_unreadable", format!("token file: {error}"))
                .with_hint("name the file that the daemon has"),
        )
    })?;
    let unreachable = |error: io::Error| {
        usage(
            Diagnostic::new("daemon_unreachable", format!("no daemon answers at {listen}: {error}"))
                .with_hint("name its address with --listen"),
        )
    };
    let (status, answer) = match &listen {
        Listen::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            post(stream, adapter_type, token.as_deref()).await?
        }
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            post(stream, adapter_type, token.as_deref()).await?
        }
    };
    if status.is_success() {
        let digest = |field: &str| answer[field].as_str().unwrap_or("none").to_owned();
        println!("{adapter_type}: sha256:{:.12} instead of sha256:{:.12}", digest("to"), digest("from"));
        return Ok(Exit::Succeeded);
    }
    let text = |field: &str| answer["error"][field].as_str().unwrap_or_default();
    Err(usage(Diagnostic::new("revert_refused", text("message")).with_hint(text("hint"))))
}

async fn post<S>(
    stream: S,
    adapter_type: &str,
    token: Option<&str>,
) -> Result<(http::StatusCode, Value), CommandError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request =
        http::Request::post(format!("/v1/plugins/{adapter_type}/revert")).header(HOST, "daemon");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.trim()));
    }
    let answer = sender.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body)?))
}
