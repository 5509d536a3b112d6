//! Defects of engine and driver: events are changed on their way to the driver.

use paperclip_contract::types::{ContainerState, PodSnapshot};
use paperclip_engine::api::{ApiReply, SUPERSEDED};
use paperclip_engine::driver::{DriverEvent, LogPiece, WatchEvent};

use super::Mutant;

/// Returns the event that the driver takes instead.
pub(crate) fn on_event<E>(mutant: Mutant, mut event: DriverEvent<E>) -> DriverEvent<E> {
    match (mutant, &mut event) {
        (Mutant::CharactersSplit, DriverEvent::Log { piece: LogPiece::Bytes(bytes), .. }) => {
            *bytes = String::from_utf8_lossy(bytes).into_owned().into_bytes();
        }
        (Mutant::ExitCodeHidden, DriverEvent::Watch(WatchEvent::PodSeen(pod))) => {
            for_ends(pod, |ended| ended.exit_code = 0);
        }
        (Mutant::CauseLost, DriverEvent::Watch(WatchEvent::PodSeen(pod))) => {
            for_ends(pod, |ended| ended.reason = None);
        }
        (Mutant::OrphansUnseen, DriverEvent::Called { outcome: Ok(ApiReply::Jobs(jobs)), .. }) => {
            jobs.clear();
        }
        (Mutant::LeasesBroken, DriverEvent::Called { outcome: Ok(ApiReply::HostLease(host)), .. }) => {
            *host = None;
        }
        (Mutant::ExistingIsConflict, DriverEvent::Called { outcome: Err(error), .. })
            if error.reason.as_deref() == Some("AlreadyExists") && error.message.starts_with("jobs") =>
        {
            error.reason = Some("Conflict".to_owned());
        }
        (Mutant::SupersededGivenUp, DriverEvent::Called { outcome: Err(error), .. })
            if error.reason.as_deref() == Some(SUPERSEDED) =>
        {
            (error.status, error.reason) = (Some(422), Some("Invalid".to_owned()));
        }
        _ => {}
    }
    event
}

fn for_ends(
    pod: &mut PodSnapshot,
    mut change: impl FnMut(&mut paperclip_contract::types::ContainerTerminated),
) {
    for container in &mut pod.containers {
        if let ContainerState::Terminated(ended) = &mut container.state {
            change(ended);
        }
    }
}
