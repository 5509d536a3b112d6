//! Which runs may run now, and which wait. Pure, so that fairness can be tested.
//!
//! Companies take turns, so that one which starts a thousand runs at once does not delay the others; within a company the first comes
//! first. A run whose namespace or company is at its limit is skipped, not waited for.

use std::collections::{BTreeMap, VecDeque};

/// How many runs may be driven at a time, and how many may wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) runs: usize,
    pub(crate) runs_per_namespace: usize,
    pub(crate) runs_per_company: usize,
    /// Of companies that have a limit of their own.
    pub(crate) runs_of_companies: BTreeMap<String, usize>,
    pub(crate) queued_runs: usize,
}

/// What a run counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) company: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admitted,
    /// Position in the queue; 1 is next.
    Queued(usize),
    /// The queue is full.
    Full,
}

#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    running: BTreeMap<String, Place>,
    /// Companies in the order of their turns, none of them empty.
    waiting: VecDeque<(String, VecDeque<Ticket>)>,
}

#[derive(Debug)]
struct Ticket {
    run_id: String,
    namespace: String,
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Admission {
        Admission { limits, running: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// Admits a run, or puts it into the queue.
    pub(crate) fn request(&mut self, run_id: &str, place: Place) -> Verdict {
        if self.waiting.is_empty() && self.has_capacity(&place.company, &place.namespace) {
            self.running.insert(run_id.to_owned(), place);
            return Verdict::Admitted;
        }
        // A waiting run may only be delayed by its own limits.
        let can_no_waiting_run_start = self.next().is_none();
        if can_no_waiting_run_start && self.has_capacity(&place.company, &place.namespace) {
            self.running.insert(run_id.to_owned(), place);
            return Verdict::Admitted;
        }
        if self.queued() >= self.limits.queued_runs {
            return Verdict::Full;
        }
        let ticket = Ticket { run_id: run_id.to_owned(), namespace: place.namespace };
        match self.waiting.iter_mut().find(|(company, _)| *company == place.company) {
            Some((_, tickets)) => tickets.push_back(ticket),
            None => self.waiting.push_back((place.company, VecDeque::from([ticket]))),
        }
        Verdict::Queued(self.position(run_id).unwrap_or_default())
    }

    /// Counts a run that is running already, such as one that is resumed after a restart, whatever the limits.
    pub(crate) fn enter(&mut self, run_id: &str, place: Place) {
        self.running.insert(run_id.to_owned(), place);
    }

    /// Removes a run that has ended or no longer waits. Returns the runs that are admitted in its place.
    pub(crate) fn leave(&mut self, run_id: &str) -> Vec<String> {
        self.running.remove(run_id);
        for (_, tickets) in &mut self.waiting {
            tickets.retain(|ticket| ticket.run_id != run_id);
        }
        self.waiting.retain(|(_, tickets)| !tickets.is_empty());
        let mut admitted = Vec::new();
        while let Some((turn, at)) = self.next() {
            admitted.extend(self.admit(turn, at));
        }
        admitted
    }

    fn queued(&self) -> usize {
        self.waiting.iter().map(|(_, tickets)| tickets.len()).sum()
    }

    /// Returns the position of a waiting run in the queue; 1 is next.
    pub(crate) fn position(&self, run_id: &str) -> Option<usize> {
        let (turn, at) = self.waiting.iter().enumerate().find_map(|(turn, (_, tickets))| {
            Some((turn, tickets.iter().position(|ticket| ticket.run_id == run_id)?))
        })?;
        // In each round before its own every company has a turn, in its own round the companies before it.
        let before = self.waiting.iter().enumerate().map(|(other, (_, tickets))| {
            let rounds = if other < turn { at + 1 } else { at };
            tickets.len().min(rounds)
        });
        Some(before.sum::<usize>() + 1)
    }

    /// Turn and position of the ticket that may start now.
    fn next(&self) -> Option<(usize, usize)> {
        self.waiting.iter().enumerate().find_map(|(turn, (company, tickets))| {
            let at = tickets.iter().position(|ticket| self.has_capacity(company, &ticket.namespace))?;
            Some((turn, at))
        })
    }

    fn admit(&mut self, turn: usize, at: usize) -> Option<String> {
        let (company, mut tickets) = self.waiting.remove(turn)?;
        let ticket = tickets.remove(at)?;
        self.running
            .insert(ticket.run_id.clone(), Place { namespace: ticket.namespace, company: company.clone() });
        if !tickets.is_empty() {
            self.waiting.push_back((company, tickets));
        }
        Some(ticket.run_id)
    }

    fn has_capacity(&self, company: &str, namespace: &str) -> bool {
        let count =
            |is_same: &dyn Fn(&Place) -> bool| self.running.values().filter(|place| is_same(place)).count();
        let limits = &self.limits;
        let of_company = limits.runs_of_companies.get(company).unwrap_or(&limits.runs_per_company);
        self.running.len() < limits.runs
            && count(&|place| place.namespace == namespace) < limits.runs_per_namespace
            && count(&|place| place.company == company) < *of_company
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(runs: usize, per_namespace: usize, per_company: usize) -> Admission {
        Admission::new(Limits {
            runs,
            runs_per_namespace: per_namespace,
            runs_per_company: per_company,
            runs_of_companies: BTreeMap::from([("limited".to_owned(), 1)]),
            queued_runs: 5,
        })
    }

    fn place(company: &str, namespace: &str) -> Place {
        Place { company: company.to_owned(), namespace: namespace.to_owned() }
    }

    #[test]
    fn companies_take_turns() {
        let mut admission = admission(1, 9, 9);
        assert_eq!(admission.request("a0", place("a", "n")), Verdict::Admitted);
        assert_eq!(admission.request("a1", place("a", "n")), Verdict::Queued(1));
        assert_eq!(admission.request("a2", place("a", "n")), Verdict::Queued(2));
        assert_eq!(admission.request("a3", place("a", "n")), Verdict::Queued(3));
        assert_eq!(admission.request("b1", place("b", "n")), Verdict::Queued(2));
        assert_eq!(admission.position("a2"), Some(3));
        assert_eq!(admission.leave("a0"), ["a1"]);
        assert_eq!((admission.position("b1"), admission.position("a2")), (Some(1), Some(2)));
        assert_eq!(admission.leave("a1"), ["b1"]);
        assert_eq!(admission.leave("b1"), ["a2"]);
        assert_eq!((admission.running.len(), admission.queued()), (1, 1));
    }

    #[test]
    fn a_full_namespace_or_company_delays_no_other() {
        let mut admission = admission(9, 1, 2);
        assert_eq!(admission.request("a", place("a", "n")), Verdict::Admitted);
        assert_eq!(admission.request("b", place("b", "n")), Verdict::Queued(1));
        assert_eq!(admission.request("c", place("b", "m")), Verdict::Admitted);
        assert_eq!(admission.request("d", place("b", "o")), Verdict::Admitted);
        assert_eq!(admission.request("e", place("b", "p")), Verdict::Queued(2));
        assert_eq!(admission.leave("a"), [""; 0], "company b has its two");
        assert_eq!(admission.leave("c"), ["b"]);
        assert_eq!(admission.leave("d"), ["e"]);
    }

    #[test]
    fn a_company_with_a_limit_of_its_own_has_that_one() {
        let mut admission = admission(9, 9, 2);
        assert_eq!(admission.request("a", place("limited", "n")), Verdict::Admitted);
        assert_eq!(admission.request("b", place("limited", "n")), Verdict::Queued(1));
        assert_eq!(admission.request("c", place("other", "n")), Verdict::Admitted);
        assert_eq!(admission.request("d", place("other", "n")), Verdict::Admitted);
        assert_eq!(admission.leave("a"), ["b"]);
    }

    #[test]
    fn the_queue_is_bounded_and_a_run_can_leave_it() {
        let mut admission = admission(1, 9, 9);
        admission.request("0", place("a", "n"));
        for run in ["1", "2", "3", "4", "5"] {
            assert!(matches!(admission.request(run, place("a", "n")), Verdict::Queued(_)));
        }
        assert_eq!(admission.request("6", place("b", "n")), Verdict::Full);
        assert_eq!(admission.leave("1"), [""; 0]);
        assert_eq!(admission.request("6", place("b", "n")), Verdict::Queued(2));
        assert_eq!(admission.position("1"), None);
    }

    #[test]
    fn a_running_run_counts_whatever_the_limits() {
        let mut admission = admission(1, 1, 1);
        admission.enter("a", place("a", "n"));
        admission.enter("b", place("a", "n"));
        assert_eq!(admission.running.len(), 2);
        assert_eq!(admission.request("c", place("c", "m")), Verdict::Queued(1));
        assert_eq!(admission.leave("a"), [""; 0]);
        assert_eq!(admission.leave("b"), ["c"]);
    }
}
