//! A container's log as the API server sends it: bytes, unread and unsplit.

use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use kube::core::Request;
use kube::core::subresource::LogParams;
use paperclip_contract::types::ObjectRef;
use paperclip_engine::driver::LogPiece;
use paperclip_engine::log::{LogEnd, LogRequest};
use tokio::sync::mpsc;

use crate::connect::Cluster;
use crate::{exchange, transport};

/// Most bytes of one piece.
pub const PIECE_BYTES: usize = 16 << 10;
/// Pieces that wait for their reader. Including what the connection reads ahead, a run that does not read holds less than 256 KiB.
pub const QUEUED_PIECES: usize = 4;
/// Most bytes of an error's body that are read.
const REFUSAL_BYTES: usize = 16 << 10;

/// Reads a log until its end or until the receiver is dropped. Dropping the future closes the connection. The deadline is the engine's.
pub async fn read(
    cluster: &Cluster,
    pod: &ObjectRef,
    container: &str,
    request: LogRequest,
    pieces: &mpsc::Sender<LogPiece>,
) {
    let end = match open(cluster, pod, container, request).await {
        Ok(body) => match forward(body, pieces).await {
            Some(end) => end,
            None => return,
        },
        Err(end) => end,
    };
    // The receiver may have been dropped.
    let _ = pieces.send(LogPiece::Closed(end)).await;
}

async fn open(
    cluster: &Cluster,
    pod: &ObjectRef,
    container: &str,
    options: LogRequest,
) -> Result<Body, LogEnd> {
    let request = log_request(pod, container, options).map_err(LogEnd::Broken)?;
    let response = cluster.streams().send(request.map(Body::from)).await;
    let response = response.map_err(|error| LogEnd::Broken(exchange::unsent(&error).message))?;
    let (head, body) = response.into_parts();
    if head.status == http::StatusCode::OK {
        return Ok(body);
    }
    let body = http_body_util::Limited::new(body, REFUSAL_BYTES).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let error = exchange::refusal(head.status, &head.headers, &body);
    Err(LogEnd::Refused { status: head.status.as_u16(), message: error.message })
}

/// Forwards the body. Returns none if the receiver was dropped.
async fn forward(mut body: Body, pieces: &mpsc::Sender<LogPiece>) -> Option<LogEnd> {
    pieces.send(LogPiece::Opened).await.ok()?;
    loop {
        match body.frame().await {
            None => return Some(LogEnd::Clean),
            Some(Err(error)) => return Some(LogEnd::Broken(transport::explain(&error))),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                for piece in data.chunks(PIECE_BYTES) {
                    pieces.send(LogPiece::Bytes(piece.to_vec())).await.ok()?;
                }
            }
        }
    }
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
