//! A plain HTTP/1.1 client, a connection a request: what a follower of a run is.

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Sends a request; the answer's body is still to be read.
pub(crate) async fn send(
    address: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Result<http::Response<Incoming>> {
    let stream =
        TcpStream::connect(address).await.with_context(|| format!("{address} takes no connection"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("Host", address)
        .header("Content-Type", "application/json")
        .body(Full::new(Bytes::from(body.to_owned())))?;
    sender.send_request(request).await.with_context(|| format!("{method} {path}: no answer"))
}

/// Sends a request and reads its answer, which has to be good.
pub(crate) async fn ask(address: &str, method: &str, path: &str, body: &str) -> Result<Bytes> {
    let (head, body) = send(address, method, path, body).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    anyhow::ensure!(
        head.status.is_success(),
        "{method} {path}: {} {}",
        head.status,
        String::from_utf8_lossy(&body)
    );
    Ok(body)
}

pub(crate) async fn ask_json(address: &str, method: &str, path: &str, body: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&ask(address, method, path, body).await?)?)
}

/// The lines of an answer as they come.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    read: BytesMut,
}

impl Lines {
    pub(crate) fn of(answer: http::Response<Incoming>) -> Lines {
        Lines { body: answer.into_body(), read: BytesMut::new() }
    }

    /// The next line without its end; none when the answer has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut looked_at = 0;
        loop {
            if let Some(at) = self.read[looked_at..].iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(looked_at + at + 1).freeze();
                return Ok(Some(line.slice(..line.len() - 1)));
            }
            looked_at = self.read.len();
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
