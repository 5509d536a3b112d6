//! The end of a run: its result, and the cleanup after it.

use paperclip_contract::types::{ApiError, Ending, Finish, ObjectRef};
use serde_json::{Map, Value};

use super::Run;
use super::state::{Phase, Release, Remains};
use crate::api::{ApiCall, ApiReply};
use crate::calls::{CLEANUP_RETRY, Purpose};
use crate::guest::{FaultCause, Guest, GuestFault};
use crate::journal::Entry;
use crate::ledger::DeletionState;
use crate::manifest;
use crate::port::{Closing, Effect};
use crate::record::Level;
use crate::result;

impl<G: Guest> Run<G> {
    pub(super) fn finish(&mut self, finish: Finish) -> Result<(), FaultCause> {
        let Ok(Value::Object(record)) = serde_json::from_str(&finish.result_json) else {
            return Err(FaultCause::Contract("the result is not a JSON object".to_owned()));
        };
        self.end(record, finish.ending, finish.delete_jobs);
        Ok(())
    }

    /// Ends the run with a fault of its plugin as the cause, and deletes its Jobs.
    pub(super) fn end_with_fault(&mut self, fault: &GuestFault) {
        let jobs = self.ledger.jobs.values().cloned().collect();
        let is_undone = self.ledger.jobs.is_empty() && self.ledger.uncertain_jobs().is_empty();
        self.end(result::of_fault(fault, is_undone), Ending::Failed, jobs);
    }

    /// Ends a run that was resumed before its Secret existed, and without the values for it.
    pub(super) fn end_for_lost_secrets(&mut self, why: &str) {
        let jobs = self.ledger.jobs.values().cloned().collect();
        self.end(result::host_restarted(why), Ending::Failed, jobs);
    }

    /// Ends a run that was resumed without its journal and whose Job was deleted: this host cannot start it again.
    pub(super) fn end_for_lost_job(&mut self) {
        let jobs = self.ledger.jobs.values().cloned().collect();
        self.end(result::job_lost(), Ending::Failed, jobs);
    }

    fn end(&mut self, record: Map<String, Value>, ending: Ending, delete_jobs: Vec<ObjectRef>) {
        self.events.clear();
        let result = result::mask(record, &self.spec.redactor);
        let is_unread = self.ledger.is_reading();
        let entry = Entry::End {
            seq: self.step,
            at: self.now,
            ending,
            result: std::borrow::Cow::Borrowed(&result),
            delete_jobs: delete_jobs.as_slice().into(),
            is_unread,
        };
        let line = entry.to_line();
        self.append(line);
        self.effects.push_back(Effect::Sync);
        self.emit_end(result.clone(), is_unread);
        self.phase = Phase::CleaningUp(ending);
        self.polls.clear();
        self.logs.stop_all();
        self.drain_logs();
        self.events.clear();
        let remains =
            Remains { jobs: delete_jobs, uncertain: self.ledger.uncertain_jobs(), is_inherited: false };
        self.drop_requests();
        self.release = Some(Release::Held);
        if self.record_end(ending, result) {
            self.unrecorded = Some(remains);
        } else {
            self.delete_jobs(remains);
        }
    }

    /// Deletes what is left of an ended run.
    pub(super) fn delete_jobs(&mut self, remains: Remains) {
        let Remains { jobs, uncertain, is_inherited } = remains;
        // Another holder of the Lease may have adopted the Job.
        let is_certain = !is_inherited && self.lease.is_certain(self.now);
        let (certain, mut unverified) = if is_certain { (jobs, Vec::new()) } else { (Vec::new(), jobs) };
        unverified.extend(uncertain);
        self.clean_up(certain, unverified);
    }

    /// Leaves the run to the host that drives it. Its objects stay as they are, and its journal here is dropped.
    pub(super) fn leave_to(&mut self, host: &str) {
        let text = match host {
            "" => "another host drove this run meanwhile and has left it: it is adopted again".to_owned(),
            _ => format!("host {host} drives this run now"),
        };
        self.note(Level::Info, text);
        self.ledger.close();
        self.polls.clear();
        self.unobserved.clear();
        self.deferred.clear();
        self.logs.stop_all();
        self.drain_logs();
        self.events.clear();
        self.phase = Phase::Closed;
        self.effects.push_back(Effect::Close(Closing::Moved));
    }

    /// Emits the result, after a gap where the log was not read to its end.
    pub(super) fn emit_end(&mut self, result: Map<String, Value>, is_unread: bool) {
        for record in self.ledger.sequencer.end(result, is_unread) {
            self.emit_sequenced(record);
        }
    }

    /// Drops all open requests.
    pub(super) fn drop_requests(&mut self) {
        self.ledger.close();
        self.deferred.clear();
        self.unobserved.clear();
        self.calls.drop_commands();
    }

    /// Deletes these Jobs, except those whose deletion the API has already accepted. Unverified Jobs are read first and deleted only if they
    /// still belong to this run.
    fn clean_up(&mut self, jobs: Vec<ObjectRef>, unverified: Vec<ObjectRef>) {
        for job in jobs {
            if self.ledger.deleted_jobs.get(&job.uid) != Some(&DeletionState::Accepted) {
                let epoch = self.lease.epoch();
                self.call_for(Purpose::Cleanup, ApiCall::DeleteJob { job, epoch }, CLEANUP_RETRY);
            }
        }
        for job in unverified {
            if self.ledger.deleted_jobs.get(&job.uid) != Some(&DeletionState::Accepted) {
                self.verify_and_delete(job);
            }
        }
    }

    /// Reads a Job, to delete it if it still belongs to this run.
    pub(super) fn verify_and_delete(&mut self, job: ObjectRef) {
        let read = ApiCall::GetJob { namespace: job.namespace.clone(), name: job.name.clone() };
        self.call_for(Purpose::VerifiedDeletion(job), read, CLEANUP_RETRY);
    }

    /// Deletes a Job that was read, if it still belongs to this run. A Job whose adoption was never confirmed is deleted only while it is
    /// suspended: a running agent keeps running, but no host would ever unsuspend a suspended one.
    pub(super) fn clean_up_verified(&mut self, job: &ObjectRef, outcome: Result<ApiReply, ApiError>) {
        match outcome {
            Ok(ApiReply::Job(Some(seen)))
                if (job.uid.is_empty() || seen.job.uid == job.uid)
                    && (seen.is_suspended
                        || job.uid.is_empty()
                        || self.ledger.jobs.contains_key(&job.uid))
                    && manifest::is_of_run(&seen, &self.spec.request.run_id) =>
            {
                // The result is out: whoever has raised the epoch has the same run to clean up after.
                let epoch = manifest::epoch(&seen);
                let delete = ApiCall::DeleteJob { job: seen.job, epoch };
                self.call_for(Purpose::VerifiedCleanup(job.clone()), delete, CLEANUP_RETRY);
            }
            Ok(_) => {}
            Err(error) => {
                let text = format!("not deleted: Job {}: {}", job.name, error.message);
                self.note(Level::Warning, text);
            }
        }
    }

    /// Releases the guard after everything else: its next holder would adopt a Job that still exists.
    fn release_when_clean(&mut self) {
        let is_clean = !self.calls.is_cleaning();
        if let Some(release) = self.release.take_if(|_| is_clean) {
            let outcomes = match release {
                Release::Held => self.lease.release(),
                Release::Inherited(guard) => self.lease.release_inherited(guard),
            };
            self.apply_lease(outcomes);
            self.calls.extend(&Purpose::Lease, self.now + CLEANUP_RETRY);
        }
    }

    pub(super) fn close_when_done(&mut self) {
        self.release_when_clean();
        let is_lease_pending = self.calls.is_waiting_for(&Purpose::Lease);
        let closing = match self.phase {
            Phase::CleaningUp(ending) if !is_lease_pending && !self.calls.is_cleaning() => {
                self.append(Entry::Closed.to_line());
                Closing::Ended(ending)
            }
            Phase::Detaching { until } if !is_lease_pending || until <= self.now => Closing::Detached,
            Phase::CleaningUp(_) | Phase::Detaching { .. } | Phase::New | Phase::Live | Phase::Closed => {
                return;
            }
        };
        self.phase = Phase::Closed;
        self.effects.push_back(Effect::Close(closing));
    }
}
