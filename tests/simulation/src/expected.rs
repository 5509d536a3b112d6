//! What a long campaign must cover: each coverage point, each transition of the plugin's regions, and each fault in each phase of a run
//! in which it can strike. A check that is never exercised proves nothing.

use crate::campaign::Tally;
use crate::coverage;
use crate::coverage_points::CoveragePoint;
use crate::fault::{Fault, Phase};

/// Returns what was seen although it is declared impossible: the declaration or the world is wrong.
pub fn impossible(tally: &Tally) -> Vec<String> {
    let pairs = tally.struck.keys().filter_map(|pair| Some((pair, why_no_pair(*pair)?)));
    pairs.map(|((fault, phase), why)| format!("{} in phase {} ({why})", fault.name(), phase.name())).collect()
}

/// Returns what was not seen although it is possible.
pub fn missing(tally: &Tally) -> Vec<String> {
    let points = tally.coverage_points.missing().into_iter().map(|point| point.name().to_owned());
    let moves =
        tally.moves.missing().into_iter().map(|(region, from, to)| format!("{region}: {from} -> {to}"));
    let pairs = pairs().filter(|pair| !tally.struck.contains_key(pair) && why_no_pair(*pair).is_none());
    let pairs = pairs.map(|(fault, phase)| format!("{} in phase {}", fault.name(), phase.name()));
    points.chain(moves).chain(pairs).collect()
}

/// Returns how much was seen, a line per kind.
pub fn figures(tally: &Tally) -> Vec<String> {
    let line = |what: &str, seen: usize, of: usize, impossible: usize| {
        format!("{seen:>4} of {of} {what} seen, {impossible} are impossible")
    };
    let moves = coverage::declared().count();
    let no_pairs = pairs().filter(|pair| why_no_pair(*pair).is_some()).count();
    let points = CoveragePoint::ALL.len();
    vec![
        line("transitions of the regions", tally.moves.len(), moves, 0),
        line("pairs of fault and phase", tally.struck.len(), pairs().count(), no_pairs),
        line("coverage points", points - tally.coverage_points.missing().len(), points, 0),
    ]
}

fn pairs() -> impl Iterator<Item = (Fault, Phase)> {
    Fault::ALL.iter().flat_map(|fault| Phase::ALL.iter().map(move |phase| (*fault, *phase)))
}

/// Why a fault cannot strike in a phase.
fn why_no_pair((fault, phase): (Fault, Phase)) -> Option<&'static str> {
    let is_early = matches!(phase, Phase::Start | Phase::Create);
    match fault {
        Fault::PodUnschedulable
        | Fault::PodQuota
        | Fault::PodGated
        | Fault::ImageFails
        | Fault::CreateFails
            if matches!(phase, Phase::Start | Phase::Create | Phase::Run | Phase::Settle) =>
        {
            Some("it keeps a pod from starting")
        }
        Fault::SidecarInjected if !matches!(phase, Phase::Wait | Phase::Cleanup) => {
            Some("a pod gets its containers when it is made")
        }
        Fault::PodEvicted | Fault::OutOfMemory | Fault::NodeLost | Fault::ContainerRestarted
            if matches!(phase, Phase::Start | Phase::Create | Phase::Wait | Phase::Settle) =>
        {
            Some("it strikes a running agent")
        }
        Fault::PodPreempted | Fault::PodDeleted | Fault::JobReplaced | Fault::JobSuspended if is_early => {
            Some("disturbances start once there is a pod")
        }
        Fault::JobDeleted | Fault::FinalizerStuck if phase == Phase::Start => Some("there is no Job yet"),
        Fault::ConditionLate if is_early || matches!(phase, Phase::Wait | Phase::Run) => {
            Some("the condition follows the end of a pod")
        }
        Fault::LogRotated if !matches!(phase, Phase::Run | Phase::Cleanup) => {
            Some("an agent that prints fills its log")
        }
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
        Fault::PaperclipSlow
        | Fault::PaperclipServerError
        | Fault::PaperclipMalformed
        | Fault::PaperclipOddStatus
            if phase == Phase::Start =>
        {
            Some("Paperclip is asked once a Job may run")
        }
        Fault::PaperclipSlow if phase == Phase::Cleanup => Some("Paperclip is asked until there is a result"),
        _ => None,
    }
}
