//! Which cluster a command uses.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use paperclip_cluster::{LocalCluster, Options};
use paperclip_shell::{Access, Cluster};
use serde_json::Value;

use crate::args::{AccessArgs, ClusterKind};
use crate::environment;
use crate::exit::usage;

/// A cluster to run agents on, and what keeps it alive.
pub(crate) struct Connected {
    pub(crate) cluster: Cluster,
    /// The local cluster, where it is the one.
    pub(crate) local: Option<LocalCluster>,
    /// Which cluster it is, for a person.
    pub(crate) place: String,
}

/// Connects to the cluster that was asked for, else to the one that is at hand, and makes sure that it answers.
pub(crate) async fn connect(args: &AccessArgs, volumes: Option<&Path>) -> anyhow::Result<Connected> {
    let mut connected = open(args, volumes).await?;
    let version = connected.cluster.version().await.map_err(usage)?;
    if connected.local.is_none() {
        connected.place = format!("Kubernetes {version} at {}", connected.place);
    }
    Ok(connected)
}

/// The same without a request to the cluster.
pub(crate) async fn open(args: &AccessArgs, volumes: Option<&Path>) -> anyhow::Result<Connected> {
    let kind = choose(args, is_inside_cluster(), has_kubeconfig());
    let (access, local) = match kind {
        ClusterKind::Local => {
            let options = Options { state_dir: volumes.map(Path::to_owned), ..Options::default() };
            let local = LocalCluster::start(options).await.context("the local cluster does not start")?;
            (Access::Inline { kubeconfig: local.kubeconfig()? }, Some(local))
        }
        ClusterKind::Kubeconfig => {
            (Access::Kubeconfig { path: args.kubeconfig.clone(), context: args.context_name.clone() }, None)
        }
        ClusterKind::Incluster => (Access::InCluster, None),
    };
    let cluster = Cluster::connect(&access).await.map_err(usage)?;
    let place = match kind {
        ClusterKind::Local => "local cluster (containers are processes of this machine)".to_owned(),
        ClusterKind::Kubeconfig | ClusterKind::Incluster => {
            format!("{} ({})", cluster.server(), cluster.place())
        }
    };
    Ok(Connected { cluster, local, place })
}

fn choose(args: &AccessArgs, is_inside_cluster: bool, has_kubeconfig: bool) -> ClusterKind {
    if let Some(kind) = args.cluster {
        return kind;
    }
    if args.kubeconfig.is_some() || args.context_name.is_some() {
        ClusterKind::Kubeconfig
    } else if is_inside_cluster {
        ClusterKind::Incluster
    } else if has_kubeconfig {
        ClusterKind::Kubeconfig
    } else {
        ClusterKind::Local
    }
}

fn is_inside_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

fn has_kubeconfig() -> bool {
    std::env::var_os("KUBECONFIG").is_some_and(|paths| !paths.is_empty())
        || std::env::home_dir().is_some_and(|home| home.join(".kube/config").is_file())
}

/// The pod that this process runs in, where it runs in one, as far as agents may inherit from it: without what the host's
/// own files, which are no agent's business, come from.
pub(crate) async fn own_pod(cluster: &Cluster, own_files: &[PathBuf]) -> anyhow::Result<Option<Value>> {
    let Some(name) = std::env::var("HOSTNAME").ok().filter(|_| is_inside_cluster()) else { return Ok(None) };
    let path = format!("/api/v1/namespaces/{}/pods/{name}", cluster.default_namespace());
    let request = http::Request::get(&path).body(Vec::new())?;
    let mut pod = cluster
        .client()
        .request::<Value>(request)
        .await
        .with_context(|| format!("own pod {name}: cannot be read; give it with --self-pod"))?;
    environment::withhold(&mut pod, own_files);
    Ok(Some(pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_goes_before_what_is_found() {
        let none = AccessArgs { cluster: None, kubeconfig: None, context_name: None };
        assert_eq!(choose(&none, false, false), ClusterKind::Local);
        assert_eq!(choose(&none, false, true), ClusterKind::Kubeconfig);
        assert_eq!(choose(&none, true, true), ClusterKind::Incluster);
        let file = AccessArgs { kubeconfig: Some("k".into()), ..none.clone() };
        assert_eq!(choose(&file, true, false), ClusterKind::Kubeconfig);
        let local = AccessArgs { cluster: Some(ClusterKind::Local), ..file };
        assert_eq!(choose(&local, true, true), ClusterKind::Local);
    }
}
