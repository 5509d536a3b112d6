//! Defects of engine and shell: what the world tells is changed on its way to the engine.

use paperclip_contract::types::{ContainerState, PodSnapshot};
use paperclip_engine::api::ApiReply;
use paperclip_engine::port::Input;

use super::Mutant;

/// What the engine is told instead.
pub(crate) fn on_input(mutant: Mutant, mut input: Input) -> Input {
    match (mutant, &mut input) {
        (Mutant::CharactersSplit, Input::LogBytes { bytes, .. }) => {
            *bytes = String::from_utf8_lossy(bytes).into_owned().into_bytes();
        }
        (Mutant::ExitCodeHidden, Input::PodSeen(pod)) => for_ends(pod, |ended| ended.exit_code = 0),
        (Mutant::CauseLost, Input::PodSeen(pod)) => for_ends(pod, |ended| ended.reason = None),
        (Mutant::OrphansUnseen, Input::Called { outcome: Ok(ApiReply::Jobs(jobs)), .. }) => jobs.clear(),
        (Mutant::LeasesBroken, Input::Called { outcome: Ok(ApiReply::Lease(Some(lease))), .. }) => {
            lease.duration_s = 0;
        }
        (Mutant::ExistingIsConflict, Input::Called { outcome: Err(error), .. })
            if error.reason.as_deref() == Some("AlreadyExists") && error.message.starts_with("jobs") =>
        {
            error.reason = Some("Conflict".to_owned());
        }
        _ => {}
    }
    input
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
