//! The end of a run: its result, and what is removed after it.

use paperclip_contract::types::{ApiError, Ending, Finish, ObjectRef};
use serde_json::{Map, Value};

use super::{Phase, Release, Run};
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

    /// The plugin is of no more use: the run ends with the fault as its cause, and its Jobs go.
    pub(super) fn break_off(&mut self, fault: &GuestFault) {
        let jobs = self.ledger.jobs.values().cloned().collect();
        self.end(result::of_fault(fault), Ending::Failed, jobs);
    }

    /// The run was taken up before its Secret stood, and without the values for it.
    pub(super) fn end_for_lost_secrets(&mut self, why: &str) {
        let jobs = self.ledger.jobs.values().cloned().collect();
        self.end(result::host_restarted(why), Ending::Failed, jobs);
    }

    /// The run was taken up without its journal, and its Job is gone: it had begun, and nobody here could begin it again.
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
        self.show_end(result, is_unread);
        self.phase = Phase::CleaningUp(ending);
        self.polls.clear();
        self.logs.stop_all();
        self.drain_logs();
        self.events.clear();
        let uncertain = self.ledger.uncertain_jobs();
        // Whoever has the guard may have taken the Job, too.
        let (certain, mut looked_at) =
            if self.lock.is_sure(self.now) { (delete_jobs, Vec::new()) } else { (Vec::new(), delete_jobs) };
        looked_at.extend(uncertain);
        self.clean_up(certain, looked_at);
        self.release = Some(Release::Held);
    }

    /// Shows the result, and before it that there was more to read.
    pub(super) fn show_end(&mut self, result: Map<String, Value>, is_unread: bool) {
        for told in self.ledger.sequencer.end(result, is_unread) {
            self.show(told);
        }
    }

    /// Nothing is asked for any more but that these Jobs go, unless the API has said already that they will; some of them only if a look
    /// at them shows that they are this run's still.
    pub(super) fn clean_up(&mut self, jobs: Vec<ObjectRef>, looked_at: Vec<ObjectRef>) {
        self.ledger.close();
        self.unguarded.clear();
        self.unheard.clear();
        self.calls.forget_commands();
        for job in jobs {
            if self.ledger.deleted_jobs.get(&job.uid) != Some(&DeletionState::Accepted) {
                self.call_until(Purpose::Cleanup, ApiCall::DeleteJob { job }, CLEANUP_RETRY);
            }
        }
        for job in looked_at {
            if self.ledger.deleted_jobs.get(&job.uid) != Some(&DeletionState::Accepted) {
                let look = ApiCall::GetJob { namespace: job.namespace.clone(), name: job.name.clone() };
                self.call_until(Purpose::LastLook(job), look, CLEANUP_RETRY);
            }
        }
    }

    /// Deletes a Job that was looked at, if it is still this run's. Where nobody said that it was adopted, an agent that works is let work;
    /// but nobody would ever let one run that does not.
    pub(super) fn clean_up_looked_at(&mut self, job: &ObjectRef, outcome: Result<ApiReply, ApiError>) {
        match outcome {
            Ok(ApiReply::Job(Some(seen)))
                if (job.uid.is_empty() || seen.job.uid == job.uid)
                    && (seen.is_suspended
                        || job.uid.is_empty()
                        || self.ledger.jobs.contains_key(&job.uid))
                    && manifest::is_of_run(&seen, &self.spec.request.run_id) =>
            {
                self.call_until(Purpose::Cleanup, ApiCall::DeleteJob { job: seen.job }, CLEANUP_RETRY);
            }
            Ok(_) => {}
            Err(error) => {
                let text = format!("left behind: Job {}: {}", job.name, error.message);
                self.note(Level::Warning, text);
            }
        }
    }

    /// The guard goes last: whoever has it next would take a Job that is still there for one to go on with.
    fn release_when_clean(&mut self) {
        let is_clean = !self.calls.is_cleaning();
        if let Some(release) = self.release.take_if(|_| is_clean) {
            let outcomes = match release {
                Release::Held => self.lock.release(),
                Release::Left(guard) => self.lock.release_left(guard),
            };
            self.take_lock(outcomes);
            self.calls.prolong(&Purpose::Guard, self.now + CLEANUP_RETRY);
        }
    }

    pub(super) fn close_when_done(&mut self) {
        self.release_when_clean();
        let is_guard_busy = self.calls.is_waiting_for(&Purpose::Guard);
        let closing = match self.phase {
            Phase::CleaningUp(ending) if !is_guard_busy && !self.calls.is_cleaning() => {
                self.append(Entry::Closed.to_line());
                Closing::Ended(ending)
            }
            Phase::Detaching { until } if !is_guard_busy || until <= self.now => Closing::Detached,
            Phase::CleaningUp(_) | Phase::Detaching { .. } | Phase::New | Phase::Live | Phase::Closed => {
                return;
            }
        };
        self.phase = Phase::Closed;
        self.effects.push_back(Effect::Close(closing));
    }
}
