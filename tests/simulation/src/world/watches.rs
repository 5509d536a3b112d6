//! Watches: a cursor in the server's log of versions for each kind, with the faults that may strike it.

use paperclip_contract::types::{Deletion, ObjectRef};
use paperclip_engine::driver::{DriverEvent, WatchEvent};

use super::process::{Cursor, Follow};
use super::{WatchStart, World, WorldEvent};
use crate::cluster::{Change, Stage};
use crate::coverage_points::CoveragePoint;
use crate::fault::Fault;

impl World {
    pub(super) fn follow(&mut self, process: usize, job: ObjectRef) {
        let known = self.processes[process].follows.iter().position(|follow| follow.job.uid == job.uid);
        let follow = known.unwrap_or(self.processes[process].follows.len());
        if known.is_none() {
            let first = self.cluster.log.iter().position(|logged| logged.job_uid == job.uid);
            let next = first.unwrap_or(self.cluster.log.len());
            let cursor = || Cursor { next, ..Cursor::default() };
            self.processes[process].follows.push(Follow { job, jobs: cursor(), pods: cursor() });
        }
        let is_open = self.entropy.chance(64);
        let start = if is_open { WatchStart::Shared } else { WatchStart::WithList };
        for is_of_jobs in [true, false] {
            self.after(0, WorldEvent::WatchBack { process, follow, is_of_jobs, start });
        }
    }

    /// The log of versions has grown: plans the delivery to the watches that are behind.
    pub(super) fn plan_watches(&mut self, since: usize) {
        if self.cluster.log.len() == since {
            return;
        }
        for process in 0..self.processes.len() {
            for follow in 0..self.processes[process].follows.len() {
                for is_of_jobs in [true, false] {
                    self.plan_watch(process, follow, is_of_jobs);
                }
            }
        }
    }

    fn cursor(&mut self, process: usize, follow: usize, is_of_jobs: bool) -> Option<&mut Cursor> {
        let follow = self.processes[process].follows.get_mut(follow)?;
        Some(if is_of_jobs { &mut follow.jobs } else { &mut follow.pods })
    }

    fn plan_watch(&mut self, process: usize, follow: usize, is_of_jobs: bool) {
        let next = self.next_change(process, follow, is_of_jobs);
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        if next.is_none() || cursor.is_down || cursor.is_under_way {
            return;
        }
        cursor.is_under_way = true;
        let run = self.processes[process].run;
        let delay_ms = if self.strikes(Fault::WatchLate, run) {
            self.entropy.skewed(500, 60_000)
        } else {
            self.entropy.skewed(2, 400)
        };
        self.after(delay_ms, WorldEvent::Watch { process, follow, is_of_jobs });
    }

    /// The position of the next change that a watch has to deliver.
    fn next_change(&self, process: usize, follow: usize, is_of_jobs: bool) -> Option<usize> {
        let follow = self.processes[process].follows.get(follow)?;
        let from = if is_of_jobs { follow.jobs.next } else { follow.pods.next };
        let is_next = |at: &usize| {
            let logged = &self.cluster.log[*at];
            logged.job_uid == follow.job.uid && logged.change.is_of_job() == is_of_jobs
        };
        (from..self.cluster.log.len()).find(is_next)
    }

    pub(super) fn deliver_change(&mut self, process: usize, follow: usize, is_of_jobs: bool) {
        let run = self.processes[process].run;
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        cursor.is_under_way = false;
        if cursor.is_down {
            return;
        }
        for (fault, start) in
            [(Fault::WatchBroken, WatchStart::AtCursor), (Fault::WatchExpired, WatchStart::WithList)]
        {
            if self.strikes(fault, run) {
                return self.watch_again(process, follow, is_of_jobs, start, 5_000);
            }
        }
        let Some(mut at) = self.next_change(process, follow, is_of_jobs) else { return };
        if self.strikes(Fault::WatchSkipped, run) {
            while let Some(later) = self.change_after(process, follow, is_of_jobs, at) {
                at = later;
            }
        }
        let times = if self.strikes(Fault::WatchDoubled, run) { 2 } else { 1 };
        self.cursor(process, follow, is_of_jobs).expect("it was there").next = at + 1;
        for _ in 0..times {
            let change = self.cluster.log[at].change.clone();
            self.deliver(process, follow, change, "watch-deleted");
        }
        self.plan_watch(process, follow, is_of_jobs);
    }

    /// The watch is down for at most this long.
    fn watch_again(
        &mut self,
        process: usize,
        follow: usize,
        is_of_jobs: bool,
        start: WatchStart,
        longest_ms: u64,
    ) {
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        cursor.is_down = true;
        let delay_ms = self.entropy.skewed(500, longest_ms);
        self.after(delay_ms, WorldEvent::WatchBack { process, follow, is_of_jobs, start });
    }

    fn change_after(&mut self, process: usize, follow: usize, is_of_jobs: bool, at: usize) -> Option<usize> {
        let cursor = self.cursor(process, follow, is_of_jobs)?;
        let before = std::mem::replace(&mut cursor.next, at + 1);
        let later = self.next_change(process, follow, is_of_jobs);
        self.cursor(process, follow, is_of_jobs)?.next = before;
        later
    }

    /// A watch starts, or is back.
    pub(super) fn reopen_watch(
        &mut self,
        process: usize,
        follow: usize,
        is_of_jobs: bool,
        start: WatchStart,
    ) {
        let run = self.processes[process].run;
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        cursor.is_down = false;
        match start {
            WatchStart::AtCursor => {}
            WatchStart::WithList => {
                let is_stale = self.strikes(Fault::WatchStale, run);
                self.deliver_list(process, follow, is_of_jobs, is_stale);
            }
            WatchStart::Shared => return self.deliver_known(process, follow, is_of_jobs),
        }
        if self.strikes(Fault::WatchRefused, run) {
            return self.watch_again(process, follow, is_of_jobs, WatchStart::WithList, 40_000);
        }
        self.plan_watch(process, follow, is_of_jobs);
    }

    /// Delivers a list: a known object that the list lacks was deleted. A server that lags behind lists an earlier state.
    fn deliver_list(&mut self, process: usize, follow: usize, is_of_jobs: bool, is_stale: bool) {
        let uid = self.processes[process].follows[follow].job.uid.clone();
        let is_of_kind = |at: &usize| {
            let logged = &self.cluster.log[*at];
            logged.job_uid == uid && logged.change.is_of_job() == is_of_jobs
        };
        let all: Vec<usize> = (0..self.cluster.log.len()).filter(is_of_kind).collect();
        let shown = if is_stale { all.len().saturating_sub(1).max(1) } else { all.len() };
        let at = all.get(..shown.min(all.len())).and_then(<[usize]>::last).copied();
        let change = at.map(|at| self.cluster.log[at].change.clone());
        let cursor = self.cursor(process, follow, is_of_jobs).expect("the caller found it");
        cursor.next = at.map_or(cursor.next, |at| at + 1);
        if cursor.has_seen {
            self.cover(CoveragePoint::Relisted);
        }
        if let Some(change) = change {
            self.deliver(process, follow, change, "relist-missing");
        }
    }

    /// Delivers the current state, as a watch that has run for longer knows it. Earlier deletions are not delivered.
    fn deliver_known(&mut self, process: usize, follow: usize, is_of_jobs: bool) {
        let newest = self.cluster.log.len();
        let mut known = None;
        while let Some(at) = self.next_change(process, follow, is_of_jobs) {
            known = Some(at);
            self.cursor(process, follow, is_of_jobs).expect("it has a next change").next = at + 1;
        }
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        cursor.next = newest;
        let change = known.map(|at| self.cluster.log[at].change.clone());
        if let Some(change) = change.filter(|change| !change.is_of_end()) {
            self.deliver(process, follow, change, "watch-deleted");
        }
    }

    fn deliver(&mut self, process: usize, follow: usize, change: Change, via: &str) {
        let is_of_jobs = change.is_of_job();
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        let had_seen = std::mem::replace(&mut cursor.has_seen, true);
        let deletion = |object: ObjectRef| Deletion { object, detected_via: via.to_owned(), is_ours: false };
        let event = match change {
            Change::Job(job) => WatchEvent::JobSeen(job),
            Change::Pod(pod) => WatchEvent::PodSeen(pod),
            Change::JobDeleted(object) => WatchEvent::JobDeleted(deletion(object)),
            // The deletion of a pod that was never seen is not delivered: no list has it.
            Change::PodDeleted(object) => {
                if via == "relist-missing" && !had_seen {
                    return;
                }
                if via == "watch-deleted" {
                    self.deliver_last_state(process, &object);
                }
                WatchEvent::PodDeleted(deletion(object))
            }
        };
        self.give(process, DriverEvent::Watch(event));
    }

    /// A DELETED event carries the last state.
    fn deliver_last_state(&mut self, process: usize, pod: &ObjectRef) {
        let Some(pod) = self.cluster.pods.get(&pod.uid) else { return };
        debug_assert_eq!(pod.stage, Stage::Removed);
        let last = pod.snapshot();
        self.give(process, DriverEvent::Watch(WatchEvent::PodSeen(last)));
    }
}
