//! The readers of untrusted bytes, shared with the tests of the simulation.

#[path = "../../tests/simulation/tests/it/outside.rs"]
mod outside;

/// Passes bytes to the reader of this kind.
///
/// # Panics
/// The kind is unknown, or the reader has a defect.
pub fn feed(kind: &str, bytes: &[u8]) {
    let (_, read) = outside::KINDS.iter().find(|(name, _)| *name == kind).expect("a known kind");
    read(bytes);
}
