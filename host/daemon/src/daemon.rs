//! The daemon as a whole: opened, run, stopped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paperclip_diagnostic::{Diagnose, Diagnostic};
use paperclip_guest::{Catalogue, CatalogueOptions, FolderError, RuntimeError};
use paperclip_prepare::access::{AccessError, ConnectedCluster, Fallback};
use paperclip_prepare::config::Listen;
use paperclip_prepare::plugins::BuiltinPlugins;
use paperclip_prepare::state::StateLock;
use paperclip_prepare::{Config, HostContext, paperclip_pod, plugins, state, token};
use paperclip_shell::{Cluster, UrlError};
use paperclip_traces::Traces;
use tokio::sync::watch;

use crate::api::{Access, Listener, Tokens, router, serve};
use crate::plugin_config_maps::follow_config_maps;
use crate::plugins_folder::watch_plugins;
use crate::supervisor::{Clusters, PeerAccess, Resources, Supervisor};

/// Plugin instances beyond those of runs: for pure functions, and to try out new plugins.
const SPARE_INSTANCES: u32 = 32;

/// A daemon that is ready to serve.
#[derive(Debug)]
pub struct Daemon {
    supervisor: Supervisor,
    access: Access,
    listeners: Vec<Listener>,
    cluster: ConnectedCluster,
    traces: Option<Traces>,
    /// No other daemon uses the state folder meanwhile.
    state: StateLock,
}

/// Why a daemon does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("clusters.{name}: {error}")]
    NamedCluster { name: String, error: AccessError },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Plugins(#[from] FolderError),
    #[error(transparent)]
    PaperclipApi(#[from] UrlError),
    /// The configuration, a file or an address that it names.
    #[error("{}", .0.message)]
    Config(Diagnostic),
}

impl From<Diagnostic> for OpenError {
    fn from(diagnostic: Diagnostic) -> OpenError {
        OpenError::Config(diagnostic)
    }
}

impl Diagnose for OpenError {
    fn code(&self) -> &'static str {
        match self {
            OpenError::Access(error) | OpenError::NamedCluster { error, .. } => error.code(),
            OpenError::Runtime(error) => error.code(),
            OpenError::Plugins(error) => error.code(),
            OpenError::PaperclipApi(error) => error.code(),
            OpenError::Config(diagnostic) => diagnostic.code,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            OpenError::Access(error) | OpenError::NamedCluster { error, .. } => error.hint(),
            OpenError::Runtime(error) => error.hint(),
            OpenError::Plugins(error) => error.hint(),
            OpenError::PaperclipApi(error) => error.hint(),
            OpenError::Config(diagnostic) => diagnostic.hint.as_deref().map(Cow::from),
        }
    }
}

impl Daemon {
    /// Prepares everything that may fail: state folder, plugins, clusters, Paperclip's pod, the addresses. Starts no run yet.
    ///
    /// # Errors
    /// Names the field of the configuration, the file, the address or the cluster that cannot be used.
    pub async fn open(config: Config, builtins: BuiltinPlugins) -> Result<Daemon, OpenError> {
        raise_file_limit();
        let state = state::folder(config.state.clone()).ok_or_else(state::no_folder)?;
        state::create_folder(&state)?;
        let lock = StateLock::take(&state)?;
        let access = Access {
            tokens: open_tokens(&config, &state)?,
            admin_tokens: config.admin_token_file.as_deref().map(Tokens::of_admin).transpose()?,
        };
        let config = Config { plugins: plugins_folder(&config, &state)?, ..config };
        let catalogue = Arc::new(open_catalogue(&config, builtins)?);
        let volumes = state::local_cluster_folder(&state);
        let cluster = config.cluster.connect(Fallback::Refuse, Some(&volumes)).await?;
        let pod = config.self_pod.as_deref().map(paperclip_pod::read).transpose()?;
        let named = named_clusters(&config).await?;
        let host = HostContext { paperclip_pod: pod, ..HostContext::new(config, Some(state)) };
        if let Some(url) = &host.config.paperclip_api_url {
            host.paperclip_apis.get(url)?;
        }
        let endpoint = host.config.traces.endpoint.as_deref();
        let traces = endpoint.map(|endpoint| Traces::to(endpoint, host.host_id.clone())).transpose()?;
        let listeners = listen(&host.config).await?;
        let clusters = Clusters {
            default: cluster.cluster.clone(),
            place: cluster.place.clone(),
            is_default_local: cluster.is_local(),
            named,
        };
        let peers = PeerAccess::open(&host.config.peers, &host.host_id)?;
        let resources = Resources { host, clusters, catalogue, traces: traces.clone(), peers };
        let supervisor = Supervisor::new(resources);
        supervisor.log_rejected_plugins();
        Ok(Daemon { supervisor, access, listeners, cluster, traces, state: lock })
    }

    /// Serves until `stop` completes, then detaches from all runs, which continue in the cluster.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Daemon { supervisor, access, listeners, cluster, traces, state } = self;
        for listener in &listeners {
            tracing::info!(address = listener.address(), place = cluster.place, "serves");
        }
        supervisor.resume().await;
        supervisor.adopt().await;
        let sweeper = supervisor.clone();
        let sweeping = tokio::spawn(async move { sweeper.sweep().await });
        let watching = supervisor.host().config.plugins.clone().map(|folder| {
            let supervisor = supervisor.clone();
            tokio::spawn(async move { watch_plugins(supervisor, &folder).await })
        });
        let following = supervisor.host().config.plugins_namespace.clone().map(|namespace| {
            let supervisor = supervisor.clone();
            tokio::spawn(async move { follow_config_maps(supervisor, &namespace).await })
        });
        let (close, closing) = watch::channel(false);
        let router = router(supervisor.clone(), access, closing);
        let stopped = async {
            stop.await;
            // New runs are refused from here on; followers still receive the last events of the others.
            let left = supervisor.stop().await;
            if left > 0 {
                tracing::warn!(
                    left,
                    "runs were not detached in time: they are free when their leases expire"
                );
            }
            close.send_replace(true);
        };
        serve(listeners, router, stopped).await;
        sweeping.abort();
        for task in [watching, following].into_iter().flatten() {
            task.abort();
        }
        if let Some(traces) = traces {
            traces.flush().await;
        }
        cluster.shutdown().await;
        drop(state);
    }
}

/// Listens at all addresses. The socket in Paperclip's home folder, if nobody asked for it, is left out where it cannot be made.
async fn listen(config: &Config) -> Result<Vec<Listener>, Diagnostic> {
    let is_default = config.listen.0.is_empty();
    let mut listeners = Vec::new();
    for address in config.addresses() {
        match Listener::open(&address, config.tls.as_ref()).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_default && matches!(address, Listen::Unix(_)) => {
                tracing::warn!(%error, "Paperclip's server on this machine has to use TCP");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

/// Returns the tokens of clients on TCP: those of the configured file, else one that is generated into the state folder.
fn open_tokens(config: &Config, state: &Path) -> Result<Option<Tokens>, Diagnostic> {
    if config.addresses().iter().all(|address| matches!(address, Listen::Unix(_))) {
        return Ok(None);
    }
    let file = match &config.token_file {
        Some(file) => file.clone(),
        None => {
            let file = state::token_file(state);
            token::generate(&file)?;
            file
        }
    };
    Tokens::open(&file).map(Some)
}

/// Returns the plugins folder: the configured one, else one in the state folder where plugins can be put.
fn plugins_folder(config: &Config, state: &Path) -> Result<Option<PathBuf>, Diagnostic> {
    if config.plugins.is_some() || config.admin_token_file.is_none() {
        return Ok(config.plugins.clone());
    }
    let folder = state::plugins_folder(state);
    state::create_folder(&folder)?;
    Ok(Some(folder))
}

fn open_catalogue(config: &Config, builtins: BuiltinPlugins) -> Result<Catalogue, OpenError> {
    let runtime = plugins::runtime(config.limits.runs.saturating_add(SPARE_INSTANCES))?;
    let options = CatalogueOptions {
        builtins,
        folder: config.plugins.clone(),
        max_traps: config.limits.plugin_traps as usize,
    };
    Ok(Catalogue::open(runtime, options)?)
}

async fn named_clusters(config: &Config) -> Result<BTreeMap<String, Cluster>, OpenError> {
    let mut clusters = BTreeMap::new();
    for (name, named) in &config.clusters {
        let connected = named.choice().open(Fallback::Refuse, None).await;
        let connected = connected.map_err(|error| OpenError::NamedCluster { name: name.clone(), error })?;
        clusters.insert(name.clone(), connected.cluster);
    }
    Ok(clusters)
}

/// Raises the soft limit of open files, which is often 1,024: a run needs several, for its journal, lock, log stream and followers.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, soft = limit.current, "the limit of open files is not raised");
    }
}
