//! What the watches and lists of each process report, and when.

use paperclip_engine::ownership::{Input, LeaseView};

use super::{Event, World};
use crate::ownership::cluster::Change;
use crate::ownership::driver::Driver;
use crate::ownership::mutant::{Mutant, passes};

impl World {
    pub(super) fn plan_watches(&mut self, known: usize) {
        let changes = &self.cluster.log[known..];
        let kinds =
            [true, false].map(|is_of_leases| changes.iter().any(|one| one.is_of_lease() == is_of_leases));
        let upto = self.cluster.log.len();
        for process in 0..self.processes.len() {
            for (is_of_leases, has_changed) in [true, false].into_iter().zip(kinds) {
                if !has_changed || !self.processes[process].is_alive {
                    continue;
                }
                let is_slow = self.has_lags && !self.is_healed() && self.entropy.chance(8);
                let lag = self.entropy.skewed(1, if is_slow { 20_000 } else { 150 });
                self.after(lag, Event::Watch { process, is_of_leases, upto });
            }
        }
    }

    pub(super) fn deliver(&mut self, process: usize, is_of_leases: bool, upto: usize) {
        let this = &self.processes[process];
        let is_listed = if is_of_leases { this.has_leases } else { this.has_jobs };
        if !is_listed {
            return;
        }
        if this.cut_until > self.now {
            let at = this.cut_until + 500;
            return self.at(at, Event::Watch { process, is_of_leases, upto });
        }
        if self.has_lags && !self.is_healed() && self.entropy.chance(4) {
            return self.list(process, is_of_leases);
        }
        let cursor = if is_of_leases { this.lease_cursor } else { this.job_cursor };
        if cursor >= upto {
            return;
        }
        self.set_cursor(process, is_of_leases, upto);
        let changes: Vec<Change> = self.cluster.log[cursor..upto].to_vec();
        for change in changes.into_iter().filter(|change| change.is_of_lease() == is_of_leases) {
            self.deliver_change(process, change);
        }
    }

    fn set_cursor(&mut self, process: usize, is_of_leases: bool, upto: usize) {
        let this = &mut self.processes[process];
        *(if is_of_leases { &mut this.lease_cursor } else { &mut this.job_cursor }) = upto;
    }

    fn deliver_change(&mut self, process: usize, change: Change) {
        let input = match change {
            Change::Lease(lease) => {
                let guard = match &lease {
                    LeaseView::Guard(guard) => Some(guard.name.clone()),
                    LeaseView::Host(_) => None,
                };
                self.wake_waiters(process, guard);
                Input::LeaseSeen(lease)
            }
            Change::LeaseDeleted(name) => {
                self.wake_waiters(process, Some(name.clone()));
                Input::LeaseDeleted { name }
            }
            Change::Job(job) => {
                let (uid, is_over) = (job.job.uid.clone(), job.has_ended);
                self.show_job(process, &uid, is_over);
                Input::JobSeen(job)
            }
            Change::JobDeleted(uid) => {
                self.show_job(process, &uid, true);
                Input::JobDeleted { uid }
            }
        };
        if passes(self.mutant, &input, false) {
            self.hand(process, input);
        }
    }

    /// The run of a Job that is driven here observes it.
    fn show_job(&mut self, process: usize, uid: &str, is_over: bool) {
        let Some(job) = self.cluster.jobs.get(uid) else { return };
        let (run, object) = (job.run, job.view.job.clone());
        self.with_driver(process, run, |driver, now| driver.on_own_job(now, &object));
        if is_over {
            self.with_driver(process, run, Driver::on_job_over);
        }
    }

    fn wake_waiters(&mut self, process: usize, guard: Option<String>) {
        let Some(guard) = guard else { return };
        self.wake(process, |driver| driver.guard == guard);
    }

    fn wake(&mut self, process: usize, is_of: impl Fn(&Driver) -> bool) {
        if self.mutant == Some(Mutant::WakeLost) {
            return;
        }
        let drivers = self.processes[process].drivers.iter();
        let woken = drivers.filter(|(_, driver)| is_of(driver));
        let runs: Vec<usize> = woken.map(|(run, _)| *run).collect();
        for run in runs {
            self.with_driver(process, run, Driver::on_guard_changed);
        }
    }

    pub(super) fn list(&mut self, process: usize, is_of_leases: bool) {
        let this = &self.processes[process];
        if this.cut_until > self.now {
            let at = this.cut_until + 500;
            return self.at(at, Event::List { process, is_of_leases });
        }
        let is_first = !(if is_of_leases { this.has_leases } else { this.has_jobs });
        let upto = self.cluster.log.len();
        self.set_cursor(process, is_of_leases, upto);
        let this = &mut self.processes[process];
        *(if is_of_leases { &mut this.has_leases } else { &mut this.has_jobs }) = true;
        let input = if is_of_leases {
            self.wake(process, |_| true);
            Input::LeasesListed(self.cluster.leases())
        } else {
            let jobs = self.cluster.job_views();
            for job in &jobs {
                self.show_job(process, &job.job.uid, job.has_ended);
            }
            // A followed Job that a list lacks was removed.
            let removed: Vec<String> = self
                .cluster
                .jobs
                .values()
                .filter(|job| job.is_removed)
                .map(|job| job.view.job.uid.clone())
                .collect();
            for uid in removed {
                self.show_job(process, &uid, true);
            }
            Input::JobsListed(jobs)
        };
        if passes(self.mutant, &input, is_first) {
            self.hand(process, input);
        }
    }
}
