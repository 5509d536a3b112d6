//! The node: everything that acts on the objects in the store, as the controllers, the scheduler and the kubelet of a
//! real cluster do. It is driven by watches of the store and by the ends of processes; nothing polls.
//!
//! | module | role |
//! |---|---|
//! | `job` | the Job controller |
//! | `gc`, `namespaces`, `claims` | garbage collector, namespace controller, volume binder |
//! | `pod` | scheduler and kubelet |
//! | `env`, `volumes`, `process`, [`logs`] | what the kubelet has the runtime do |
//! | `events` | the Events that they report |

mod claims;
mod env;
mod events;
mod gc;
mod informer;
mod job;
pub mod logs;
mod machine;
mod namespaces;
mod objects;
mod pod;
mod process;
mod volumes;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

pub use logs::{LogOptions, LogStream, Logs, Rotation};

use crate::store::Store;
use events::Recorder;
use process::Launcher;
use volumes::Folders;

/// The node's name.
pub const NODE_NAME: &str = "local";
/// The address of every Pod: they share this machine's network.
pub(crate) const POD_IP: &str = "127.0.0.1";
/// The address of the node.
pub(crate) const NODE_IP: &str = "127.0.0.1";

/// Options of the node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The folder of volumes and logs. One node at a time can use it. Claims are kept in `claims/NAMESPACE/NAME`; the rest
    /// is emptied at the start. Secrets are in `/dev/shm`, or here where there is none.
    pub folder: PathBuf,
    pub log_rotation: Rotation,
    /// The wait before the first failed Pod of a Job is replaced; it doubles up to 10 minutes.
    pub job_backoff: Duration,
    /// The wait before a container is restarted for the second time; it doubles up to 5 minutes.
    pub restart_backoff: Duration,
}

impl NodeOptions {
    /// The figures of a real cluster; containers end with this process.
    pub fn new(folder: impl Into<PathBuf>) -> NodeOptions {
        NodeOptions {
            folder: folder.into(),
            log_rotation: Rotation::default(),
            job_backoff: Duration::from_secs(10),
            restart_backoff: Duration::from_secs(10),
        }
    }
}

/// A running node. Dropping it ends the controllers and, through the watchdog, kills the containers;
/// [`NodeHandle::shutdown`] ends them gently.
#[derive(Debug)]
pub struct NodeHandle {
    logs: Logs,
    down: watch::Sender<bool>,
    kubelet: JoinHandle<()>,
    _controllers: JoinSet<()>,
    kubelet_abort: AbortHandle,
}

/// Starts the node: its controllers, and every Pod that the store already has.
///
/// # Errors
/// The folders can't be prepared.
pub async fn start(store: Store, options: NodeOptions) -> io::Result<NodeHandle> {
    let prepared = tokio::task::spawn_blocking({
        let folder = options.folder.clone();
        move || Folders::prepare(&folder)
    });
    let folders = prepared.await.map_err(io::Error::other)??;
    let launcher = Launcher::new(folders.id().to_owned(), folders.memory()).await;
    let logs = Logs::new(options.folder.join("logs"), options.log_rotation);
    let recorder = Recorder::new(store.clone());
    machine::register(&store);

    let mut controllers = JoinSet::new();
    controllers.spawn(gc::run(store.clone()));
    controllers.spawn(namespaces::run(store.clone()));
    controllers.spawn(claims::run(store.clone()));
    controllers.spawn(job::run(store.clone(), recorder.clone(), options.job_backoff));
    let context = pod::Context {
        store,
        recorder,
        folders,
        logs: logs.clone(),
        launcher,
        first_backoff: options.restart_backoff,
    };
    let down = watch::Sender::new(false);
    let kubelet = tokio::spawn(pod::run(context, down.subscribe()));
    let kubelet_abort = kubelet.abort_handle();
    Ok(NodeHandle { logs, down, kubelet, _controllers: controllers, kubelet_abort })
}

impl NodeHandle {
    /// The logs of the node's containers.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Ends every container, with SIGTERM and two seconds later SIGKILL, and returns when all have ended. What the
    /// store has of their Pods stays as it was: the node does not report its own end.
    pub async fn shutdown(mut self) {
        self.down.send_replace(true);
        if let Err(error) = (&mut self.kubelet).await {
            tracing::error!(%error, "the node did not end cleanly");
        }
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.kubelet_abort.abort();
    }
}

#[cfg(test)]
mod tests;
