//! A running cluster: store, node and server together.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access::Access;
use crate::api::{Server, router};
use crate::node::{self, NodeHandle, NodeOptions, Rotation};
use crate::store::{Store, StoreOptions};
use crate::{kubeconfig, serve};

/// The namespace of clients that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// Options of a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The folder for volumes and logs; without one they are in a temporary folder that is deleted with the cluster.
    pub state_dir: Option<PathBuf>,
    /// Keep objects, Secrets among them, token and certificate in the state folder too, so that they are there again
    /// after a restart.
    pub persist: bool,
    /// Accept every client that reaches the address, without a token.
    pub anonymous: bool,
    /// How many changes of one resource a watch can lag behind before its version expires.
    pub watch_window_changes: usize,
    /// How large the file of a container's log grows, and how many of them are kept.
    pub log_rotation: Rotation,
    /// The wait before the first failed Pod of a Job is replaced; it doubles up to 10 minutes.
    pub job_backoff: Duration,
    /// The wait before a container is restarted for the second time; it doubles up to 5 minutes.
    pub restart_backoff: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let node = NodeOptions::new("");
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            state_dir: None,
            persist: false,
            anonymous: false,
            watch_window_changes: StoreOptions::WATCH_WINDOW_CHANGES,
            log_rotation: node.log_rotation,
            job_backoff: node.job_backoff,
            restart_backoff: node.restart_backoff,
        }
    }
}

/// A cluster inside this process. Its containers end with it.
///
/// ```no_run
/// use paperclip_cluster::{LocalCluster, Options};
///
/// # async fn example() -> anyhow::Result<()> {
/// let cluster = LocalCluster::start(Options::default()).await?;
/// std::fs::write("kubeconfig", cluster.kubeconfig())?;
/// println!("{} is reachable until it is shut down", cluster.url());
/// cluster.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalCluster {
    address: SocketAddr,
    access: Access,
    anonymous: bool,
    store: Store,
    node: NodeHandle,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    /// Held as long as the cluster runs, so that no other cluster uses the state folder.
    _state: StateFolder,
}

impl LocalCluster {
    /// Starts a cluster; it listens when this returns.
    ///
    /// # Errors
    /// One line that names the address or the folder and what to do: the port is in use, the state folder is in use or
    /// can't be written.
    pub async fn start(options: Options) -> anyhow::Result<LocalCluster> {
        let listener = bind(options.listen)?;
        let address = listener.local_addr().context("the address listened on is unknown")?;
        let state = StateFolder::open(options.state_dir.as_deref())?;
        let kept = options.persist.then_some(options.state_dir.as_ref()).flatten().map(|_| state.path());
        let access = match kept {
            Some(folder) => Access::in_folder(&folder.join("access"), address.ip())?,
            None => Access::generate(address.ip())?,
        };
        let store = Store::new(StoreOptions {
            watch_window_changes: options.watch_window_changes,
            folder: kept.map(|folder| folder.join("objects")),
        })
        .with_context(|| format!("the objects in {} can't be read", state.path().display()))?;
        store.ensure_namespace(DEFAULT_NAMESPACE)?;
        let tls = access.tls()?;
        let node = NodeOptions {
            log_rotation: options.log_rotation,
            job_backoff: options.job_backoff,
            restart_backoff: options.restart_backoff,
            ..NodeOptions::new(state.path().join("node"))
        };
        let node = node::start(store.clone(), node)
            .await
            .with_context(|| format!("the folder {} can't be prepared", state.path().display()))?;
        let (stop, stopped) = watch::channel(false);
        let server = router(Server {
            store: store.clone(),
            logs: node.logs().clone(),
            token: (!options.anonymous).then(|| access.token.clone()),
            stop: stopped.clone(),
        });
        let server = tokio::spawn(serve::serve(listener, server, tls, stopped));
        let anonymous = options.anonymous;
        Ok(LocalCluster { address, access, anonymous, store, node, stop, server, _state: state })
    }

    /// Returns the base URL, `http://127.0.0.1:PORT`. The same port speaks `https` too, as the kubeconfig has it.
    pub fn url(&self) -> String {
        format!("http://{}", self.reachable())
    }

    /// Returns the bearer token of clients. An anonymous cluster does not check it.
    pub fn token(&self) -> &str {
        &self.access.token
    }

    /// Returns a kubeconfig for `kubectl` and every other client. It contains the token.
    pub fn kubeconfig(&self) -> String {
        let server = format!("https://{}", self.reachable());
        let token = (!self.anonymous).then_some(self.access.token.as_str());
        kubeconfig::write(&server, &self.access.certificate_pem, token)
    }

    /// Returns the store, for code in the same process.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Ends every container, then every open request, and returns when no task or process of the cluster is left.
    pub async fn shutdown(self) {
        self.node.shutdown().await;
        self.stop.send_replace(true);
        if let Err(error) = self.server.await {
            tracing::warn!(%error, "the server ended badly");
        }
    }

    /// An address that a client on this machine can connect to.
    fn reachable(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address).map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is in use by another process: stop it, or listen on another port (port 0 takes a free one)"
        ),
        std::io::ErrorKind::AddrNotAvailable => {
            anyhow::anyhow!("{} is no address of this machine: listen on 127.0.0.1", address.ip())
        }
        std::io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "this user cannot listen on port {}: use one from 1024 on (port 0 takes a free one)",
            address.port()
        ),
        _ => anyhow::Error::new(e).context(format!("can't listen on {address}")),
    })?;
    listener.set_nonblocking(true).with_context(|| format!("can't listen on {address}"))?;
    tokio::net::TcpListener::from_std(listener).with_context(|| format!("can't listen on {address}"))
}

/// The folder of the cluster.
#[derive(Debug)]
enum StateFolder {
    Given { path: PathBuf, _lock: FolderLock },
    Temporary(tempfile::TempDir),
}

/// A lock on a file. Closing the file would release it too, but not while a process that is just being started
/// still has a copy of it.
#[derive(Debug)]
struct FolderLock(fs::File);

impl Drop for FolderLock {
    fn drop(&mut self) {
        let _closing_releases_it_too = self.0.unlock();
    }
}

impl StateFolder {
    fn open(given: Option<&Path>) -> anyhow::Result<StateFolder> {
        let Some(path) = given else {
            let folder = tempfile::Builder::new().prefix("paperclip-cluster-").tempdir();
            return folder.map(StateFolder::Temporary).context("no temporary folder can be made");
        };
        let shown = path.display();
        fs::create_dir_all(path).with_context(|| format!("the state folder {shown} can't be made"))?;
        // Containers get paths in it, and they work elsewhere.
        let path = path.canonicalize().with_context(|| format!("the state folder {shown} can't be read"))?;
        let lock = fs::File::create(path.join("lock"))
            .with_context(|| format!("the state folder {shown} can't be written"))?;
        match lock.try_lock() {
            Ok(()) => Ok(StateFolder::Given { path, _lock: FolderLock(lock) }),
            Err(fs::TryLockError::WouldBlock) => anyhow::bail!(
                "the state folder {shown} is in use by another cluster: stop it, or name another folder"
            ),
            Err(fs::TryLockError::Error(e)) => {
                Err(e).with_context(|| format!("the state folder {shown} can't be locked"))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            StateFolder::Given { path, .. } => path,
            StateFolder::Temporary(folder) => folder.path(),
        }
    }
}
