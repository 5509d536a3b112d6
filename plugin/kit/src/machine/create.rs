//! From the guard to a Job that may run: look for others, try, create, furnish, release, or adopt.

use std::rc::Rc;

use serde_json::{Value, json};

use super::observe::{describe, is_finished};
use super::outbox::TimerName;
use super::region::Region as _;
use super::regions::{GuardState, JobState};
use super::{Agent, Job, Machine};
use crate::bindings::exports::paperclip::agent::types::{
    AcquireGuard, Action, AnswerOk, ApiError, JobSnapshot, Label, LabelJob, ListJobs, NewConfigMap,
    NewObject, NewSecret, ObjectRef, SecretEntry, SecretSource,
};
use crate::config::{ConcurrencyScope, WhenBusy};
use crate::manifest::labels::{RUN_ID, SESSION_ID, TASK_ID};
use crate::manifest::{self, Plan, Source};
use crate::orphan::{self, Orphan};
use crate::outcome::ErrorCode;

impl<A: Agent> Machine<A> {
    pub(super) fn acquire_guard(&mut self) {
        self.guard.state.go(GuardState::Asked);
        let Some(key) = self.facts.guard_key.clone() else {
            self.guard.state.go(GuardState::Held);
            return;
        };
        let wait_ms = match self.facts.settings.when_busy {
            WhenBusy::Wait => u64::from(self.facts.settings.queue_timeout_sec) * 1_000,
            WhenBusy::Fail => 0,
        };
        let namespace = self.facts.namespace.clone();
        self.outbox.push(Action::AcquireGuard(AcquireGuard { key, namespace, wait_ms }));
    }

    pub(super) fn list_jobs(&mut self) {
        let Some(plan) = self.plan() else { return };
        self.job.state.go(JobState::Listing);
        let list =
            ListJobs { namespace: plan.namespace.clone(), labels: labels(plan.labels.guard_selector()) };
        self.await_answer(Action::ListJobs(list));
    }

    /// The plan of the current attempt. It is a pure function of the request, so one that was dropped is made again.
    fn plan(&mut self) -> Option<Rc<Plan>> {
        if let Some(plan) = &self.plan {
            return Some(Rc::clone(plan));
        }
        match manifest::plan(&self.request, self.attempt, &self.agent) {
            Ok(plan) => {
                let plan = Rc::new(plan);
                self.plan = Some(Rc::clone(&plan));
                Some(plan)
            }
            Err(refusal) => {
                self.fail_job(ErrorCode::K8sJobCreateFailed, refusal.to_string());
                None
            }
        }
    }

    pub(super) fn await_answer(&mut self, action: Action) {
        let command = self.outbox.push(action);
        self.job.awaited.insert(command);
    }

    pub(super) fn fail_job(&mut self, code: ErrorCode, message: String) {
        self.job.state.go(JobState::Failed);
        self.job.cause = Some((code, message));
    }

    /// Takes the answer that the Job's pipeline waited for.
    pub(super) fn on_job_answer(&mut self, now_ms: u64, outcome: Result<AnswerOk, ApiError>) {
        match self.job.state {
            JobState::Listing => self.on_listed(now_ms, outcome),
            JobState::Trying => self.on_tried(outcome),
            JobState::Creating => self.on_created(outcome),
            JobState::Furnishing => self.on_furnished(outcome),
            JobState::Releasing => self.on_released(now_ms, outcome),
            JobState::Adopting => self.on_adopted(now_ms, outcome),
            JobState::Leaving => self.job.is_deletion_accepted = outcome.is_ok(),
            JobState::Absent | JobState::Blocked | JobState::Live | JobState::Failed | JobState::Gone => {}
        }
    }

    // ------------------------------------------------------------------ others' Jobs

    fn on_listed(&mut self, now_ms: u64, outcome: Result<AnswerOk, ApiError>) {
        let jobs = match outcome {
            Ok(AnswerOk::Jobs(jobs)) => jobs,
            Ok(_) => Vec::new(),
            Err(error) => {
                let text = format!("Concurrency guard unreachable: {}", describe(&error));
                return self.fail_job(ErrorCode::K8sConcurrencyGuardUnreachable, text);
            }
        };
        let Some(plan) = self.plan() else { return };
        let mut live: Vec<JobSnapshot> =
            jobs.into_iter().filter(|job| !job.is_deleting && !is_finished(job)).collect();
        live.sort_by_key(|job| std::cmp::Reverse(job.created_at_ms));
        let (own, orphans): (Vec<_>, Vec<_>) =
            live.into_iter().partition(|job| label(job, RUN_ID) == plan.labels.run_id.as_deref());
        let mut target = own.into_iter().next();
        for orphan in orphans {
            if !self.is_in_scope(&plan, &orphan) {
                continue;
            }
            match self.judge_orphan(&plan, &orphan) {
                Ok(()) => target = target.or(Some(orphan)),
                Err((code, text)) => self.block(now_ms, orphan.job, code, text),
            }
        }
        match (self.job.blockers.is_empty(), target) {
            (false, _) => self.on_blocked(now_ms),
            (true, Some(job)) => self.adopt(&plan, job),
            (true, None) => self.try_pod(&plan),
        }
    }

    /// Whether a Job of another run concerns this one. Runs that exclude nobody are in nobody's way, and nobody tells whether one of them is
    /// still being driven; runs of a task exclude those of the same task only.
    fn is_in_scope(&self, plan: &Plan, job: &JobSnapshot) -> bool {
        match self.facts.settings.concurrency_scope {
            ConcurrencyScope::Agent => true,
            ConcurrencyScope::Task => {
                label(job, TASK_ID).is_none_or(|task| plan.labels.task_id.as_deref() == Some(task))
            }
            ConcurrencyScope::None => false,
        }
    }

    /// Whether an orphan may be adopted, else why it is in the way.
    fn judge_orphan(&self, plan: &Plan, job: &JobSnapshot) -> Result<(), (ErrorCode, String)> {
        let name = &job.job.name;
        if !self.facts.settings.reattach_orphaned_jobs {
            let text =
                "Concurrent run blocked: orphaned Job(s) still running for this agent (reattach disabled)";
            return Err((ErrorCode::K8sConcurrentRunBlocked, text.to_owned()));
        }
        let labels = job.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
        let orphan =
            orphan::classify(&labels, plan.labels.task_id.as_deref(), plan.labels.session_id.as_deref());
        let code = match orphan {
            Orphan::Reattach => return Ok(()),
            Orphan::BlockTaskUnknown => ErrorCode::K8sOrphanTaskUnknown,
            Orphan::BlockTaskMismatch => ErrorCode::K8sConcurrentRunBlocked,
            Orphan::BlockSessionMismatch => ErrorCode::K8sOrphanSessionMismatch,
        };
        Err((code, orphan.error_message(name).unwrap_or_default()))
    }

    fn block(&mut self, now_ms: u64, job: ObjectRef, code: ErrorCode, text: String) {
        self.job.blockers.push(job);
        self.job.cause.get_or_insert((code, text));
        self.job.live_since_ms.get_or_insert(now_ms);
    }

    /// Waits for the Jobs in the way to end, if the config says so; they are followed, not asked for again.
    fn on_blocked(&mut self, now_ms: u64) {
        let wait_ms = match self.facts.settings.when_busy {
            WhenBusy::Wait => self.queue_ms(),
            WhenBusy::Fail => 0,
        };
        let since_ms = self.job.live_since_ms.unwrap_or(now_ms);
        let left_ms = (since_ms + wait_ms).saturating_sub(now_ms);
        if left_ms == 0 {
            self.job.state.go(JobState::Failed);
            return;
        }
        self.job.state.go(JobState::Blocked);
        self.plan = None;
        if let Some((_, text)) = &self.job.cause {
            self.outbox.info(format!("[paperclip] {text}; waiting for it to end"));
        }
        for blocker in self.job.blockers.clone() {
            self.outbox.push(Action::FollowJob(blocker));
        }
        self.outbox.set_timer(TimerName::Queue, left_ms);
    }

    pub(super) fn queue_ms(&self) -> u64 {
        u64::from(self.facts.settings.queue_timeout_sec) * 1_000
    }

    fn adopt(&mut self, plan: &Plan, job: JobSnapshot) {
        let from = label(&job, RUN_ID).unwrap_or("unknown").to_owned();
        self.outbox.info(format!(
            "[paperclip] Reattached to Job {} of run {from}; its log is read from the beginning",
            job.job.name
        ));
        self.job.state.go(JobState::Adopting);
        self.job.is_adopted = true;
        self.job.cause = None;
        self.job.object = Some(job.job.clone());
        let labels = labels(adopted_labels(plan));
        self.await_answer(Action::AdoptJob(LabelJob { job: job.job.clone(), labels }));
        self.job.last = Some(job);
    }

    fn on_adopted(&mut self, now_ms: u64, outcome: Result<AnswerOk, ApiError>) {
        let object = self.job.object.clone();
        match (outcome, object) {
            (Ok(AnswerOk::Job(Some(_)) | AnswerOk::Done), Some(object)) => {
                // A Job whose host died before it was released is still suspended, and may lack its Secrets.
                if self.job.last.as_ref().is_some_and(|job| job.is_suspended) {
                    return self.furnish(&object);
                }
                self.outbox.push(Action::FollowJob(object));
                self.go_live(now_ms);
            }
            (Ok(_), _) => self.fail_adoption("the Job was gone before it could be adopted"),
            (Err(error), _) => self.fail_adoption(&describe(&error)),
        }
    }

    /// The Job stays whose it was.
    fn fail_adoption(&mut self, cause: &str) {
        self.job.object = None;
        self.fail_job(ErrorCode::K8sPodReattachFailed, format!("Pod reattach failed: {cause}"));
    }

    // ------------------------------------------------------------------ the own Job

    pub(super) fn try_own_pod(&mut self) {
        if let Some(plan) = self.plan() {
            self.try_pod(&plan);
        }
    }

    fn try_pod(&mut self, plan: &Plan) {
        self.job = Job { state: self.job.state, ..Job::default() };
        self.job.state.go(JobState::Trying);
        let manifest_json = preflight_pod(&plan.job).to_string();
        self.await_answer(Action::DryRunPod(NewObject { manifest_json }));
    }

    fn on_tried(&mut self, outcome: Result<AnswerOk, ApiError>) {
        match outcome {
            Ok(AnswerOk::Warnings(warnings)) => {
                for warning in warnings {
                    self.outbox.warn(format!("[paperclip] Kubernetes warns: {warning}"));
                }
            }
            Ok(_) => {}
            Err(error) if is_missing_right(&error) => {
                let text = "[paperclip] Warning: no right to create pods (dry run): Pod Security, quotas and service accounts are not checked beforehand";
                self.outbox.warn(text);
            }
            // Room comes when other pods end: the Job's controller tries again, and `quotaGraceSec` says for how long.
            Err(error) if is_over_quota(&error) => {
                let text = format!("[paperclip] Waiting: no room for the pod yet: {}", describe(&error));
                self.outbox.warn(text);
            }
            Err(error) => {
                let text = format!("Failed to create Kubernetes Job: {}", describe(&error));
                return self.fail_job(ErrorCode::K8sJobCreateFailed, text);
            }
        }
        let Some(plan) = self.plan() else { return };
        self.job.state.go(JobState::Creating);
        self.outbox.info(format!("[paperclip] {}", plan.skills_line()));
        self.outbox.push(Action::ReportMeta(meta(&plan).to_string()));
        self.await_answer(Action::CreateJob(NewObject { manifest_json: plan.job.to_string() }));
    }

    fn on_created(&mut self, outcome: Result<AnswerOk, ApiError>) {
        let object = match outcome {
            Ok(AnswerOk::Created(object)) => object,
            Ok(_) => {
                let text = "Failed to create Kubernetes Job: the answer names no object".to_owned();
                return self.fail_job(ErrorCode::K8sJobCreateFailed, text);
            }
            Err(error) => {
                let text = format!("Failed to create Kubernetes Job: {}", describe(&error));
                return self.fail_job(ErrorCode::K8sJobCreateFailed, text);
            }
        };
        self.furnish(&object);
    }

    /// Creates what the Job's pod needs, owned by the Job, before it may run.
    fn furnish(&mut self, object: &ObjectRef) {
        let Some(plan) = self.plan() else { return };
        self.job.state.go(JobState::Furnishing);
        self.job.object = Some(object.clone());
        self.outbox.push(Action::FollowJob(object.clone()));
        let own_labels = labels(plan.owned_labels());
        for secret in &plan.secrets {
            let entries = secret
                .entries
                .iter()
                .map(|(key, source)| SecretEntry { key: key.clone(), source: told_source(&plan, source) })
                .collect();
            self.await_answer(Action::CreateSecret(NewSecret {
                namespace: secret.namespace.clone(),
                name: secret.name.clone(),
                labels: own_labels.clone(),
                owner: object.clone(),
                entries,
            }));
        }
        for map in &plan.config_maps {
            self.await_answer(Action::CreateConfigMap(NewConfigMap {
                namespace: map.namespace.clone(),
                name: map.name.clone(),
                labels: own_labels.clone(),
                owner: object.clone(),
                entries: labels(map.entries.clone()),
            }));
        }
    }

    fn on_furnished(&mut self, outcome: Result<AnswerOk, ApiError>) {
        if let Err(error) = outcome {
            let text = format!("Failed to create prompt Secret: {}", describe(&error));
            self.fail_job(ErrorCode::K8sPromptSecretCreateFailed, text);
        }
    }

    pub(super) fn release(&mut self) {
        let Some(object) = self.job.object.clone() else { return };
        self.job.state.go(JobState::Releasing);
        self.await_answer(Action::UnsuspendJob(object));
    }

    fn on_released(&mut self, now_ms: u64, outcome: Result<AnswerOk, ApiError>) {
        match outcome {
            Ok(_) => self.released(now_ms),
            Err(error) if error.status == Some(404) => {
                self.job.gone_via = Some("unsuspend-404".to_owned());
                self.job.state.go(JobState::Gone);
            }
            Err(error) => {
                let text =
                    format!("Failed to create Kubernetes Job: it could not be started: {}", describe(&error));
                self.fail_job(ErrorCode::K8sJobCreateFailed, text);
            }
        }
    }

    fn go_live(&mut self, now_ms: u64) {
        self.job.state.go(JobState::Live);
        self.plan = None;
        self.job.live_since_ms = Some(now_ms);
    }

    /// The own Job may run now.
    pub(super) fn released(&mut self, now_ms: u64) {
        self.go_live(now_ms);
        // What the watch told of it before is over.
        if let Some(job) = &mut self.job.last {
            job.is_suspended = false;
        }
        if let Some(object) = &self.job.object {
            self.outbox.info(format!("[paperclip] Job {} created in {}", object.name, object.namespace));
        }
    }
}

/// The Pod that the Job's template stands for, as a request of its own: a dry run of it meets what a dry run of the Job does not.
fn preflight_pod(job: &Value) -> Value {
    let template = &job["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"]});
    pod["metadata"]["name"] = job["metadata"]["name"].clone();
    pod["metadata"]["namespace"] = job["metadata"]["namespace"].clone();
    pod["spec"] = template["spec"].clone();
    pod
}

/// Whether the host itself may not create pods, as opposed to the pod being refused.
fn is_missing_right(error: &ApiError) -> bool {
    error.status == Some(403) && error.message.contains("cannot create resource \"pods\"")
}

/// Whether a quota refuses the pod for as long as others use it up.
fn is_over_quota(error: &ApiError) -> bool {
    error.status == Some(403) && error.message.contains("exceeded quota: ")
}

/// What makes an orphan this run's: its run, and the session that it works in as far as it is known.
fn adopted_labels(plan: &Plan) -> Vec<(&'static str, String)> {
    let run = plan.labels.run_id.clone().map(|run| (RUN_ID, run));
    let session = plan.labels.session_id.clone().map(|session| (SESSION_ID, session));
    run.into_iter().chain(session).collect()
}

/// How the agent is invoked, for Paperclip's record of the run. No secret has a place in it.
fn meta(plan: &Plan) -> Value {
    let container = &plan.job["spec"]["template"]["spec"]["containers"][0];
    json!({
        "adapterType": plan.labels.adapter_type,
        "namespace": plan.namespace,
        "jobName": plan.job_name,
        "attempt": plan.labels.attempt,
        "container": plan.container_name,
        "image": container["image"],
        "cwd": container["workingDir"],
        "commandArgs": plan.args,
        "commandNotes": [plan.skills_note()],
        "promptMetrics": plan.prompt_metrics,
        "specHash": plan.spec_hash,
    })
}

fn told_source(plan: &Plan, source: &Source) -> SecretSource {
    match source {
        Source::Prompt | Source::PromptPiece { .. } => {
            SecretSource::Prompt(plan.prompt_of(source).unwrap_or_default().to_owned())
        }
        Source::AuthToken => SecretSource::AuthToken,
        Source::ConfigEnv(name) => SecretSource::ConfigEnv(name.clone()),
        Source::PaperclipPodEnv(name) => SecretSource::PaperclipPodEnv(name.clone()),
    }
}

fn labels<K: Into<String>>(pairs: impl IntoIterator<Item = (K, String)>) -> Vec<Label> {
    pairs.into_iter().map(|(key, value)| Label { key: key.into(), value }).collect()
}

fn label<'a>(job: &'a JobSnapshot, key: &str) -> Option<&'a str> {
    job.labels.iter().find(|label| label.key == key).map(|label| label.value.as_str())
}
