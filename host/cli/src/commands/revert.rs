//! `plugins revert`: makes a running daemon go back to the previous version of a plugin.

use std::io;

use http::header::{AUTHORIZATION, HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::config::Listen;
use paperclip_prepare::{state, token};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::pinned;
use crate::args::DaemonArgs;
use crate::exit::{CommandError, Exit, usage};

pub(crate) async fn revert(adapter_type: &str, daemon: &DaemonArgs) -> Result<Exit, CommandError> {
    let listen = address(daemon);
    let unreachable = |error: io::Error| {
        usage(
            Diagnostic::new("daemon_unreachable", format!("no daemon answers at {listen}: {error}"))
                .with_hint("name its address with --listen"),
        )
    };
    let (status, answer) = match &listen {
        Listen::Tcp(address) => {
            let token = token_of(daemon).map_err(usage)?;
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            post(stream, &address.to_string(), adapter_type, token.as_deref()).await?
        }
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            post(stream, "localhost", adapter_type, None).await?
        }
        Listen::Tls(address) => {
            let certificate = daemon.tls_certificate.as_deref().ok_or_else(|| usage(no_certificate()))?;
            let token = token_of(daemon).map_err(usage)?;
            let stream = TcpStream::connect(address).await.map_err(unreachable)?;
            let stream = pinned::connect(stream, certificate).await.map_err(unreachable)?;
            post(stream, &address.to_string(), adapter_type, token.as_deref()).await?
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

/// Returns the address that is named, one without TLS if there are several, else the socket in Paperclip's home folder, else the default.
fn address(daemon: &DaemonArgs) -> Listen {
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
fn token_of(daemon: &DaemonArgs) -> Result<Option<String>, Diagnostic> {
    let generated = || state::folder(daemon.state.clone()).map(|state| state::token_file(&state));
    let file = daemon.token_file.clone().or_else(|| generated().filter(|file| file.exists()));
    Ok(file.map(|file| token::read(&file)).transpose()?.and_then(|tokens| tokens.into_iter().next()))
}

async fn post<S>(
    stream: S,
    host: &str,
    adapter_type: &str,
    token: Option<&str>,
) -> Result<(http::StatusCode, Value), CommandError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = http::Request::post(format!("/v1/plugins/{adapter_type}/revert")).header(HOST, host);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let answer = sender.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, serde_json::from_slice(&body)?))
}
