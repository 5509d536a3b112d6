//! The records of runs of a cluster, for whoever accepts and ends runs.

use std::time::Duration;

use paperclip_contract::types::ApiError;
use paperclip_engine::api::{ApiCall, ApiReply, HostLease};
use paperclip_engine::intake::Secrets;
use paperclip_engine::run_record::{
    Claim, Claimant, Claimed, RecordSummary, RunRecord, Step, Tenure, record_name,
};

use crate::connect::Cluster;
use crate::{calls, exchange};

/// How long one request about a record may take.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// How long this host may take to be known as living.
const INSTANCE_DEADLINE: Duration = Duration::from_secs(10);

/// How often the end of a run is written into a record that changes.
const MAX_ATTEMPTS: u32 = 4;
/// Most characters of a reason that a record keeps.
const MAX_REASON_CHARS: usize = 1_024;

/// The records of a cluster's runs.
#[derive(Debug, Clone, Copy)]
pub struct RunRecords<'a> {
    cluster: &'a Cluster,
}

impl Cluster {
    /// Returns the records of the runs on it.
    pub fn run_records(&self) -> RunRecords<'_> {
        RunRecords { cluster: self }
    }
}

impl RunRecords<'_> {
    /// Claims a run for this process, and returns who has it. With the guard of the run a record that was read may be given, which is taken
    /// as it was.
    ///
    /// # Errors
    /// The API refuses a request or does not answer: who has the run is not known.
    pub async fn claim(self, record: RunRecord, tenure: Tenure) -> Result<Claimed, ApiError> {
        let instance = self.cluster.hosts().instance(self.cluster, &record.namespace);
        let known = tokio::time::timeout(INSTANCE_DEADLINE, instance).await.ok().flatten();
        let (host, instance) = known.ok_or_else(|| {
            exchange::no_answer(format!("the Lease of this host in {} is not renewed", record.namespace))
        })?;
        let claimant = Claimant { host, instance, tenure };
        let (mut claim, mut request) = match tenure {
            Tenure::Guard if !record.uid.is_empty() => Claim::take_over(record, claimant),
            Tenure::None => Claim::start(record, claimant),
            Tenure::Folder | Tenure::Guard => Claim::resume(record, claimant),
        };
        loop {
            let outcome = self.call(request).await;
            request = match claim.on_answer(outcome)? {
                Step::Call(request) => request,
                Step::CallLater(wait, request) => {
                    tokio::time::sleep(wait).await;
                    request
                }
                Step::Done(claimed) => return Ok(*claimed),
            };
        }
    }

    /// Reads the record of a run; none if it has none in this namespace.
    ///
    /// # Errors
    /// The API refuses the request or does not answer.
    pub async fn get(self, namespace: &str, run_id: &str) -> Result<Option<RunRecord>, ApiError> {
        let (namespace, name) = (namespace.to_owned(), record_name(run_id));
        match self.call(ApiCall::GetRunRecord { namespace, name }).await? {
            ApiReply::RunRecord(found) => {
                Ok(found.map(|record| *record).filter(|record| record.run_id == run_id))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a record say how its run ended, unless it says so already. One that has changed, such as by a cancel, is read and written again.
    ///
    /// # Errors
    /// It changes again and again, or the API refuses the request or does not answer.
    pub async fn end(self, mut record: RunRecord) -> Result<(), ApiError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.call(ApiCall::UpdateRunRecord(Box::new(record.clone()))).await {
                Err(error) if error.status == Some(409) && attempts < MAX_ATTEMPTS => {}
                other => return other.map(drop),
            }
            match self.get(&record.namespace, &record.run_id).await? {
                Some(found) if found.end().is_none() => {
                    (record.uid, record.resource_version) = (found.uid, found.resource_version);
                }
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Creates the record of a run that continues an earlier one, so that each host finds it by either id. Without a record of the earlier
    /// run there is none.
    ///
    /// # Errors
    /// The API refuses a request or does not answer.
    pub async fn note_continuing(self, namespace: &str, earlier: &str, by: &str) -> Result<(), ApiError> {
        let Some(record) = self.get(namespace, earlier).await? else { return Ok(()) };
        match self.call(ApiCall::CreateRunRecord(Box::new(record.continued_by(by)))).await {
            // It was noted before.
            Err(error) if error.status == Some(409) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Notes in a record that the end of its run is requested, so that a later host of the run ends it, too.
    ///
    /// # Errors
    /// The API refuses the request or does not answer.
    pub async fn note_cancel(
        self,
        namespace: &str,
        name: &str,
        uid: &str,
        reason: &str,
    ) -> Result<(), ApiError> {
        let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), uid.to_owned());
        let reason = reason.chars().take(MAX_REASON_CHARS).collect();
        self.call(ApiCall::NoteCancel { namespace, name, uid, reason }).await.map(drop)
    }

    /// Deletes a record. One that does not exist is deleted.
    ///
    /// # Errors
    /// The API refuses the request or does not answer.
    pub async fn delete(self, namespace: &str, name: &str, uid: &str) -> Result<(), ApiError> {
        let (namespace, name, uid) = (namespace.to_owned(), name.to_owned(), uid.to_owned());
        match self.call(ApiCall::DeleteRunRecord { namespace, name, uid }).await {
            Err(error) if matches!(error.status, Some(404 | 409)) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Lists the records of a namespace.
    ///
    /// # Errors
    /// The API refuses the request or does not answer.
    pub async fn list(self, namespace: &str) -> Result<Vec<RecordSummary>, ApiError> {
        match self.call(ApiCall::ListRunRecords { namespace: namespace.to_owned() }).await? {
            ApiReply::RunRecords(records) => Ok(records),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads the Lease of a host's instance; none if it does not live.
    ///
    /// # Errors
    /// The API refuses the request or does not answer.
    pub async fn owner(self, namespace: &str, instance: &str) -> Result<Option<HostLease>, ApiError> {
        let (namespace, name) = (namespace.to_owned(), instance.to_owned());
        match self.call(ApiCall::GetHostLease { namespace, name }).await? {
            ApiReply::HostLease(owner) => Ok(owner),
            other => Err(unexpected(&other)),
        }
    }

    async fn call(self, request: ApiCall) -> Result<ApiReply, ApiError> {
        let secrets = Secrets::default();
        let answer = calls::call(self.cluster, &secrets, request);
        tokio::time::timeout(CALL_DEADLINE, answer).await.unwrap_or_else(|_elapsed| {
            Err(exchange::no_answer(format!("no answer within {} s", CALL_DEADLINE.as_secs())))
        })
    }
}

fn unexpected(reply: &ApiReply) -> ApiError {
    exchange::no_answer(format!("the answer does not fit the request: {reply:?}"))
}
