//! States that a campaign must reach: a check that is never exercised proves nothing.

use std::collections::BTreeSet;

use crate::fault::named;

named! {
    /// A state that some case must reach.
    CoveragePoint {
        Succeeded = "a run succeeded",
        AgentFailed = "an agent failed by itself",
        Cancelled = "a run was cancelled",
        TimedOut = "a run timed out",
        Quiet = "an agent was ended because it printed nothing",
        Suspended = "a Job was suspended while its agent ran",
        StoppedAfterReport = "an agent was stopped that kept running after its report",
        ReportedTwice = "an agent reported its end twice",
        Truncated = "output ended without a result",
        DeletedByOthers = "a Job was deleted by somebody else",
        ScheduleFailed = "a pod was given up before it started",
        Refused = "a run was refused because another run of its agent was active",
        Waited = "a run waited for another run",
        Retried = "a run started a second attempt",
        Adopted = "a Job was adopted",
        PluginBroke = "the plugin broke",
        Killed = "an agent was killed and the run failed",
        CallRetried = "a call was retried",
        Relisted = "a watch started with a new list",
        LogReadAgain = "a log was reopened from its last second",
        Restarted = "a container was restarted",
        Gap = "output was lost and a gap was shown",
        CountedLoss = "a counted log was rotated past its reader",
        CountedToItsEnd = "a result was shown of output that is counted to its end",
        Masked = "a secret was masked in output",
        StderrShown = "the tail of stderr was shown",
        LongLine = "a line of several chunks was shown",
        Detached = "a host detached from a run",
        ResumedByNextHost = "another host resumed a run",
        ReleasedForDisk = "a host released a run because of its disk",
        GuardLost = "a guard was lost",
        InstanceRevoked = "the Lease of a host was revoked while it lived",
        Crashed = "a host crashed",
        TailCut = "a journal's torn tail was cut off",
        FolderLocked = "a second host found a run's folder locked",
        Resumed = "a run was resumed from its journal",
        JoinedSharedFiles = "a run got files that another run has as well",
        LogHeld = "a log waited for the sink",
    }
}

/// The coverage points that were reached.
#[derive(Debug, Clone, Default)]
pub struct CoveragePoints(BTreeSet<CoveragePoint>);

impl CoveragePoints {
    pub(crate) fn hit(&mut self, point: CoveragePoint) {
        self.0.insert(point);
    }

    pub fn has(&self, point: CoveragePoint) -> bool {
        self.0.contains(&point)
    }

    pub fn add(&mut self, other: &CoveragePoints) {
        self.0.extend(&other.0);
    }

    /// Returns those that were not reached.
    pub fn missing(&self) -> Vec<CoveragePoint> {
        CoveragePoint::ALL.iter().copied().filter(|point| !self.0.contains(point)).collect()
    }
}
