//! A running daemon, as commands speak to it.

use std::io;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::config::Listen;
use paperclip_prepare::{state, token};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::pinned;
use crate::args::DaemonArgs;
use crate::exit::{CommandError, usage};

/// A request without its address.
#[derive(Debug)]
pub(super) struct DaemonRequest {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content_type: &'static str,
    /// None on a Unix socket that needs none.
    pub(super) token: Option<String>,
    pub(super) body: Bytes,
}

/// Sends a request and returns the answer, which is JSON.
///
/// # Errors
/// No daemon answers at the address.
pub(super) async fn send(
    listen: &Listen,
    daemon: &DaemonArgs,
    request: DaemonRequest,
) -> Result<(StatusCode, Value), CommandError> {
    let unreachable = |error: io::Error| {
        usage(
            Diagnostic::new("daemon_unreachable", format!("no daemon answers at {listen}: {error}"))
                .with_hint("name its address with --listen"),
        )
    };
    match listen {
        Listen::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            send_by(stream, &address.to_string(), request).await
        }
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            send_by(stream, "localhost", request).await
        }
        Listen::Tls(address) => {
            let certificate = daemon.tls_certificate.as_deref().ok_or_else(|| usage(no_certificate()))?;
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            let stream = pinned::connect(stream, certificate).await.map_err(unreachable)?;
            send_by(stream, &address.to_string(), request).await
        }
    }
}

/// Returns the address that is named, one without TLS if there are several, else the socket in Paperclip's home folder, else the default.
pub(super) fn address(daemon: &DaemonArgs) -> Listen {
    let is_plain = |listen: &&Listen| !matches!(listen, Listen::Tls(_));
    if let Some(named) = daemon.listen.iter().find(is_plain).or(daemon.listen.first()) {
        return named.clone();
    }
    let socket = daemon.paperclip_home.as_deref().map(Listen::home_socket);
    let socket = socket.filter(|socket| matches!(socket, Listen::Unix(path) if path.exists()));
    socket.unwrap_or_default()
}

fn no_certificate() -> Diagnostic {
    Diagnostic::new("daemon_unreachable", "the certificate of the daemon is not known")
        .with_hint("name the daemon's own with --tls-certificate, or another address of it with --listen")
}

/// Returns the token that is named, else the one that the daemon has generated, if it has.
pub(super) fn token_of(daemon: &DaemonArgs) -> Result<Option<String>, Diagnostic> {
    let generated = || state::folder(daemon.state.clone()).map(|state| state::token_file(&state));
    let file = daemon.token_file.clone().or_else(|| generated().filter(|file| file.exists()));
    Ok(file.map(|file| token::read(&file)).transpose()?.and_then(|tokens| tokens.into_iter().next()))
}

async fn send_by<S>(
    stream: S,
    host: &str,
    request: DaemonRequest,
) -> Result<(StatusCode, Value), CommandError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let DaemonRequest { method, path, content_type, token, body } = request;
    let mut request = http::Request::builder().method(method).uri(path).header(HOST, host);
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, content_type);
    }
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let answer = sender.send_request(request.body(Full::new(body))?).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body)?))
}

/// Returns the error of a daemon that refuses.
pub(super) fn refused(code: &'static str, answer: &Value) -> CommandError {
    let text = |field: &str| answer["error"][field].as_str().unwrap_or_default();
    usage(Diagnostic::new(code, text("message")).with_hint(text("hint")))
}
