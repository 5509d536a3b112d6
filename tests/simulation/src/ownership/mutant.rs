//! Defects of the ownership protocol, injected between protocol, run and server: each must be caught.

use paperclip_contract::types::ApiError;
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::ownership::{HostState, Input, LeaseView};
use paperclip_engine::time::Timestamp;

use crate::fault::named;

named! {
    /// A defect.
    Mutant {
        /// A run that waits for a guard reads it every few seconds, and no watch wakes it.
        WakeLost = "wake-lost",
        /// A change of a Job takes effect although the Job has a greater epoch.
        EpochIgnored = "epoch-ignored",
        /// An instance is revoked although it was renewed meanwhile.
        RevocationUnchecked = "revocation-unchecked",
        /// A guard is taken although it has changed hands meanwhile.
        TakeoverUnchecked = "takeover-unchecked",
        /// Runs act although their host could not renew its Lease.
        FenceIgnored = "fence-ignored",
        /// A host that was revoked gets the name of its old instance again.
        InstanceReturns = "instance-returns",
        /// Orphans are searched once, when a host starts.
        SearchedOnce = "searched-once",
        /// A guard that its host has released is not noticed.
        ReleaseUnseen = "release-unseen",
        /// The Lease of a living host is read as missing.
        HostsUnseen = "hosts-unseen",
        /// A stopping host does not release what it holds.
        NotReleased = "not-released",
        /// An instance that has expired is never revoked.
        NeverRevoked = "never-revoked",
        /// Guards without a run are kept.
        GuardsKept = "guards-kept",
        /// Adopted Jobs keep the epoch of the host before.
        EpochKept = "epoch-kept",
        /// A guard is released before the deletion of its Job is accepted.
        ReleasedEarly = "released-early",
        /// A guard is released when the deletion of its Job is accepted, although the agent still runs.
        AgentNotAwaited = "agent-not-awaited",
    }
}

/// Returns the request that a process with this nonce sends instead; none if it is not sent.
pub(super) fn on_request(mutant: Option<Mutant>, nonce: &str, request: ApiCall) -> Option<ApiCall> {
    Some(match (mutant, request) {
        (Some(Mutant::NeverRevoked), ApiCall::DeleteHostLease(_)) => return None,
        (Some(Mutant::NotReleased), ApiCall::DeleteHostLease(lease)) if lease.name.contains(nonce) => {
            return None;
        }
        (Some(Mutant::GuardsKept), ApiCall::DeleteLease(lease)) => {
            ApiCall::GetLease { namespace: lease.namespace, name: lease.name }
        }
        (Some(Mutant::NotReleased), ApiCall::UpdateLease(lease)) if lease.is_released() => {
            ApiCall::GetLease { namespace: lease.namespace, name: lease.name }
        }
        (Some(Mutant::EpochKept), ApiCall::PatchJob { job, epoch, .. }) => {
            ApiCall::PatchJob { job, patch_json: "{}".to_owned(), epoch }
        }
        (Some(Mutant::InstanceReturns), ApiCall::CreateHostLease(mut lease)) => {
            lease.name = first_instance(&lease.name);
            ApiCall::CreateHostLease(lease)
        }
        (Some(Mutant::InstanceReturns), ApiCall::RenewHostLease(mut lease)) => {
            lease.name = first_instance(&lease.name);
            ApiCall::RenewHostLease(lease)
        }
        (_, request) => request,
    })
}

/// Returns the answer that arrives instead.
pub(super) fn on_answer(
    mutant: Option<Mutant>,
    outcome: Result<ApiReply, ApiError>,
) -> Result<ApiReply, ApiError> {
    match (mutant, outcome) {
        (Some(Mutant::HostsUnseen), Ok(ApiReply::HostLease(Some(_)))) => Ok(ApiReply::HostLease(None)),
        (_, outcome) => outcome,
    }
}

/// Returns the state of the host that its runs get instead.
pub(super) fn on_state(mutant: Option<Mutant>, state: HostState) -> HostState {
    match mutant {
        Some(Mutant::FenceIgnored) if !state.instance.is_empty() => {
            HostState { certain_until: Timestamp::MAX, ..state }
        }
        Some(Mutant::InstanceReturns) => HostState { instance: first_instance(&state.instance), ..state },
        _ => state,
    }
}

/// Whether the protocol gets an input of a watch. The first list of each kind it always gets.
pub(super) fn passes(mutant: Option<Mutant>, input: &Input, is_first: bool) -> bool {
    match mutant {
        Some(Mutant::SearchedOnce) => is_first || !is_of_orphans(input),
        Some(Mutant::ReleaseUnseen) => {
            !matches!(input, Input::LeaseSeen(LeaseView::Guard(guard)) if guard.is_released())
        }
        _ => true,
    }
}

/// An input from which an orphan is found.
fn is_of_orphans(input: &Input) -> bool {
    matches!(
        input,
        Input::LeaseSeen(LeaseView::Guard(_)) | Input::LeaseDeleted { .. } | Input::LeasesListed(_)
    )
}

/// `paperclip-host-<nonce>-2` is the second instance of a process.
fn first_instance(name: &str) -> String {
    name.splitn(4, '-').take(3).collect::<Vec<_>>().join("-")
}
