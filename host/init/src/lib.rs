//! The init program that is built into a host: process 1 of an agent's container, which counts the agent's output.
//!
//! It gets into a container by a ConfigMap, which a host creates once in each namespace and never deletes: Jobs of every run mount it, those
//! of other hosts too.

use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

/// The program for each machine, by the machine's name as `uname -m` prints it. Empty if none was built before the host.
pub const PROGRAMS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/programs.rs"));

const PREFIX: &str = "paperclip-init-";
/// 160 bits: no two programs have the same name by chance.
const DIGEST_BYTES: usize = 20;

/// Returns the name of the ConfigMap with these programs, which has their digest.
pub fn name_of<'a>(programs: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hasher = Sha256::new();
    for (machine, program) in programs {
        for part in [machine.as_bytes(), program] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    let digest = hasher.finalize();
    let digits: String = digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{digits}")
}

/// Returns the name of the ConfigMap with the built-in programs, if there are any.
pub fn config_map() -> Option<&'static str> {
    static NAME: LazyLock<String> = LazyLock::new(|| name_of(PROGRAMS.iter().copied()));
    (!PROGRAMS.is_empty()).then(|| NAME.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_changes_with_every_byte_and_machine() {
        let names = [
            name_of([("x86_64", &b"ab"[..])]),
            name_of([("x86_64", &b"ac"[..])]),
            name_of([("aarch64", &b"ab"[..])]),
            name_of([("x86_64", &b"a"[..]), ("aarch64", &b"b"[..])]),
        ];
        for (at, one) in names.iter().enumerate() {
            assert!(!names[..at].contains(one), "{at}");
            assert_eq!(one.len(), PREFIX.len() + 2 * DIGEST_BYTES);
        }
    }
}
