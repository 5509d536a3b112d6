//! The regions of a run. A second attempt starts with regions of its own.

use super::Table;
use super::region::{region, table};

region! {
    /// The guard: no other run with the same key is active.
    GuardState {
        /// Not requested yet.
        NotRequested => [Requested],
        /// Requested; another run holds it, or the API does not answer.
        Requested => [Held, Refused],
        /// Held: Jobs may be created.
        Held => [Lost],
        /// Not acquired in time, or the API did not answer.
        Refused => [],
        /// Another host took the lease: nothing is created from now on.
        Lost => [],
    }
}

region! {
    /// The Job of the current attempt.
    JobState {
        /// None is known.
        NotCreated => [Listing, Preflight],
        /// The agent's unfinished Jobs are being listed.
        Listing => [Blocked, Adopting, Preflight, Failed],
        /// Another run's Job blocks this one; it is followed until it ends.
        Blocked => [Listing, Failed],
        /// A dry run checks whether the API accepts the Pod.
        Preflight => [Creating, Failed],
        /// Being created, suspended.
        Creating => [CreatingDependents, Failed],
        /// Created and suspended; its Secrets and ConfigMaps are being created.
        CreatingDependents => [Unsuspending, Failed, Deleted],
        /// Being unsuspended.
        Unsuspending => [Live, Failed, Deleted],
        /// An orphaned Job, or this run's earlier one, is being labelled as this run's.
        Adopting => [CreatingDependents, Live, Failed],
        /// Unsuspended: its Pod may run.
        Live => [Deleting, Deleted],
        /// This run requested its deletion, so that another attempt may follow.
        Deleting => [Deleted],
        /// It could not be created or adopted; the cause is recorded.
        Failed => [],
        /// Deleted from the cluster.
        Deleted => [],
    }
}

region! {
    /// The Pod of the current attempt.
    PodState {
        /// None was observed.
        NotObserved => [Waiting, Started, Ended],
        /// Observed; the agent's container has not started.
        Waiting => [Started, Ended, Deleted],
        /// The agent's container has started.
        Started => [Ended, Deleted],
        /// The agent's container has ended, or the Pod ended without it.
        Ended => [Deleted],
        /// Deleted from the cluster.
        Deleted => [],
    }
}

region! {
    /// The agent's output.
    LogState {
        /// Not read yet.
        NotFollowed => [Following],
        /// Being read.
        Following => [Ended],
        /// Everything that can be read was read.
        Ended => [],
    }
}

region! {
    /// Why the run stops before its agent ends by itself.
    StopState {
        /// It does not.
        NotRequested => [Cancelled, TimedOut, Reported, Stuck],
        /// It was cancelled.
        Cancelled => [],
        /// Its own timeout has passed.
        TimedOut => [Cancelled],
        /// Its agent has reported its end, and its container keeps running.
        Reported => [Cancelled],
        /// Its agent does not come to an end: it is quiet for too long, or its agent type says so.
        Stuck => [Cancelled],
    }
}

/// Returns the tables of all regions, by the name under which a run's snapshot has their state.
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
    use super::super::region::{IllegalTransition, Region as _, print};
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
    fn a_transition_that_is_not_in_the_table_is_illegal() {
        assert!(JobState::is_legal(JobState::Live, JobState::Deleted));
        assert!(!JobState::is_legal(JobState::Deleted, JobState::Live));
        assert!(!StopState::is_legal(StopState::Cancelled, StopState::TimedOut));
    }

    #[test]
    fn an_illegal_transition_names_region_and_states_and_changes_nothing() {
        let mut state = JobState::Deleted;
        assert_eq!(state.transition(JobState::Deleted), Ok(()), "to keep a state is legal");
        let illegal = state.transition(JobState::Live).unwrap_err();
        assert_eq!(illegal, IllegalTransition { region: "JobState", from: "Deleted", to: "Live" });
        assert_eq!(illegal.to_string(), "illegal transition of JobState: from Deleted to Live");
        assert_eq!(state, JobState::Deleted);
    }

    #[test]
    fn snapshots_have_the_names_of_the_tables() {
        for (state, _) in JobState::TABLE {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
}
