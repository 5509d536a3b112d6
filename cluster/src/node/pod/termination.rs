//! A container's last words: its `terminationMessagePath`, or the end of its log.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use k8s_openapi::api::core::v1::Container;

use crate::node::logs::{Instance, Logs};

/// Of a longer file the end is taken, as the kubelet does.
const MESSAGE_BYTES: u64 = 4096;
/// How much of the log is used in place of a message.
const LOG_LINES: i64 = 80;
const LOG_BYTES: usize = 2048;

/// The message of an instance that has ended, if it left one.
pub(super) async fn message(
    container: &Container,
    file: &Path,
    exit_code: i32,
    logs: &Logs,
    instance: &Instance,
) -> Option<String> {
    let written = read_end(file).unwrap_or_default();
    let falls_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    let bytes = if written.is_empty() && exit_code != 0 && falls_back {
        logs.tail(instance, LOG_LINES, LOG_BYTES).await
    } else {
        written
    };
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn read_end(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MESSAGE_BYTES)))?;
    let mut end = Vec::new();
    file.take(MESSAGE_BYTES).read_to_end(&mut end)?;
    Ok(end)
}
