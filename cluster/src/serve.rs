//! Connections: HTTP/1.1 and HTTP/2, plain or with TLS, all on one port.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// The first byte of a TLS connection, a handshake record; no HTTP request starts with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long open requests can take once the server stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// A rest after a failed accept: the process is out of file descriptors, and more haste frees none.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` turns true, then lets open requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    router: axum::Router,
    tls: ServerConfig,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|is_stopping| *is_stopping) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, acceptor.clone(), router.clone(), graceful.watcher()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _took_too_long = tokio::time::timeout(SHUTDOWN_GRACE, graceful.shutdown()).await;
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, router: axum::Router, watcher: Watcher) {
    // Responses are small and a client waits for each.
    let _slower = stream.set_nodelay(true);
    let mut first = [0];
    let ended = match stream.peek(&mut first).await {
        Ok(1..) if first[0] == TLS_HANDSHAKE => match acceptor.accept(stream).await {
            Ok(stream) => requests(stream, router, watcher).await,
            Err(error) => Err(error.into()),
        },
        Ok(_) => requests(stream, router, watcher).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection broke");
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: axum::Router,
    watcher: Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    watcher.watch(connection.into_owned()).await
}
