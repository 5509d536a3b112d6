//! Decides the next actions for a Job by the rules of the Job controller of Kubernetes 1.31, without I/O.
//!
//! The controller is level-triggered: it evaluates the Job and its Pods, and each evaluation takes at most one step of the
//! Job's end (first `FailureTarget` or `SuccessCriteriaMet`, then, with no Pod left running, `Failed` or `Complete`).
//!
//! Where it differs: a Pod under deletion counts as failed, and is replaced, only when its containers have ended
//! (`podReplacementPolicy: Failed`), so that no two agents of a run are ever alive together. `podFailurePolicy`,
//! `successPolicy`, `backoffLimitPerIndex` and indexed completion are ignored.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition::{Kind, Verdict, finish_time, is_true, set};
use super::pods::{Stage, Tally, is_ready, is_tracked, restarts, stage};

/// `spec.backoffLimit`, if the Job has none.
const DEFAULT_BACKOFF_LIMIT: i32 = 6;
/// The longest wait before a failed Pod is replaced (Kubernetes' `MaxJobPodFailureBackOff`).
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// Who else than this controller may own a Job; such a Job is left alone.
const OWN_MANAGER: &str = "kubernetes.io/job-controller";

/// The actions, and the Job's status after them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) status: JobStatus,
    /// How many Pods to create.
    pub(super) create: usize,
    /// Pods to delete. They count as failed when they have ended.
    pub(super) delete: Vec<Pod>,
    /// Pods to delete without counting them, because the Job is suspended or needs fewer.
    pub(super) withdraw: Vec<Pod>,
    /// Pods that are counted in `status`: they need this controller's finalizer no longer.
    pub(super) release: Vec<Pod>,
    pub(super) news: Vec<News>,
    /// When to look again, if nothing changes before.
    pub(super) look_again: Option<Timestamp>,
    /// The finished Job has outlived `ttlSecondsAfterFinished`.
    pub(super) is_expired: bool,
}

/// What is reported about the Job as an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    Suspended,
    Resumed,
    Completed,
    Failed(Verdict),
}

/// Evaluates a Job and the Pods that it controls. `first_backoff` is the wait before the first failed Pod is
/// replaced; it doubles with each failure in a row.
pub(super) fn plan(job: &Job, pods: &[Pod], now: Timestamp, first_backoff: Duration) -> Plan {
    let status = job.status.clone().unwrap_or_default();
    let default_spec = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&default_spec);
    if spec.managed_by.as_deref().is_some_and(|manager| manager != OWN_MANAGER) {
        return Plan { status, ..Plan::default() };
    }
    if job.metadata.deletion_timestamp.is_some() {
        let release = pods.iter().filter(|pod| is_tracked(pod)).cloned().collect();
        return Plan { status, release, ..Plan::default() };
    }
    if is_true(&status, Kind::Complete) || is_true(&status, Kind::Failed) {
        return finished(spec, status, pods, now);
    }
    unfinished(spec, status, pods, now, first_backoff)
}

fn finished(spec: &JobSpec, status: JobStatus, pods: &[Pod], now: Timestamp) -> Plan {
    let tally = Tally::of(pods);
    let mut plan = Plan { status, release: tally.uncounted(), ..Plan::default() };
    if let Some(ttl) = spec.ttl_seconds_after_finished {
        let ended = finish_time(&plan.status).unwrap_or(now);
        let expiry = after(ended, i64::from(ttl));
        plan.is_expired = expiry <= now;
        plan.look_again = (!plan.is_expired).then_some(expiry);
    }
    plan
}

fn unfinished(
    spec: &JobSpec,
    mut status: JobStatus,
    pods: &[Pod],
    now: Timestamp,
    first_backoff: Duration,
) -> Plan {
    let tally = Tally::of(pods);
    let is_suspended = spec.suspend.unwrap_or_default();
    let is_resumed = !is_suspended && is_true(&status, Kind::Suspended);
    if is_resumed || (status.start_time.is_none() && !is_suspended) {
        status.start_time = Some(Time(now));
    }
    let standing = Verdict::standing(&status);
    status.succeeded = some_count(status.succeeded.unwrap_or_default() + tally.newly_succeeded);
    status.failed = some_count(status.failed.unwrap_or_default() + tally.newly_failed);
    status.uncounted_terminated_pods = Some(UncountedTerminatedPods::default());

    let mut plan = Plan { release: tally.uncounted(), ..Plan::default() };
    if let Some(verdict) = standing.or_else(|| judge(spec, &status, &tally, pods, now)) {
        plan.delete = tally.active.clone();
        if standing.is_none() {
            set(&mut status, verdict.target(), true, verdict.reason(), verdict.message(), now);
        } else if tally.active.is_empty() && tally.terminating == 0 {
            conclude(&mut plan, &mut status, verdict, now);
        }
    } else if is_suspended {
        plan.withdraw = tally.active.clone();
        if set(&mut status, Kind::Suspended, true, "JobSuspended", "Job suspended", now) {
            plan.news.push(News::Suspended);
        }
        // The clock of `activeDeadlineSeconds` restarts with the next start.
        status.start_time = None;
    } else {
        if is_resumed {
            set(&mut status, Kind::Suspended, false, "JobResumed", "Job resumed", now);
            plan.news.push(News::Resumed);
        }
        staff(&mut plan, spec, &status, &tally, now, first_backoff);
        plan.look_again = earliest(plan.look_again, deadline(spec, &status));
    }

    let going = || plan.delete.iter().chain(&plan.withdraw);
    let deleted = count(going().count());
    status.active = some_count(count(tally.active.len() + plan.create) - deleted);
    status.terminating = Some(tally.terminating + deleted);
    status.ready = Some(tally.ready - count(going().filter(|pod| is_ready(pod)).count()));
    plan.status = status;
    plan
}

/// Whether the Job has failed or succeeded for good.
fn judge(spec: &JobSpec, status: &JobStatus, tally: &Tally, pods: &[Pod], now: Timestamp) -> Option<Verdict> {
    let limit = spec.backoff_limit.unwrap_or(DEFAULT_BACKOFF_LIMIT);
    if status.failed.unwrap_or_default() > limit || has_too_many_restarts(spec, pods, limit) {
        return Some(Verdict::BackoffLimitExceeded);
    }
    if !spec.suspend.unwrap_or_default() && deadline(spec, status).is_some_and(|deadline| deadline <= now) {
        return Some(Verdict::DeadlineExceeded);
    }
    let succeeded = status.succeeded.unwrap_or_default();
    let is_reached = match spec.completions {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0,
    };
    (is_reached && tally.active.is_empty()).then_some(Verdict::CompletionsReached)
}

/// With `restartPolicy: OnFailure` it is the containers' restarts that are limited.
fn has_too_many_restarts(spec: &JobSpec, pods: &[Pod], limit: i32) -> bool {
    let policy = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let total: i32 = pods.iter().filter(|pod| stage(pod) == Stage::Active).map(restarts).sum();
    if limit == 0 { total > 0 } else { total >= limit }
}

fn conclude(plan: &mut Plan, status: &mut JobStatus, verdict: Verdict, now: Timestamp) {
    set(status, verdict.conclusion(), true, verdict.reason(), verdict.message(), now);
    plan.news.push(match verdict {
        Verdict::CompletionsReached => {
            status.completion_time = Some(Time(now));
            News::Completed
        }
        Verdict::BackoffLimitExceeded | Verdict::DeadlineExceeded => News::Failed(verdict),
    });
}

/// Creates missing Pods, or deletes surplus ones.
fn staff(
    plan: &mut Plan,
    spec: &JobSpec,
    status: &JobStatus,
    tally: &Tally,
    now: Timestamp,
    first_backoff: Duration,
) {
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let succeeded = status.succeeded.unwrap_or_default();
    let active = count(tally.active.len());
    let expected = match spec.completions {
        Some(completions) => (completions - succeeded).clamp(0, parallelism),
        None if succeeded > 0 => active.min(parallelism),
        None => parallelism,
    };
    if active > expected {
        let surplus = usize::try_from(active - expected).unwrap_or_default();
        plan.withdraw = tally.active.iter().rev().take(surplus).cloned().collect();
        return;
    }
    let missing = usize::try_from(expected - active - tally.terminating).unwrap_or_default();
    match backoff_end(tally, first_backoff).filter(|end| *end > now) {
        Some(end) if missing > 0 => plan.look_again = Some(end),
        Some(_) | None => plan.create = missing,
    }
}

/// Until when no Pod is made, because the last ones failed.
fn backoff_end(tally: &Tally, first: Duration) -> Option<Timestamp> {
    let (failures, last) = tally.failures_in_a_row?;
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    let wait = first.saturating_mul(factor).min(MAX_BACKOFF);
    last.checked_add(wait).ok()
}

fn deadline(spec: &JobSpec, status: &JobStatus) -> Option<Timestamp> {
    let start = status.start_time.as_ref()?;
    Some(after(start.0, spec.active_deadline_seconds?))
}

fn after(start: Timestamp, seconds: i64) -> Timestamp {
    start.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}

/// A count of the status: left out when it is zero, as the API does.
fn some_count(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
