//! Listening on TCP, with or without TLS, and on Unix sockets.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::config::{Listen, TlsFiles};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

use super::connections::Connections;
use super::peer::{Peer, Who};
use super::tls::Tls;

/// Who may use a Unix socket: its owner.
const SOCKET_MODE: u32 = 0o600;
/// How long to wait if no connection can be accepted, such as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often that is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// An address at which requests arrive.
#[derive(Debug)]
pub(crate) struct Listener {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp { listener: TcpListener, is_loopback: bool, tls: Option<Tls> },
    Unix { listener: UnixListener, file: SocketFile },
}

/// A connection that was accepted.
pub(super) struct Accepted {
    pub(super) stream: Box<dyn Stream>,
    pub(super) peer: Peer,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Listener {
    /// # Errors
    /// The address is in use or cannot be bound, or the certificate cannot be used.
    pub(crate) async fn open(listen: &Listen, tls: Option<&TlsFiles>) -> Result<Listener, Diagnostic> {
        let failed = |error: io::Error| {
            Diagnostic::new("cannot_listen", format!("listen {listen}: {error}"))
                .with_hint("name a free address with listen (--listen)")
        };
        let kind = match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                Kind::Tcp { listener, is_loopback: address.ip().is_loopback(), tls: None }
            }
            Listen::Tls(address) => {
                let files = tls.ok_or_else(|| {
                    Diagnostic::new("bad_config", format!("listen {listen}: there is no certificate"))
                        .with_hint("name its files in [tls] (--tls-certificate and --tls-key)")
                })?;
                let tls = Some(Tls::open(files)?);
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                // A browser that was led here by another name does not get past the certificate.
                Kind::Tcp { listener, is_loopback: false, tls }
            }
            Listen::Unix(path) => {
                remove_stale(path).await.map_err(failed)?;
                let listener = UnixListener::bind(path).map_err(failed)?;
                let file = SocketFile::of(path).map_err(failed)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))
                    .map_err(failed)?;
                Kind::Unix { listener, file }
            }
        };
        Ok(Listener { kind })
    }

    /// Returns the address as a client names it.
    pub(crate) fn address(&self) -> String {
        match &self.kind {
            Kind::Tcp { listener, tls, .. } => match listener.local_addr() {
                Ok(address) => format!("{}://{address}", if tls.is_some() { "https" } else { "http" }),
                Err(error) => error.to_string(),
            },
            Kind::Unix { file, .. } => format!("unix:{}", file.path.display()),
        }
    }

    /// Accepts connections until the receiver is dropped.
    pub(super) async fn accept_all(self, connections: Arc<Connections>, accepted: mpsc::Sender<Accepted>) {
        let mut reported: Option<Instant> = None;
        let Listener { kind } = self;
        loop {
            let result = match &kind {
                Kind::Tcp { listener, is_loopback, tls } => match listener.accept().await {
                    Ok((stream, from)) => {
                        let who = Who::Address(from.ip());
                        tcp(stream, who, *is_loopback, tls.clone(), &connections, &accepted).await
                    }
                    Err(error) => Err(error),
                },
                Kind::Unix { listener, .. } => match listener.accept().await {
                    Ok((stream, _)) => unix(stream, &connections, &accepted).await,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = result {
                if reported.is_none_or(|at| at.elapsed() > REPORT_INTERVAL) {
                    tracing::warn!(%error, "no connection can be accepted");
                    reported = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            if accepted.is_closed() {
                return;
            }
        }
    }
}

async fn tcp(
    stream: TcpStream,
    who: Who,
    is_loopback: bool,
    tls: Option<Tls>,
    connections: &Arc<Connections>,
    accepted: &mpsc::Sender<Accepted>,
) -> io::Result<()> {
    let ticket = connections.open(who).ok_or_else(|| io::Error::other("too many connections are open"))?;
    // The client may have closed it already.
    let _ = stream.set_nodelay(true);
    let peer = Peer { who, is_loopback, ticket: Arc::new(ticket) };
    match tls {
        None => {
            let _ = accepted.send(Accepted { stream: Box::new(stream), peer }).await;
        }
        Some(tls) => {
            let accepted = accepted.clone();
            tokio::spawn(async move {
                let ticket = Arc::clone(&peer.ticket);
                let shaken = tokio::select! {
                    shaken = tls.accept(stream) => shaken,
                    () = ticket.evicted() => return,
                };
                match shaken {
                    Ok(stream) => {
                        let _ = accepted.send(Accepted { stream: Box::new(stream), peer }).await;
                    }
                    Err(error) => tracing::debug!(%error, "a client did not get a TLS connection"),
                }
            });
        }
    }
    Ok(())
}

async fn unix(
    stream: UnixStream,
    connections: &Arc<Connections>,
    accepted: &mpsc::Sender<Accepted>,
) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    if !may_use(user, rustix::process::geteuid().as_raw()) {
        tracing::warn!(user, "a user of this machine is refused: the socket is for the daemon's own user");
        return Ok(());
    }
    let who = Who::User(user);
    let ticket = connections.open(who).ok_or_else(|| io::Error::other("too many connections are open"))?;
    let peer = Peer { who, is_loopback: false, ticket: Arc::new(ticket) };
    let _ = accepted.send(Accepted { stream: Box::new(stream), peer }).await;
    Ok(())
}

/// Returns whether a user may use the Unix socket of this process: its own, and root, which may do anything anyway.
fn may_use(user: u32, own: u32) -> bool {
    user == own || user == 0
}

/// The file of a Unix socket, removed with the listener unless another process has its own there now.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        let file = path.symlink_metadata()?;
        Ok(SocketFile { path: path.to_owned(), device_and_inode: (file.dev(), file.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_own =
            self.path.symlink_metadata().is_ok_and(|file| (file.dev(), file.ino()) == self.device_and_inode);
        if is_own {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket of a process that no longer runs.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)
        }
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_for_the_daemons_user_and_root() {
        for (user, expected) in [(1_000, true), (0, true), (1_001, false), (65_534, false)] {
            assert_eq!(may_use(user, 1_000), expected, "{user}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_private_and_removed_only_by_its_own_daemon() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let listen = Listen::Unix(path.clone());
        let listener = Listener::open(&listen, None).await.expect("bound");
        assert_eq!(path.symlink_metadata().expect("a socket").permissions().mode() & 0o777, 0o600);
        assert!(Listener::open(&listen, None).await.is_err(), "it is in use");
        std::fs::remove_file(&path).expect("removed");
        let second = Listener::open(&listen, None).await.expect("bound");
        drop(listener);
        assert!(path.exists(), "it is another one's");
        drop(second);
        assert!(!path.exists());
    }
}
