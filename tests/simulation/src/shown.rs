//! What campaigns of hosts show: a case, and which mutants were caught.

/// A violated invariant and what violates it.
type Violation = (&'static str, String);

/// Shows what happened in a case of a simulation, which `option` chooses, and returns whether no invariant was violated.
pub(crate) fn case(option: &str, seed: u64, lines: &[String], violation: Option<Violation>) -> bool {
    for line in lines {
        anstream::println!("{line}");
    }
    let Some((rule, text)) = violation else {
        anstream::println!("no invariant was violated");
        return true;
    };
    anstream::println!("VIOLATION {rule}: {text}   rerun: cargo xtask sim {option} --seed {seed:#x}");
    false
}

/// Shows by which case each mutant was caught, as they are found, and returns whether all were.
pub(crate) fn mutants<'a>(
    seeds: u64,
    caught: impl Iterator<Item = (&'a str, Option<(u64, Violation)>)>,
) -> bool {
    let mut is_all_caught = true;
    for (name, caught) in caught {
        is_all_caught &= caught.is_some();
        let text = match caught {
            None => format!("NOT CAUGHT in {seeds} cases"),
            Some((seed, (rule, text))) => format!("caught by case {seed:>4}: {rule}: {text:.90}"),
        };
        anstream::println!("{name:<28} {text}");
    }
    is_all_caught
}
