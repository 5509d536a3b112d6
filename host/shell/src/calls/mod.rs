//! The engine's calls to the Kubernetes API: each is sent once and answered once. The engine retries.

pub(crate) mod init;
pub(crate) mod leases;
mod owned;
mod records;
mod workloads;

use std::time::Duration;

use kube::core::Request;
use kube::core::params::PostParams;
use paperclip_contract::types::ApiError;
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::intake::Secrets;

use crate::connect::Cluster;
use crate::exchange::{self, Answer};

/// How long a call may take.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// Who changes objects, as Kubernetes' managed fields record it.
const FIELD_MANAGER: &str = "paperclip-host";
/// Reason of Kubernetes' own 404.
const NOT_FOUND: &str = "NotFound";

/// Carries a call out.
///
/// # Errors
/// The API refused the call, with its status; without a status no response came, and the call may have been applied.
pub async fn call(cluster: &Cluster, secrets: &Secrets, call: ApiCall) -> Result<ApiReply, ApiError> {
    match call {
        ApiCall::ListJobs { namespace, labels } => workloads::list_jobs(cluster, &namespace, &labels).await,
        ApiCall::DryRunPod { manifest_json } => workloads::try_pod(cluster, manifest_json).await,
        ApiCall::CreateJob { manifest_json } => workloads::create_job(cluster, manifest_json).await,
        ApiCall::CreateSecret(secret) => owned::create_secret(cluster, secrets, &secret).await,
        ApiCall::CreateConfigMap(map) => owned::create_config_map(cluster, &map).await,
        ApiCall::GetOwners { kind, namespace, name } => {
            owned::get_owners(cluster, kind, &namespace, &name).await
        }
        ApiCall::GetContentName { namespace, name } => {
            owned::get_content_name(cluster, &namespace, &name).await
        }
        ApiCall::AddOwner { namespace, name, owner } => {
            owned::add_owner(cluster, &namespace, &name, &owner).await
        }
        ApiCall::PatchJob { job, patch_json, epoch } => {
            workloads::patch_job(cluster, &job, &patch_json, epoch).await
        }
        ApiCall::DeleteJob { job, epoch } => workloads::delete_job(cluster, job, epoch).await,
        ApiCall::GetJob { namespace, name } => workloads::get_job(cluster, &namespace, &name).await,
        ApiCall::ListPods { job } => workloads::list_pods(cluster, &job).await.map(ApiReply::Pods),
        ApiCall::ListEvents { job } => workloads::list_events(cluster, &job).await,
        ApiCall::ReadLog(read) => workloads::read_log(cluster, &read).await,
        ApiCall::GetLease { namespace, name } => leases::get(cluster, &namespace, &name).await,
        ApiCall::CreateLease(lease) => leases::create(cluster, lease).await,
        ApiCall::UpdateLease(lease) => leases::update(cluster, lease).await,
        ApiCall::DeleteLease(lease) => leases::delete(cluster, lease).await,
        ApiCall::GetHostLease { namespace, name } => leases::get_host(cluster, &namespace, &name).await,
        ApiCall::CreateHostLease(lease) => leases::create_host(cluster, lease).await,
        ApiCall::RenewHostLease(lease) => leases::renew_host(cluster, lease).await,
        ApiCall::DeleteHostLease(lease) => leases::delete_host(cluster, lease).await,
        ApiCall::GetRunRecord { namespace, name } => records::get(cluster, &namespace, &name).await,
        ApiCall::CreateRunRecord(record) => records::create(cluster, *record).await,
        ApiCall::UpdateRunRecord(record) => records::update(cluster, *record).await,
        ApiCall::NoteCancel { namespace, name, uid, reason } => {
            records::note_cancel(cluster, &namespace, &name, &uid, &reason).await
        }
        ApiCall::DeleteRunRecord { namespace, name, uid } => {
            records::delete(cluster, &namespace, &name, uid).await
        }
        ApiCall::ListRunRecords { namespace } => records::list(cluster, &namespace).await,
    }
}

/// The URL path of a resource. Names are checked: a slash or a question mark in one would address something else.
fn resource<K>(namespace: &str) -> Result<Request, ApiError>
where
    K: kube::Resource<DynamicType = ()>,
{
    named(namespace)?;
    Ok(Request::new(K::url_path(&(), Some(namespace))))
}

/// Refuses a text that cannot be the name of an object of the kinds that are used here.
fn named(name: &str) -> Result<&str, ApiError> {
    let is_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let is_good = name.bytes().all(is_name) && name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if is_good && name.len() <= MAX_NAME_BYTES {
        return Ok(name);
    }
    Err(exchange::not_sent(format!(
        "{name:?} is not a name in Kubernetes, which has lower-case letters, digits, '-' and '.', at most {MAX_NAME_BYTES}"
    )))
}

/// Longest name that Kubernetes accepts, in bytes.
const MAX_NAME_BYTES: usize = 253;

fn post_params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) }
}

async fn send(
    cluster: &Cluster,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Answer, ApiError> {
    let request = request.map_err(|error| exchange::not_sent(error.to_string()))?;
    let outcome = exchange::exchange(cluster.client(), request, CALL_DEADLINE).await;
    outcome.map_err(|error| match error.status {
        Some(_) => error,
        None => ApiError { message: format!("{}: {}", cluster.server(), error.message), ..error },
    })
}

/// Returns none if Kubernetes itself reports that the object does not exist. Another server's 404 proves nothing.
fn unless_missing<T>(outcome: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.status == Some(404) && error.reason.as_deref() == Some(NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        for bad in ["", "a/b", "..", "a?b", "a%2fb", "A", "-a", &"a".repeat(254)] {
            assert_eq!(named(bad).expect_err(bad).status, Some(400), "{bad}");
        }
        for good in ["default", "agent-claude-1.x", "0a"] {
            assert_eq!(named(good), Ok(good));
        }
    }
}
