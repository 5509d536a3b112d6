//! Defects, put in on purpose: each is one that runs have suffered from, and each has to be caught.
//!
//! They are put in where engine, guest and world meet, so that the product's own code has no switches. A mutant does there what the
//! defect did, as it was observed; which line of code would do so is not its concern.

mod contract;
mod events;
mod operations;

pub(crate) use contract::Saboteur;
pub(crate) use events::on_event;
pub(crate) use operations::OperationSaboteur;

use crate::fault::named;

named! {
    /// A defect.
    Mutant {
        /// Effects are carried out before their cause is on disk.
        CallsBeforeSync = "calls-before-sync",
        /// D2: a line that was shown before is taken for a repetition.
        EqualLinesDropped = "equal-lines-dropped",
        /// The replayed second is shown again.
        LinesDoubled = "lines-doubled",
        /// A result for each look at the end.
        ResultTwice = "result-twice",
        /// D1: streams are left open.
        StreamsLeftOpen = "streams-left-open",
        /// D22: the lock is the process's own.
        LockPerRun = "lock-per-run",
        /// Rule 25: a create without an answer is made again, under another name.
        CreatedAgain = "created-again",
        /// Seed row 3: SIGTERM deletes the Job.
        SigtermDeletes = "sigterm-deletes",
        /// Seed rows 2 and 16: any status but `running` cancels.
        AnyStatusCancels = "any-status-cancels",
        /// D15: exit code 0 is a success, whatever the result event says.
        ExitCodeDecides = "exit-code-decides",
        /// Seed row 4: what is missing was deleted by somebody.
        DeletionClaimed = "deletion-claimed",
        /// Seed row 1: a broken stream is the end.
        BrokenStreamEnds = "broken-stream-ends",
        /// Jobs are left behind.
        NotCleanedUp = "not-cleaned-up",
        /// D21: cancels are not heard.
        CancelIgnored = "cancel-ignored",
        /// D21: a run that was taken up again cannot be cancelled.
        CancelIgnoredLater = "cancel-ignored-later",
        /// D6, D37, D40: one error in a look at the run is its end, by a timeout that it has not.
        ErrorTimesOut = "error-times-out",
        /// D8: the exit code is another process's.
        ExitCodeHidden = "exit-code-hidden",
        /// D10: output is lost and nobody is told.
        GapsHidden = "gaps-hidden",
        /// D12: what keeps a pod from starting fails the run at first sight.
        StallFails = "stall-fails",
        /// D13: a Job has the run's token in plain text.
        TokenInJob = "token-in-job",
        /// D16: the end of the turns has no name.
        MaxTurnsUnnamed = "max-turns-unnamed",
        /// D18: nobody tells what the usage is the usage of.
        UsageWithoutBasis = "usage-without-basis",
        /// D19 and D38: a run that failed loses its session and its cost.
        SessionLost = "session-lost",
        /// D9: the whole output is in the result.
        ResultUnbounded = "result-unbounded",
        /// D23: a second run of an agent fails at once, though it is to wait.
        BusyFails = "busy-fails",
        /// D25: signs of life of the host are output.
        KeepaliveIsOutput = "keepalive-is-output",
        /// D31: characters are split where a chunk ends.
        CharactersSplit = "characters-split",
        /// D3: the lock is never given back.
        GuardKept = "guard-kept",
        /// D5: what the run deleted itself is said to have been deleted.
        BlamedOnOthers = "blamed-on-others",
        /// Seed rows 5 to 7: the container's cause is lost.
        CauseLost = "cause-lost",
        /// Seed row 22: a Job that a dead run left is not seen.
        OrphansUnseen = "orphans-unseen",
        /// A lease is taken though its holder lives.
        LeasesBroken = "leases-broken",
        /// Rule 25: what a create without an answer had created is taken for somebody else's.
        ExistingIsConflict = "existing-is-conflict",
        /// Rule 17: a Job is known by its name.
        UidIgnored = "uid-ignored",
        /// A timer fires before its time.
        TimerEarly = "timer-early",
        /// A sync that failed is tried again, and believed.
        SyncRetried = "sync-retried",
        /// Golem's classic: an answer is noted as delivered before it is, and lost in between.
        AnswerLost = "answer-lost",
        /// Golem's classic: how often a call was tried is read from a tail that a new host does not have, so that it is tried for ever.
        TriesForgotten = "tries-forgotten",
        /// Golem's classic: a new version of the plugin that cannot take the run up traps whenever it is tried.
        UpgradeTraps = "upgrade-traps",
        /// A torn tail is not cut off before the journal goes on.
        TornTailKept = "torn-tail-kept",
        /// Temporal's classic: commands depend on something that is not in the journal.
        NotDeterministic = "not-deterministic",
        /// A record is shown before its entry is handed to the operating system.
        ShownBeforeFlush = "shown-before-flush",
        /// A cancel is acknowledged before it is on disk.
        AcknowledgedEarly = "acknowledged-early",
        /// Logs are read although the sink does not keep up.
        CapacityIgnored = "capacity-ignored",
    }
}
