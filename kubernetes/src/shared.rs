//! ConfigMaps that several Jobs share: the name says what is in them.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

const PREFIX: &str = "paperclip-files-";
/// 160 bits: no two contents have the same name by chance.
const DIGEST_BYTES: usize = 20;

/// Returns the name of the shared ConfigMap with these entries: text, and in base64 what is not.
///
/// ```
/// use std::collections::BTreeMap;
/// use paperclip_kubernetes::shared::name;
///
/// let text = |text| BTreeMap::from([("file-0000", text)]);
/// assert_eq!(name(&text("a"), &BTreeMap::new()).len(), "paperclip-files-".len() + 40);
/// assert_ne!(name(&text("a"), &BTreeMap::new()), name(&text("b"), &BTreeMap::new()));
/// ```
pub fn name<S: AsRef<str>>(text: &BTreeMap<S, S>, binary: &BTreeMap<S, S>) -> String {
    let mut hasher = Sha256::new();
    for (entries, kind) in [(text, b"t"), (binary, b"b")] {
        for (key, value) in entries {
            hasher.update(kind);
            // With their lengths, so that no text can pass for another one.
            for part in [key.as_ref(), value.as_ref()] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
    }
    format!("{PREFIX}{}", digits(&hasher.finalize()))
}

/// Returns the digest of a text in hexadecimal digits.
pub(crate) fn hex(text: &str) -> String {
    digits(&Sha256::digest(text))
}

fn digits(digest: &[u8]) -> String {
    digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// Returns whether this can be the name of a shared ConfigMap. Whoever knows it knows the content, of which it is the digest.
pub fn is_shared(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digest| {
        digest.len() == 2 * DIGEST_BYTES
            && digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_contents_have_different_names() {
        let names = [
            (vec![("a", "1")], vec![("b", "2")]),
            (vec![("a", "1"), ("b", "2")], vec![]),
            (vec![], vec![("a", "1"), ("b", "2")]),
            (vec![("a", "12")], vec![("b", "")]),
            (vec![("a1", "")], vec![("b", "2")]),
            (vec![], vec![]),
        ]
        .map(|(text, binary)| name(&text.into_iter().collect(), &binary.into_iter().collect()));
        for (at, one) in names.iter().enumerate() {
            assert!(!names[..at].contains(one), "{at}");
        }
    }
}
