//! States that a healthy set of cases must reach: a check that is never put to the test proves nothing.

use std::collections::BTreeSet;

use crate::fault::named;

named! {
    /// Something that has to happen in some case.
    Mark {
        Succeeded = "a run succeeded",
        AgentFailed = "an agent failed by itself",
        Cancelled = "a run was cancelled",
        TimedOut = "a run timed out",
        Truncated = "output ended without a result",
        DeletedByOthers = "a Job was deleted by somebody else",
        ScheduleFailed = "a pod was given up before it started",
        Refused = "a run was refused because another one went on",
        Waited = "a run waited for another one",
        Retried = "a run began a second attempt",
        Adopted = "a Job was adopted",
        PluginBroke = "the plugin broke",
        Killed = "an agent was killed and told so",
        CallRetried = "a call was made again",
        Relisted = "a watch began with a new list",
        LogReadAgain = "a log was read again from its last second",
        Restarted = "a container was started anew",
        Gap = "output was lost, and it was told",
        Masked = "a secret was masked in output",
        StderrShown = "the tail of stderr was shown",
        LongLine = "a line of several chunks was shown",
        Detached = "a host let go of a run",
        TakenUp = "another host took a run up",
        LetGoForTheDisk = "a host let go of a run because of its disk",
        GuardLost = "a guard was lost",
        Crashed = "a host crashed",
        TailCut = "a journal's torn tail was cut off",
        Resumed = "a run was resumed from its journal",
        LogHeld = "a log waited for the sink",
    }
}

/// The marks that were hit.
#[derive(Debug, Clone, Default)]
pub struct Marks(BTreeSet<Mark>);

impl Marks {
    pub(crate) fn hit(&mut self, mark: Mark) {
        self.0.insert(mark);
    }

    pub fn has(&self, mark: Mark) -> bool {
        self.0.contains(&mark)
    }

    pub fn add(&mut self, other: &Marks) {
        self.0.extend(&other.0);
    }

    /// Those that were not hit.
    pub fn missing(&self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| !self.0.contains(mark)).collect()
    }
}
