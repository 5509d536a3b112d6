//! Parts of a run's state that several of its modules use.

use paperclip_contract::types::{AcquireGuard, Command, Ending, Finish, ObjectRef};

use crate::guest::GuestFault;
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// The run has not started, or was only replayed.
    New,
    /// The plugin decides.
    Live,
    /// The result was emitted; the run's objects are being deleted.
    CleaningUp(Ending),
    /// The run continues without this host, which hands over its Lease.
    Detaching {
        until: Timestamp,
    },
    Closed,
}

/// How the guard is released at the end of a run.
#[derive(Debug)]
pub(super) enum Release {
    /// This process holds the Lease, or has requested it.
    Held,
    /// An earlier host of the run may still hold the Lease.
    Inherited(AcquireGuard),
}

/// The Jobs that an ended run leaves.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) jobs: Vec<ObjectRef>,
    /// They may exist and be this run's.
    pub(super) uncertain: Vec<ObjectRef>,
    /// An earlier host of the run ended it.
    pub(super) is_inherited: bool,
}

/// The segment of the journal that is being written.
#[derive(Debug, Default)]
pub(super) struct Segment {
    pub(super) bytes: u64,
    pub(super) since: Timestamp,
    pub(super) has_steps: bool,
}

/// The state of a replay.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) is_started: bool,
    pub(super) expected: Expected,
    /// Time of the last entry that has one.
    pub(super) at: Timestamp,
    pub(super) end: Option<(Ending, Vec<ObjectRef>)>,
    /// The plugin requested the end of the run, and the journal does not contain the end.
    pub(super) finish: Option<Finish>,
    pub(super) is_closed: bool,
}

/// What the plugin returned last and the journal has not confirmed yet.
#[derive(Debug, Default)]
pub(super) enum Expected {
    #[default]
    Nothing,
    Commands(Vec<Command>),
    /// The plugin failed: the run ended here.
    Fault(GuestFault),
}
