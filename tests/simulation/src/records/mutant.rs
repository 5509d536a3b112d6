//! Defects of the records of runs: each must be caught.

use crate::fault::named;

named! {
    /// A defect.
    Mutant {
        /// A record that exists does not prevent another claim.
        RecordIgnored = "record-ignored",
        /// The result is written before the agent has ended.
        EndedEarly = "ended-early",
        /// A record that says that its run has ended is read as one of a host that does not live.
        EndedRestarted = "ended-restarted",
        /// A request that was passed on is passed on again.
        ForwardedTwice = "forwarded-twice",
        /// The Job is deleted before the record has the result.
        DeletedFirst = "deleted-first",
        /// A cancel is acknowledged that only the host's disk has.
        CancelUnnoted = "cancel-unnoted",
        /// The Lease of a living host is read as missing.
        OwnerUnseen = "owner-unseen",
        /// A run is started that another host has adopted since it was taken over.
        TakeoverUnchecked = "takeover-unchecked",
        /// A record is changed although it has changed since it was read.
        VersionIgnored = "version-ignored",
    }
}
