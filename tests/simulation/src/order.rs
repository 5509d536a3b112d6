//! The order in which a run observes the states of its Job, pod and log. The simulated world must show each order that a cluster shows.

use paperclip_contract::types::{ContainerRole, ContainerState, Event, JobSnapshot, PodSnapshot};
use paperclip_engine::journal::Entry;

use crate::plugin::Plugin;
use crate::scenario::{Cancel, CancelWay, Scenario};
use crate::script::{End, OnTerm};

/// Returns what a run observed, each observation once, in the order of its plugin's events.
pub fn observed(journal: impl IntoIterator<Item = Entry<'static>>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for entry in journal {
        let Entry::Step { events, .. } = entry else { continue };
        for thing in events.iter().flat_map(observations) {
            if !order.contains(&thing) {
                order.push(thing);
            }
        }
    }
    order
}

fn observations(event: &Event) -> Vec<String> {
    match event {
        Event::JobObserved(job) => of_job(job),
        Event::JobDeleted(_) => vec!["job gone".to_owned()],
        Event::PodObserved(pod) => of_pod(pod),
        Event::PodDeleted(_) => vec!["pod gone".to_owned()],
        Event::LogLines(_) => vec!["log lines".to_owned()],
        Event::LogEnded(_) => vec!["log ended".to_owned()],
        _ => Vec::new(),
    }
}

fn of_job(job: &JobSnapshot) -> Vec<String> {
    let state = if job.is_suspended { "job suspended" } else { "job released" };
    let conditions =
        job.conditions.iter().filter(|condition| condition.is_true && condition.kind != "Suspended");
    let is_active = job.active_pods > 0;
    [state.to_owned()]
        .into_iter()
        .chain(is_active.then(|| "job active".to_owned()))
        .chain(conditions.map(|condition| format!("job {}", condition.kind)))
        .collect()
}

fn of_pod(pod: &PodSnapshot) -> Vec<String> {
    let agent = pod.containers.iter().find(|container| container.role == ContainerRole::Main);
    let state = match agent.map(|agent| &agent.state) {
        Some(ContainerState::Running(_)) => "pod running",
        Some(ContainerState::Terminated(_)) => "pod ended",
        Some(ContainerState::Waiting(_) | ContainerState::Unknown) | None => "pod waiting",
    };
    let is_deleting = pod.is_deleting.then(|| "pod deleted".to_owned());
    is_deleting.into_iter().chain([state.to_owned()]).collect()
}

/// Returns a scenario that is run on clusters as well, by name. It has no faults.
pub fn scenario(name: &str, plugin: &Plugin) -> Option<Scenario> {
    let mut scenario = Scenario::calm(plugin.grammar());
    let plan = &mut scenario.runs[0];
    let script = &mut plan.scripts[0];
    // A program takes a while to print its first line.
    script.bursts[0].after_ms = 500;
    match name {
        "succeeds" => {}
        "fails" => script.end = End::Exits { after_ms: 10, code: 1 },
        "cancelled" => {
            script.end = End::Hangs;
            script.on_term = OnTerm::Exits { after_ms: 0 };
            plan.cancels = vec![Cancel { at_ms: 30_000, way: CancelWay::Host }];
        }
        _ => return None,
    }
    Some(scenario)
}
