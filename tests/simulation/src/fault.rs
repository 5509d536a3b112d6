//! The faults of the world: which a case has, how often they strike, and when they did.

use std::collections::{BTreeMap, BTreeSet};

use crate::entropy::Entropy;

macro_rules! named {
    (
        $(#[$doc:meta])*
        $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $text:literal ),+ $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$variant_doc])* $variant ),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[ $( $name::$variant ),+ ];

            /// Returns the name that is shown and given on the command line.
            pub fn name(self) -> &'static str {
                match self { $( $name::$variant => $text ),+ }
            }
        }
    };
}

pub(crate) use named;

named! {
    /// A kind of fault.
    Fault {
        /// The server does what is asked, and the answer is lost.
        ApiTimedOut = "api-timed-out",
        /// The request never arrives.
        ApiDropped = "api-dropped",
        /// 409, although nothing conflicts.
        ApiConflict = "api-conflict",
        /// 429, sometimes with Retry-After.
        ApiTooMany = "api-too-many",
        /// 500, 502, 503 or 504, and nothing done.
        ApiServerError = "api-server-error",
        /// 403 in the middle of a run: somebody changed the permissions.
        ApiForbidden = "api-forbidden",
        /// An answer after at most half a minute.
        ApiSlow = "api-slow",

        /// A watch is cut and continues from its cursor.
        WatchBroken = "watch-broken",
        /// 410 in the stream: a new list.
        WatchExpired = "watch-expired",
        /// HTTP 410 at the start of a watch: a new list, later.
        WatchRefused = "watch-refused",
        /// A state is delivered twice.
        WatchDoubled = "watch-doubled",
        /// Intermediate states are not delivered.
        WatchSkipped = "watch-skipped",
        /// A new list comes from a server that lags behind.
        WatchStale = "watch-stale",
        /// The watch is open and silent: the other kind's changes overtake.
        WatchLate = "watch-late",

        /// No node takes the pod, for a while.
        PodUnschedulable = "pod-unschedulable",
        /// A quota refuses the pod, for a while.
        PodQuota = "pod-quota",
        /// A scheduling gate holds the pod, for a while.
        PodGated = "pod-gated",
        /// The image does not come, for a while.
        ImageFails = "image-fails",
        /// The container cannot be created, for a while.
        CreateFails = "create-fails",
        PodEvicted = "pod-evicted",
        PodPreempted = "pod-preempted",
        OutOfMemory = "out-of-memory",
        NodeLost = "node-lost",
        /// The Job is deleted, and one of the same name is created by somebody.
        JobReplaced = "job-replaced",
        JobDeleted = "job-deleted",
        PodDeleted = "pod-deleted",
        /// The agent's container is restarted in its pod, by somebody's restart policy.
        ContainerRestarted = "container-restarted",
        /// Somebody suspends a Job that runs.
        JobSuspended = "job-suspended",
        /// A finalizer holds what is deleted, for a while.
        FinalizerStuck = "finalizer-stuck",
        /// Another container of the pod, which never ends.
        SidecarInjected = "sidecar-injected",
        /// The Job's condition comes minutes late.
        ConditionLate = "condition-late",

        /// A clean end, though the container runs.
        LogEndsEarly = "log-ends-early",
        /// The connection breaks, mostly within a line.
        LogBroken = "log-broken",
        LogRefused = "log-refused",
        /// Bytes come in pieces, cut within lines and characters.
        LogSplit = "log-split",
        /// The file is rotated: what is older is not served any more.
        LogRotated = "log-rotated",
        /// A counted log is rotated past a reader that follows.
        LogSkipped = "log-skipped",
        /// A control line is lost, and another one is torn.
        ControlLost = "control-lost",
        ControlTorn = "control-torn",
        /// The kubelet's error as the body of a 200.
        LogKubeletText = "log-kubelet-text",
        /// Half open: neither bytes nor the end arrive.
        LogSilent = "log-silent",

        PaperclipSlow = "paperclip-slow",
        PaperclipServerError = "paperclip-server-error",
        PaperclipMalformed = "paperclip-malformed",
        PaperclipOddStatus = "paperclip-odd-status",

        TimerLate = "timer-late",
        TimerEarly = "timer-early",

        HostCrashAppend = "host-crash-append",
        HostCrashSync = "host-crash-sync",
        HostCrashEffect = "host-crash-effect",
        HostCrashAnswer = "host-crash-answer",
        /// Between any two inputs.
        HostCrash = "host-crash",
        HostStopped = "host-stopped",
        /// Another daemon is started on the state of one that runs, or has just ended.
        SecondHost = "second-host",
        /// A host cannot renew its Lease for a while.
        HostCutOff = "host-cut-off",
        SyncFails = "sync-fails",
        DiskFull = "disk-full",
        DiskSlow = "disk-slow",
        /// The sink takes nothing for a while.
        SinkSlow = "sink-slow",
        /// A crash leaves a piece of the line that was being written.
        JournalTorn = "journal-torn",
        /// The clock of the next host is minutes off, either way.
        ClockOff = "clock-off",
        /// The host's wall clock is set forward under it.
        ClockJumps = "clock-jumps",

        GuestTraps = "guest-traps",
        GuestOutOfFuel = "guest-out-of-fuel",
        GuestOutOfMemory = "guest-out-of-memory",
        GuestAbsurd = "guest-absurd",
    }
}

named! {
    /// The phase of a run, seen from the world.
    Phase {
        /// It has no Job yet.
        Start = "start",
        /// Its Job is suspended.
        Create = "create",
        /// Its Job may run, the agent has not started.
        Wait = "wait",
        /// The agent runs.
        Run = "run",
        /// The agent has ended or its pod was removed; there is no result.
        Settle = "settle",
        /// The result is out.
        Cleanup = "cleanup",
    }
}

/// Chances, in 256ths at each opportunity, of those faults that this case has at all.
#[derive(Debug, Clone, Default)]
pub struct Swarm {
    chances: BTreeMap<Fault, u16>,
    /// Faults struck so far, with the phase in which they did.
    struck: BTreeSet<(Fault, Phase)>,
    count: u32,
    is_healed: bool,
}

/// After this many faults a case heals: what counts is how a run recovers, not whether it survives faults without end.
const MAX_FAULTS: u32 = 60;

/// Faults that were added after seeds had been recorded: they are drawn apart, so that those seeds keep their meaning.
const LATER_FAULTS: &[Fault] = &[
    Fault::SinkSlow,
    Fault::HostCutOff,
    Fault::SecondHost,
    Fault::LogSkipped,
    Fault::ControlLost,
    Fault::ControlTorn,
];

impl Swarm {
    /// Chooses the faults of a case: none, one, a few, or many of them.
    pub fn draw(entropy: &mut Entropy) -> Self {
        let of_256 = *entropy.choose(&[0, 8, 24, 64, 128]);
        let mut chances = BTreeMap::new();
        for fault in Fault::ALL {
            let mut later = LATER_FAULTS.contains(fault).then(|| entropy.branch(fault.name()));
            let entropy = later.as_mut().unwrap_or(entropy);
            if entropy.chance(of_256) {
                chances.insert(*fault, *entropy.choose(&[4, 12, 40, 100]));
            }
        }
        Swarm { chances, ..Swarm::default() }
    }

    /// These faults, each at every opportunity with this chance.
    pub fn of(faults: &[Fault], of_256: u16) -> Self {
        let chances = faults.iter().map(|fault| (*fault, of_256)).collect();
        Swarm { chances, ..Swarm::default() }
    }

    /// These faults, each with its chance at each opportunity.
    pub(crate) fn with(faults: &[(Fault, u16)]) -> Self {
        Swarm { chances: faults.iter().copied().collect(), ..Swarm::default() }
    }

    /// Whether a fault strikes now.
    pub(crate) fn strikes(&mut self, fault: Fault, phase: Phase, entropy: &mut Entropy) -> bool {
        if self.is_healed {
            return false;
        }
        let Some(of_256) = self.chances.get(&fault) else { return false };
        if !entropy.chance(*of_256) {
            return false;
        }
        self.struck.insert((fault, phase));
        self.count += 1;
        self.is_healed = self.count >= MAX_FAULTS;
        true
    }

    /// From now on no fault strikes.
    pub(crate) fn heal(&mut self) {
        self.is_healed = true;
    }

    pub fn is_healed(&self) -> bool {
        self.is_healed
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.chances.contains_key(&fault)
    }

    pub fn has_struck(&self, fault: Fault) -> bool {
        self.struck.iter().any(|(struck, _)| *struck == fault)
    }

    pub fn has_struck_any(&self, faults: &[Fault]) -> bool {
        faults.iter().any(|fault| self.has_struck(*fault))
    }

    /// Whether the plugin was broken on purpose.
    pub fn has_broken_plugin(&self) -> bool {
        self.has_struck_any(&[
            Fault::GuestTraps,
            Fault::GuestOutOfFuel,
            Fault::GuestOutOfMemory,
            Fault::GuestAbsurd,
        ])
    }

    pub fn struck(&self) -> &BTreeSet<(Fault, Phase)> {
        &self.struck
    }
}
