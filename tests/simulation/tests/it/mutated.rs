//! Random changes of recorded bytes, for a time: a search without a nightly compiler. `fuzz/` searches by coverage, but has to be built.
//!
//! ```text
//! FUZZ_TIME_S=300 FUZZ_KINDS=contexts,http_bodies cargo test -p paperclip-simulation --test it mutated -- --ignored --nocapture
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use paperclip_simulation::case;
use paperclip_simulation::entropy::CASE_BYTES;

use crate::PLUGIN;
use crate::fixed::SEEDS;
use crate::outside::KINDS;

/// Recorded files that are larger are not changed: a change of a few bytes among many finds little.
const FILE_MAX_BYTES: u64 = 32 << 10;
/// How long an input becomes.
const INPUT_MAX_BYTES: usize = 64 << 10;
/// Pieces that readers of text take for something.
const TOKENS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u0000",
    "\\ud800",
    "\n",
    "\r\n",
    "\0",
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "2027-01-15T08:00:00.000000001Z ",
    "{\"type\":\"result\"}",
    "\u{e9}",
    "\u{feff}",
    "[redacted:A]",
    "{\"a\":{\"a\":{\"a\":{\"a\":",
];

/// A reproducible sequence (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below a limit, or 0.
    fn below(&mut self, limit: usize) -> usize {
        self.next() as usize % limit.max(1)
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Returns the bytes with a few changes.
fn mutated(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = random.choose(corpus).clone();
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len() + 1);
        let largest = 1 << random.below(10);
        let end = (at + random.below(largest)).min(bytes.len());
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => bytes.truncate(at),
            5 => {
                let other = random.choose(corpus);
                let from = random.below(other.len() + 1);
                let to = (from + random.below(256)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            _ => drop(bytes.splice(at..at, random.choose(&TOKENS).bytes())),
        }
    }
    bytes.truncate(INPUT_MAX_BYTES);
    bytes
}

/// The fixed corpus, and what was recorded of agents, journals and cases.
fn corpus(kind: &str) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    add_files(&fixtures, &mut files);
    let recorded = files.iter().map(|path| std::fs::read(path).expect("a recorded file"));
    let mut corpus: Vec<Vec<u8>> =
        SEEDS.iter().map(|seed| seed.as_bytes().to_vec()).chain(recorded).collect();
    match kind {
        // As the kubelet has them.
        "log_framing" => {
            corpus.iter_mut().for_each(|bytes| *bytes = stamped(bytes));
        }
        "plugin_files" => {
            let plugin = fixtures.join("contract-0.1/claude_k8s.wasm");
            corpus = vec![std::fs::read(plugin).expect("a component"), b"\0asm\x01\0\0\0".to_vec()];
            let start = corpus[0][..INPUT_MAX_BYTES].to_vec();
            corpus[0] = start;
        }
        _ => {}
    }
    corpus
}

/// Finds the files below a folder in a fixed order.
fn add_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add_files(&path, files);
        } else if path.metadata().is_ok_and(|metadata| metadata.len() <= FILE_MAX_BYTES) {
            files.push(path);
        }
    }
}

fn stamped(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let stamp = |at: usize| format!("2027-01-15T08:00:{:02}.{:09}Z ", at / 4 % 60, at);
    let lines = lines.map(|(at, line)| [stamp(at).as_bytes(), line, b"\n"].concat());
    std::iter::once(vec![0x80]).chain(lines).flatten().collect()
}

/// A case of the simulation: random bytes.
fn simulate(bytes: &[u8]) {
    assert_eq!(case::run_bytes(bytes, &PLUGIN).violation, None);
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    (0..random.below(CASE_BYTES as usize)).map(|_| random.next() as u8).collect()
}

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

#[test]
#[ignore = "as long as FUZZ_TIME_S says, for each kind"]
fn nothing_panics_on_mutated_bytes() {
    let number = |name: &str, default: u64| {
        setting(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let time = Duration::from_secs(number("FUZZ_TIME_S", 10));
    let seed = number("FUZZ_SEED", 0);
    let chosen = setting("FUZZ_KINDS");
    let is_chosen =
        |kind: &str| chosen.as_ref().is_none_or(|kinds| kinds.split(',').any(|name| name == kind));
    let simulation: crate::outside::Kind = ("simulation", simulate);
    for (kind, take) in KINDS.iter().chain([&simulation]).filter(|(kind, _)| is_chosen(kind)) {
        let (corpus, mut random) = (corpus(kind), Random(seed));
        let (start, mut executions) = (Instant::now(), 0_u64);
        while start.elapsed() < time {
            let bytes =
                if *kind == "simulation" { random_bytes(&mut random) } else { mutated(&corpus, &mut random) };
            let outcome = catch_unwind(AssertUnwindSafe(|| take(&bytes)));
            assert!(
                outcome.is_ok(),
                "{kind}, execution {executions} of seed {seed}: b\"{}\"",
                bytes.escape_ascii()
            );
            executions += 1;
        }
        println!("{kind}: {executions} executions in {} s", start.elapsed().as_secs());
    }
}
