//! Cases that once violated an invariant are run again, so that what was fixed stays fixed.

use paperclip_simulation::Case;

use crate::PLUGIN;

/// A line a case: its seed, its bytes, and what it showed.
const CORPUS: &str = include_str!("corpus.txt");

#[test]
fn fixed_cases_stay_fixed() {
    let cases: Vec<(Case, &str)> =
        CORPUS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(read).collect();
    assert!(!cases.is_empty());
    for (case, showed) in cases {
        let violation = case.run(&PLUGIN).violation;
        assert_eq!(violation, None, "{}: it showed once: {showed}", case.command(&PLUGIN));
    }
}

fn read(line: &'static str) -> (Case, &'static str) {
    let mut words = line.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("{line:?}: seed, bytes, what it showed"));
    let (seed, bytes, showed) = (word(), word(), word());
    let seed = u64::from_str_radix(seed.trim_start_matches("0x"), 16).expect("a seed in hexadecimal");
    (Case { bytes: bytes.parse().expect("a number of bytes"), ..Case::of_seed(seed) }, showed)
}
