//! A container's log as the API server sends it: bytes, unread and unsplit.

use std::task::{Context, Poll, ready};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use kube::core::Request;
use kube::core::subresource::LogParams;
use paperclip_contract::types::ObjectRef;
use paperclip_engine::driver::LogPiece;
use paperclip_engine::log::{LogEnd, LogRequest};

use crate::connect::Cluster;
use crate::{exchange, transport};

/// Nothing is added to a piece that has as many bytes. What the connection has read ahead is the most by which a piece exceeds it.
pub const PIECE_BYTES: usize = 64 << 10;
/// The header of a log whose server removes nothing that it has still to send. Only the local cluster has it.
const KEEPS_UNREAD: &str = "paperclip-log-keeps-unread";
/// Most bytes of an error's body that are read.
const REFUSAL_BYTES: usize = 16 << 10;

/// A log that is being read. Dropping it closes the connection. Whoever polls it reads: what is not polled waits in the connection, which
/// reads [`PIECE_BYTES`] ahead, and in the server. The deadline is the engine's.
pub struct LogStream(State);

enum State {
    Opening(BoxFuture<'static, Result<Opened, LogEnd>>),
    Open(Body),
    /// Its last bytes were returned.
    Ended(LogEnd),
    Closed,
}

struct Opened {
    body: Body,
    keeps_unread: bool,
}

impl std::fmt::Debug for LogStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.0 {
            State::Opening(_) => "opening",
            State::Open(_) => "open",
            State::Ended(_) => "ended",
            State::Closed => "closed",
        };
        f.debug_tuple("LogStream").field(&state).finish()
    }
}

impl LogStream {
    /// Requests a log. Nothing is sent before the first poll.
    pub fn open(cluster: &Cluster, pod: ObjectRef, container: String, request: LogRequest) -> LogStream {
        let cluster = cluster.clone();
        let opening = async move { open(&cluster, &pod, &container, request).await };
        LogStream(State::Opening(opening.boxed()))
    }

    /// Returns the next piece: the bytes that have arrived, up to [`PIECE_BYTES`]. Pending after the last piece.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<LogPiece> {
        match &mut self.0 {
            State::Opening(opening) => match ready!(opening.poll_unpin(context)) {
                Ok(Opened { body, keeps_unread }) => {
                    self.0 = State::Open(body);
                    Poll::Ready(LogPiece::Opened { keeps_unread })
                }
                Err(end) => self.close(end),
            },
            State::Open(body) => {
                let (bytes, end) = read(body, context);
                match end {
                    Some(end) if bytes.is_empty() => return self.close(end),
                    Some(end) => self.0 = State::Ended(end),
                    None if bytes.is_empty() => return Poll::Pending,
                    None => {}
                }
                Poll::Ready(LogPiece::Bytes(bytes))
            }
            State::Ended(end) => {
                let end = end.clone();
                self.close(end)
            }
            State::Closed => Poll::Pending,
        }
    }

    fn close(&mut self, end: LogEnd) -> Poll<LogPiece> {
        self.0 = State::Closed;
        Poll::Ready(LogPiece::Closed(end))
    }
}

async fn open(
    cluster: &Cluster,
    pod: &ObjectRef,
    container: &str,
    options: LogRequest,
) -> Result<Opened, LogEnd> {
    let request = log_request(pod, container, options).map_err(LogEnd::Broken)?;
    let response = cluster.streams().send(request.map(Body::from)).await;
    let response = response.map_err(|error| LogEnd::Broken(exchange::unsent(&error).message))?;
    let (head, body) = response.into_parts();
    if head.status == http::StatusCode::OK {
        return Ok(Opened { body, keeps_unread: head.headers.contains_key(KEEPS_UNREAD) });
    }
    let body = http_body_util::Limited::new(body, REFUSAL_BYTES).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let error = exchange::refusal(head.status, &head.headers, &body);
    Err(LogEnd::Refused { status: head.status.as_u16(), message: error.message })
}

/// Reads what has arrived, and the end if that has.
fn read(body: &mut Body, context: &mut Context<'_>) -> (Vec<u8>, Option<LogEnd>) {
    let mut bytes = Vec::new();
    while bytes.len() < PIECE_BYTES {
        match body.frame().poll_unpin(context) {
            Poll::Pending => break,
            Poll::Ready(None) => return (bytes, Some(LogEnd::Clean)),
            Poll::Ready(Some(Err(error))) => {
                return (bytes, Some(LogEnd::Broken(transport::explain(&error))));
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data);
                }
            }
        }
    }
    (bytes, None)
}

/// Rule 2: kube rounds the time to the nearest second, which loses lines; whole seconds stay what they are.
fn log_request(
    pod: &ObjectRef,
    container: &str,
    options: LogRequest,
) -> Result<http::Request<Vec<u8>>, String> {
    let since_time =
        options.since_s.map(Timestamp::from_second).transpose().map_err(|error| error.to_string())?;
    let params = LogParams {
        container: Some(container.to_owned()),
        follow: options.follow,
        since_time,
        timestamps: true,
        ..LogParams::default()
    };
    let path = <Pod as kube::Resource>::url_path(&(), Some(&pod.namespace));
    Request::new(path).logs(&pod.name, &params).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_7_requests_no_single_stream() {
        let pod = ObjectRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
        for follow in [true, false] {
            let request =
                log_request(&pod, "agent", LogRequest { follow, since_s: Some(1) }).expect("a request");
            assert!(!request.uri().query().unwrap_or_default().contains("stream="), "{}", request.uri());
        }
    }

    #[test]
    fn rule_2_requests_a_log_from_a_whole_second() {
        let pod = ObjectRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
        let uri = |request| log_request(&pod, "agent", request).expect("a request").uri().to_string();
        assert_eq!(
            uri(LogRequest { follow: true, since_s: Some(1_767_323_045) }),
            "/api/v1/namespaces/n/pods/p/log?&container=agent&follow=true&sinceTime=2026-01-02T03%3A04%3A05Z&timestamps=true"
        );
        assert_eq!(
            uri(LogRequest { follow: false, since_s: None }),
            "/api/v1/namespaces/n/pods/p/log?&container=agent&timestamps=true"
        );
    }
}
