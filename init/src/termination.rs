//! The termination message: the end of the agent's stderr, after a line that shows where it starts. The plugin splits it at that line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

const MARKER: &str = "--- paperclip: end of stderr ---";
/// Kubernetes keeps the last bytes of a termination message, at most so many.
const MESSAGE_MAX_BYTES: u64 = 4096;

/// Appends the end of stderr to the container's termination message, unless it is empty. The run's result does not depend on it, so an
/// error is ignored.
pub(crate) fn write_tail(stderr: &Path, termination_log: &Path) {
    let _ = try_write_tail(stderr, termination_log);
}

fn try_write_tail(stderr: &Path, termination_log: &Path) -> io::Result<()> {
    let mut stderr = File::open(stderr)?;
    let bytes = stderr.metadata()?.len();
    if bytes == 0 {
        return Ok(());
    }
    let tail_bytes = MESSAGE_MAX_BYTES - MARKER.len() as u64 - 1;
    stderr.seek(SeekFrom::Start(bytes.saturating_sub(tail_bytes)))?;
    let mut message = [MARKER.as_bytes(), b"\n"].concat();
    stderr.take(tail_bytes).read_to_end(&mut message)?;
    OpenOptions::new().append(true).create(true).open(termination_log)?.write_all(&message)
}
