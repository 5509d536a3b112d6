//! A plain HTTP/1.1 client with one connection per request, like a follower of a run.

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A server on TCP.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: String,
    /// The bearer token that it requires.
    pub(crate) token: Option<String>,
}

impl Server {
    /// One that requires no token.
    pub(crate) fn open(address: &str) -> Server {
        Server { address: address.to_owned(), token: None }
    }
}

/// Sends a request and returns the answer with its unread body.
pub(crate) async fn send(
    server: &Server,
    method: &str,
    path: &str,
    body: &str,
) -> Result<http::Response<Incoming>> {
    let address = server.address.as_str();
    let stream =
        TcpStream::connect(address).await.with_context(|| format!("{address} accepts no connection"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("Host", address)
        .header("Content-Type", "application/json");
    if let Some(token) = &server.token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned())))?;
    sender.send_request(request).await.with_context(|| format!("{method} {path}: no answer"))
}

/// Sends a request and reads its answer, which must be a success.
pub(crate) async fn ask(server: &Server, method: &str, path: &str, body: &str) -> Result<Bytes> {
    let (head, body) = send(server, method, path, body).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    anyhow::ensure!(
        head.status.is_success(),
        "{method} {path}: {} {}",
        head.status,
        String::from_utf8_lossy(&body)
    );
    Ok(body)
}

pub(crate) async fn ask_json(server: &Server, method: &str, path: &str, body: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&ask(server, method, path, body).await?)?)
}

/// The lines of an answer as they arrive.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    read: BytesMut,
}

impl Lines {
    pub(crate) fn of(answer: http::Response<Incoming>) -> Lines {
        Lines { body: answer.into_body(), read: BytesMut::new() }
    }

    /// Returns the next line without its line feed, or none at the end of the answer.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.read[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(searched + at + 1).freeze();
                return Ok(Some(line.slice(..line.len() - 1)));
            }
            searched = self.read.len();
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
