//! The time limits of a log reader, and how often it tries.

use std::time::Duration;

/// The first delay before a stream is opened again. It doubles up to [`RETRY_CAP`], and is reset by progress.
pub(crate) const RETRY_BASE: Duration = Duration::from_millis(200);
/// The longest delay before a stream is opened again: an API server becomes available again without notice.
pub(crate) const RETRY_CAP: Duration = Duration::from_millis(1_600);
/// Added after a clean end: usually the container has ended, and the watch reports it within this time.
pub(crate) const CLEAN_END_WAIT: Duration = Duration::from_millis(500);
/// The delay before the log of a waiting container is requested again. The watch reports its state; this is for a lost watch.
pub(crate) const WAITING_RETRY: Duration = Duration::from_secs(30);
/// A stream that stays open this long is established even if nothing is printed.
pub(crate) const ESTABLISHED_AFTER: Duration = Duration::from_secs(2);
/// A stream without bytes for this long may be half open and is opened again (rule 12).
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long the server may take to answer, and between two pieces of a read that does not follow.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A stream without bytes for this long after its container terminated is drained, and the last read may start. An earlier read could
/// return a file that was rotated while the stream was still reading the one before.
pub(crate) const QUIET_PERIOD: Duration = Duration::from_millis(60);
/// The same for a stream whose lines arrive late: a busy node pauses longer, and what it has not sent yet may be in a file that the last
/// read does not return. Such a stream ends by itself a second after its last line.
pub(crate) const LAGGING_QUIET_PERIOD: Duration = Duration::from_secs(5);
/// How long an open stream is read after its Pod was deleted.
pub(crate) const DELETED_DRAIN: Duration = Duration::from_secs(2);
/// How long the open stream of a terminated container is drained where a new read may return nothing. It ends by itself a second after
/// the container.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// A log of this many bytes may have been rotated after its last line. The kubelet rotates at 10 MiB by default.
pub(crate) const ROTATION_BYTES: u64 = 512 << 10;
/// Consecutive last reads that break before the rest is given up: about 25 s.
pub(crate) const MAX_BROKEN_READS: u32 = 20;
/// Consecutive last reads that are refused, or end before they contain everything known, before the rest is given up.
pub(crate) const MAX_SHORT_READS: u32 = 4;
