//! The regions of a run. A second attempt begins with regions of its own.

use super::Table;
use super::region::{region, table};

region! {
    /// The guard: nobody else runs under the same key.
    GuardState {
        /// Not asked for yet.
        Free => [Asked],
        /// Asked for; somebody else may hold it, or the API may not answer.
        Asked => [Held, Refused],
        /// Held: Jobs may be created.
        Held => [Lost],
        /// It was not had in time, or the API did not answer.
        Refused => [],
        /// Another host took it: nothing new is created.
        Lost => [],
    }
}

region! {
    /// The Job of the current attempt.
    JobState {
        /// None is known.
        Absent => [Listing, Trying],
        /// Looking for Jobs of this agent that still run.
        Listing => [Blocked, Adopting, Trying, Failed],
        /// Another run's Job is in the way; it is followed until it ends.
        Blocked => [Listing, Failed],
        /// Asking whether the API would take such a Pod.
        Trying => [Creating, Failed],
        /// Being created, suspended.
        Creating => [Furnishing, Failed],
        /// It stands, suspended; its Secrets and ConfigMaps are being created.
        Furnishing => [Releasing, Failed, Gone],
        /// Being unsuspended.
        Releasing => [Live, Failed, Gone],
        /// An orphan's or this run's earlier Job is being made ours.
        Adopting => [Furnishing, Live, Failed],
        /// It may run.
        Live => [Leaving, Gone],
        /// This run asked for its deletion, so that another attempt may follow.
        Leaving => [Gone],
        /// It was not to be had; the cause is told.
        Failed => [],
        /// It is gone from the cluster.
        Gone => [],
    }
}

region! {
    /// The Pod of the current attempt.
    PodState {
        /// None was seen.
        Absent => [Waiting, Started, Ended],
        /// Seen; the agent's container has not started.
        Waiting => [Started, Ended, Gone],
        /// The agent's container has started.
        Started => [Ended, Gone],
        /// The agent's container has ended, or the Pod ended without it.
        Ended => [Gone],
        /// It is gone from the cluster.
        Gone => [],
    }
}

region! {
    /// The agent's output.
    LogState {
        /// Not read yet.
        Closed => [Following],
        /// Being read.
        Following => [Ended],
        /// All that can be had was read.
        Ended => [],
    }
}

region! {
    /// Why the run is to stop before its agent ends by itself.
    StopState {
        /// It is not.
        Unasked => [Cancelled, TimedOut],
        /// Somebody cancelled it.
        Cancelled => [],
        /// Its own clock ran out.
        TimedOut => [Cancelled],
    }
}

/// The tables of all regions, by the name under which a run's snapshot has their state.
pub(super) fn tables() -> [(&'static str, Table); 5] {
    [
        ("guard", table::<GuardState>()),
        ("job", table::<JobState>()),
        ("pod", table::<PodState>()),
        ("log", table::<LogState>()),
        ("stop", table::<StopState>()),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::region::{Region as _, print};
    use super::*;

    #[test]
    fn the_tables() {
        let tables = [
            print::<GuardState>(),
            print::<JobState>(),
            print::<PodState>(),
            print::<LogState>(),
            print::<StopState>(),
        ];
        insta::assert_snapshot!(tables.join("\n"));
    }

    #[test]
    fn a_move_that_is_not_in_the_table_is_illegal() {
        assert!(JobState::may(JobState::Live, JobState::Gone));
        assert!(!JobState::may(JobState::Gone, JobState::Live));
        assert!(!StopState::may(StopState::Cancelled, StopState::TimedOut));
    }
}
