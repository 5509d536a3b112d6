//! `cargo xtask e2e`: the end-to-end suite on a real Kubernetes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::claude;
use crate::dist::HOST;
use crate::figures::duration;
use crate::kubernetes::{AGENT_IMAGE, OwnCluster};
use crate::previous;
use crate::process;
use crate::toolchain;
use crate::wasm;
use crate::workspace::{self, Workspace};

/// The name under which the nodes know the image with the CLI.
const CLI_IMAGE: &str = "localhost/agent-cli:1";

/// Runs the scenarios of tests/e2e on a real Kubernetes: a new one on this machine, or any other.
///
/// Without --kubeconfig, starts a new cluster and deletes it afterwards. With --kubeconfig, scenarios that kill parts of the
/// cluster are skipped, kubectl must be on PATH, and the nodes need the agent's image (tests/e2e/agent/image.sh makes it).
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    stage: Stage,

    /// Also the scenarios with the agent's real CLI, which npm installs into the cache folder, once
    #[arg(long)]
    cli: bool,

    /// Also the scenarios with the build of before hosts had Leases beside this one, which is built into the cache folder, once
    #[arg(long)]
    previous: bool,

    /// Only the scenarios that every change must pass
    #[arg(long)]
    ci: bool,

    /// Only scenarios whose name contains one of these
    names: Vec<String>,
}

/// The cluster, the image and the host that the suite uses.
#[derive(Args, Debug)]
pub(crate) struct Stage {
    #[command(flatten)]
    toolchain: toolchain::Selection,

    /// Use this cluster instead of a new one on this machine
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The agent's image, by its name on that cluster's nodes
    #[arg(long, value_name = "NAME", default_value = AGENT_IMAGE)]
    image: String,

    /// Keep the cluster and the hosts' files for inspection
    #[arg(long)]
    keep: bool,

    /// Build the host with the release profile
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut arguments: Vec<String> = options.ci.then(|| "--ci".to_owned()).into_iter().collect();
    if options.previous {
        let workspace = Workspace::find()?;
        let (program, _) = process::stage("the previous build", || previous::build(&workspace))?;
        let program = program.into_os_string().into_string();
        let program = program
            .map_err(|path| anyhow!("the path of the cache folder is not UTF-8: {}", path.display()))?;
        arguments.extend(["--previous".to_owned(), program]);
    }
    arguments.extend(options.names.iter().cloned());
    perform(&options.stage, &arguments, options.cli)
}

/// Builds host and suite, and runs the suite with the arguments.
pub(crate) fn perform(stage: &Stage, arguments: &[String], with_cli: bool) -> Result<()> {
    let workspace = Workspace::find()?;
    let cli = if with_cli { Some(Cli::prepare(&workspace)?) } else { None };
    process::stage("plugins", || wasm::build(&workspace, stage.toolchain))?;
    let (programs, _) = process::stage("host and suite", || Programs::build(stage.release))?;
    let start = Instant::now();
    match &stage.kubeconfig {
        Some(kubeconfig) => {
            let folder = workspace.target.join("e2e");
            clear(&folder)?;
            let mut suite = Command::new(&programs.suite);
            suite.arg("--kubeconfig").arg(kubeconfig).arg("--folder").arg(folder);
            if cli.is_some() {
                // Its nodes need it, as they need the other one.
                suite.arg("--cli-image").arg(CLI_IMAGE);
            }
            process::run(stage.configure(&mut suite, &programs).args(arguments))
        }
        None => run_on_new_cluster(&workspace, stage, &programs, arguments, cli.as_ref()),
    }?;
    process::summary(&format!("e2e: all passed in {}", duration(start.elapsed())));
    Ok(())
}

fn run_on_new_cluster(
    workspace: &Workspace,
    stage: &Stage,
    programs: &Programs,
    arguments: &[String],
    cli: Option<&Cli>,
) -> Result<()> {
    // Not the cluster of `cargo xtask kubernetes up`, which may be in use.
    let default = OwnCluster::new(workspace, None)?;
    let cluster = OwnCluster::new(workspace, Some(&default.folder.with_file_name("e2e")))?;
    cluster.down()?;
    cluster.purge()?;
    process::stage("Kubernetes", || cluster.up())?;
    let mut suite = cluster.inside(&programs.suite);
    suite
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig())
        .arg("--own-cluster")
        .arg(&cluster.folder)
        .arg("--image-files")
        .arg(cluster.image_files())
        .arg("--folder")
        .arg(cluster.folder.join("hosts"));
    if let Some(cli) = cli {
        process::stage("the image with the CLI", || cluster.import_cli(CLI_IMAGE, &cli.program, &cli.api))?;
        suite.arg("--cli-image").arg(CLI_IMAGE);
    }
    let result = process::run(stage.configure(&mut suite, programs).args(arguments));
    if stage.keep {
        process::note(&format!("The cluster keeps running: {}", cluster.folder.display()));
        return result;
    }
    let cleared = cluster.down().and_then(|()| cluster.purge());
    result.and(cleared)
}

impl Stage {
    fn configure<'a>(&self, suite: &'a mut Command, programs: &Programs) -> &'a mut Command {
        suite.arg("--host").arg(&programs.host).arg("--image").arg(&self.image)
    }
}

fn clear(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The agent's real CLI, and the scripted API that it gets.
#[derive(Debug)]
struct Cli {
    program: PathBuf,
    api: PathBuf,
}

impl Cli {
    fn prepare(workspace: &Workspace) -> Result<Cli> {
        let (program, _) = process::stage("the agent's CLI", || claude::install(workspace))?;
        let (api, _) = process::stage("the scripted API", claude::build_api)?;
        Ok(Cli { program, api })
    }
}

/// The programs that take part.
#[derive(Debug)]
struct Programs {
    host: PathBuf,
    suite: PathBuf,
}

impl Programs {
    fn build(release: bool) -> Result<Programs> {
        let mut cargo = workspace::cargo();
        // With the profile and features of the tests, so that nothing is compiled twice.
        cargo.args(["build", "--workspace", "--bins"]);
        cargo.arg(if release { "--release" } else { "--tests" });
        let built = process::build(&mut cargo)?;
        let program = |name: &str| process::built_program(&built, name).map(Path::to_owned);
        Ok(Programs { host: program(HOST)?, suite: program("paperclip-e2e")? })
    }
}
