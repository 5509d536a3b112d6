//! Finding phrases in what a program prints.
//!
//! A [`Phrase`] is a list of parts that follow each other on one line, each at most 80 bytes after the one before. A part is
//! one or more whole words; after `*` at its end the last word may continue. Case, punctuation and the kind of space do not
//! count: `5-hour`, `rate_limit_error` and ``starts with `msg_` `` are `5 hour`, `rate limit error` and `starts with msg`.

pub type Phrase = &'static [&'static str];

/// How far two parts of a phrase may be from each other, in bytes.
const GAP_BYTES: usize = 80;
/// How much of a line is read, in bytes: an error is at its start.
const READ_BYTES: usize = 4096;

/// A line as its words in lower case, separated and surrounded by single spaces.
#[derive(Debug)]
pub struct Words(String);

impl Words {
    pub fn of(line: &str) -> Words {
        let line = &line[..line.floor_char_boundary(READ_BYTES)];
        let mut words = String::with_capacity(line.len() + 2);
        words.push(' ');
        for c in line.chars() {
            if c.is_ascii_alphanumeric() || !c.is_ascii() && c.is_alphanumeric() {
                words.push(c.to_ascii_lowercase());
            } else if !words.ends_with(' ') {
                words.push(' ');
            }
        }
        if !words.ends_with(' ') {
            words.push(' ');
        }
        Words(words)
    }

    /// Whether these are the words of `text`, which is written as words.
    #[cfg(test)]
    pub fn is(&self, text: &str) -> bool {
        self.0 == format!(" {text} ")
    }

    pub fn mention(&self, phrases: &[&[&str]]) -> bool {
        // Most words start no phrase, which the first byte shows.
        let starts_like = |at: usize, phrase: &[&str]| {
            phrase.first().is_some_and(|part| part.as_bytes().first() == self.0.as_bytes().get(at))
        };
        let mut starts = self.starts(0);
        starts
            .any(|at| phrases.iter().any(|phrase| starts_like(at, phrase) && self.has_phrase_at(at, phrase)))
    }

    fn has_phrase_at(&self, at: usize, phrase: &[&str]) -> bool {
        let Some((first, others)) = phrase.split_first() else { return false };
        let Some(end) = self.end_of_part_at(at, first) else { return false };
        let found = others.iter().try_fold(end, |end, part| {
            self.starts(end)
                .take_while(|at| *at <= end + GAP_BYTES)
                .find_map(|at| self.end_of_part_at(at, part))
        });
        found.is_some()
    }

    /// Where `part` ends, if it starts at `at`.
    fn end_of_part_at(&self, at: usize, part: &str) -> Option<usize> {
        let (stem, may_continue) = part.strip_suffix('*').map_or((part, false), |stem| (stem, true));
        let rest = self.0[at..].strip_prefix(stem)?;
        (may_continue || rest.starts_with(' ')).then_some(at + stem.len())
    }

    /// Where words start, from `from` on.
    fn starts(&self, from: usize) -> impl Iterator<Item = usize> {
        self.0[from..].match_indices(' ').map(move |(at, _)| from + at + 1)
    }
}

/// Whether any line of `text` mentions one of `phrases`.
pub fn mentions(text: &str, phrases: &[&[&str]]) -> bool {
    text.lines().any(|line| Words::of(line).mention(phrases))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_whole() {
        let limit: &[Phrase] = &[&["rate limit"]];
        assert!(!mentions("the separate limits of prorate limit", limit));
        assert!(mentions("prorate limit rate limit", limit));
        assert!(mentions("rate_limit", limit) && mentions("Rate-Limit!", limit));
        assert!(!mentions("rate limits", limit) && mentions("rate limits", &[&["rate limit*"]]));
    }

    #[test]
    fn parts_are_near_each_other_on_one_line() {
        let unknown: &[Phrase] = &[&["session", "not found"]];
        assert!(mentions("Session 3a530d09-46ed-45f0-8d0c-e8e319c29229 not found", unknown));
        assert!(!mentions("session\nnot found", unknown));
        let far = format!("session {} not found", "x ".repeat(100));
        assert!(!mentions(&far, unknown));
        let again = format!("session {} session 1 not found", "x ".repeat(100));
        assert!(mentions(&again, unknown));
    }

    #[test]
    fn reads_only_the_start_of_a_line() {
        let line = format!("{} overloaded", "é".repeat(READ_BYTES));
        assert!(!mentions(&line, &[&["overloaded"]]));
    }
}
