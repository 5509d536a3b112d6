//! The table of actions: what each one is, in one place.
//!
//! Whoever handles commands derives from this table what it needs to know about an action: whether its cause must be durable first,
//! whether it needs the lease, whose object it touches, whether anybody sees it. A new action is one new row, which the compiler
//! demands.

use std::slice;

use crate::types::{Action, ObjectRef};

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionProperties<'a> {
    /// Its name in the WIT package.
    pub name: &'static str,
    /// The host sends requests to the Kubernetes API for it. The answer is [`Event::Answered`](crate::types::Event::Answered).
    pub calls_api: bool,
    /// It changes something outside the host, so its cause must be durable before it is carried out.
    pub is_durable_first: bool,
    /// Only the holder of the guard's lease may do it: another holder may have adopted the Job.
    pub needs_lease: bool,
    /// Who sees it.
    pub visibility: Visibility,
    /// The existing objects that it names.
    pub objects: Objects<'a>,
}

/// Who sees an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Nobody: it makes no record.
    None,
    /// It adds to the agent's output.
    Output,
    /// It makes a record or a metric and has no other effect, so a plugin may change it without running differently.
    Cosmetic,
}

/// Existing objects that an action names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objects<'a> {
    None,
    /// Jobs that this run must have created or adopted before.
    OwnJobs(&'a [ObjectRef]),
    /// A Job, whichever run it belongs to.
    Job(&'a ObjectRef),
    /// A Pod of a Job.
    Pod(&'a ObjectRef),
}

impl<'a> ActionProperties<'a> {
    /// A row of an action without any of the properties.
    const fn new(name: &'static str) -> Self {
        ActionProperties {
            name,
            calls_api: false,
            is_durable_first: false,
            needs_lease: false,
            visibility: Visibility::None,
            objects: Objects::None,
        }
    }

    const fn calls_api(self) -> Self {
        ActionProperties { calls_api: true, ..self }
    }

    const fn durable_first(self) -> Self {
        ActionProperties { is_durable_first: true, ..self }
    }

    const fn needs_lease(self) -> Self {
        ActionProperties { needs_lease: true, ..self }
    }

    const fn visible_as(self, visibility: Visibility) -> Self {
        ActionProperties { visibility, ..self }
    }

    fn own_job(self, job: &'a ObjectRef) -> Self {
        self.own_jobs(slice::from_ref(job))
    }

    const fn own_jobs(self, jobs: &'a [ObjectRef]) -> Self {
        ActionProperties { objects: Objects::OwnJobs(jobs), ..self }
    }

    const fn job(self, job: &'a ObjectRef) -> Self {
        ActionProperties { objects: Objects::Job(job), ..self }
    }

    const fn pod(self, pod: &'a ObjectRef) -> Self {
        ActionProperties { objects: Objects::Pod(pod), ..self }
    }
}

impl Action {
    /// Returns the row of this action.
    ///
    /// ```
    /// use paperclip_contract::types::{Action, NewObject};
    ///
    /// let create = Action::CreateJob(NewObject { manifest_json: "{}".to_owned() });
    /// let properties = create.properties();
    /// assert!(properties.calls_api && properties.is_durable_first && properties.needs_lease);
    /// ```
    pub fn properties(&self) -> ActionProperties<'_> {
        let row = ActionProperties::new;
        match self {
            Action::AcquireGuard(_) => row("acquire-guard").durable_first(),
            Action::ReleaseGuard => row("release-guard").durable_first(),
            Action::ListJobs(_) => row("list-jobs").calls_api(),
            Action::DryRunPod(_) => row("dry-run-pod").calls_api(),
            Action::CreateJob(_) => row("create-job").calls_api().durable_first().needs_lease(),
            Action::CreateSecret(new) => {
                row("create-secret").calls_api().durable_first().needs_lease().own_job(&new.owner)
            }
            Action::CreateConfigMap(new) => {
                row("create-config-map").calls_api().durable_first().needs_lease().own_job(&new.owner)
            }
            Action::UnsuspendJob(job) => {
                row("unsuspend-job").calls_api().durable_first().needs_lease().own_job(job)
            }
            Action::AdoptJob(label) => {
                row("adopt-job").calls_api().durable_first().needs_lease().job(&label.job)
            }
            Action::LabelJob(label) => row("label-job").calls_api().durable_first().own_job(&label.job),
            Action::DeleteJob(delete) => {
                row("delete-job").calls_api().durable_first().needs_lease().own_job(&delete.job)
            }
            Action::FollowJob(job) => row("follow-job").job(job),
            Action::GetJob(job) => row("get-job").calls_api().job(job),
            Action::ListPods(job) => row("list-pods").calls_api().job(job),
            Action::ListEvents(job) => row("list-events").calls_api().job(job),
            Action::FollowLog(follow) => row("follow-log").pod(&follow.pod),
            Action::StopLog(_) => row("stop-log"),
            Action::ReadLog(read) => row("read-log").calls_api().pod(&read.pod),
            Action::EmitLog(_) => row("emit-log").visible_as(Visibility::Output),
            Action::SetTimer(_) => row("set-timer"),
            Action::CancelTimer(_) => row("cancel-timer"),
            Action::PollHttp(_) => row("poll-http"),
            Action::StopPoll(_) => row("stop-poll"),
            Action::EmitStatus(_) => row("emit-status").visible_as(Visibility::Cosmetic),
            Action::ReportMeta(_) => row("report-meta").visible_as(Visibility::Cosmetic),
            Action::CountObservation(_) => row("count-observation").visible_as(Visibility::Cosmetic),
            Action::Finish(finish) => row("finish").durable_first().own_jobs(&finish.delete_jobs),
            Action::Other(_) => row("other"),
        }
    }
}
