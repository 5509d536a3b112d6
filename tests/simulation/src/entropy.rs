//! Choices, drawn from finitely many bytes.
//!
//! A case is a seed and a number of bytes: the seed's pseudo-random sequence, cut off there. After the last byte every choice is 0, and 0
//! is always the harmless choice: no fault, the shortest delay, the first of several. So a run ends quietly however its bytes end, and the
//! fewest bytes that still fail are the simplest case of that seed. A fuzzer's bytes take the place of the sequence.

use std::collections::VecDeque;
use std::hash::Hasher as _;

use twox_hash::XxHash3_64;

/// Bytes of a case, unless the command line says otherwise.
pub const CASE_BYTES: u32 = 1_024;

/// Where choices come from.
#[derive(Debug, Clone)]
pub struct Entropy {
    source: Source,
    used: u32,
}

#[derive(Debug, Clone)]
enum Source {
    Seed { state: u64, left: u32, word: u64, in_word: u32 },
    Bytes(VecDeque<u8>),
}

impl Entropy {
    /// The first `bytes` bytes of a seed's sequence.
    pub fn of_seed(seed: u64, bytes: u32) -> Self {
        Entropy { source: Source::Seed { state: seed, left: bytes, word: 0, in_word: 0 }, used: 0 }
    }

    /// Bytes from outside.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Entropy { source: Source::Bytes(bytes.iter().copied().collect()), used: 0 }
    }

    /// Returns as many bytes of another sequence, which depends on this one and a name. This one is not used.
    pub fn branch(&self, name: &str) -> Self {
        let mut hasher = XxHash3_64::new();
        hasher.write(name.as_bytes());
        let left = match &self.source {
            Source::Seed { state, left, .. } => {
                hasher.write_u64(*state);
                *left
            }
            Source::Bytes(bytes) => {
                bytes.iter().for_each(|byte| hasher.write_u8(*byte));
                u32::try_from(bytes.len()).unwrap_or(u32::MAX)
            }
        };
        Entropy::of_seed(hasher.finish(), left)
    }

    /// Whether every further choice is 0.
    pub fn is_exhausted(&self) -> bool {
        match &self.source {
            Source::Seed { left, .. } => *left == 0,
            Source::Bytes(bytes) => bytes.is_empty(),
        }
    }

    /// How many bytes were drawn.
    pub fn used(&self) -> u32 {
        self.used
    }

    pub fn byte(&mut self) -> u8 {
        let byte = match &mut self.source {
            Source::Bytes(bytes) => bytes.pop_front(),
            Source::Seed { left: 0, .. } => None,
            Source::Seed { state, left, word, in_word } => {
                if *in_word == 0 {
                    *word = splitmix(state);
                    *in_word = 8;
                }
                let byte = *word as u8;
                *word >>= 8;
                *in_word -= 1;
                *left -= 1;
                Some(byte)
            }
        };
        self.used += u32::from(byte.is_some());
        byte.unwrap_or(0)
    }

    /// A number below `limit`, which is at least 1 and at most 65,536. Takes one byte, or two for a limit over 256.
    pub fn below(&mut self, limit: u64) -> u64 {
        debug_assert!((1..=1 << 16).contains(&limit), "{limit}");
        match limit {
            0 | 1 => 0,
            2..=256 => (u64::from(self.byte()) * limit) >> 8,
            _ => (((u64::from(self.byte()) << 8) | u64::from(self.byte())) * limit) >> 16,
        }
    }

    /// From `low` to `high`, most often near `low`; takes one byte.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let byte = u64::from(self.byte());
        low + (high - low) * byte * byte * byte / (255 * 255 * 255)
    }

    /// True with this chance of 256.
    pub fn chance(&mut self, of_256: u16) -> bool {
        of_256 > 0 && u16::from(self.byte()) >= 256 - of_256
    }

    pub fn choose<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The next word of a seed's sequence.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_after_the_last_byte_is_harmless() {
        let mut entropy = Entropy::of_seed(7, 3);
        let drawn: Vec<u8> = (0..3).map(|_| entropy.byte()).collect();
        assert_ne!(drawn, [0, 0, 0]);
        assert!(entropy.is_exhausted());
        assert_eq!((entropy.below(9), entropy.below(999), entropy.skewed(5, 99)), (0, 0, 5));
        assert!(!entropy.chance(255));
        assert_eq!(entropy.used(), 3);
    }

    #[test]
    fn fewer_bytes_are_a_prefix() {
        let (mut long, mut short) = (Entropy::of_seed(9, 64), Entropy::of_seed(9, 20));
        assert!((0..20).all(|_| long.byte() == short.byte()));
    }

    #[test]
    fn choices_stay_within_their_limits_and_reach_them() {
        let mut entropy = Entropy::of_seed(1, u32::MAX);
        let drawn: Vec<u64> = (0..4_000).map(|_| entropy.below(300)).collect();
        assert!(drawn.iter().all(|n| *n < 300) && drawn.contains(&0) && drawn.contains(&299));
        assert!((0..2_000).map(|_| entropy.skewed(10, 20)).all(|n| (10..=20).contains(&n)));
    }
}
