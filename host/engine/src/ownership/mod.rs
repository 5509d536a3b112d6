//! The protocol by which the hosts of a namespace share its runs: which of them lives, and who drives which Job. Pure.
//!
//! One [`Ownership`] per process, cluster and namespace. [`Ownership::handle`] takes an [`Input`] with the time, [`Ownership::poll_effect`]
//! returns each [`Effect`] in the order in which to carry it out, and [`Ownership::deadline`] says when the next [`Input::Tick`] is due.
//! Times are those of a clock of this machine that runs through suspend; only differences count, and no foreign stamp is compared with it.
//!
//! - `instance` keeps the Lease of this process ([`HostLease`]), by which it is known to live, and derives until when that is certain.
//! - `observed` judges the Leases of others by when they were observed to change. An instance whose Lease has expired is revoked: its
//!   Lease is deleted at its resourceVersion. Only then are its guards free.
//! - `orphans` decides which Jobs are undriven, and adopts them: prepare, swap the guard, drive.
//!
//! The protocol and what lost against it: `docs/adr/0013-liveness-is-a-hosts.md`.

mod instance;
mod observed;
mod orphans;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use paperclip_contract::types::{ApiError, JobSnapshot, ObjectRef};

use crate::api::{ApiCall, ApiReply, HostLease, Lease};
use crate::ids::CallId;
use crate::manifest::{self, RUN_LABEL};
use crate::time::Timestamp;
use instance::Instance;
use observed::Observations;
use orphans::Orphans;

/// `leaseDurationSeconds` of a host's Lease: unchanged for that long, it has expired.
pub const HOST_LEASE_S: u32 = 40;
/// How often a host renews its Lease.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(10);
/// How long after the sending of its last accepted renewal a host may change anything. The rest of [`HOST_LEASE_S`] is for requests that
/// are under way.
pub const CERTAIN_PERIOD: Duration = Duration::from_secs(25);
/// Most adoptions that a host has under way.
pub const MAX_ADOPTIONS: usize = 16;
/// After how long an undriven Job is reported.
pub const REPORT_AFTER: Duration = Duration::from_secs(5);
/// After how long a guard without a host and without a Job is deleted. A host that restarts with the run's journal has this time.
pub const COLLECT_AFTER: Duration = Duration::from_secs(15 * 60);

/// Which instance of this host lives, for its runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostState {
    /// The name of its Lease; empty before it was created.
    pub instance: String,
    /// Until when this instance certainly has not been revoked, by the clock of whoever reads it.
    pub certain_until: Timestamp,
}

/// Who this process is.
#[derive(Debug, Clone)]
pub struct HostIdentity {
    pub namespace: String,
    /// The host, which stays the same over restarts with the same state folder.
    pub host: String,
    /// Names of instances start with this. No other process ever uses it.
    pub nonce: String,
    pub address: Option<String>,
    pub version: String,
}

/// Returns what the names of all instances of a process start with: `-` and a number may follow.
pub fn instance_prefix(nonce: &str) -> String {
    format!("paperclip-host-{nonce}")
}

/// A Job of an agent, as far as ownership needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    pub job: ObjectRef,
    /// The label that names its run.
    pub run: String,
    /// None if an older version or another program created it.
    pub epoch: Option<u64>,
    /// Its agent has ended. Its run has a result only if it has released its guard.
    pub has_ended: bool,
    pub is_deleting: bool,
    pub is_suspended: bool,
}

impl JobView {
    /// Reads a snapshot; none if it is of no run.
    pub fn of(job: &JobSnapshot) -> Option<JobView> {
        let label = |key: &str| job.labels.iter().find(|label| label.key == key).map(|label| &label.value);
        let is_agent = label(COMPONENT_LABEL).is_some_and(|component| component == AGENT_JOB);
        let run = label(RUN_LABEL).filter(|_| is_agent)?.clone();
        let has_ended = job
            .conditions
            .iter()
            .any(|one| one.is_true && matches!(one.kind.as_str(), "Complete" | "Failed"));
        Some(JobView {
            job: job.job.clone(),
            run,
            epoch: manifest::epoch(job),
            has_ended,
            is_deleting: job.is_deleting,
            is_suspended: job.is_suspended,
        })
    }
}

/// The label with the kind of an object of ours, and its value for a Job of an agent.
const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
const AGENT_JOB: &str = "agent-job";

/// What a watch of Leases reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseView {
    Guard(Lease),
    Host(HostLease),
}

impl LeaseView {
    fn name(&self) -> &str {
        match self {
            LeaseView::Guard(lease) => &lease.name,
            LeaseView::Host(lease) => &lease.name,
        }
    }
}

/// How a run without a host can be driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// Its journal is here: the run takes its guard itself.
    FromJournal,
    /// From what the cluster knows, once its guard is taken.
    FromCluster,
}

/// Why a run cannot be driven here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub why: String,
    pub hint: String,
    /// Somebody else has it for now, such as a process that has its folder locked: it is tried again soon.
    pub is_short: bool,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// A complete list of Jobs: others do not exist.
    JobsListed(Vec<JobView>),
    JobSeen(JobView),
    JobDeleted {
        uid: String,
    },
    /// A complete list of Leases: others do not exist.
    LeasesListed(Vec<LeaseView>),
    LeaseSeen(LeaseView),
    LeaseDeleted {
        name: String,
    },
    /// A run needs this host in the namespace.
    Needed,
    /// This host adopts Jobs from now on.
    Adopts,
    /// This process has the run: it is queued, driven or being resumed.
    RunEntered {
        run_id: String,
    },
    /// The run has left this process.
    RunLeft {
        run_id: String,
    },
    /// The answer to [`Effect::Call`].
    Called {
        call: CallId,
        outcome: Result<ApiReply, ApiError>,
    },
    /// The answer to [`Effect::Prepare`].
    Prepared {
        job_uid: String,
        outcome: Result<Prepared, Obstacle>,
    },
    /// This process stops and has released its runs.
    Stop,
    Tick,
}

/// Something to carry out.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Call the Kubernetes API once; answer with [`Input::Called`].
    Call { call: CallId, request: ApiCall },
    /// Report the state of this host to its runs.
    Announce(HostState),
    /// Find out how the run of this Job can be driven, and keep what is needed for it; answer with [`Input::Prepared`].
    Prepare { job: JobView, run_id: String },
    /// Drive what was prepared. The guard is this host's, unless the run has its journal.
    Drive { job_uid: String },
    /// Drop what was prepared: another host has the run, or it ended.
    Discard { job_uid: String },
    /// Report to the operator that no host drives the run of this Job, once.
    Report { job: JobView, why: String, hint: String },
    /// Every Job that existed at first has a host, or a try of this host to adopt it has ended. Once.
    Settled,
    /// This host has stopped.
    Stopped,
}

/// The time of an input, by two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clocks {
    /// A clock that runs through suspend and is never set; only differences count.
    pub elapsed: Timestamp,
    /// The wall clock, for people and for older versions.
    pub wall: Timestamp,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Ownership {
    now: Timestamp,
    wall: Timestamp,
    identity: HostIdentity,
    instance: Instance,
    jobs: BTreeMap<String, JobView>,
    leases: Observations,
    /// Jobs and Leases were listed.
    has_jobs: bool,
    has_leases: bool,
    adopts: bool,
    is_stopping: bool,
    /// Runs that this process has.
    runs: Runs,
    orphans: Orphans,
    is_settled: bool,
    /// Something happened since Jobs and Leases were last compared.
    is_dirty: bool,
    calls: BTreeMap<CallId, Purpose>,
    last_call: u64,
    effects: VecDeque<Effect>,
}

/// What a call is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    Instance,
    /// Deletes the expired Lease of another instance.
    Revocation {
        name: String,
    },
    /// Takes the guard of an undriven Job.
    Takeover {
        job_uid: String,
    },
    /// Releases a guard of this host whose run it does not have, or deletes one that nobody needs.
    Disposal {
        name: String,
    },
}

impl Ownership {
    /// Returns the protocol of a process that neither drives nor adopts anything yet.
    pub fn new(identity: HostIdentity) -> Ownership {
        Ownership {
            now: Timestamp::EPOCH,
            wall: Timestamp::EPOCH,
            instance: Instance::new(&identity),
            identity,
            jobs: BTreeMap::new(),
            leases: Observations::default(),
            has_jobs: false,
            has_leases: false,
            adopts: false,
            is_stopping: false,
            runs: Runs::default(),
            orphans: Orphans::default(),
            is_settled: false,
            is_dirty: false,
            calls: BTreeMap::new(),
            last_call: 0,
            effects: VecDeque::new(),
        }
    }

    /// Returns the next effect to carry out. Several inputs may be handled before: Jobs and Leases are compared once for all of them.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() && std::mem::take(&mut self.is_dirty) {
            self.keep_instance();
            self.revoke_expired();
            self.reconcile(self.now);
        }
        self.effects.pop_front()
    }

    /// Returns when [`Input::Tick`] is due at the latest, by [`Clocks::elapsed`]. There must be no effect left.
    pub fn deadline(&self) -> Option<Timestamp> {
        let others = self.leases.deadline(&self.identity.nonce, &self.instance.name());
        let others = others.filter(|_| !self.is_stopping);
        [self.instance.deadline(), others, self.orphans.deadline()].into_iter().flatten().min()
    }

    /// Returns how many Jobs of agents have no host that drives them.
    pub fn undriven(&self) -> usize {
        self.orphans.len()
    }

    /// Returns the labels of runs whose Jobs cannot be adopted here: no Lease says who has them, or what they need cannot be read.
    pub fn left_alone(&self) -> impl Iterator<Item = &str> {
        self.orphans.left_alone().filter_map(|uid| self.jobs.get(uid)).map(|job| job.run.as_str())
    }

    /// Returns the Leases of other hosts, as far as known.
    pub fn other_hosts(&self) -> impl Iterator<Item = &HostLease> {
        self.leases.hosts().filter(|lease| !self.instance.is_own(&lease.name))
    }

    /// Processes an input that happens at this time.
    pub fn handle(&mut self, at: Clocks, input: Input) {
        (self.now, self.wall) = (self.now.max(at.elapsed), at.wall);
        self.is_dirty = true;
        let now = self.now;
        match input {
            Input::JobsListed(jobs) => {
                self.has_jobs = true;
                self.jobs = jobs.into_iter().map(|job| (job.job.uid.clone(), job)).collect();
            }
            Input::JobSeen(job) => drop(self.jobs.insert(job.job.uid.clone(), job)),
            Input::JobDeleted { uid } => drop(self.jobs.remove(&uid)),
            Input::LeasesListed(leases) => {
                self.has_leases = true;
                self.leases.list(now, leases);
            }
            Input::LeaseSeen(lease) => self.leases.see(now, lease),
            Input::LeaseDeleted { name } => self.leases.remove(&name),
            Input::Needed => self.instance.need(),
            Input::Adopts => self.adopts = true,
            Input::RunEntered { run_id } => self.runs.insert(run_id),
            Input::RunLeft { run_id } => self.runs.remove(&run_id),
            Input::Called { call, outcome } => self.on_called(now, call, outcome),
            Input::Prepared { job_uid, outcome } => self.on_prepared(now, &job_uid, outcome),
            Input::Stop => {
                self.is_stopping = true;
                self.instance.stop();
            }
            Input::Tick => {}
        }
    }

    fn call(&mut self, purpose: Purpose, request: ApiCall) {
        self.last_call += 1;
        let call = CallId::new(self.last_call);
        self.calls.insert(call, purpose);
        self.effects.push_back(Effect::Call { call, request });
    }

    fn on_called(&mut self, now: Timestamp, call: CallId, outcome: Result<ApiReply, ApiError>) {
        match self.calls.remove(&call) {
            Some(Purpose::Instance) => self.instance.on_answer(now, outcome),
            Some(Purpose::Revocation { name }) => match outcome {
                Ok(_) => self.leases.remove(&name),
                Err(error) => self.leases.on_revocation_failed(now, &name, &error),
            },
            Some(Purpose::Takeover { job_uid }) => self.on_takeover(now, &job_uid, outcome),
            Some(Purpose::Disposal { name }) => match outcome {
                Ok(ApiReply::Lease(Some(lease))) => self.leases.see(now, LeaseView::Guard(lease)),
                Ok(_) => self.leases.remove(&name),
                Err(_) => self.leases.on_disposal_failed(now, &name),
            },
            None => {}
        }
    }

    fn keep_instance(&mut self) {
        for step in self.instance.poll(self.now, self.wall) {
            match step {
                instance::Step::Call(request) => self.call(Purpose::Instance, request),
                instance::Step::Announce(state) => self.effects.push_back(Effect::Announce(state)),
                instance::Step::Stopped => self.effects.push_back(Effect::Stopped),
            }
        }
    }

    /// Deletes the Leases of instances that have expired. A host that is about to stop leaves that to others.
    fn revoke_expired(&mut self) {
        if self.is_stopping {
            return;
        }
        let current = self.instance.name();
        for lease in self.leases.expired_hosts(self.now, &self.identity.nonce, &current) {
            let name = lease.name.clone();
            self.call(Purpose::Revocation { name }, ApiCall::DeleteHostLease(lease));
        }
    }
}

/// The runs of this process.
#[derive(Debug, Default)]
struct Runs {
    ids: BTreeSet<String>,
    by_plain_id: BTreeMap<String, ()>,
}

impl Runs {
    fn insert(&mut self, run_id: String) {
        self.by_plain_id.insert(observed::plain(&run_id), ());
        self.ids.insert(run_id);
    }

    fn remove(&mut self, run_id: &str) {
        self.by_plain_id.remove(&observed::plain(run_id));
        self.ids.remove(run_id);
    }

    fn contains(&self, run_id: &str) -> bool {
        self.ids.contains(run_id)
    }

    /// Whether one of them has the id from which this label was made.
    fn has_label(&self, label: &str) -> bool {
        observed::find(&self.by_plain_id, label).is_some()
    }
}

/// Returns a number that differs between hosts and objects, to spread what hosts would do at the same time.
fn shuffle(nonce: &str, object: &str) -> u64 {
    twox_hash::XxHash3_64::oneshot_with_seed(0, format!("{nonce}/{object}").as_bytes())
}
