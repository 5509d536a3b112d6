//! Waiting times between tries: exponential, with full jitter drawn from a seed so that a run replays.

/// Draws the next pseudo-random number of a sequence (splitmix64).
pub fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The wait before try number `attempt` (1 is the first repetition), in ms: between half and all of `base_ms * 2^(attempt-1)`, at most
/// `cap_ms`, and never less than what the server asked for.
pub fn delay_ms(seed: &mut u64, attempt: u32, base_ms: u64, cap_ms: u64, asked_ms: Option<u64>) -> u64 {
    let full = base_ms.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(cap_ms).max(1);
    let jittered = full / 2 + draw(seed) % (full / 2 + 1);
    jittered.max(asked_ms.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_honours_retry_after() {
        let mut seed = 7;
        for (attempt, low, high) in [(1, 50, 100), (2, 100, 200), (9, 800, 1600), (60, 800, 1600)] {
            let delay = delay_ms(&mut seed, attempt, 100, 1600, None);
            assert!((low..=high).contains(&delay), "attempt {attempt}: {delay}");
        }
        assert_eq!(delay_ms(&mut seed, 1, 100, 1600, Some(30_000)), 30_000);
    }
}
