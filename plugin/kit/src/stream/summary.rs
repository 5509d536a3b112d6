//! The reports of a run: the texts of its result events.

use serde::{Deserialize, Serialize};

/// The texts of all result events, in their order and without repeats. A CLI that waits for a background task prints more than one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Summary {
    texts: Vec<String>,
}

impl Summary {
    /// What is kept, in bytes, separators included.
    const BYTES: usize = 32 * 1024;
    const SEPARATOR: &str = "\n\n";

    /// Adds the text of a result event, which is not longer than what is kept. The last one is kept whole, earlier ones as far as they fit.
    pub fn push(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let at = self.texts.iter().position(|known| known == text);
        let mut at = at.unwrap_or_else(|| {
            self.texts.push(text.to_owned());
            self.texts.len() - 1
        });
        while self.bytes() > Self::BYTES && self.texts.len() > 1 {
            let oldest = usize::from(at == 0);
            self.texts.remove(oldest);
            at -= usize::from(oldest < at);
        }
    }

    fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.len() + Self::SEPARATOR.len()).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub fn text(&self) -> String {
        self.texts.join(Self::SEPARATOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(texts: &[&str]) -> String {
        let mut summary = Summary::default();
        texts.iter().for_each(|text| summary.push(text));
        summary.text()
    }

    #[test]
    fn reports_are_joined_without_repeats() {
        assert_eq!(summary(&["a", "b", "", "a"]), "a\n\nb");
        assert_eq!(summary(&["a", "a"]), "a");
        assert!(Summary::default().is_empty());
    }

    #[test]
    fn the_last_report_is_whole() {
        let (first, second) = ("a".repeat(20_000), "b".repeat(20_000));
        assert_eq!(summary(&[&first, &second]), second);
        assert_eq!(summary(&[&first, "x", &second]), format!("x\n\n{second}"));
        assert_eq!(summary(&[&first, "x", &second, "x"]).len(), 20_003);
        let whole = "c".repeat(Summary::BYTES);
        assert_eq!(summary(&["x", &whole]), whole);
        let half = "d".repeat(Summary::BYTES / 2);
        assert_eq!(summary(&[&half, "x", &half, "y"]), format!("{half}\n\nx\n\ny"));
    }
}
