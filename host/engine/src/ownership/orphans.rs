//! Jobs without a host: found, adopted, reported; and guards without a Job.

use std::collections::BTreeMap;
use std::time::Duration;

use paperclip_contract::types::ApiError;

use super::observed::{Guard, Holder};
use super::{
    COLLECT_AFTER, Effect, JobView, LeaseView, MAX_ADOPTIONS, Obstacle, Ownership, Prepared, Purpose,
    REPORT_AFTER, shuffle,
};
use crate::api::{ApiCall, ApiReply, Lease};
use crate::lease::{GUARD_S, next_epoch};
use crate::time::Timestamp;

/// Hosts start the adoption of a Job spread over this time.
const ADOPTION_SPREAD_MS: u64 = 400;
/// How long after a takeover that failed the next one is tried.
const RETRY: Duration = Duration::from_secs(1);
/// How often a Job is tried that somebody else has for now.
const SHORT_RETRY: Duration = Duration::from_millis(500);
/// Longest time between two tries.
const MAX_RETRY: Duration = Duration::from_secs(60);
/// How long a guard of this host may be without a run here: both are reported by ways of their own.
const ABANDONED_AFTER: Duration = Duration::from_secs(5);
/// How long a run whose journal is here has to take its guard.
const RESUME_DEADLINE: Duration = Duration::from_secs(30);

/// Who drives the run of a Job.
#[derive(Debug)]
enum Owner {
    /// A host that lives, as far as this one knows, or this process.
    Driven,
    /// This process has its guard, and not the run: it is taking it over, or disposes of the guard.
    This,
    /// No host. The guard is to be taken, if there is one.
    None(Option<Box<Lease>>),
}

/// The Jobs that no host drives, by UID.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    by_job: BTreeMap<String, Orphan>,
    /// How many adoptions may start now.
    capacity: usize,
    deadline: Option<Timestamp>,
}

#[derive(Debug)]
struct Orphan {
    since: Timestamp,
    try_at: Timestamp,
    tries: u32,
    stage: Stage,
    has_no_guard: bool,
    /// It cannot be adopted here, and nobody else has it for now.
    is_left_alone: bool,
    is_reported: bool,
    why: String,
    hint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Preparing,
    /// Its guard is being taken.
    Taking,
    /// It was given to be driven, and has this time to become so.
    Given {
        until: Timestamp,
    },
}

impl Orphans {
    pub(super) fn len(&self) -> usize {
        self.by_job.len()
    }

    /// Returns the Jobs that cannot be adopted here.
    pub(super) fn left_alone(&self) -> impl Iterator<Item = &str> {
        let left = self.by_job.iter().filter(|(_, orphan)| orphan.is_left_alone);
        left.map(|(uid, _)| uid.as_str())
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    fn under_way(&self) -> usize {
        let is_busy = |orphan: &&Orphan| matches!(orphan.stage, Stage::Preparing | Stage::Taking);
        self.by_job.values().filter(is_busy).count()
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.deadline = Some(self.deadline.map_or(at, |known| known.min(at)));
    }
}

impl Ownership {
    /// Compares Jobs and guards, and acts on what has no host. Level-triggered: whatever happened before is irrelevant.
    pub(super) fn reconcile(&mut self, now: Timestamp) {
        self.orphans.deadline = None;
        if !(self.has_jobs && self.has_leases && self.adopts) || self.is_stopping {
            return;
        }
        let jobs = std::mem::take(&mut self.jobs);
        self.orphans.by_job.retain(|uid, _| jobs.contains_key(uid));
        self.orphans.capacity = MAX_ADOPTIONS.saturating_sub(self.orphans.under_way());
        for job in jobs.values() {
            match self.owner_of(now, job) {
                Owner::None(guard) => self.adopt(now, job, guard.map(|guard| *guard)),
                Owner::Driven => drop(self.orphans.by_job.remove(&job.job.uid)),
                // The watch may report its guard before the takeover is answered or the run has entered.
                Owner::This => {
                    let orphan = self.orphans.by_job.get(&job.job.uid);
                    if orphan.is_some_and(|one| matches!(one.stage, Stage::Waiting | Stage::Preparing)) {
                        self.orphans.by_job.remove(&job.job.uid);
                    }
                }
            }
        }
        self.dispose_of_guards(now, &jobs);
        self.jobs = jobs;
        let is_tried = |orphan: &Orphan| match orphan.stage {
            Stage::Waiting => orphan.tries > 0 || orphan.has_no_guard,
            Stage::Given { .. } => true,
            Stage::Preparing | Stage::Taking => false,
        };
        if !self.is_settled && self.orphans.by_job.values().all(is_tried) {
            self.is_settled = true;
            self.effects.push_back(Effect::Settled);
        }
    }

    /// Returns who drives the run of a Job.
    fn owner_of(&mut self, now: Timestamp, job: &JobView) -> Owner {
        if job.is_deleting || self.runs.has_label(&job.run) {
            return Owner::Driven;
        }
        let Some(guard) = self.leases.guard_of_label(&job.run) else {
            // A Job of a run without a guard, or of another program, has no epoch. One that has ended may be kept on purpose.
            return if job.epoch.is_some() && !job.has_ended { Owner::None(None) } else { Owner::Driven };
        };
        if guard.lease.instance == self.instance.name() {
            return Owner::This;
        }
        match self.leases.judge(now, guard) {
            Holder::None => Owner::None(Some(Box::new(guard.lease.clone()))),
            Holder::Lives => Owner::Driven,
            Holder::LivesUntil(at) => {
                self.orphans.wake_at(at);
                Owner::Driven
            }
        }
    }

    fn adopt(&mut self, now: Timestamp, job: &JobView, guard: Option<Lease>) {
        let uid = &job.job.uid;
        let spread = Duration::from_millis(shuffle(&self.identity.nonce, uid) % ADOPTION_SPREAD_MS);
        let Orphans { by_job, capacity, .. } = &mut self.orphans;
        let orphan = by_job.entry(uid.clone()).or_insert_with(|| Orphan {
            since: now,
            try_at: now + spread,
            tries: 0,
            stage: Stage::Waiting,
            has_no_guard: guard.is_none(),
            is_left_alone: guard.is_none(),
            is_reported: false,
            why: "its host has left it, and no host has adopted it yet".to_owned(),
            hint: "start its run again, or give the hosts of this namespace more memory".to_owned(),
        });
        let report_at = orphan.since + REPORT_AFTER;
        let mut wake_at = Vec::new();
        if !orphan.is_reported && report_at <= now {
            orphan.is_reported = true;
            let (why, hint) = (orphan.why.clone(), orphan.hint.clone());
            self.effects.push_back(Effect::Report { job: job.clone(), why, hint });
        } else if !orphan.is_reported {
            wake_at.push(report_at);
        }
        if let Stage::Given { until } = orphan.stage {
            if until <= now {
                orphan.stage = Stage::Waiting;
            } else {
                wake_at.push(until);
            }
        }
        if orphan.stage == Stage::Waiting {
            match guard {
                None => {
                    orphan.why = "no Lease says which host has its run".to_owned();
                    orphan.hint = "start its run again, which adopts it, or delete the Job".to_owned();
                }
                Some(_) if orphan.try_at > now => wake_at.push(orphan.try_at),
                // The end of an adoption comes back here.
                Some(_) if *capacity == 0 => {}
                Some(guard) => {
                    self.instance.need();
                    if self.instance.is_certain(now) {
                        *capacity -= 1;
                        orphan.stage = Stage::Preparing;
                        let run_id = guard.holder;
                        self.effects.push_back(Effect::Prepare { job: job.clone(), run_id });
                    }
                }
            }
        }
        for at in wake_at {
            self.orphans.wake_at(at);
        }
    }

    pub(super) fn on_prepared(&mut self, now: Timestamp, job_uid: &str, outcome: Result<Prepared, Obstacle>) {
        let owner = self.jobs.get(job_uid).cloned().map(|job| self.owner_of(now, &job));
        let guard = match owner {
            Some(Owner::None(guard)) => guard.map(|guard| *guard),
            Some(Owner::Driven | Owner::This) | None => None,
        };
        let is_certain = self.instance.is_certain(now);
        let orphan = self.orphans.by_job.get_mut(job_uid).filter(|orphan| orphan.stage == Stage::Preparing);
        let is_ready = outcome.is_ok();
        let discard = Effect::Discard { job_uid: job_uid.to_owned() };
        let (Some(orphan), Some(guard)) = (orphan, guard) else {
            if is_ready {
                self.effects.push_back(discard);
            }
            return;
        };
        match outcome {
            Ok(Prepared::FromJournal) => {
                orphan.stage = Stage::Given { until: now + RESUME_DEADLINE };
                self.effects.push_back(Effect::Drive { job_uid: job_uid.to_owned() });
            }
            Ok(Prepared::FromCluster) if is_certain => {
                orphan.stage = Stage::Taking;
                let taken = self.taken(job_uid, guard);
                let purpose = Purpose::Takeover { job_uid: job_uid.to_owned() };
                self.call(purpose, ApiCall::UpdateLease(taken));
            }
            Ok(Prepared::FromCluster) => {
                orphan.retry(now + RETRY);
                self.effects.push_back(discard);
            }
            Err(Obstacle { why, hint, is_short }) => {
                let wait = RETRY.saturating_mul(1 << orphan.tries.min(6)).min(MAX_RETRY);
                orphan.tries += 1;
                orphan.is_left_alone = !is_short;
                orphan.retry(now + if is_short { SHORT_RETRY } else { wait });
                (orphan.why, orphan.hint) = (why.clone(), hint.clone());
                if !is_short
                    && !std::mem::replace(&mut orphan.is_reported, true)
                    && let Some(job) = self.jobs.get(job_uid).cloned()
                {
                    self.effects.push_back(Effect::Report { job, why, hint });
                }
            }
        }
    }

    /// Returns a guard as this host takes it, in an epoch after those of the guard and of the Job.
    fn taken(&self, job_uid: &str, guard: Lease) -> Lease {
        let of_job = self.jobs.get(job_uid).and_then(|job| job.epoch).unwrap_or(0);
        Lease {
            host: self.identity.host.clone(),
            instance: self.instance.name(),
            epoch: next_epoch(guard.epoch.max(of_job), self.wall),
            duration_s: GUARD_S,
            renewed_at: self.wall,
            ..guard
        }
    }

    pub(super) fn on_takeover(&mut self, now: Timestamp, job_uid: &str, outcome: Result<ApiReply, ApiError>) {
        let taken = match outcome {
            Ok(ApiReply::Lease(Some(taken))) => Some(taken),
            Ok(_) | Err(_) => None,
        };
        let orphan = self.orphans.by_job.get_mut(job_uid).filter(|orphan| orphan.stage == Stage::Taking);
        match (taken, orphan) {
            (Some(taken), Some(orphan)) => {
                orphan.stage = Stage::Given { until: now + RESUME_DEADLINE };
                self.leases.see(now, LeaseView::Guard(taken));
                self.effects.push_back(Effect::Drive { job_uid: job_uid.to_owned() });
            }
            // The Job ended meanwhile. The guard is deleted as one without a run.
            (Some(taken), None) => {
                self.leases.see(now, LeaseView::Guard(taken));
                self.effects.push_back(Effect::Discard { job_uid: job_uid.to_owned() });
            }
            // Another host was faster, or it is not known: the watch shows it.
            (None, orphan) => {
                if let Some(orphan) = orphan {
                    orphan.tries += 1;
                    orphan.retry(now + RETRY);
                }
                self.effects.push_back(Effect::Discard { job_uid: job_uid.to_owned() });
            }
        }
    }

    /// Releases guards of this process whose run it does not have, and deletes those that nobody needs.
    fn dispose_of_guards(&mut self, now: Timestamp, jobs: &BTreeMap<String, JobView>) {
        let live = |guard: Guard<'_>| {
            let is_of = |job: &&JobView| crate::policy::is_label_of(&job.run, &guard.lease.holder);
            jobs.values().find(is_of)
        };
        let mut calls = Vec::new();
        let mut wake_at = Vec::new();
        for guard in self.leases.all() {
            let is_own = self.instance.is_own(&guard.lease.instance);
            if guard.not_before > now || self.runs.contains(&guard.lease.holder) {
                if guard.not_before < Timestamp::MAX && guard.not_before > now {
                    wake_at.push(guard.not_before);
                }
                continue;
            }
            let after = match (is_own, self.leases.judge(now, guard)) {
                (true, _) => ABANDONED_AFTER,
                (false, Holder::None) => COLLECT_AFTER,
                (false, Holder::Lives | Holder::LivesUntil(_)) => continue,
            };
            let due_at = guard.since + after;
            if due_at > now {
                wake_at.push(due_at);
                continue;
            }
            let lease = guard.lease.clone();
            match live(guard) {
                Some(job) if is_own && !job.is_deleting => {
                    calls.push(ApiCall::UpdateLease(lease.released(self.wall)));
                }
                // It is adopted, or its end is awaited.
                Some(_) if !is_own => {}
                Some(_) | None => calls.push(ApiCall::DeleteLease(lease)),
            }
        }
        for call in calls {
            let (ApiCall::UpdateLease(lease) | ApiCall::DeleteLease(lease)) = &call else { continue };
            let name = lease.name.clone();
            self.leases.on_disposal(&name);
            self.call(Purpose::Disposal { name }, call);
        }
        for at in wake_at {
            self.orphans.wake_at(at);
        }
    }
}

impl Orphan {
    fn retry(&mut self, at: Timestamp) {
        self.stage = Stage::Waiting;
        self.try_at = at;
    }
}
