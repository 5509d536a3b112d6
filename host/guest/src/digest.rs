//! The digest of a plugin's bytes, which identifies it; its path does not.

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Returns the SHA-256 of `bytes` as 64 lower-case hexadecimal digits.
///
/// ```
/// let digest = paperclip_guest::sha256_hex(b"abc");
/// assert!(digest.starts_with("ba7816bf"));
/// ```
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's example.
    #[test]
    fn the_digest_is_sha256_in_hexadecimal() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
