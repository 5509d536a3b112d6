//! The end of an output, which a judgement quotes, in bounded space.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize, Serializer};

use super::bounds::tail;

/// The last whole lines of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LineTail {
    end: TextEnd<{ LineTail::BYTES }>,
}

impl LineTail {
    /// What is kept, in bytes.
    pub const BYTES: usize = 8 * 1024;

    /// Adds a line, given without its line feed.
    pub fn push(&mut self, line: &str) {
        let start = line.ceil_char_boundary(line.len().saturating_sub(Self::BYTES));
        self.end.push(&line[start..]);
        self.end.push("\n");
    }

    /// Returns the last [`LineTail::BYTES`] bytes from the start of a line; of a longer last line its end.
    pub fn kept(&self) -> String {
        let text = self.end.text();
        let start = text.len().saturating_sub(Self::BYTES);
        if start == 0 || text.as_bytes()[start - 1] == b'\n' {
            return text[start..].to_owned();
        }
        let tail = &text[text.ceil_char_boundary(start)..];
        match tail.split_once('\n') {
            Some((_, lines)) if !lines.is_empty() => lines.to_owned(),
            Some(_) | None => tail.to_owned(),
        }
    }

    pub fn clear(&mut self) {
        *self = LineTail::default();
    }
}

/// Blocks of text, separated by blank lines, of which the last ones are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TextBlocks {
    end: TextEnd<{ TextBlocks::BYTES }>,
}

impl TextBlocks {
    /// What is kept, in bytes, separators included.
    pub const BYTES: usize = 32 * 1024;
    const SEPARATOR: &str = "\n\n";

    pub fn push(&mut self, block: &str) {
        if !self.end.chunks.is_empty() {
            self.end.push(Self::SEPARATOR);
        }
        self.end.push(&tail(block, Self::BYTES));
    }

    /// Returns the last [`TextBlocks::BYTES`] bytes from the start of a block.
    pub fn kept(&self) -> String {
        let text = self.end.text();
        let start = text.ceil_char_boundary(text.len().saturating_sub(Self::BYTES));
        if start == 0 {
            return text;
        }
        let tail = &text[start..];
        tail.split_once(Self::SEPARATOR).map_or(tail, |(_, blocks)| blocks).to_owned()
    }
}

/// The end of a text that grows: its last `BYTES` bytes and the character before them, which shows whether they start a line.
///
/// In chunks, because thousands of runs keep such texts: one string would be moved at each doubling of its capacity, and leave
/// freed blocks behind in a memory that never shrinks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "String")]
struct TextEnd<const BYTES: usize> {
    /// No chunk is empty. What is before the text's end is dropped a chunk at a time.
    chunks: VecDeque<String>,
}

/// How large a piece of a [`TextEnd`] may grow.
const CHUNK_BYTES: usize = 2048;

impl<const BYTES: usize> TextEnd<BYTES> {
    fn push(&mut self, mut text: &str) {
        while !text.is_empty() {
            let free = self.chunks.back().map_or(0, |last| CHUNK_BYTES - last.len());
            let (fitting, rest) = text.split_at(text.floor_char_boundary(free));
            match self.chunks.back_mut() {
                Some(last) if !fitting.is_empty() => last.push_str(fitting),
                Some(_) | None => self.add_chunk(),
            }
            text = rest;
        }
    }

    fn add_chunk(&mut self) {
        let mut bytes: usize = self.chunks.iter().map(String::len).sum();
        while let Some(first) = self.chunks.pop_front_if(|first| bytes - first.len() > BYTES) {
            bytes -= first.len();
        }
        self.chunks.push_back(String::with_capacity(CHUNK_BYTES));
    }

    fn text(&self) -> String {
        let mut text: String = self.chunks.iter().map(String::as_str).collect();
        let start = text.floor_char_boundary(text.len().saturating_sub(BYTES + 1));
        text.drain(..start);
        text
    }
}

impl<const BYTES: usize> PartialEq for TextEnd<BYTES> {
    /// Chunk boundaries do not count.
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl<const BYTES: usize> Eq for TextEnd<BYTES> {}

impl<const BYTES: usize> Serialize for TextEnd<BYTES> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.text().serialize(to)
    }
}

impl<const BYTES: usize> From<String> for TextEnd<BYTES> {
    fn from(text: String) -> Self {
        let mut end = TextEnd::default();
        end.push(&text);
        end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_tail_of_an_output_starts_with_a_whole_line() {
        let mut tail = LineTail::default();
        for index in 0..5000 {
            tail.push(&format!("line {index}"));
        }
        assert!(tail.kept().len() <= LineTail::BYTES);
        assert!(tail.kept().starts_with("line "));
        assert!(tail.kept().ends_with("line 4999\n"));
        tail.clear();
        assert_eq!(tail.kept(), "");
    }

    #[test]
    fn whole_lines_that_fill_the_tail_are_all_kept() {
        let mut tail = LineTail::default();
        (0..2000).for_each(|index| tail.push(&format!("line number {index:03}")[..15]));
        assert_eq!(tail.kept().len(), 8192);
    }

    #[test]
    fn of_a_line_longer_than_the_tail_its_end_is_kept() {
        let mut tail = LineTail::default();
        tail.push("short");
        tail.push(&"é".repeat(LineTail::BYTES));
        assert!(tail.kept().len() <= LineTail::BYTES);
        assert!(tail.kept().ends_with("é\n"));
    }

    #[test]
    fn the_last_blocks_of_text_are_kept() {
        let mut blocks = TextBlocks::default();
        assert_eq!(blocks.kept(), "");
        blocks.push("one");
        blocks.push("two");
        assert_eq!(blocks.kept(), "one\n\ntwo");
        for index in 0..10_000 {
            blocks.push(&format!("block {index}"));
        }
        assert!((32_700..=32_768).contains(&blocks.kept().len()));
        assert!(blocks.kept().starts_with("block "));
        assert!(blocks.kept().ends_with("block 9999"));
    }

    proptest! {
        /// The text as one string.
        #[test]
        fn the_end_of_a_text_is_kept_in_bounded_space(
            pieces in proptest::collection::vec("[a-zé☕😀]{0,3}", 0..40),
            times in 1_usize..700,
            restored_at in 0_usize..40,
        ) {
            let (mut end, mut text) = (TextEnd::<4096>::default(), String::new());
            for (index, piece) in pieces.iter().map(|piece| piece.repeat(times)).enumerate() {
                if index == restored_at {
                    end = serde_json::from_value(serde_json::to_value(&end).unwrap()).unwrap();
                }
                end.push(&piece);
                text.push_str(&piece);
                let start = text.floor_char_boundary(text.len().saturating_sub(4096 + 1));
                prop_assert_eq!(end.text(), &text[start..]);
                prop_assert_eq!(end == TextEnd::default(), text.is_empty());
                let capacity: usize = end.chunks.iter().map(String::capacity).sum();
                prop_assert!(capacity <= 4096 + 2 * CHUNK_BYTES, "{} bytes", capacity);
            }
        }
    }
}
