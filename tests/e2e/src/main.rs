//! The end-to-end suite: runs of the built host on a real Kubernetes. `cargo xtask e2e` calls it.
//!
//! A scenario is a file of `scenarios/`. Each runs in its own namespace, and the same is checked after each: every line of the agent
//! exists once, there is one result, the agent was started once, nothing is left in the cluster, and the run's token is nowhere. Those of
//! `scenarios/replicas` have several daemons, and one of them runs at a time: their figures are times.

mod chaos;
mod daemon;
mod deployment;
mod host;
mod kubectl;
mod messages;
mod own_cluster;
mod proxy;
mod records;
mod replicas;
mod rights;
mod scenario;
mod stage;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result, bail};
use clap::Parser;

use chaos::Chaos;
use own_cluster::OwnCluster;
use scenario::Scenario;
use stage::World;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();
/// Number of concurrent scenarios: most of the time a run waits for the cluster.
const AT_ONCE: usize = 3;

/// Runs end-to-end scenarios on a Kubernetes cluster.
#[derive(Parser, Debug)]
struct Options {
    /// The program under test
    #[arg(long, value_name = "FILE")]
    host: PathBuf,
    /// The cluster
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// The image with the scripted agent, by its name on the cluster's nodes
    #[arg(long, value_name = "NAME")]
    image: String,
    /// The image with the agent's real CLI, by its name on the cluster's nodes
    #[arg(long, value_name = "NAME")]
    cli_image: Option<String>,
    /// The folder of the cluster, if it is that of tests/kubernetes: scenarios may then kill its parts
    #[arg(long, value_name = "DIR", requires = "image_files")]
    own_cluster: Option<PathBuf>,
    /// The files of the agent's image
    #[arg(long, value_name = "DIR")]
    image_files: Option<PathBuf>,
    /// The program as it was before hosts had Leases, for scenarios with mixed versions
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    /// Folder of the hosts' files; kept
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// Only those that every change must pass
    #[arg(long)]
    ci: bool,
    /// Only scenarios whose name contains one of these
    names: Vec<String>,
    /// Instead of scenarios
    #[command(subcommand)]
    chaos: Option<Chaos>,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("{BAD}error:{BAD:#} {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<bool> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own_cluster = options.own_cluster.zip(options.image_files).map(|(folder, image_files)| OwnCluster {
        script: here.join("../kubernetes/kube"),
        folder,
        image_files,
    });
    std::fs::create_dir_all(&options.folder).context("cannot make the folder for the hosts' files")?;
    let world = World {
        program: options.host,
        kubeconfig: options.kubeconfig,
        image: options.image,
        cli_image: options.cli_image,
        previous: options.previous,
        own_cluster,
        folder: options.folder,
    };
    if let Some(chaos) = &options.chaos {
        return chaos::run(&world, chaos);
    }
    let alone = scenario::read_all(&here.join("scenarios"))?
        .into_iter()
        .map(|scenario| Scene::OneRun(Box::new(scenario)));
    let replicated = replicas::scenario::read_all(&here.join("scenarios/replicas"))?;
    let all = alone.chain(replicated.into_iter().map(Scene::Replicas));
    let is_selected = |scene: &Scene| {
        let is_named =
            options.names.is_empty() || options.names.iter().any(|name| scene.name().contains(name));
        is_named && (scene.is_of_ci() || !options.ci)
    };
    let mut can = Vec::new();
    let mut left_out = 0;
    for scene in all.filter(is_selected) {
        match lacks(&world, &scene) {
            None => can.push(scene),
            Some(what) => {
                left_out += 1;
                anstream::println!("{FAINT}left out{FAINT:#} {} (it needs {what})", scene.name());
            }
        }
    }
    if can.is_empty() {
        bail!("no scenario is left: names are parts of the names of files in tests/e2e/scenarios");
    }
    let (alone, beside): (Vec<_>, Vec<_>) = can.into_iter().partition(Scene::is_alone);
    let failed = play_all(&world, &beside, AT_ONCE) + play_all(&world, &alone, 1);
    anstream::println!(
        "e2e: {} passed, {failed} failed, {left_out} left out",
        beside.len() + alone.len() - failed
    );
    Ok(failed == 0)
}

/// A scenario of either kind.
enum Scene {
    OneRun(Box<Scenario>),
    Replicas(replicas::scenario::Scenario),
}

impl Scene {
    fn name(&self) -> &str {
        match self {
            Scene::OneRun(scenario) => &scenario.name,
            Scene::Replicas(scenario) => &scenario.name,
        }
    }

    fn about(&self) -> &str {
        match self {
            Scene::OneRun(scenario) => &scenario.about,
            Scene::Replicas(scenario) => &scenario.about,
        }
    }

    fn is_of_ci(&self) -> bool {
        match self {
            Scene::OneRun(scenario) => scenario.ci,
            Scene::Replicas(scenario) => scenario.ci,
        }
    }

    fn is_alone(&self) -> bool {
        match self {
            Scene::OneRun(scenario) => scenario.alone,
            Scene::Replicas(_) => true,
        }
    }

    /// Returns the figures that it measures.
    fn play(&self, world: &World) -> Result<Vec<String>> {
        match self {
            Scene::OneRun(scenario) => stage::play(world, scenario).map(|()| Vec::new()),
            Scene::Replicas(scenario) => replicas::play(world, scenario),
        }
    }
}

/// Returns what a scenario needs and this run of the suite does not have.
fn lacks(world: &World, scene: &Scene) -> Option<&'static str> {
    let (needs_cluster, needs_cli, needs_previous) = match scene {
        Scene::OneRun(scenario) => (scenario.own_cluster, scenario.real_cli, false),
        Scene::Replicas(scenario) => (scenario.own_cluster, false, scenario.has_previous()),
    };
    if needs_cluster && world.own_cluster.is_none() {
        return Some("the cluster of tests/kubernetes");
    }
    if needs_previous && world.previous.is_none() {
        return Some("the previous build: `cargo xtask e2e --previous`");
    }
    (needs_cli && world.cli_image.is_none()).then_some("the image with the CLI: `cargo xtask e2e --cli`")
}

/// Runs scenarios, some concurrently, and reports each as it ends. Returns the number of failures.
fn play_all(world: &World, scenes: &[Scene], at_once: usize) -> usize {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let terminal = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(scene) = scenes.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let start = Instant::now();
                    let outcome = scene.play(world);
                    let took = start.elapsed().as_secs_f64();
                    let _one_at_a_time = terminal.lock();
                    match outcome {
                        Ok(figures) => {
                            anstream::println!("{GOOD}ok{GOOD:#}   {took:5.1} s  {}", scene.name());
                            for figure in figures {
                                anstream::println!("             {figure}");
                            }
                        }
                        Err(error) => {
                            failed.fetch_add(1, Ordering::SeqCst);
                            anstream::println!(
                                "{BAD}FAIL{BAD:#} {took:5.1} s  {}: {}",
                                scene.name(),
                                scene.about()
                            );
                            let reasons: Vec<String> = error.chain().map(ToString::to_string).collect();
                            let reasons: Vec<&str> = reasons.iter().rev().map(String::as_str).collect();
                            anstream::println!("{}", reasons.join("\n"));
                        }
                    }
                }
            });
        }
    });
    failed.into_inner()
}
