//! Long lines as kubelets before 1.26 send them: with the stamp of each stored chunk within the text (rule 4, kubernetes#77603).

use std::borrow::Cow;

use super::frame::line_hash;
use super::position::Chunks;
use super::stamp::{self, Stamp};

/// The size of the chunks into which container runtimes split a line, in bytes.
pub(super) const CHUNK_BYTES: usize = 16 << 10;
/// For how many later seconds the rest of a line is remembered (rule 5). A line that takes longer to print causes a gap at worst.
const MAX_CONTINUATIONS: usize = 4;

/// The text of a line without the stamps of its chunks.
pub(super) struct Rejoined<'a> {
    pub text: Cow<'a, [u8]>,
    /// For each later second in which a chunk was stamped: the hash of the text from the first such chunk on.
    pub continuations: Vec<(i64, u64)>,
    /// What the line reveals about its kubelet.
    pub chunks: Chunks,
}

/// Removes the stamps of chunks from `text`, if this kubelet adds them.
///
/// The first long line of a log decides, so that an agent that happens to print a stamp after 16 KiB loses it only where the kubelet
/// stamps chunks.
pub(super) fn rejoin(stamp: Stamp, text: &[u8], known: Chunks) -> Rejoined<'_> {
    let as_it_is = |chunks| Rejoined { text: Cow::Borrowed(text), continuations: Vec::new(), chunks };
    if text.len() <= CHUNK_BYTES || known == Chunks::Plain {
        return as_it_is(known);
    }
    let mut joined = text[..CHUNK_BYTES].to_vec();
    let mut rest = &text[CHUNK_BYTES..];
    let mut starts: Vec<(Stamp, usize)> = Vec::new();
    while let Some((chunk_stamp, at)) = stamp::split(rest).filter(|(chunk_stamp, _)| *chunk_stamp >= stamp) {
        let seconds = starts.last().map_or(stamp.s, |(last, _)| last.s);
        if chunk_stamp.s > seconds && starts.len() < MAX_CONTINUATIONS {
            starts.push((chunk_stamp, joined.len()));
        }
        let chunk = &rest[at..];
        let (chunk, after) = chunk.split_at(chunk.len().min(CHUNK_BYTES));
        joined.extend_from_slice(chunk);
        rest = after;
    }
    if rest.len() == text.len() - CHUNK_BYTES {
        return as_it_is(if known == Chunks::Unknown { Chunks::Plain } else { known });
    }
    joined.extend_from_slice(rest);
    let continuations = starts.iter().map(|(at, from)| (at.s, line_hash(*at, &joined[*from..]))).collect();
    Rejoined { text: Cow::Owned(joined), continuations, chunks: Chunks::Stamped }
}
