//! Delays between attempts: exponential, with jitter drawn from a seed so that a run replays.

use std::time::Duration;

use crate::time::millis;

/// Draws the next pseudo-random number of a sequence (splitmix64).
pub fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns the delay before retry number `attempt`, counted from 1: between half and all of `base * 2^(attempt-1)`, at most `cap`, and never less
/// than the `retry_after` that the server requested.
pub fn delay(
    seed: &mut u64,
    attempt: u32,
    base: Duration,
    cap: Duration,
    retry_after: Option<Duration>,
) -> Duration {
    let (base_ms, cap_ms) = (millis(base), millis(cap));
    let full_ms = base_ms.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(cap_ms).max(1);
    let jittered_ms = full_ms / 2 + draw(seed) % (full_ms / 2 + 1);
    Duration::from_millis(jittered_ms).max(retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_honours_retry_after() {
        let (base, cap) = (Duration::from_millis(100), Duration::from_millis(1_600));
        let mut seed = 7;
        for (attempt, low_ms, high_ms) in [(1, 50, 100), (2, 100, 200), (9, 800, 1600), (60, 800, 1600)] {
            let delay = delay(&mut seed, attempt, base, cap, None);
            assert!((low_ms..=high_ms).contains(&millis(delay)), "attempt {attempt}: {delay:?}");
        }
        let retry_after = Duration::from_secs(30);
        assert_eq!(delay(&mut seed, 1, base, cap, Some(retry_after)), retry_after);
    }
}
