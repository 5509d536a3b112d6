//! What a long campaign has to have seen: each mark, each move of the plugin's regions, each fault in each phase of a run, but for those
//! that cannot be. A check that is never put to the test proves nothing.

use crate::campaign::Tally;
use crate::coverage::{self, Move};
use crate::fault::{Fault, Phase};
use crate::marks::Mark;

/// What was not seen, and might have been.
pub fn missing(tally: &Tally) -> Vec<String> {
    let marks = tally.marks.missing().into_iter().map(|mark| mark.name().to_owned());
    let moves = tally.moves.missing().into_iter().filter(|a_move| why_no_move(a_move).is_none());
    let moves = moves.map(|(region, from, to)| format!("{region}: {from} -> {to}"));
    let pairs = pairs().filter(|pair| !tally.struck.contains_key(pair) && why_no_pair(*pair).is_none());
    let pairs = pairs.map(|(fault, phase)| format!("{} in phase {}", fault.name(), phase.name()));
    marks.chain(moves).chain(pairs).collect()
}

/// How much was seen, a line a kind.
pub fn figures(tally: &Tally) -> Vec<String> {
    let line = |what: &str, seen: usize, of: usize, impossible: usize| {
        format!("{seen:>4} of {of} {what} seen, {impossible} are impossible")
    };
    let moves = coverage::declared().count();
    let no_moves = coverage::declared().filter(|a_move| why_no_move(a_move).is_some()).count();
    let no_pairs = pairs().filter(|pair| why_no_pair(*pair).is_some()).count();
    let marks = Mark::ALL.len();
    vec![
        line("moves of the regions", tally.moves.len(), moves, no_moves),
        line("pairs of fault and phase", tally.struck.len(), pairs().count(), no_pairs),
        line("marks", marks - tally.marks.missing().len(), marks, 0),
    ]
}

fn pairs() -> impl Iterator<Item = (Fault, Phase)> {
    Fault::ALL.iter().flat_map(|fault| Phase::ALL.iter().map(move |phase| (*fault, *phase)))
}

/// Why a move of a region cannot be seen in this world.
fn why_no_move(_a_move: &Move) -> Option<&'static str> {
    None
}

/// Why a fault cannot strike in a phase.
fn why_no_pair((fault, phase): (Fault, Phase)) -> Option<&'static str> {
    let is_early = matches!(phase, Phase::Begin | Phase::Create);
    match fault {
        Fault::PodUnschedulable
        | Fault::PodQuota
        | Fault::PodGated
        | Fault::ImageFails
        | Fault::CreateFails
            if matches!(phase, Phase::Begin | Phase::Create | Phase::Run | Phase::Settle) =>
        {
            Some("it keeps a pod from starting")
        }
        Fault::SidecarInjected if phase != Phase::Wait => Some("a pod gets its containers when it is made"),
        Fault::PodEvicted | Fault::OutOfMemory | Fault::NodeLost | Fault::ContainerRestarted
            if matches!(phase, Phase::Begin | Phase::Create | Phase::Wait | Phase::Settle) =>
        {
            Some("it befalls an agent that runs")
        }
        Fault::PodPreempted
        | Fault::PodDeleted
        | Fault::JobDeleted
        | Fault::JobReplaced
        | Fault::JobSuspended
            if is_early =>
        {
            Some("troubles begin once there is a pod")
        }
        Fault::ConditionLate if is_early || matches!(phase, Phase::Wait | Phase::Run) => {
            Some("the condition follows the end of a pod")
        }
        Fault::LogRotated if phase != Phase::Run => Some("an agent that prints fills its log"),
        Fault::LogEndsEarly
        | Fault::LogBroken
        | Fault::LogRefused
        | Fault::LogSplit
        | Fault::LogKubeletText
        | Fault::LogSilent
            if is_early || matches!(phase, Phase::Wait | Phase::Cleanup) =>
        {
            Some("a log is read from the agent's start to the result")
        }
        Fault::WatchBroken
        | Fault::WatchExpired
        | Fault::WatchRefused
        | Fault::WatchDoubled
        | Fault::WatchSkipped
        | Fault::WatchLate
            if phase == Phase::Begin =>
        {
            Some("nothing is watched before there is a Job")
        }
        Fault::FinalizerStuck if is_early => {
            Some("a Job that has not run is deleted only once its run has a result")
        }
        _ => None,
    }
}
