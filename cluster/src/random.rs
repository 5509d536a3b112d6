//! Random identifiers, from the generator that TLS uses.

use tokio_rustls::rustls::crypto::ring::default_provider;

/// Letters and digits of ASCII.
pub(crate) const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Returns bytes that cannot be guessed.
///
/// # Panics
/// The operating system supplies no randomness.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    default_provider().secure_random.fill(&mut bytes).expect("the operating system supplies randomness");
    bytes
}

/// Returns a text of some letters, each equally likely.
pub(crate) fn text(letters: &[u8], length: usize) -> String {
    // Bytes past the last whole multiple would make the first letters more likely.
    let usable = 256 - 256 % letters.len();
    let stream = std::iter::repeat_with(bytes::<32>).flatten().map(usize::from).filter(|byte| *byte < usable);
    stream.take(length).map(|byte| char::from(letters[byte % letters.len()])).collect()
}

/// Returns a UUID of version 4, as text with hyphens.
pub(crate) fn uuid() -> String {
    let mut value = u128::from_be_bytes(bytes());
    value = value & !(0xf << 76) | 4 << 76;
    value = value & !(0b11 << 62) | 0b10 << 62;
    let hex = format!("{value:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_of_version_4_and_differ() {
        let uuid = uuid();
        let parts: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{uuid}");
        assert_eq!(uuid.as_bytes()[14], b'4', "{uuid}");
        assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        assert_ne!(uuid, super::uuid());
    }

    #[test]
    fn text_consists_of_its_letters() {
        let text = text(b"abc", 1_000);
        assert_eq!(text.len(), 1_000);
        for letter in 'a'..='c' {
            assert!(text.contains(letter));
        }
        assert!(text.chars().all(|letter| ('a'..='c').contains(&letter)));
    }
}
