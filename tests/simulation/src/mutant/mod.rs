//! Defects, put in on purpose: each is one that runs have suffered from, and each has to be caught.
//!
//! They are put in where engine, guest and world meet, so that the product's own code has no switches. A mutant does there what the
//! defect did, as it was observed; which line of code would do so is not its concern.

mod contract;
mod effects;

pub(crate) use contract::Saboteur;
pub(crate) use effects::EffectSaboteur;

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
        /// A torn tail is not cut off before the journal goes on.
        TornTailKept = "torn-tail-kept",
        /// Temporal's classic: commands depend on something that is not in the journal.
        NotDeterministic = "not-deterministic",
    }
}
