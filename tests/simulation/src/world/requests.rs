//! The network between hosts, the API server and Paperclip.

use paperclip_contract::types::{ApiError, ObjectRef};
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::driver::DriverEvent;
use paperclip_engine::ids::{CallId, PollId};

use super::process::Process;
use super::{World, WorldEvent};
use crate::cluster::{Actor, error};
use crate::coverage_points::CoveragePoint;
use crate::fault::Fault;
use crate::mutant::Mutant;

/// Longest that a client waits for an answer, in ms.
const NO_ANSWER_MS: u64 = 30_000;

/// How long a host tries to clean up at least, in ms.
const CLEANUP_MS: u64 = 240_000;

impl World {
    pub(super) fn send(&mut self, process: usize, call: CallId, request: ApiCall) {
        let run = self.processes[process].run;
        self.runs[run].requests += 1;
        crate::invariants::effect_has_durable_cause(self, run, &request);
        if self.processes[process].last_call >= Some(call) {
            self.cover(CoveragePoint::CallRetried);
        }
        self.processes[process].last_call = self.processes[process].last_call.max(Some(call));
        if self.trace.is_kept() {
            self.trace_line(run, "call", format_args!("{call} {}", request.describe()));
        }
        let delay_ms = self.entropy.skewed(1, 200);
        if self.strikes(Fault::ApiDropped, run) {
            return self.fail(process, call, NO_ANSWER_MS, no_answer());
        }
        if let Some(refusal) = self.draw_refusal(run, &request) {
            return self.fail(process, call, delay_ms, refusal);
        }
        let is_answer_lost = self.strikes(Fault::ApiTimedOut, run);
        let request = Box::new(request);
        self.after(delay_ms, WorldEvent::Request { process, call, request, is_answer_lost });
    }

    fn draw_refusal(&mut self, run: usize, request: &ApiCall) -> Option<ApiError> {
        if self.strikes(Fault::ApiServerError, run) {
            let status = *self.entropy.choose(&[500, 502, 503, 504]);
            return Some(error(status, "InternalError", "etcdserver: leader changed"));
        }
        if self.strikes(Fault::ApiTooMany, run) {
            let retry_after_ms = *self.entropy.choose(&[None, Some(1_000), Some(7_000)]);
            return Some(ApiError { retry_after_ms, ..error(429, "TooManyRequests", "too many requests") });
        }
        if self.strikes(Fault::ApiForbidden, run) {
            return Some(error(403, "Forbidden", format!("{} is forbidden", request.describe())));
        }
        let may_conflict =
            matches!(request, ApiCall::PatchJob { .. } | ApiCall::UpdateLease(_) | ApiCall::DeleteLease(_));
        (may_conflict && self.strikes(Fault::ApiConflict, run)).then(|| {
            error(
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version",
            )
        })
    }

    /// Records since when a call has had no conclusive answer.
    pub(super) fn note_answer(&mut self, process: usize, call: CallId, outcome: &Result<ApiReply, ApiError>) {
        let is_answered = match outcome {
            Ok(_) => true,
            Err(error) => error.status.is_some_and(|status| status < 500 && status != 429),
        };
        let now_ms = self.now_ms;
        let Process { run, unanswered_since_ms, .. } = &mut self.processes[process];
        if is_answered {
            unanswered_since_ms.remove(&call);
        } else if now_ms - *unanswered_since_ms.entry(call).or_insert(now_ms) >= CLEANUP_MS {
            self.runs[*run].is_api_away = true;
        }
    }

    fn fail(&mut self, process: usize, call: CallId, delay_ms: u64, error: ApiError) {
        self.after(delay_ms, WorldEvent::Answer { process, call, outcome: Box::new(Err(error)) });
    }

    /// A request has arrived. The server does not care whether who sent it still lives.
    pub(super) fn serve(&mut self, process: usize, call: CallId, request: &ApiCall, is_answer_lost: bool) {
        let run = self.processes[process].run;
        let by_name = self.by_name(request);
        let request = by_name.as_ref().unwrap_or(request);
        let outcome = self.cluster.apply(Actor::Run(run), request);
        if self.mutant == Some(Mutant::TriesForgotten) && outcome.is_err() && self.processes[process].is_alive
        {
            return self.send(process, call, request.clone());
        }
        self.follow_up(request, &outcome);
        if outcome.is_ok() {
            self.report_guard(request);
        }
        if is_answer_lost {
            return self.fail(process, call, NO_ANSWER_MS, no_answer());
        }
        let delay_ms = if self.strikes(Fault::ApiSlow, run) {
            self.entropy.skewed(1_000, 29_000)
        } else {
            self.entropy.skewed(1, 200)
        };
        self.after(delay_ms, WorldEvent::Answer { process, call, outcome: Box::new(outcome) });
    }

    /// With the mutant that identifies Jobs by name: the Job that has the name now.
    fn by_name(&self, request: &ApiCall) -> Option<ApiCall> {
        let ApiCall::DeleteJob { job, .. } = request else { return None };
        let is_ignored = self.mutant == Some(Mutant::UidIgnored);
        let found = self.cluster.job_named(&job.name).filter(|_| is_ignored)?;
        Some(ApiCall::DeleteJob { job: found.object.clone(), epoch: None })
    }

    /// Deletes what an owner that is removed already has.
    fn collect_if_orphaned(&mut self, owner: &ObjectRef) {
        if self.cluster.jobs.get(&owner.uid).is_none_or(|job| job.is_removed) {
            self.collect_later(&owner.uid);
        }
    }

    /// Plans the controllers' reactions to a request that was carried out.
    fn follow_up(&mut self, request: &ApiCall, outcome: &Result<ApiReply, ApiError>) {
        match (request, outcome) {
            (ApiCall::CreateJob { manifest_json }, Ok(ApiReply::Created(job))) => {
                crate::invariants::no_secret(self, "a Job", manifest_json);
                let mut early = self.entropy.branch("early");
                if early.chance(24) {
                    self.after(early.skewed(1, 1_000), WorldEvent::Disturb(job.uid.clone()));
                }
                let delay_ms = self.entropy.skewed(1, 300);
                self.after(delay_ms, WorldEvent::ReconcileJob(job.uid.clone()));
            }
            (ApiCall::CreateSecret(secret), Ok(_)) => self.collect_if_orphaned(&secret.owner),
            (ApiCall::CreateConfigMap(map), Ok(_)) => self.collect_if_orphaned(&map.owner),
            (ApiCall::AddOwner { owner, .. }, Ok(_)) => {
                self.cover(CoveragePoint::JoinedSharedFiles);
                self.collect_if_orphaned(owner);
            }
            (ApiCall::PatchJob { job, .. }, Ok(_)) => {
                let delay_ms = self.entropy.skewed(1, 300);
                self.after(delay_ms, WorldEvent::ReconcileJob(job.uid.clone()));
            }
            (ApiCall::DeleteJob { job, .. }, Ok(_)) => {
                crate::invariants::deletion_is_justified(self, job);
                self.on_job_deletion_requested(&job.uid.clone());
            }
            _ => {}
        }
    }

    pub(super) fn send_poll(&mut self, process: usize, poll: PollId) {
        let run = self.processes[process].run;
        let delay_ms = if self.strikes(Fault::PaperclipSlow, run) {
            self.entropy.skewed(1_000, 29_000)
        } else {
            self.entropy.skewed(1, 500)
        };
        self.after(delay_ms, WorldEvent::Poll { process, poll });
    }

    pub(super) fn answer_poll(&mut self, process: usize, poll: PollId) {
        if !self.processes[process].is_alive {
            return;
        }
        let run = self.processes[process].run;
        let outcome = if self.strikes(Fault::PaperclipServerError, run) {
            Ok((503, "upstream connect error".to_owned()))
        } else if self.strikes(Fault::PaperclipMalformed, run) {
            Ok((200, "<html>cancelled</html>".to_owned()))
        } else if self.strikes(Fault::PaperclipOddStatus, run) {
            let odd = ["queued", "succeeded", "failed", "interrupted", "", "a status of tomorrow"];
            let status = *self.entropy.choose(&odd);
            Ok((200, format!(r#"{{"status":"{status}"}}"#)))
        } else if self.runs[run].is_cancelled_in_paperclip {
            self.runs[run].cancelled_at_ms.get_or_insert(self.now_ms);
            let status = *self.entropy.choose(&["cancelled", "cancelling"]);
            Ok((200, format!(r#"{{"status":"{status}"}}"#)))
        } else {
            Ok((200, r#"{"status":"running"}"#.to_owned()))
        };
        self.give(process, DriverEvent::Polled { poll, outcome });
    }
}

fn no_answer() -> ApiError {
    ApiError { status: None, reason: None, message: "no answer within 30 s".to_owned(), retry_after_ms: None }
}
