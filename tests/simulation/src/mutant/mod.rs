//! Defects that are injected on purpose: each is one that runs have suffered from, and each must be caught.
//!
//! They are injected where driver, guest and world meet, so that the product's code has no switches. A mutant reproduces the observed
//! behaviour of the defect, whichever line of code would cause it.

mod contract;
mod events;
mod operations;

pub(crate) use contract::Saboteur;
pub(crate) use events::on_event;
pub(crate) use operations::OperationSaboteur;

use crate::fault::{Fault, named};
use crate::grammar::Grammar;

named! {
    /// A defect.
    Mutant {
        /// Effects are carried out before their cause is on disk.
        CallsBeforeSync = "calls-before-sync",
        /// D2: a line that was shown before is taken for a repetition.
        EqualLinesDropped = "equal-lines-dropped",
        /// The replayed second is shown again.
        LinesDoubled = "lines-doubled",
        /// A result for each read of the end.
        ResultTwice = "result-twice",
        /// D1: streams are left open.
        StreamsLeftOpen = "streams-left-open",
        /// D22: each run has a lock of its own.
        LockPerRun = "lock-per-run",
        /// Rule 25: a create without an answer is made again, under another name.
        CreatedAgain = "created-again",
        /// Seed row 3: SIGTERM deletes the Job.
        SigtermDeletes = "sigterm-deletes",
        /// Seed rows 2 and 16: any status but `running` cancels.
        AnyStatusCancels = "any-status-cancels",
        /// D15: exit code 0 is a success, whatever the result event says.
        ExitCodeDecides = "exit-code-decides",
        /// Seed row 4: a missing Job is reported as deleted by somebody else.
        DeletionClaimed = "deletion-claimed",
        /// Seed row 1: a broken stream is the end.
        BrokenStreamEnds = "broken-stream-ends",
        /// Jobs are left behind.
        NotCleanedUp = "not-cleaned-up",
        /// D21: cancels are ignored.
        CancelIgnored = "cancel-ignored",
        /// D21: a resumed run cannot be cancelled.
        CancelIgnoredLater = "cancel-ignored-later",
        /// D6, D37, D40: one failed poll of the run ends it with a timeout that did not occur.
        ErrorTimesOut = "error-times-out",
        /// D8: the exit code is another process's.
        ExitCodeHidden = "exit-code-hidden",
        /// D10: output is lost and no gap is shown.
        GapsHidden = "gaps-hidden",
        /// A gap is shown where nothing is lost.
        GapInvented = "gap-invented",
        /// D12: a pod that cannot start yet fails the run at once.
        StallFails = "stall-fails",
        /// D13: a Job has the run's token in plain text.
        TokenInJob = "token-in-job",
        /// D16: exhausted turns have no error code.
        MaxTurnsUnnamed = "max-turns-unnamed",
        /// D18: the usage has no basis.
        UsageWithoutBasis = "usage-without-basis",
        /// D19 and D38: a run that failed loses its session and its cost.
        SessionLost = "session-lost",
        /// D9: the whole output is in the result.
        ResultUnbounded = "result-unbounded",
        /// D23: a second run of an agent fails at once, though it is to wait.
        BusyFails = "busy-fails",
        /// D25: keepalives of the host are shown as output.
        KeepaliveIsOutput = "keepalive-is-output",
        /// D31: characters are split where a chunk ends.
        CharactersSplit = "characters-split",
        /// D3: the lock is never released.
        GuardKept = "guard-kept",
        /// D5: the run's own deletion is reported as somebody else's.
        BlamedOnOthers = "blamed-on-others",
        /// Seed rows 5 to 7: the cause of the container's end is lost.
        CauseLost = "cause-lost",
        /// A wall clock that is set forward makes the time of a run pass.
        WallClockFollowed = "wall-clock-followed",
        /// Seed row 22: the Job of a dead run is not found.
        OrphansUnseen = "orphans-unseen",
        /// A guard is taken although the host of its holder lives.
        LeasesBroken = "leases-broken",
        /// Rule 25: an object of a create without an answer is mistaken for somebody else's.
        ExistingIsConflict = "existing-is-conflict",
        /// Rule 17: a Job is identified by its name.
        UidIgnored = "uid-ignored",
        /// A timer fires before its time.
        TimerEarly = "timer-early",
        /// A failed sync is retried, and its success is trusted.
        SyncRetried = "sync-retried",
        /// As in Golem: an answer is recorded as delivered before it is, and lost in between.
        AnswerLost = "answer-lost",
        /// As in Golem: the count of retries is lost with a host, so that a call is retried forever.
        TriesForgotten = "tries-forgotten",
        /// As in Golem: a new version of the plugin cannot resume the run and traps each time.
        UpgradeTraps = "upgrade-traps",
        /// A second daemon on one state resumes a run although the first one holds the lock of its folder.
        FolderLockIgnored = "folder-lock-ignored",
        /// A torn tail is not cut off before the journal is continued.
        TornTailKept = "torn-tail-kept",
        /// As in Temporal: commands depend on something that is not in the journal.
        NotDeterministic = "not-deterministic",
        /// A record is shown before its entry is handed to the operating system.
        ShownBeforeFlush = "shown-before-flush",
        /// A cancel is acknowledged before it is on disk.
        AcknowledgedEarly = "acknowledged-early",
        /// A run ends at its agent's first result although background tasks are open.
        TasksIgnored = "tasks-ignored",
        /// A run whose agent stays after its result never ends.
        NeverEnds = "never-ends",
        /// A run whose agent stays after its result is a timeout when its time passes.
        EndedTimesOut = "ended-times-out",
        /// Logs are read although the sink does not keep up.
        CapacityIgnored = "capacity-ignored",
        /// A Job whose epoch the run itself raises while it deletes the Job is left behind.
        SupersededGivenUp = "superseded-given-up",
    }
}

impl Mutant {
    /// Returns whether agents of a type have what the defect is about.
    pub fn concerns(self, grammar: &Grammar) -> bool {
        match self {
            Mutant::TasksIgnored => grammar.tasks.is_some(),
            Mutant::MaxTurnsUnnamed => grammar.turns.is_some(),
            Mutant::UsageWithoutBasis => grammar.has_usage_per_run,
            _ => true,
        }
    }

    /// Returns the faults that its cases have, in 256ths at each opportunity, if those that are drawn meet it too rarely.
    pub(crate) fn faults(self) -> &'static [(Fault, u16)] {
        // A plugin that fails while its run resumes the guard deletes the Job before it is certain that the guard is held.
        if self == Mutant::SupersededGivenUp {
            &[(Fault::HostStopped, 16), (Fault::GuestTraps, 12), (Fault::ApiTooMany, 96)]
        } else {
            &[]
        }
    }
}
