//! The task of a namespace: carries out the effects of an [`Ownership`] and hands it what happens.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paperclip_contract::types::ApiError;
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::driver::WatchEvent;
use paperclip_engine::ids::CallId;
use paperclip_engine::intake::Secrets;
use paperclip_engine::ownership::{
    Clocks, Effect, HostIdentity, HostState, Input, JobView, LeaseView, Obstacle, Ownership, Prepared,
};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::leases::LeaseWatch;
use super::{AdoptionRequest, OtherHost, Published};
use crate::connect::Cluster;
use crate::watches::{Inbox, JobNotice, JobsObserver, lock};
use crate::{calls, clock, exchange};

/// How long a request about Leases may take: a renewal that hangs must not use up what is certain.
const LEASE_DEADLINE: Duration = Duration::from_secs(5);

/// A request to the task.
#[derive(Debug)]
pub(super) enum Message {
    Join { member: u64, guard: String, inbox: Arc<Inbox> },
    Leave { member: u64 },
    Await { reply: oneshot::Sender<String> },
    Adopt { requests: mpsc::UnboundedSender<AdoptionRequest>, jobs: JobsObserver },
    RunEntered { run_id: String },
    RunLeft { run_id: String },
    Prepared { job_uid: String, outcome: Result<Prepared, Obstacle> },
    Stop { reply: oneshot::Sender<()> },
}

/// A run that receives the state of this host.
#[derive(Debug)]
struct Member {
    guard: String,
    inbox: Arc<Inbox>,
}

#[derive(Debug)]
pub(super) struct Task {
    cluster: Cluster,
    namespace: String,
    ownership: Ownership,
    messages: mpsc::UnboundedReceiver<Message>,
    leases: LeaseWatch,
    jobs: Option<JobsObserver>,
    adoptions: Option<mpsc::UnboundedSender<AdoptionRequest>>,
    answers: JoinSet<(CallId, Result<ApiReply, ApiError>)>,
    members: BTreeMap<u64, Member>,
    state: HostState,
    /// Who waits for this host to live.
    awaiting: Vec<oneshot::Sender<String>>,
    published: Arc<Published>,
    stopped: Vec<oneshot::Sender<()>>,
}

impl Task {
    pub(super) fn new(
        cluster: &Cluster,
        identity: HostIdentity,
        messages: mpsc::UnboundedReceiver<Message>,
        published: Arc<Published>,
    ) -> Task {
        Task {
            leases: LeaseWatch::start(cluster, &identity.namespace),
            cluster: cluster.clone(),
            namespace: identity.namespace.clone(),
            ownership: Ownership::new(identity),
            messages,
            jobs: None,
            adoptions: None,
            answers: JoinSet::new(),
            members: BTreeMap::new(),
            state: HostState::default(),
            awaiting: Vec::new(),
            published,
            stopped: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            while let Some(effect) = self.ownership.poll_effect() {
                if effect == Effect::Stopped {
                    return self.stop();
                }
                self.carry_out(effect);
            }
            self.publish();
            let deadline = self.ownership.deadline();
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep(clock::remaining(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                Some(input) = self.leases.inputs.recv() => self.take_lease(input),
                Some(notice) = next_job(&mut self.jobs) => self.take_job(notice),
                Some(answer) = self.answers.join_next() => match answer {
                    Ok((call, outcome)) => self.handle(Input::Called { call, outcome }),
                    // A panic in a call is a defect of this program; it must not become a host that never renews its Lease.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = due => self.handle(Input::Tick),
            }
            self.take_ready();
        }
    }

    fn publish(&self) {
        let Published { undriven, left_alone, others } = &*self.published;
        undriven.store(self.ownership.undriven(), Ordering::Relaxed);
        replace(left_alone, self.ownership.left_alone().map(str::to_owned).collect());
        let found = self.ownership.other_hosts().filter_map(|lease| {
            let address = lease.address.clone()?;
            Some(OtherHost { host: lease.host.clone(), address })
        });
        replace(others, found.collect());
    }

    /// Takes what is ready without waiting, so that many changes are compared once.
    fn take_ready(&mut self) {
        while let Ok(input) = self.leases.inputs.try_recv() {
            self.take_lease(input);
        }
        while let Some(notice) = self.jobs.as_mut().and_then(|jobs| jobs.notices.try_recv().ok()) {
            self.take_job(notice);
        }
    }

    fn stop(self) {
        for reply in self.stopped {
            // Nobody may wait any more.
            let _ = reply.send(());
        }
    }

    fn handle(&mut self, input: Input) {
        let at = Clocks { elapsed: clock::elapsed(), wall: clock::wall() };
        self.ownership.handle(at, input);
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Join { member, guard, inbox } => {
                if !self.state.instance.is_empty() {
                    inbox.put(WatchEvent::Host(self.state.clone()));
                }
                self.members.insert(member, Member { guard, inbox });
                self.handle(Input::Needed);
            }
            Message::Await { reply } => {
                self.awaiting.push(reply);
                self.answer_awaiting();
                self.handle(Input::Needed);
            }
            Message::Leave { member } => drop(self.members.remove(&member)),
            Message::Adopt { requests, jobs } => {
                self.adoptions = Some(requests);
                self.jobs = Some(jobs);
                self.handle(Input::Adopts);
            }
            Message::RunEntered { run_id } => self.handle(Input::RunEntered { run_id }),
            Message::RunLeft { run_id } => self.handle(Input::RunLeft { run_id }),
            Message::Prepared { job_uid, outcome } => self.handle(Input::Prepared { job_uid, outcome }),
            Message::Stop { reply } => {
                self.stopped.push(reply);
                self.handle(Input::Stop);
            }
        }
    }

    fn answer_awaiting(&mut self) {
        if self.state.instance.is_empty() || clock::remaining(self.state.certain_until).is_zero() {
            return;
        }
        for reply in self.awaiting.drain(..) {
            // Whoever waited may have given up.
            let _ = reply.send(self.state.instance.clone());
        }
    }

    fn take_lease(&mut self, input: Input) {
        let changed = match &input {
            Input::LeaseSeen(LeaseView::Guard(lease)) => Some(lease.name.clone()),
            Input::LeaseDeleted { name } => Some(name.clone()),
            _ => None,
        };
        let is_list = matches!(input, Input::LeasesListed(_));
        for member in self.members.values() {
            if is_list || changed.as_ref() == Some(&member.guard) {
                member.inbox.put(WatchEvent::GuardChanged);
            }
        }
        self.handle(input);
    }

    fn take_job(&mut self, notice: JobNotice) {
        match notice {
            JobNotice::Listed(jobs) => {
                self.handle(Input::JobsListed(jobs.iter().filter_map(JobView::of).collect()));
            }
            JobNotice::Seen(job) => {
                if let Some(job) = JobView::of(&job) {
                    self.handle(Input::JobSeen(job));
                }
            }
            JobNotice::Deleted { uid } => self.handle(Input::JobDeleted { uid }),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let request = match effect {
            Effect::Call { call, request } => return self.call(call, request),
            Effect::Announce(state) => {
                self.state = state;
                self.answer_awaiting();
                for member in self.members.values() {
                    member.inbox.put(WatchEvent::Host(self.state.clone()));
                }
                return;
            }
            Effect::Prepare { job, run_id } => AdoptionRequest::Prepare { job, run_id },
            Effect::Drive { job_uid } => AdoptionRequest::Drive { job_uid },
            Effect::Discard { job_uid } => AdoptionRequest::Discard { job_uid },
            Effect::Report { job, why, hint } => AdoptionRequest::Report { job, why, hint },
            Effect::Settled => AdoptionRequest::Settled,
            Effect::Stopped => return,
        };
        if let Some(adoptions) = &self.adoptions {
            // Whoever drives runs has stopped.
            let _ = adoptions.send(request);
        }
    }

    fn call(&mut self, call: CallId, request: ApiCall) {
        if let ApiCall::DeleteHostLease(lease) = &request
            && lease.name != self.state.instance
        {
            let (namespace, instance, host) = (&self.namespace, &lease.name, &lease.host);
            tracing::info!(namespace, instance, host, "a host has not renewed its Lease: it is revoked");
        }
        let cluster = self.cluster.clone();
        self.answers.spawn(async move {
            let secrets = Secrets::default();
            let answer = calls::call(&cluster, &secrets, request);
            let outcome = tokio::time::timeout(LEASE_DEADLINE, answer).await.unwrap_or_else(|_elapsed| {
                Err(exchange::no_answer(format!("no answer within {} s", LEASE_DEADLINE.as_secs())))
            });
            (call, outcome)
        });
    }
}

fn replace<T: PartialEq>(published: &Mutex<T>, value: T) {
    let mut published = lock(published);
    if *published != value {
        *published = value;
    }
}

async fn next_job(jobs: &mut Option<JobsObserver>) -> Option<JobNotice> {
    match jobs {
        Some(jobs) => jobs.notices.recv().await,
        None => std::future::pending().await,
    }
}
