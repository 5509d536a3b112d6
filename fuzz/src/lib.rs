//! What reads bytes from outside, as the normal tests have it.

#[path = "../../tests/simulation/tests/it/outside.rs"]
mod outside;

/// Feeds bytes to what reads this kind of them.
pub fn feed(kind: &str, bytes: &[u8]) {
    let (_, read) = outside::KINDS.iter().find(|(name, _)| *name == kind).expect("a kind that there is");
    read(bytes);
}
