//! `cargo xtask kubernetes`: a real Kubernetes on this machine, from `tests/kubernetes`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use sha2::{Digest as _, Sha256};

use crate::figures::duration;
use crate::process;
use crate::workspace::Workspace;

/// The name under which the cluster's node knows the agent's image.
pub(crate) const AGENT_IMAGE: &str = "localhost/agent:1";
/// The Go version that the cluster's sources require.
const GO: (u32, u32) = (1, 26);
/// Programs that a node needs, with their Debian packages.
const PROGRAMS: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("pgrep", "procps"),
];
/// Sources of the cluster's binary; their digest names it.
const SOURCES: [&str; 4] = ["go.mod", "go.sum", "main.go", "build.sh"];

/// A real Kubernetes on this machine, in its own network namespace: for the end-to-end suite, and to try things by hand.
///
/// Builds Kubernetes from Go modules (ten minutes on two cores, once), installs containerd and other missing packages, starts it
/// in ten seconds, and imports an image with a scripted agent. Needs root.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Task,

    /// The cluster's folder, a short path; default: cluster/ in the cache folder
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Task {
    /// Start it, or resume it in the state that `down` left
    Up,
    /// Stop it at once, like a power cut
    Down {
        /// Delete its state, too
        #[arg(long)]
        purge: bool,
    },
    /// Show whether it is running, and its nodes and pods
    Status,
    /// Run a command in the cluster's network namespace, with kubectl on PATH and KUBECONFIG set
    Exec {
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let cluster = OwnCluster::new(&workspace, options.dir.as_deref())?;
    match &options.command {
        Task::Up => cluster.up().map(|()| cluster.print_usage()),
        Task::Down { purge } => {
            cluster.down()?;
            if *purge { cluster.purge() } else { Ok(()) }
        }
        Task::Status => cluster.status(),
        Task::Exec { command } => {
            let mut inside = cluster.inside(&command[0]);
            process::run(inside.args(&command[1..]))
        }
    }
}

/// A cluster of this machine, running or not.
#[derive(Debug)]
pub(crate) struct OwnCluster {
    /// `tests/kubernetes/kube`.
    script: PathBuf,
    /// `tests/e2e/agent/image.sh`.
    image_script: PathBuf,
    /// The folder of Kubernetes' binaries.
    binaries: PathBuf,
    /// The cluster's folder.
    pub(crate) folder: PathBuf,
}

impl OwnCluster {
    pub(crate) fn new(workspace: &Workspace, folder: Option<&Path>) -> Result<OwnCluster> {
        let cache = cache_folder()?;
        let kit = workspace.root.join("tests/kubernetes");
        Ok(OwnCluster {
            binaries: cache.join(format!("kubernetes-{}", digest(&kit)?)),
            folder: folder.map_or_else(|| cache.join("cluster"), Path::to_owned),
            script: kit.join("kube"),
            image_script: workspace.root.join("tests/e2e/agent/image.sh"),
        })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The folder with the files of the agent's image.
    pub(crate) fn image_files(&self) -> PathBuf {
        self.folder.join("agent")
    }

    /// Builds and installs what is missing, starts the cluster, and imports the agent's image.
    pub(crate) fn up(&self) -> Result<()> {
        if self.is_up() {
            process::note(&format!("The cluster in {} is already running", self.folder.display()));
            return Ok(());
        }
        check_machine()?;
        install_missing()?;
        self.build()?;
        std::fs::create_dir_all(&self.folder)?;
        let start = Instant::now();
        process::run(self.kube("up").arg(&self.binaries))?;
        process::run(Command::new(&self.image_script).arg(self.image_files()))?;
        process::run(self.kube("import").arg(AGENT_IMAGE).arg(self.image_files()).arg("sh"))?;
        process::note(&format!("Kubernetes is up after {}", duration(start.elapsed())));
        Ok(())
    }

    /// Imports an image of the agent with its real CLI and the scripted API.
    pub(crate) fn import_cli(&self, name: &str, cli: &Path, api: &Path) -> Result<()> {
        let files = self.folder.join("agent-cli");
        process::run(Command::new(&self.image_script).arg(&files).arg(cli).arg(api))?;
        process::run(self.kube("import").arg(name).arg(&files).arg("sh"))
    }

    pub(crate) fn down(&self) -> Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        process::run(&mut self.kube("down"))
    }

    /// Deletes the cluster's files.
    pub(crate) fn purge(&self) -> Result<()> {
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder)
                .with_context(|| format!("cannot remove {}", self.folder.display()))?;
        }
        Ok(())
    }

    /// Returns a command that runs in the cluster's network namespace.
    pub(crate) fn inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.kube("in");
        command.arg(program);
        command
    }

    fn build(&self) -> Result<()> {
        if self.binaries.join("kubectl").exists() {
            return Ok(());
        }
        check_go()?;
        process::note(&format!(
            "Building Kubernetes into {}: about ten minutes on two cores, once",
            self.binaries.display()
        ));
        let start = Instant::now();
        // Low priority: other builds of the machine come first.
        let mut build = Command::new("nice");
        process::run(build.arg(&self.script).arg("build").arg(&self.binaries))?;
        process::note(&format!("Kubernetes was built in {}", duration(start.elapsed())));
        Ok(())
    }

    fn is_up(&self) -> bool {
        let pid = std::fs::read_to_string(self.folder.join("run/node.pid"));
        pid.is_ok_and(|pid| Path::new("/proc").join(pid.trim()).exists())
    }

    fn print_usage(&self) {
        process::summary(&format!("kubernetes: up in {}", self.folder.display()));
        process::note("It can be reached from its own network namespace only. Try:");
        process::note("  cargo xtask kubernetes exec kubectl get nodes");
        process::note("  cargo xtask kubernetes exec dist/paperclip-host run --context context.json");
    }

    fn status(&self) -> Result<()> {
        if !self.is_up() {
            process::note(&format!("No cluster is running in {}", self.folder.display()));
            return Ok(());
        }
        process::note(&format!("The cluster in {} is up", self.folder.display()));
        for what in ["nodes", "pods"] {
            process::run(self.inside("kubectl").args(["get", what, "--all-namespaces", "-o", "wide"]))?;
        }
        Ok(())
    }

    /// Returns the control script with its first two arguments.
    fn kube(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        command.arg(verb).arg(&self.folder);
        command
    }
}

/// `$XDG_CACHE_HOME/paperclip-k8s` or `~/.cache/paperclip-k8s`.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(base) if !base.is_empty() => PathBuf::from(base),
        Some(_) | None => {
            std::env::home_dir().context("there is no home folder: set XDG_CACHE_HOME")?.join(".cache")
        }
    };
    Ok(base.join("paperclip-k8s"))
}

fn digest(kit: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    for name in SOURCES {
        let path = kit.join(name);
        hash.update(std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

/// Checks the prerequisites that no package provides.
fn check_machine() -> Result<()> {
    let is_root = process::output(Command::new("id").arg("-u"))? == "0";
    if !is_root {
        bail!("a Kubernetes node needs root: run this as root, or name another cluster with --kubeconfig");
    }
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
        && !Path::new("/sys/fs/cgroup/memory").exists()
    {
        bail!("a Kubernetes node needs cgroups, and /sys/fs/cgroup has none: mount them");
    }
    Ok(())
}

fn check_go() -> Result<()> {
    let requirement = format!("building Kubernetes needs Go {}.{} or newer: install it", GO.0, GO.1);
    let found =
        process::output(Command::new("go").args(["env", "GOVERSION"])).context(requirement.clone())?;
    match go_version(&found) {
        Some(version) if version >= GO => Ok(()),
        Some(_) | None => bail!("{requirement}, found {found}"),
    }
}

/// `go1.26.8` → (1, 26).
fn go_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("go")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn install_missing() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_installed = |program: &str| match program.starts_with('/') {
        true => Path::new(program).exists(),
        false => process::find_program(program, &path).is_some(),
    };
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if process::find_program("apt-get", &path).is_none() {
        bail!("a node needs {} (Debian's package names): install them", missing.join(", "));
    }
    process::run(Command::new("apt-get").args(["--quiet", "update"]))?;
    process::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["--quiet", "install", "--yes", "--no-install-recommends"])
            .args(missing),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_version_is_parsed() {
        assert_eq!(go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(go_version("go1.27rc1"), None);
        assert_eq!(go_version("devel"), None);
        assert!((1, 26) >= GO && (1, 9) < GO);
    }

    #[test]
    fn binary_is_named_by_the_digest_of_its_sources() {
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kubernetes");
        assert_eq!(digest(&kit).unwrap().len(), 12);
        assert!(digest(Path::new("/nowhere")).is_err());
    }
}
