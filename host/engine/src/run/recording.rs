//! The result in the record of the run. It is there before a Job of the run is deleted: from then on the run is known to have ended,
//! whatever happens to this host.

use paperclip_contract::types::{ApiError, Ending, Event};
use serde_json::{Map, Value};

use super::Run;
use crate::api::{ApiCall, ApiReply};
use crate::calls::{CLEANUP_RETRY, COMMAND_RETRY, Purpose};
use crate::guest::Guest;
use crate::record::Level;
use crate::run_record::RunRecord;

impl<G: Guest> Run<G> {
    /// Writes the result into the run's record. Returns false if the run has no record.
    pub(super) fn record_end(&mut self, ending: Ending, result: Map<String, Value>) -> bool {
        let Some(record) = self.spec.record.take() else { return false };
        let state = match ending {
            Ending::Succeeded => "succeeded",
            Ending::Failed => "failed",
            Ending::Cancelled => "cancelled",
        };
        self.write_record(record.ended(self.now, state, result));
        true
    }

    /// Reads the record of a run that was taken from another host. Returns false if that is not needed.
    pub(super) fn check_record(&mut self) -> bool {
        let Some(record) = self.spec.record.as_ref().filter(|_| self.spec.verifies_record) else {
            return false;
        };
        let (namespace, name) = (record.namespace.clone(), record.name.clone());
        self.spec.verifies_record = false;
        self.call_for(Purpose::RecordCheck, ApiCall::GetRunRecord { namespace, name }, COMMAND_RETRY);
        true
    }

    /// Continues with the guard, unless another host had adopted the run before this one got the guard.
    pub(super) fn on_record_checked(&mut self, outcome: Result<ApiReply, ApiError>) {
        if let (Ok(ApiReply::RunRecord(Some(found))), Some(record)) = (outcome, &mut self.spec.record) {
            if found.end().is_some() || found.instance != record.instance {
                return self.leave_to(&found.host);
            }
            record.resource_version = found.resource_version;
        }
        self.events.push(Event::GuardAcquired);
    }

    /// Writes the result of a run that was resumed after its end, if its record does not have it. Returns false if nothing is written.
    pub(super) fn record_end_again(&mut self) -> bool {
        let Some(record) = self.spec.record.take_if(|record| record.end().is_some()) else { return false };
        self.write_record(*record);
        true
    }

    fn write_record(&mut self, record: RunRecord) {
        let record = Box::new(record);
        self.spec.record = Some(record.clone());
        self.call_for(Purpose::Record, ApiCall::UpdateRunRecord(record), CLEANUP_RETRY);
    }

    pub(super) fn on_record_answered(&mut self, outcome: Result<ApiReply, ApiError>) {
        let Some(record) = self.spec.record.take() else { return };
        match outcome {
            // Another host has claimed the run meanwhile, or an answer was lost.
            Err(error) if error.status == Some(409) => {
                let (namespace, name) = (record.namespace.clone(), record.name.clone());
                self.spec.record = Some(record);
                let read = ApiCall::GetRunRecord { namespace, name };
                return self.call_for(Purpose::Record, read, CLEANUP_RETRY);
            }
            // It was read: this host knows how the run ended.
            Ok(ApiReply::RunRecord(Some(found))) if found.end().is_none() => {
                let RunRecord { uid, resource_version, .. } = *found;
                return self.write_record(RunRecord { uid, resource_version, ..*record });
            }
            Ok(_) => {}
            // Somebody has deleted it.
            Err(error) if error.status == Some(404) => {}
            Err(error) => {
                let text = format!("the result is not kept in ConfigMap {}: {}", record.name, error.message);
                self.note(Level::Warning, text);
            }
        }
        if let Some(remains) = self.unrecorded.take() {
            self.delete_jobs(remains);
        }
    }
}
