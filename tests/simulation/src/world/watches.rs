//! Watches: a cursor in the server's log of versions for each kind, and all that may befall it.

use paperclip_contract::types::{Deletion, ObjectRef};
use paperclip_engine::driver::{DriverEvent, WatchEvent};

use super::process::{Cursor, Follow};
use super::{Begins, Happening, World};
use crate::cluster::{Change, Stage};
use crate::fault::Fault;
use crate::marks::Mark;

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
        let begins = if is_open { Begins::AmongOthers } else { Begins::WithAList };
        for is_of_jobs in [true, false] {
            self.after(0, Happening::WatchBack { process, follow, is_of_jobs, begins });
        }
    }

    /// Something was written to the log of versions: those who watch it will hear of it.
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
        self.after(delay_ms, Happening::Watch { process, follow, is_of_jobs });
    }

    /// The position of the next change that a watch has to tell.
    fn next_change(&self, process: usize, follow: usize, is_of_jobs: bool) -> Option<usize> {
        let follow = self.processes[process].follows.get(follow)?;
        let from = if is_of_jobs { follow.jobs.next } else { follow.pods.next };
        let is_next = |at: &usize| {
            let logged = &self.cluster.log[*at];
            logged.job_uid == follow.job.uid && logged.change.is_of_job() == is_of_jobs
        };
        (from..self.cluster.log.len()).find(is_next)
    }

    pub(super) fn tell_watch(&mut self, process: usize, follow: usize, is_of_jobs: bool) {
        let run = self.processes[process].run;
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        cursor.is_under_way = false;
        if cursor.is_down {
            return;
        }
        for (fault, begins) in
            [(Fault::WatchBroken, Begins::WhereItWas), (Fault::WatchExpired, Begins::WithAList)]
        {
            if self.strikes(fault, run) {
                return self.watch_again(process, follow, is_of_jobs, begins, 5_000);
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
            self.tell_change(process, follow, change, "watch-deleted");
        }
        self.plan_watch(process, follow, is_of_jobs);
    }

    /// The watch is down, for as long as this or shorter.
    fn watch_again(
        &mut self,
        process: usize,
        follow: usize,
        is_of_jobs: bool,
        begins: Begins,
        longest_ms: u64,
    ) {
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        cursor.is_down = true;
        let delay_ms = self.entropy.skewed(500, longest_ms);
        self.after(delay_ms, Happening::WatchBack { process, follow, is_of_jobs, begins });
    }

    fn change_after(&mut self, process: usize, follow: usize, is_of_jobs: bool, at: usize) -> Option<usize> {
        let cursor = self.cursor(process, follow, is_of_jobs)?;
        let before = std::mem::replace(&mut cursor.next, at + 1);
        let later = self.next_change(process, follow, is_of_jobs);
        self.cursor(process, follow, is_of_jobs)?.next = before;
        later
    }

    /// A watch begins, or is back.
    pub(super) fn reopen_watch(&mut self, process: usize, follow: usize, is_of_jobs: bool, begins: Begins) {
        let run = self.processes[process].run;
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        cursor.is_down = false;
        match begins {
            Begins::WhereItWas => {}
            Begins::WithAList => {
                let is_stale = self.strikes(Fault::WatchStale, run);
                self.tell_list(process, follow, is_of_jobs, is_stale);
            }
            Begins::AmongOthers => return self.tell_known(process, follow, is_of_jobs),
        }
        if self.strikes(Fault::WatchRefused, run) {
            return self.watch_again(process, follow, is_of_jobs, Begins::WithAList, 40_000);
        }
        self.plan_watch(process, follow, is_of_jobs);
    }

    /// All that exists; what is known and is not in the list is gone. A server that lags behind lists what was a little earlier.
    fn tell_list(&mut self, process: usize, follow: usize, is_of_jobs: bool, is_stale: bool) {
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
            self.mark(Mark::Relisted);
        }
        if let Some(change) = change {
            self.tell_change(process, follow, change, "relist-missing");
        }
    }

    /// What is there now, as who watched before has seen it. What went before is told of by nobody.
    fn tell_known(&mut self, process: usize, follow: usize, is_of_jobs: bool) {
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
            self.tell_change(process, follow, change, "watch-deleted");
        }
    }

    fn tell_change(&mut self, process: usize, follow: usize, change: Change, via: &str) {
        let is_of_jobs = change.is_of_job();
        let Some(cursor) = self.cursor(process, follow, is_of_jobs) else { return };
        let had_seen = std::mem::replace(&mut cursor.has_seen, true);
        let gone = |object: ObjectRef| Deletion { object, detected_via: via.to_owned(), is_ours: false };
        let event = match change {
            Change::Job(job) => WatchEvent::JobSeen(job),
            Change::Pod(pod) => WatchEvent::PodSeen(pod),
            Change::JobDeleted(object) => WatchEvent::JobDeleted(gone(object)),
            // Nobody is told of the end of a pod that was never seen: it is in no list.
            Change::PodDeleted(object) => {
                if via == "relist-missing" && !had_seen {
                    return;
                }
                if via == "watch-deleted" {
                    self.tell_last_state(process, &object);
                }
                WatchEvent::PodDeleted(gone(object))
            }
        };
        self.give(process, DriverEvent::Watch(event));
    }

    /// A DELETED event carries the last state.
    fn tell_last_state(&mut self, process: usize, pod: &ObjectRef) {
        let Some(pod) = self.cluster.pods.get(&pod.uid) else { return };
        debug_assert_eq!(pod.stage, Stage::Removed);
        let last = pod.snapshot();
        self.give(process, DriverEvent::Watch(WatchEvent::PodSeen(last)));
    }
}
