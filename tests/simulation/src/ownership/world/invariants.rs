//! What must hold while a case runs and at its end: O1, O4 and O5 of docs/simulation.md. O2, O3 and O6 are checked where results, Jobs and
//! events come in.

use super::{END_MS, Event, Run, Undriven, World};
use crate::ownership::cluster::Accepted;
use crate::ownership::driver::Driver;
use crate::ownership::process::Process;

/// Longest time for which a Job may be undriven while a healthy host exists: 40 s of the Lease, and what observing and adopting take.
const LOST_BOUND_MS: u64 = 45_000;
/// The same if its host has released it.
const RELEASED_BOUND_MS: u64 = 2_000;
/// What slow watches, lost requests and obstacles may add to both.
const FAULTY_SLACK_MS: u64 = 75_000;

impl World {
    /// O1: in one epoch one host changes a Job, and after it no change of a lower epoch takes effect, whatever the Job says of its epoch.
    pub(super) fn note_change(&mut self, process: usize, accepted: &Accepted) {
        let Accepted { job_uid, epoch, has_effect } = accepted;
        let host = |process: usize| &self.processes[process].host;
        let first = *self.actors.entry((job_uid.clone(), *epoch)).or_insert(process);
        let all = (job_uid.clone(), 0)..=(job_uid.clone(), u64::MAX);
        let (later, by) =
            self.actors.range(all).next_back().map_or((*epoch, process), |((_, at), by)| (*at, *by));
        if host(first) != host(process) {
            let text = format!("processes {first} and {process} changed {job_uid} in epoch {epoch}");
            self.violate("O1", text);
        } else if *has_effect && later > *epoch {
            let text = format!(
                "process {process} changed {job_uid} in epoch {epoch}, process {by} did in epoch {later}"
            );
            self.violate("O1", text);
        }
    }

    /// O4: no Job is undriven for long while a healthy host exists.
    pub(super) fn check(&mut self) {
        self.check_handovers();
        if self.now < END_MS - 1_000 {
            self.after(500, Event::Check);
        }
        self.over_since = if self.is_over() { self.over_since.or(Some(self.now)) } else { None };
        let now = self.now;
        // The record of a run whose host died between the deletion of the Job and the result says that it has ended.
        for run in 0..self.runs.len() {
            let truth = &self.runs[run];
            let was_started = !truth.jobs.is_empty() && truth.results.is_empty();
            if was_started && self.job_of(run).is_none() && !self.is_known(run) {
                self.runs[run].results.push((usize::MAX, true));
            }
        }
        // A client posts a run again that no replica knows and that has not started.
        for run in 0..self.runs.len() {
            let truth = &self.runs[run];
            if truth.is_posted && truth.jobs.is_empty() && truth.results.is_empty() && !self.is_known(run) {
                self.post(run, 0);
            }
        }
        let live: Vec<(String, usize)> = self
            .cluster
            .jobs
            .values()
            .filter(|job| !job.is_removed && !job.view.is_deleting && self.runs[job.run].results.is_empty())
            .map(|job| (job.view.job.uid.clone(), job.run))
            .collect();
        self.undriven.retain(|uid, _| live.iter().any(|(live, _)| live == uid));
        if !self.processes.iter().any(|one| one.is_healthy(now)) {
            self.unhosted_ms += now - self.checked_ms;
        }
        self.checked_ms = now;
        let unhosted_ms = self.unhosted_ms;
        // Since when a host observes that adopts what it finds.
        let healthy = self.processes.iter().filter(|one| one.is_healthy(now));
        let observed_since = healthy.map(Process::observes_since).min().unwrap_or(now);
        for (uid, run) in live {
            let is_driven = self.processes.iter().any(|process| {
                process.is_healthy(now) && process.drivers.get(&run).is_some_and(Driver::is_driving)
            });
            if is_driven {
                if let Some(undriven) = self.undriven.remove(&uid) {
                    let took = (now - undriven.since).saturating_sub(unhosted_ms - undriven.unhosted_ms);
                    let figures = &mut self.figures;
                    if undriven.is_released {
                        figures.released_ms.push(took);
                    } else {
                        figures.lost_ms.push(took);
                    }
                }
                continue;
            }
            let is_released = self.is_released(run);
            let undriven =
                self.undriven.entry(uid.clone()).or_insert(Undriven { since: now, is_released, unhosted_ms });
            undriven.is_released &= is_released;
            let slack = if self.has_lags { FAULTY_SLACK_MS } else { 0 };
            let bound = if undriven.is_released { RELEASED_BOUND_MS } else { LOST_BOUND_MS } + slack;
            let since = undriven.since.max(self.disturbed_ms).max(observed_since.min(now));
            if now > since + bound {
                let text = format!("{uid} of run {run} is undriven for {} ms, bound {bound} ms", now - since);
                self.violate("O4", text);
            }
        }
    }

    /// Whether every run has ended, nothing is left, and no process has anything to send from a pause.
    fn is_over(&self) -> bool {
        let has_ended = |run: &Run| run.is_posted && !run.results.is_empty();
        let is_idle = |one: &Process| {
            !one.is_alive || (one.drivers.is_empty() && one.paused_until.max(one.cut_until) <= self.now)
        };
        self.is_healed()
            && self.runs.iter().all(has_ended)
            && self.processes.iter().all(is_idle)
            && self.left_behind().is_none()
    }

    /// Whether a stopping host has left the run, or is about to.
    fn is_released(&self, run: usize) -> bool {
        let key = &self.runs[run].key;
        let guard = self.cluster.guards.get(&paperclip_engine::lease::lease_name(key));
        guard.is_some_and(paperclip_engine::api::Lease::is_released)
    }

    /// O5: every run has a result, and nothing is left.
    pub(super) fn check_end(&mut self) {
        for (index, run) in self.runs.iter().enumerate() {
            if run.is_posted && run.results.is_empty() {
                let text = format!("run {index} has no result");
                return self.violate("O5", text);
            }
        }
        if let Some(text) = self.left_behind() {
            self.violate("O5", text);
        }
    }

    /// Returns what exists besides the Leases of living hosts.
    fn left_behind(&self) -> Option<String> {
        let guards: Vec<&String> = self.cluster.guards.keys().collect();
        let jobs: Vec<&String> =
            self.cluster.jobs.values().filter(|job| !job.is_removed).map(|job| &job.view.job.name).collect();
        let lives = |name: &str| self.processes.iter().any(|one| one.is_alive && one.state.instance == *name);
        let dead: Vec<&String> = self.cluster.hosts.keys().filter(|name| !lives(name)).collect();
        let is_nothing = guards.is_empty() && jobs.is_empty() && dead.is_empty();
        (!is_nothing).then(|| format!("left behind: guards {guards:?}, Jobs {jobs:?}, hosts {dead:?}"))
    }
}
