//! Several daemons on one cluster, and clients that ask any of them.
//!
//! Each run has a client that starts it at a random replica and reconnects at random ones with its cursor; another client asks for random
//! runs and starts them again at random replicas all the time. Replicas are processes outside the cluster, which has no kube-proxy: the
//! suite's list of endpoints takes the part of a Service. At the end every run has one result that every replica knows, every line of every
//! agent was received once, every agent was started once, an accepted cancellation is in the result, and nothing is left.

mod client;
mod http;
mod plugin;
mod random;
mod replica;
pub(crate) mod scenario;
mod tracker;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::host::CANARY;
use crate::kubectl::Kubectl;
use crate::stage::World;
use client::{Followed, Run};
use random::Random;
use replica::{Replica, Service, Setup};
use scenario::{Scenario, Start, Step};
use tracker::Tracker;

/// Pause between the requests of the client that asks for random runs.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// How long after the last result the cluster may take to collect what the Jobs owned.
const COLLECTION: Duration = Duration::from_secs(60);
/// How long the first replicas may take to start: a build without optimisation compiles its plugins for a minute, once.
const START_DEADLINE: Duration = Duration::from_secs(300);
/// Lines after which a run may be cancelled.
const LINES_BEFORE_CANCEL: usize = 2;

/// Runs a scenario in a namespace of its own. Returns its figures, a line each.
///
/// # Errors
/// Names everything that was wrong.
pub(crate) fn play(world: &World, scenario: &Scenario) -> Result<Vec<String>> {
    let namespace = format!("e2e-{}-{}", scenario.name, std::process::id());
    let kubectl = Kubectl::new(&world.kubeconfig, &namespace);
    let folder = world.folder.join(&scenario.name);
    // A state folder of an earlier run of the suite would be resumed.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let deadline = Instant::now() + START_DEADLINE;
    kubectl.run(&format!("create namespace {namespace}"))?;
    let account = "get serviceaccounts default -o name --ignore-not-found";
    kubectl.until(account, "serviceaccount/default", deadline)?;
    let tracker = Tracker::start(&kubectl)?;
    let mut fleet = Fleet {
        world,
        scenario,
        kubectl,
        folder,
        deadline,
        tracker,
        service: Arc::default(),
        replicas: BTreeMap::new(),
        unavailable: BTreeSet::new(),
        runs: Vec::new(),
        clients: Vec::new(),
        swaps: Vec::new(),
        random: Random::new(u64::from(std::process::id())),
    };
    let outcome = fleet.perform().with_context(|| format!("files: {}", fleet.folder.display()));
    fleet.kubectl.run(&format!("delete namespace {namespace} --wait=false"))?;
    outcome
}

struct Fleet<'a> {
    world: &'a World,
    scenario: &'a Scenario,
    kubectl: Kubectl,
    folder: PathBuf,
    deadline: Instant,
    tracker: Tracker,
    service: Arc<Service>,
    replicas: BTreeMap<String, Replica>,
    /// Replicas that are paused.
    unavailable: BTreeSet<String>,
    runs: Vec<Arc<Run>>,
    clients: Vec<JoinHandle<Result<Followed>>>,
    /// How long replicas took to take a plugin, or to reject it.
    swaps: Vec<String>,
    random: Random,
}

impl Fleet<'_> {
    fn perform(&mut self) -> Result<Vec<String>> {
        for start in &self.scenario.replicas {
            self.start(start)?;
        }
        self.deadline = Instant::now() + Duration::from_secs(self.scenario.limit_sec);
        let asker = Asker::start(&self.service, self.scenario.has_previous());
        let outcome = self.take_steps(&asker);
        let asked = asker.stop();
        let followed = outcome?;
        let mut complaints = asked.wrong;
        for (run, followed) in self.runs.iter().zip(&followed) {
            complaints.extend(followed.complaints(run, self.scenario.lines));
        }
        complaints.extend(self.agent_starts()?);
        complaints.extend(self.states());
        complaints.extend(self.leftovers());
        let figures = self.figures(&followed, asked.count, &mut complaints);
        for replica in self.replicas.values_mut() {
            if let Err(error) = replica.stop() {
                complaints.push(format!("replica {}: {error:#}", replica.endpoint.replica));
            }
        }
        if complaints.is_empty() {
            Ok(figures)
        } else {
            bail!("{}\n{}", complaints.join("\n"), figures.join("\n"))
        }
    }

    fn take_steps(&mut self, asker: &Asker) -> Result<Vec<Followed>> {
        self.start_runs(self.scenario.runs, asker)?;
        for step in &self.scenario.steps {
            self.take(step, asker).with_context(|| format!("at {step:?}"))?;
        }
        let mut all = Vec::new();
        for client in self.clients.drain(..) {
            all.push(client.join().map_err(|_| anyhow::anyhow!("a client has panicked"))??);
        }
        Ok(all)
    }

    fn take(&mut self, step: &Step, asker: &Asker) -> Result<()> {
        match step {
            Step::Start(start) => self.start(start)?,
            Step::Stop(name) => {
                self.service.remove(name);
                let mut replica = self.replicas.remove(name).context("it does not run")?;
                let stopped = replica.stop();
                self.update_alive();
                stopped?;
            }
            Step::Kill(name) => {
                let replica = self.replicas.remove(name).context("it does not run")?;
                self.tracker.lose(&replica.advertised);
                self.update_alive();
                drop(replica);
                self.service.remove(name);
            }
            Step::Pause { replica: name, seconds } => {
                let replica = self.replica(name)?;
                replica.signal(Signal::STOP)?;
                self.tracker.lose(&replica.advertised);
                self.unavailable.insert(name.clone());
                self.update_alive();
                std::thread::sleep(Duration::from_secs(*seconds));
                let replica = self.replica(name)?;
                replica.signal(Signal::CONT)?;
                self.tracker.find(&replica.advertised);
                self.unavailable.remove(name);
                self.update_alive();
            }
            Step::Cut(name) => self.replica(name)?.cut(),
            Step::Restore(name) => self.replica(name)?.restore(),
            Step::Outage { component, seconds } => {
                let cluster = self.world.own_cluster.as_ref().context("it needs own-cluster: true")?;
                cluster.stop(component)?;
                std::thread::sleep(Duration::from_secs(*seconds));
                cluster.start(component)?;
            }
            Step::Runs(count) => self.start_runs(*count, asker)?,
            Step::Cancel(count) => self.cancel(*count)?,
            Step::SwapPlugin(build) => {
                let files = (self.world.program.as_path(), self.folder.as_path());
                let swapped = plugin::swap(*build, files, &self.kubectl, &self.service, self.deadline)?;
                self.swaps.push(swapped);
            }
            Step::Wait(seconds) => std::thread::sleep(Duration::from_secs(*seconds)),
        }
        Ok(())
    }

    fn replica(&self, name: &str) -> Result<&Replica> {
        self.replicas.get(name).with_context(|| format!("replica {name} does not run"))
    }

    fn start(&mut self, start: &Start) -> Result<()> {
        let program = match (start.is_previous, &self.world.previous) {
            (false, _) => &self.world.program,
            (true, Some(previous)) => previous,
            (true, None) => bail!("there is no previous build"),
        };
        let state = start.state_of.as_ref().unwrap_or(&start.name);
        let setup = Setup {
            program,
            kubeconfig: &self.world.kubeconfig,
            namespace: &self.kubectl.namespace,
            folder: &self.folder,
            state: self.folder.join(format!("{state}-state")),
            is_previous: start.is_previous,
            watches_plugins: self.scenario.swaps_plugins(),
        };
        self.tracker.set_any_alive(true);
        let replica = Replica::start(&start.name, &setup, self.deadline)?;
        self.service.add(replica.endpoint.clone());
        self.replicas.insert(start.name.clone(), replica);
        Ok(())
    }

    fn update_alive(&self) {
        self.tracker.set_any_alive(self.replicas.keys().any(|name| !self.unavailable.contains(name)));
    }

    fn start_runs(&mut self, count: usize, asker: &Asker) -> Result<()> {
        for _ in 0..count {
            let number = self.runs.len() + 1;
            let id = format!("{}-{number}", self.kubectl.namespace);
            let agent = if self.scenario.is_one_agent { &self.kubectl.namespace } else { &id };
            let play = format!("init; lines {} {}; result", self.scenario.lines, self.scenario.pause_sec);
            let config = json!({
                "image": self.world.image,
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
                "env": {"PLAY": play},
            });
            let context = json!({
                "runId": id,
                "agent": {"id": agent, "companyId": "acme", "name": "Nova", "adapterType": "claude_k8s"},
                "runtime": {}, "config": config, "context": {"taskId": "T-1"}, "authToken": CANARY,
            });
            let body = self.folder.join(format!("{number}-body.json"));
            fs::write(&body, json!({"adapter": "claude_k8s", "context": context}).to_string())?;
            let run = Arc::new(Run {
                id,
                body,
                is_accepted: AtomicBool::new(false),
                lines: AtomicUsize::new(0),
                is_over: AtomicBool::new(false),
                is_cancelled: AtomicBool::new(false),
            });
            asker.add(&run);
            self.runs.push(Arc::clone(&run));
            let (service, deadline) = (Arc::clone(&self.service), self.deadline);
            let random = Random::new(self.random.below(u64::MAX));
            self.clients.push(std::thread::spawn(move || client::drive(&run, &service, random, deadline)));
        }
        Ok(())
    }

    /// Cancels runs whose agents print. What a replica has accepted must be in the result.
    fn cancel(&mut self, count: usize) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let is_candidate = |run: &&Arc<Run>| {
                run.lines.load(Ordering::SeqCst) >= LINES_BEFORE_CANCEL
                    && !run.is_over.load(Ordering::SeqCst)
                    && !run.is_cancelled.load(Ordering::SeqCst)
            };
            let run = self.runs.iter().find(is_candidate).cloned();
            if let (Some(run), Some(endpoint)) = (run, self.service.pick(&mut self.random)) {
                let answer = endpoint.send("POST", &format!("/v1/runs/{}/cancel", run.id), None);
                match answer.status {
                    202 => {
                        run.is_cancelled.store(true, Ordering::SeqCst);
                        left -= 1;
                    }
                    0 | 421 | 503 => {}
                    status => {
                        bail!("cancel of run {} at {}: {status} {}", run.id, endpoint.replica, answer.text)
                    }
                }
            }
            if self.runs.iter().all(|run| run.is_over.load(Ordering::SeqCst)) {
                bail!("all runs have ended, and {left} were to be cancelled: let agents print more lines");
            }
            if Instant::now() > self.deadline {
                bail!("{left} runs could not be cancelled in time");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    // ---------------------------------------------------------------------- verdict

    fn agent_starts(&self) -> Result<Option<String>> {
        let (found, expected) = (self.kubectl.agent_starts()?, self.scenario.all_runs());
        Ok((found != expected).then(|| format!("agents were started {found} times instead of {expected}")))
    }

    /// Every replica knows that every run has ended.
    fn states(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for endpoint in self.service.all().iter().filter(|_| !self.scenario.has_previous()) {
            for run in &self.runs {
                let answer = endpoint.send("GET", &format!("/v1/runs/{}", run.id), None);
                let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
                if !matches!(body["state"].as_str(), Some("succeeded" | "cancelled")) {
                    let replica = &endpoint.replica;
                    complaints
                        .push(format!("run {} at {replica}: {} {:.200}", run.id, answer.status, answer.text));
                }
            }
        }
        complaints
    }

    fn leftovers(&self) -> Option<String> {
        let line = "get jobs,pods,secrets,leases.coordination.k8s.io \
             -l app.kubernetes.io/managed-by=paperclip,app.kubernetes.io/component!=host -o name";
        let left = self.kubectl.until(line, "", Instant::now() + COLLECTION);
        left.err().map(|error| format!("something is left behind: {error:#}"))
    }

    fn figures(&self, followed: &[Followed], asked: usize, complaints: &mut Vec<String>) -> Vec<String> {
        let sum = |count: fn(&Followed) -> usize| followed.iter().map(count).sum::<usize>();
        let mut refusals = BTreeMap::<&str, usize>::new();
        for (code, count) in followed.iter().flat_map(|one| &one.refusals) {
            *refusals.entry(code).or_default() += count;
        }
        let mut figures = vec![format!(
            "{} runs, {} lines received once, {} reconnections, {asked} further requests, refused: {refusals:?}",
            followed.len(),
            sum(|one| one.lines),
            sum(|one| one.reconnects),
        )];
        let waits = followed.iter().map(|one| one.longest_wait).collect();
        figures.push(format!("longest time between two lines: {}", Spread::of(waits)));
        figures.extend(self.swaps.iter().cloned());
        let periods = self.tracker.periods();
        let within =
            |what: &str, times: Vec<Duration>, limit_ms: Option<u64>, complaints: &mut Vec<String>| {
                let spread = Spread::of(times);
                if let Some(limit) = limit_ms.map(Duration::from_millis)
                    && spread.max > limit
                {
                    complaints.push(format!("{what}: {spread}, more than {limit:?}"));
                }
                format!("{what}: {spread}")
            };
        if !self.scenario.has_previous() {
            let limit = self.scenario.undriven_within_ms;
            figures.push(within("a run without a host", periods.undriven, limit, complaints));
        }
        if self.scenario.is_one_agent {
            let limit = self.scenario.handover_within_ms;
            if periods.handovers.len() + 1 < self.scenario.all_runs() {
                complaints.push(format!("{} guards were handed over", periods.handovers.len()));
            }
            figures.push(within("a guard without a holder", periods.handovers, limit, complaints));
            figures.push(format!(
                "from a result to the next agent's first line: {}",
                Spread::of(gaps(followed))
            ));
        }
        figures
    }
}

/// Returns the times from each run's result to the first line of the run that followed it.
fn gaps(followed: &[Followed]) -> Vec<Duration> {
    let mut runs: Vec<(Instant, Instant)> =
        followed.iter().filter_map(|one| Some((one.first_line_at?, one.result_at?))).collect();
    runs.sort();
    runs.windows(2).map(|pair| pair[1].0.saturating_duration_since(pair[0].1)).collect()
}

/// Median and maximum of times.
#[derive(Debug)]
struct Spread {
    count: usize,
    median: Duration,
    max: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Spread {
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        Spread { count: times.len(), median, max: times.last().copied().unwrap_or_default() }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Spread { count, median, max } = self;
        write!(f, "{count} times, p50 {} ms, max {} ms", median.as_millis(), max.as_millis())
    }
}

/// A client that asks for random runs, and starts them again, at random replicas.
struct Asker {
    runs: Arc<std::sync::Mutex<Vec<Arc<Run>>>>,
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    count: usize,
    wrong: Vec<String>,
}

impl Asker {
    fn start(service: &Arc<Service>, has_previous: bool) -> Asker {
        let runs = Arc::<std::sync::Mutex<Vec<Arc<Run>>>>::default();
        let is_stopped = Arc::<AtomicBool>::default();
        let (shared, stop, service) = (Arc::clone(&runs), Arc::clone(&is_stopped), Arc::clone(service));
        let thread = std::thread::spawn(move || {
            let (mut asked, mut random) = (Asked::default(), Random::new(1));
            while !stop.load(Ordering::SeqCst) {
                std::thread::sleep(ASK_EVERY);
                let accepted: Vec<Arc<Run>> = {
                    let runs = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    runs.iter().filter(|run| run.is_accepted.load(Ordering::SeqCst)).cloned().collect()
                };
                let run = accepted.get(random.below(accepted.len() as u64) as usize);
                // A previous build answers for its own runs only, and starts others again.
                let (Some(run), Some(endpoint), false) = (run, service.pick(&mut random), has_previous)
                else {
                    continue;
                };
                let (what, answer, expected) = if random.below(4) == 0 {
                    ("POST", endpoint.send("POST", "/v1/runs", Some(&run.body)), 202)
                } else {
                    ("GET", endpoint.send("GET", &format!("/v1/runs/{}", run.id), None), 200)
                };
                asked.count += 1;
                if answer.status != expected && !matches!(answer.status, 0 | 421 | 503) {
                    let (id, replica) = (&run.id, &endpoint.replica);
                    asked.wrong.push(format!("{what} {id} at {replica}: {} {}", answer.status, answer.text));
                }
            }
            asked
        });
        Asker { runs, is_stopped, thread }
    }

    fn add(&self, run: &Arc<Run>) {
        self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(Arc::clone(run));
    }

    fn stop(self) -> Asked {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_default()
    }
}
