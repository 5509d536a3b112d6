//! From the guard to an unsuspended Job: list the agent's Jobs, dry run, create, create dependents, unsuspend, or adopt.

use std::rc::Rc;

use serde_json::{Value, json};

use super::observe::{describe, is_finished};
use super::outbox::TimerName;
use super::region::{IllegalTransition, Region as _};
use super::regions::{GuardState, JobState};
use super::{Agent, Job, Machine};
use crate::bindings::exports::paperclip::agent::types::{
    self, AcquireGuard, Action, AnswerOk, ApiError, JobSnapshot, Label, LabelJob, ListJobs, NewConfigMap,
    NewObject, NewSecret, ObjectRef, SecretEntry, SecretSource,
};
use crate::config::{ConcurrencyScope, WhenBusy};
use crate::manifest::labels::{MANAGED_BY, RUN_ID, SESSION_ID, TASK_ID};
use crate::manifest::mcp::JsonPart;
use crate::manifest::{self, Plan, Source};
use crate::orphan::{self, Orphan};
use crate::outcome::ErrorCode;
use crate::refusal::Refusal;

/// How long to wait before an object that a quota has refused is created again, in ms.
const QUOTA_RETRY_MS: u64 = 5_000;

impl<A: Agent> Machine<A> {
    pub(super) fn acquire_guard(&mut self) -> Result<(), IllegalTransition> {
        self.guard.state.transition(GuardState::Requested)?;
        let key = self.facts.guard_key.clone();
        let wait_ms = match self.facts.settings.when_busy {
            WhenBusy::Wait => u64::from(self.facts.settings.queue_timeout_sec) * 1_000,
            WhenBusy::Fail => 0,
        };
        let namespace = self.facts.namespace.clone();
        self.outbox.push(Action::AcquireGuard(AcquireGuard { key, namespace, wait_ms }));
        Ok(())
    }

    pub(super) fn list_jobs(&mut self) -> Result<(), IllegalTransition> {
        let plan = match self.plan() {
            Ok(plan) => plan,
            Err(refusal) => {
                self.finish_failed(ErrorCode::K8S_JOB_CREATE_FAILED, refusal.to_string());
                return Ok(());
            }
        };
        self.job.state.transition(JobState::Listing)?;
        let list =
            ListJobs { namespace: plan.namespace.clone(), labels: labels(plan.labels.guard_selector()) };
        self.await_answer(Action::ListJobs(list));
        Ok(())
    }

    /// Returns the plan of the current attempt. It is a pure function of the request: one that was dropped is computed again.
    fn plan(&mut self) -> Result<Rc<Plan>, Refusal> {
        if let Some(plan) = &self.plan {
            return Ok(Rc::clone(plan));
        }
        let plan = Rc::new(manifest::plan(&self.request, self.attempt, &self.agent)?);
        self.plan = Some(Rc::clone(&plan));
        Ok(plan)
    }

    /// Returns the plan of the current attempt; if there is none, the Job has failed.
    fn plan_or_fail(&mut self) -> Result<Option<Rc<Plan>>, IllegalTransition> {
        match self.plan() {
            Ok(plan) => Ok(Some(plan)),
            Err(refusal) => {
                self.fail_job(ErrorCode::K8S_JOB_CREATE_FAILED, refusal.to_string())?;
                Ok(None)
            }
        }
    }

    pub(super) fn await_answer(&mut self, action: Action) {
        let command = self.outbox.push(action);
        self.job.awaited.insert(command);
    }

    pub(super) fn fail_job(&mut self, code: ErrorCode, message: String) -> Result<(), IllegalTransition> {
        self.job.state.transition(JobState::Failed)?;
        self.job.cause = Some((code, message));
        Ok(())
    }

    /// Records the answer that the Job's next transition waits for.
    pub(super) fn on_job_answer(
        &mut self,
        now_ms: u64,
        outcome: Result<AnswerOk, ApiError>,
    ) -> Result<(), IllegalTransition> {
        match self.job.state {
            JobState::Listing => self.on_listed(now_ms, outcome),
            JobState::Preflight => self.on_preflight_answered(outcome),
            JobState::Creating => self.on_created(outcome),
            JobState::CreatingDependents => self.on_dependent_created(now_ms, outcome),
            JobState::Unsuspending => self.on_unsuspended(now_ms, outcome),
            JobState::Adopting => self.on_adopted(now_ms, outcome),
            JobState::Deleting => {
                self.job.is_deletion_accepted = outcome.is_ok();
                Ok(())
            }
            JobState::NotCreated
            | JobState::Blocked
            | JobState::Live
            | JobState::Failed
            | JobState::Deleted => Ok(()),
        }
    }

    // ------------------------------------------------------------------ Jobs of other runs

    fn on_listed(
        &mut self,
        now_ms: u64,
        outcome: Result<AnswerOk, ApiError>,
    ) -> Result<(), IllegalTransition> {
        let jobs = match outcome {
            Ok(AnswerOk::Jobs(jobs)) => jobs,
            Ok(_) => Vec::new(),
            Err(error) => {
                let text = format!("Concurrency guard unreachable: {}", describe(&error));
                return self.fail_job(ErrorCode::K8S_CONCURRENCY_GUARD_UNREACHABLE, text);
            }
        };
        let Some(plan) = self.plan_or_fail()? else { return Ok(()) };
        let mut live: Vec<JobSnapshot> =
            jobs.into_iter().filter(|job| !job.is_deleting && !is_finished(job)).collect();
        live.sort_by_key(|job| std::cmp::Reverse(job.created_at_ms));
        let (own, orphans): (Vec<_>, Vec<_>) =
            live.into_iter().partition(|job| label(job, RUN_ID) == plan.labels.run_id.as_deref());
        for job in own.iter().filter(|job| !is_readable(job)) {
            self.block_unreadable(now_ms, job);
        }
        let mut target = own.into_iter().next();
        for orphan in orphans {
            if !self.is_in_scope(&plan, &orphan) {
                continue;
            }
            match self.judge_orphan(&plan, &orphan) {
                Ok(()) if !is_readable(&orphan) => self.block_unreadable(now_ms, &orphan),
                Ok(()) => target = target.or(Some(orphan)),
                Err((code, text)) => self.block(now_ms, orphan.job, code, text),
            }
        }
        match (self.job.blockers.is_empty(), target) {
            (false, _) => self.on_blocked(now_ms),
            (true, Some(job)) => self.adopt(&plan, job),
            (true, None) => self.preflight(&plan),
        }
    }

    /// Whether a Job of another run may block this one. With scope `none` no run blocks another; with scope `task` only Jobs of
    /// the same task count.
    fn is_in_scope(&self, plan: &Plan, job: &JobSnapshot) -> bool {
        match self.facts.settings.concurrency_scope {
            ConcurrencyScope::Agent => true,
            ConcurrencyScope::Task => {
                label(job, TASK_ID).is_none_or(|task| plan.labels.task_id.as_deref() == Some(task))
            }
            ConcurrencyScope::None => false,
        }
    }

    /// Whether an orphan may be adopted; the error says why it blocks this run instead.
    fn judge_orphan(&self, plan: &Plan, job: &JobSnapshot) -> Result<(), (ErrorCode, String)> {
        let name = &job.job.name;
        if !self.facts.settings.reattach_orphaned_jobs {
            let text =
                "Concurrent run blocked: orphaned Job(s) still running for this agent (reattach disabled)";
            return Err((ErrorCode::K8S_CONCURRENT_RUN_BLOCKED, text.to_owned()));
        }
        let labels = job.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect();
        let orphan =
            orphan::classify(&labels, plan.labels.task_id.as_deref(), plan.labels.session_id.as_deref());
        let code = match orphan {
            Orphan::Reattach => return Ok(()),
            Orphan::BlockTaskUnknown => ErrorCode::K8S_ORPHAN_TASK_UNKNOWN,
            Orphan::BlockTaskMismatch => ErrorCode::K8S_CONCURRENT_RUN_BLOCKED,
            Orphan::BlockSessionMismatch => ErrorCode::K8S_ORPHAN_SESSION_MISMATCH,
        };
        Err((code, orphan.error_message(name).unwrap_or_default()))
    }

    fn block_unreadable(&mut self, now_ms: u64, job: &JobSnapshot) {
        let text = format!(
            "Concurrent run blocked: the output of Job {} has control lines of a format that this version does not read ({}); a host of a newer version adopts it",
            job.job.name,
            control_lines(job).unwrap_or_default()
        );
        self.block(now_ms, job.job.clone(), ErrorCode::K8S_CONCURRENT_RUN_BLOCKED, text);
    }

    fn block(&mut self, now_ms: u64, job: ObjectRef, code: ErrorCode, text: String) {
        self.job.blockers.push(job);
        self.job.cause.get_or_insert((code, text));
        self.job.blocked_since_ms.get_or_insert(now_ms);
    }

    /// Waits for the blocking Jobs to end if the config says so. They are followed, not listed again.
    fn on_blocked(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        let wait_ms = match self.facts.settings.when_busy {
            WhenBusy::Wait => self.queue_ms(),
            WhenBusy::Fail => 0,
        };
        let since_ms = self.job.blocked_since_ms.unwrap_or(now_ms);
        let left_ms = (since_ms + wait_ms).saturating_sub(now_ms);
        if left_ms == 0 {
            return self.job.state.transition(JobState::Failed);
        }
        self.job.state.transition(JobState::Blocked)?;
        self.plan = None;
        if let Some((_, text)) = &self.job.cause {
            self.outbox.info(format!("[paperclip] {text}; waiting for it to end"));
        }
        for blocker in self.job.blockers.clone() {
            self.outbox.push(Action::FollowJob(blocker));
        }
        self.outbox.set_timer(TimerName::Queue, left_ms);
        Ok(())
    }

    pub(super) fn queue_ms(&self) -> u64 {
        u64::from(self.facts.settings.queue_timeout_sec) * 1_000
    }

    fn adopt(&mut self, plan: &Plan, job: JobSnapshot) -> Result<(), IllegalTransition> {
        let from = label(&job, RUN_ID).unwrap_or("unknown").to_owned();
        self.outbox.info(format!(
            "[paperclip] Reattached to Job {} of run {from}; its log is read from the start",
            job.job.name
        ));
        self.job.state.transition(JobState::Adopting)?;
        self.job.is_adopted = true;
        self.job.cause = None;
        self.job.object = Some(job.job.clone());
        let labels = labels(adopted_labels(plan));
        self.await_answer(Action::AdoptJob(LabelJob { job: job.job.clone(), labels }));
        self.job.has_been_active = !job.is_suspended;
        self.job.last = Some(job);
        Ok(())
    }

    fn on_adopted(
        &mut self,
        now_ms: u64,
        outcome: Result<AnswerOk, ApiError>,
    ) -> Result<(), IllegalTransition> {
        let object = self.job.object.clone();
        match (outcome, object) {
            (Ok(AnswerOk::Job(Some(_)) | AnswerOk::Done), Some(object)) => {
                // A Job whose host died before it was unsuspended is still suspended, and may lack its Secrets.
                if self.job.last.as_ref().is_some_and(|job| job.is_suspended) {
                    return self.create_dependents(&object);
                }
                self.outbox.push(Action::FollowJob(object));
                self.enter_live(now_ms)
            }
            (Ok(_), _) => self.fail_adoption("the Job was deleted before it could be adopted"),
            (Err(error), _) => self.fail_adoption(&describe(&error)),
        }
    }

    /// The Job still belongs to its run.
    fn fail_adoption(&mut self, cause: &str) -> Result<(), IllegalTransition> {
        self.job.object = None;
        self.fail_job(ErrorCode::K8S_POD_REATTACH_FAILED, format!("Pod reattach failed: {cause}"))
    }

    // ------------------------------------------------------------------ the Job of this run

    pub(super) fn preflight_second_attempt(&mut self) -> Result<(), IllegalTransition> {
        match self.plan() {
            Ok(plan) => self.preflight(&plan),
            // A fresh session has a longer prompt, which may be too long.
            Err(refusal) => {
                self.finish_failed(ErrorCode::K8S_JOB_CREATE_FAILED, refusal.to_string());
                Ok(())
            }
        }
    }

    /// Checks by a dry run of the Pod whether the API accepts it.
    fn preflight(&mut self, plan: &Plan) -> Result<(), IllegalTransition> {
        self.job = Job { state: self.job.state, ..Job::default() };
        self.job.state.transition(JobState::Preflight)?;
        let manifest_json = preflight_pod(&plan.job).to_string();
        self.await_answer(Action::DryRunPod(NewObject { manifest_json }));
        Ok(())
    }

    fn on_preflight_answered(
        &mut self,
        outcome: Result<AnswerOk, ApiError>,
    ) -> Result<(), IllegalTransition> {
        match outcome {
            Ok(AnswerOk::Warnings(warnings)) => {
                for warning in warnings {
                    self.outbox.warn(format!("[paperclip] Kubernetes warns: {warning}"));
                }
            }
            Ok(_) => {}
            Err(error) if is_missing_permission(&error) => {
                let text = "[paperclip] Warning: no permission to create pods (dry run): Pod Security, quotas and service accounts are not checked beforehand";
                self.outbox.warn(text);
            }
            // The quota has capacity again when other pods end: the Job's controller retries, and `quotaGraceSec` says for how long.
            Err(error) if is_over_quota(&error) => self.warn_of_quota(&error),
            Err(error) => {
                let text = format!("Failed to create Kubernetes Job: {}", describe(&error));
                return self.fail_job(ErrorCode::K8S_JOB_CREATE_FAILED, text);
            }
        }
        let Some(plan) = self.plan_or_fail()? else { return Ok(()) };
        self.job.state.transition(JobState::Creating)?;
        self.outbox.info(format!("[paperclip] {}", plan.skills_line()));
        let meta = meta(&plan, &self.request.masked_env);
        self.outbox.push(Action::ReportMeta(meta.to_string()));
        self.await_answer(Action::CreateJob(NewObject { manifest_json: plan.job.to_string() }));
        Ok(())
    }

    fn on_created(&mut self, outcome: Result<AnswerOk, ApiError>) -> Result<(), IllegalTransition> {
        let object = match outcome {
            Ok(AnswerOk::Created(object)) => object,
            Ok(_) => {
                let text = "Failed to create Kubernetes Job: the answer names no object".to_owned();
                return self.fail_job(ErrorCode::K8S_JOB_CREATE_FAILED, text);
            }
            Err(error) => {
                let text = format!("Failed to create Kubernetes Job: {}", describe(&error));
                return self.fail_job(ErrorCode::K8S_JOB_CREATE_FAILED, text);
            }
        };
        self.create_dependents(&object)
    }

    /// Creates the Secrets and ConfigMaps that the Job's pod needs, owned by the Job, before it is unsuspended.
    fn create_dependents(&mut self, object: &ObjectRef) -> Result<(), IllegalTransition> {
        let Some(plan) = self.plan_or_fail()? else { return Ok(()) };
        self.job.state.transition(JobState::CreatingDependents)?;
        self.job.object = Some(object.clone());
        self.outbox.push(Action::FollowJob(object.clone()));
        self.push_dependents(&plan, object);
        Ok(())
    }

    /// Creates what the Job's pod needs. What exists of it already, because an earlier command has created it, is not an error.
    fn push_dependents(&mut self, plan: &Plan, owner: &ObjectRef) {
        let owned_labels = labels(plan.owned_labels());
        for secret in &plan.secrets {
            let entries = secret
                .entries
                .iter()
                .map(|(key, source)| SecretEntry { key: key.clone(), source: secret_source(plan, source) })
                .collect();
            self.await_answer(Action::CreateSecret(NewSecret {
                namespace: secret.namespace.clone(),
                name: secret.name.clone(),
                labels: owned_labels.clone(),
                owner: owner.clone(),
                entries,
            }));
        }
        for map in &plan.config_maps {
            // A shared one is no single agent's.
            let of_agent = |label: &Label| !map.is_shared || label.key == MANAGED_BY;
            self.await_answer(Action::CreateConfigMap(NewConfigMap {
                namespace: map.namespace.clone(),
                name: map.name.clone(),
                labels: owned_labels.iter().filter(|label| of_agent(label)).cloned().collect(),
                owner: owner.clone(),
                entries: labels(map.entries.clone()),
                binary_entries: labels(map.binary_entries.clone()),
                is_shared: map.is_shared,
            }));
        }
    }

    fn on_dependent_created(
        &mut self,
        now_ms: u64,
        outcome: Result<AnswerOk, ApiError>,
    ) -> Result<(), IllegalTransition> {
        let Err(error) = outcome else { return Ok(()) };
        let grace_ms = u64::from(self.facts.settings.quota_grace_sec) * 1_000;
        let since_ms = *self.job.over_quota_since_ms.get_or_insert(now_ms);
        // The quota has capacity again when objects of other runs are deleted.
        if is_over_quota(&error) && now_ms < since_ms + grace_ms {
            if !self.job.is_over_quota {
                self.job.is_over_quota = true;
                self.outbox.set_timer(TimerName::Stall, QUOTA_RETRY_MS);
            }
            if since_ms == now_ms {
                self.warn_of_quota(&error);
            }
            return Ok(());
        }
        let text = format!("Failed to create prompt Secret: {}", describe(&error));
        self.fail_job(ErrorCode::K8S_PROMPT_SECRET_CREATE_FAILED, text)
    }

    fn warn_of_quota(&mut self, error: &ApiError) {
        let text =
            format!("[paperclip] Waiting: the quota has no capacity for the pod yet: {}", describe(error));
        self.outbox.warn(text);
    }

    /// Creates the dependents again after a quota has refused one.
    pub(super) fn retry_dependents(&mut self) -> Result<(), IllegalTransition> {
        let Some(object) = self.job.object.clone() else { return Ok(()) };
        let Some(plan) = self.plan_or_fail()? else { return Ok(()) };
        self.job.is_over_quota = false;
        self.push_dependents(&plan, &object);
        Ok(())
    }

    pub(super) fn unsuspend(&mut self) -> Result<(), IllegalTransition> {
        let Some(object) = self.job.object.clone() else { return Ok(()) };
        self.job.state.transition(JobState::Unsuspending)?;
        self.await_answer(Action::UnsuspendJob(object));
        Ok(())
    }

    fn on_unsuspended(
        &mut self,
        now_ms: u64,
        outcome: Result<AnswerOk, ApiError>,
    ) -> Result<(), IllegalTransition> {
        match outcome {
            Ok(_) => self.start_job(now_ms),
            Err(error) if error.status == Some(404) => {
                self.job.deleted_via = Some("unsuspend-404".to_owned());
                self.job.state.transition(JobState::Deleted)
            }
            Err(error) => {
                let text =
                    format!("Failed to create Kubernetes Job: it could not be started: {}", describe(&error));
                self.fail_job(ErrorCode::K8S_JOB_CREATE_FAILED, text)
            }
        }
    }

    fn enter_live(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        self.job.state.transition(JobState::Live)?;
        self.plan = None;
        self.job.live_since_ms = Some(now_ms);
        Ok(())
    }

    /// Records that this run's Job is unsuspended.
    pub(super) fn start_job(&mut self, now_ms: u64) -> Result<(), IllegalTransition> {
        self.enter_live(now_ms)?;
        // The last snapshot is older than the answer.
        if let Some(job) = &mut self.job.last {
            job.is_suspended = false;
        }
        if let Some(object) = &self.job.object {
            self.outbox.info(format!("[paperclip] Job {} created in {}", object.name, object.namespace));
        }
        Ok(())
    }
}

/// Returns the Pod of the Job's template: its dry run meets Pod Security, quotas and webhooks, which that of the Job does not.
fn preflight_pod(job: &Value) -> Value {
    let template = &job["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"]});
    pod["metadata"]["name"] = job["metadata"]["name"].clone();
    pod["metadata"]["namespace"] = job["metadata"]["namespace"].clone();
    pod["spec"] = template["spec"].clone();
    pod
}

/// Whether the host lacks the permission to create pods, as opposed to the pod being refused.
fn is_missing_permission(error: &ApiError) -> bool {
    error.status == Some(403) && error.message.contains("cannot create resource \"pods\"")
}

/// Whether a quota that is used up refuses the object.
fn is_over_quota(error: &ApiError) -> bool {
    error.status == Some(403) && error.message.contains("exceeded quota: ")
}

/// Returns the labels that make an orphan this run's: its run, and its session if one is known.
fn adopted_labels(plan: &Plan) -> Vec<(&'static str, String)> {
    let run = plan.labels.run_id.clone().map(|run| (RUN_ID, run));
    let session = plan.labels.session_id.clone().map(|session| (SESSION_ID, session));
    run.into_iter().chain(session).collect()
}

/// Returns how the agent is invoked, for Paperclip's record of the run. It holds no secret.
fn meta(plan: &Plan, masked_env: &[String]) -> Value {
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
        "maskedEnv": masked_env,
        "specHash": plan.spec_hash,
    })
}

fn secret_source(plan: &Plan, source: &Source) -> SecretSource {
    match source {
        Source::Prompt | Source::PromptPiece { .. } | Source::Context(_) => {
            SecretSource::Prompt(plan.prompt_of(source).unwrap_or_default().to_owned())
        }
        Source::AuthToken => SecretSource::AuthToken,
        Source::ConfigEnv(name) => SecretSource::ConfigEnv(name.clone()),
        Source::PaperclipPodEnv(name) => SecretSource::PaperclipPodEnv(name.clone()),
        Source::Json(parts) => SecretSource::Json(
            parts
                .iter()
                .map(|part| match part {
                    JsonPart::Text(text) => types::JsonPart::Text(text.clone()),
                    JsonPart::ConfigEnv(name) => types::JsonPart::ConfigEnv(name.clone()),
                })
                .collect(),
        ),
    }
}

fn labels<K: Into<String>>(pairs: impl IntoIterator<Item = (K, String)>) -> Vec<Label> {
    pairs.into_iter().map(|(key, value)| Label { key: key.into(), value }).collect()
}

/// Returns the value of the annotation of a Job whose output has control lines.
pub(super) fn control_lines(job: &JobSnapshot) -> Option<&str> {
    let annotation = job.annotations.iter().find(|annotation| annotation.key == manifest::CONTROL_LINES);
    annotation.map(|annotation| annotation.value.as_str())
}

/// Whether this version reads the output of a Job.
fn is_readable(job: &JobSnapshot) -> bool {
    control_lines(job).is_none_or(|value| manifest::annotated_tag(value).is_some())
}

fn label<'a>(job: &'a JobSnapshot, key: &str) -> Option<&'a str> {
    job.labels.iter().find(|label| label.key == key).map(|label| label.value.as_str())
}
