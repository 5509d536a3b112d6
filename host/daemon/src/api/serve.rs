//! Serving the connections of all listeners.

use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::connections::Connections;
use super::listener::{Accepted, Listener};

/// How long the head of a request may take to arrive, and how long a connection may be idle.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// How long open answers may take when this process stops.
const CLOSE_DEADLINE: Duration = Duration::from_millis(700);
/// Connections that are accepted and not served yet.
const BACKLOG: usize = 64;
/// Most open connections, if there are files for them.
const MAX_CONNECTIONS: usize = 16_384;

/// Serves until `stop` completes, then lets open requests end.
pub(crate) async fn serve(listeners: Vec<Listener>, router: Router, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(READ_DEADLINE);
    let connections = Connections::new(limit());
    let (sender, mut accepted) = mpsc::channel(BACKLOG);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(listener.accept_all(connections.clone(), sender.clone()));
    }
    tokio::pin!(stop);
    loop {
        let Accepted { stream, peer } = tokio::select! {
            () = &mut stop => break,
            Some(next) = accepted.recv() => next,
        };
        let router = router.clone();
        let ticket = peer.ticket.clone();
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            router.clone().oneshot(request)
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            tokio::select! {
                served = connection => {
                    if let Err(error) = served {
                        tracing::debug!(%error, "connection failed");
                    }
                }
                () = ticket.evicted() => tracing::debug!("an idle connection made place for another one"),
            }
        });
    }
    accepting.shutdown().await;
    if tokio::time::timeout(CLOSE_DEADLINE, graceful.shutdown()).await.is_err() {
        tracing::warn!("connections were cut: their clients did not read to the end");
    }
}

/// Half of the files that this process may open: runs need the others.
fn limit() -> usize {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = files.map_or(MAX_CONNECTIONS, |files| usize::try_from(files / 2).unwrap_or(usize::MAX));
    half.min(MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use futures::{StreamExt as _, stream};
    use paperclip_prepare::config::Listen;
    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
    use tokio::net::{TcpStream, UnixStream};

    use super::*;

    /// Longer than every deadline and every interval of this API.
    const SILENCE: Duration = Duration::from_hours(1);

    /// Answers with a line, and with another one after the silence.
    async fn line_silence_line() -> Body {
        let first = stream::once(async { Ok::<_, std::convert::Infallible>("first\n") });
        let last = stream::once(async {
            tokio::time::sleep(SILENCE).await;
            Ok("last\n")
        });
        Body::from_stream(first.chain(last))
    }

    async fn read_through_silence(mut connection: impl AsyncRead + AsyncWrite + Unpin) {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("a request");
        let mut answer = String::new();
        for line in ["first\n", "last\n"] {
            let mut part = [0; 1024];
            while !answer.contains(line) {
                let count = connection.read(&mut part).await.expect("an answer");
                assert!(count > 0, "the connection was closed after {answer:?}");
                answer += std::str::from_utf8(&part[..count]).expect("text");
            }
            // From here on the clock jumps to the next deadline whenever nothing else happens.
            if line == "first\n" {
                tokio::time::pause();
            }
        }
        tokio::time::resume();
    }

    #[tokio::test]
    async fn an_answer_may_be_silent_for_longer_than_every_deadline() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let tcp = Listener::open(&Listen::Tcp(([127, 0, 0, 1], 0).into()), None).await.expect("a listener");
        let unix = Listener::open(&Listen::Unix(path.clone()), None).await.expect("a listener");
        let address = tcp.address().trim_start_matches("http://").to_owned();
        let router = Router::new().route("/", get(line_silence_line));
        let serving = tokio::spawn(serve(vec![tcp, unix], router, std::future::pending()));
        read_through_silence(TcpStream::connect(address).await.expect("a connection")).await;
        read_through_silence(UnixStream::connect(path).await.expect("a connection")).await;
        serving.abort();
    }
}
