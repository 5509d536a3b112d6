//! Access to clusters: which one a process uses, and the connection to it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use paperclip_diagnostic::Diagnose;
use paperclip_shell::{Access, Cluster, ConnectError};
use serde::{Deserialize, Serialize};

/// The choice of a cluster. Every field is optional.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterChoice {
    /// Default: `incluster` inside a cluster, else `kubeconfig` if one is given or found, else what [`Fallback`] says.
    pub kind: Option<ClusterKind>,
    /// Kubeconfig file; default: `$KUBECONFIG`, then `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: its current one.
    pub context: Option<String>,
}

/// The kind of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ClusterKind {
    /// In this process: containers are local processes that nothing isolates; needs no cluster
    Local,
    /// The cluster of a kubeconfig
    Kubeconfig,
    /// The cluster that this process runs in
    Incluster,
}

/// What happens if a choice names no cluster and none is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Agents run as processes of this machine.
    Local,
    /// The command is refused: agents as processes that nothing isolates are something one asks for by name.
    Refuse,
}

/// A cluster to run agents on, and what keeps it alive.
#[derive(Debug)]
pub struct ConnectedCluster {
    pub cluster: Cluster,
    /// Which cluster it is, for people.
    pub place: String,
    local: Option<LocalCluster>,
}

impl ConnectedCluster {
    /// Returns whether agents are processes of this machine.
    pub fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// Stops the local cluster, if this is one.
    pub async fn shutdown(self) {
        if let Some(local) = self.local {
            local.shutdown().await;
        }
    }
}

/// Why there is no cluster to run agents on.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no cluster is configured, and none is found")]
    NoneFound,
    #[error("this program is built without the local cluster")]
    NoLocalCluster,
    #[error("the local cluster does not start: {0}")]
    Local(String),
}

impl Diagnose for AccessError {
    fn code(&self) -> &'static str {
        match self {
            AccessError::Connect(error) => error.code(),
            AccessError::NoneFound => "no_cluster",
            AccessError::NoLocalCluster => "no_local_cluster",
            AccessError::Local(_) => "local_cluster_failed",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            AccessError::Connect(error) => error.hint(),
            AccessError::NoneFound if HAS_LOCAL_CLUSTER => Some(
                "name a kubeconfig with --kubeconfig, run inside a cluster, or ask for agents as processes of this machine with --cluster local"
                    .into(),
            ),
            AccessError::NoneFound => {
                Some("name a kubeconfig with --kubeconfig, or run inside a cluster".into())
            }
            AccessError::NoLocalCluster => Some(
                "name a kubeconfig with --kubeconfig, or use a build with the feature local-cluster".into(),
            ),
            AccessError::Local(_) => None,
        }
    }
}

/// Whether this build has the local cluster.
pub const HAS_LOCAL_CLUSTER: bool = cfg!(feature = "local-cluster");

impl ClusterChoice {
    /// Connects to the chosen cluster, else to the one that is found, and checks that it answers. `volumes` is the folder in which a
    /// local cluster keeps its volumes.
    ///
    /// # Errors
    /// There is no cluster, its credentials cannot be read, or it does not answer.
    pub async fn connect(
        &self,
        fallback: Fallback,
        volumes: Option<&Path>,
    ) -> Result<ConnectedCluster, AccessError> {
        let mut connected = self.open(fallback, volumes).await?;
        let version = connected.cluster.version().await?;
        if connected.local.is_none() {
            connected.place = format!("Kubernetes {version} at {}", connected.place);
        }
        Ok(connected)
    }

    /// Prepares the connection without a request to the cluster.
    ///
    /// # Errors
    /// There is no cluster, or its credentials cannot be read.
    pub async fn open(
        &self,
        fallback: Fallback,
        volumes: Option<&Path>,
    ) -> Result<ConnectedCluster, AccessError> {
        let access = match self.resolve(&Found::here(), fallback)? {
            ClusterKind::Local => return open_local(volumes).await,
            ClusterKind::Kubeconfig => {
                Access::Kubeconfig { path: self.kubeconfig.clone(), context: self.context.clone() }
            }
            ClusterKind::Incluster => Access::InCluster,
        };
        let cluster = Cluster::connect(&access).await?;
        let place = format!("{} ({})", cluster.server(), cluster.place());
        Ok(ConnectedCluster { cluster, place, local: None })
    }

    fn resolve(&self, found: &Found, fallback: Fallback) -> Result<ClusterKind, AccessError> {
        match self.kind {
            Some(kind) => Ok(kind),
            None if self.kubeconfig.is_some() || self.context.is_some() => Ok(ClusterKind::Kubeconfig),
            None if found.is_inside_cluster => Ok(ClusterKind::Incluster),
            None if found.has_kubeconfig => Ok(ClusterKind::Kubeconfig),
            None => match fallback {
                Fallback::Local if HAS_LOCAL_CLUSTER => Ok(ClusterKind::Local),
                Fallback::Local | Fallback::Refuse => Err(AccessError::NoneFound),
            },
        }
    }
}

/// What the environment of this process offers.
#[derive(Debug, Default)]
struct Found {
    is_inside_cluster: bool,
    has_kubeconfig: bool,
}

impl Found {
    fn here() -> Found {
        Found { is_inside_cluster: is_inside_cluster(), has_kubeconfig: has_kubeconfig() }
    }
}

/// Returns whether this process runs in a Pod.
fn is_inside_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn has_kubeconfig() -> bool {
    std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty())
        || std::env::home_dir().is_some_and(|home| home.join(".kube/config").is_file())
}

#[cfg(feature = "local-cluster")]
use paperclip_cluster::LocalCluster;

#[cfg(feature = "local-cluster")]
async fn open_local(volumes: Option<&Path>) -> Result<ConnectedCluster, AccessError> {
    use paperclip_cluster::Options;

    let options = Options { state_dir: volumes.map(Path::to_owned), ..Options::default() };
    let local = LocalCluster::start(options).await;
    let local = local.map_err(|error| AccessError::Local(format!("{error:#}")))?;
    let kubeconfig = local.kubeconfig();
    let cluster = Cluster::connect(&Access::Inline { kubeconfig }).await?;
    let place = "local cluster (containers are processes of this machine)".to_owned();
    Ok(ConnectedCluster { cluster, place, local: Some(local) })
}

/// The local cluster of a build without one.
#[cfg(not(feature = "local-cluster"))]
#[derive(Debug)]
enum LocalCluster {}

#[cfg(not(feature = "local-cluster"))]
impl LocalCluster {
    async fn shutdown(self) {
        match self {}
    }
}

#[cfg(not(feature = "local-cluster"))]
async fn open_local(_volumes: Option<&Path>) -> Result<ConnectedCluster, AccessError> {
    Err(AccessError::NoLocalCluster)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Found = Found { is_inside_cluster: false, has_kubeconfig: false };
    const POD: Found = Found { is_inside_cluster: true, has_kubeconfig: true };

    fn kind(choice: &ClusterChoice, found: &Found) -> ClusterKind {
        choice.resolve(found, Fallback::Refuse).expect("a cluster")
    }

    #[test]
    fn a_named_cluster_wins_over_a_found_one() {
        let none = ClusterChoice::default();
        let kubeconfig = Found { has_kubeconfig: true, ..Found::default() };
        assert_eq!(kind(&none, &kubeconfig), ClusterKind::Kubeconfig);
        assert_eq!(kind(&none, &POD), ClusterKind::Incluster);
        let file = ClusterChoice { kubeconfig: Some("k".into()), ..none };
        assert_eq!(kind(&file, &POD), ClusterKind::Kubeconfig);
        let local = ClusterChoice { kind: Some(ClusterKind::Local), ..file };
        assert_eq!(kind(&local, &POD), ClusterKind::Local);
    }

    #[test]
    fn without_any_cluster_the_local_one_is_used_only_where_it_is_allowed() {
        let none = ClusterChoice::default();
        let refused = none.resolve(&NOTHING, Fallback::Refuse).expect_err("refused");
        assert!(matches!(refused, AccessError::NoneFound), "{refused}");
        assert!(refused.hint().is_some_and(|hint| hint.contains("--kubeconfig")));
        let allowed = none.resolve(&NOTHING, Fallback::Local);
        assert_eq!(allowed.ok(), HAS_LOCAL_CLUSTER.then_some(ClusterKind::Local));
    }

    #[cfg(not(feature = "local-cluster"))]
    #[tokio::test]
    async fn a_build_without_the_local_cluster_names_the_missing_feature() {
        let local = ClusterChoice { kind: Some(ClusterKind::Local), ..ClusterChoice::default() };
        let error = local.open(Fallback::Local, None).await.expect_err("there is none");
        assert_eq!(error.code(), "no_local_cluster");
        assert!(error.hint().is_some_and(|hint| hint.contains("feature local-cluster")));
    }
}
