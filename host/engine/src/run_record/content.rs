//! What a record contains: recovery data before the end, the result after it, each within a limit.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::Timestamp;

/// Most bytes of recovery data, as gzip. Kubernetes accepts ConfigMaps of 1 MiB.
pub const RECOVERY_MAX_BYTES: usize = 700 << 10;
/// Most bytes of a result, as JSON.
pub const RESULT_MAX_BYTES: usize = 256 << 10;
/// Most bytes that recovery data may have once it is unpacked: whatever wrote the record, it must not use up the host's memory.
const UNPACKED_MAX_BYTES: u64 = 64 << 20;

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub at: Timestamp,
    /// How it ended, as the daemon's API names it.
    pub state: String,
    pub result: Map<String, Value>,
    /// Members of the result that were too long.
    pub omitted: Vec<String>,
}

impl Ended {
    pub(super) fn new(at: Timestamp, state: &str, result: Map<String, Value>) -> Ended {
        let (result, omitted) = shorten(result);
        Ended { at, state: state.to_owned(), result, omitted }
    }
}

/// Removes the longest members of a result until it is short enough. Returns their names, too.
fn shorten(mut result: Map<String, Value>) -> (Map<String, Value>, Vec<String>) {
    let length = |value: &Value| serde_json::to_vec(value).map_or(0, |text| text.len());
    let mut members: Vec<(usize, String)> =
        result.iter().map(|(name, value)| (name.len() + length(value) + 4, name.clone())).collect();
    let mut total: usize = 2 + members.iter().map(|(length, _)| length).sum::<usize>();
    members.sort();
    let mut omitted = Vec::new();
    while total > RESULT_MAX_BYTES
        && let Some((length, name)) = members.pop()
    {
        result.remove(&name);
        total -= length;
        omitted.push(name);
    }
    (result, omitted)
}

/// Compresses recovery data; none if it is too long even so.
pub fn pack(text: &str) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Memory does not fail to be written.
    let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).ok()?;
    (packed.len() <= RECOVERY_MAX_BYTES).then_some(packed)
}

/// Returns the text that was compressed; none if it is no text, or too long.
pub fn unpack(packed: &[u8]) -> Option<String> {
    let mut text = String::new();
    let read = GzDecoder::new(packed).take(UNPACKED_MAX_BYTES).read_to_string(&mut text).ok()?;
    ((read as u64) < UNPACKED_MAX_BYTES).then_some(text)
}
