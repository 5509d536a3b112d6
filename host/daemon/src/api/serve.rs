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
