//! The cases that the reference adapter was measured with.

use claude_k8s::outcome::classify_document;
use paperclip_parity::outcome::{cases, check_case};
use serde_json::{Map, Value};

const CASES: &str = include_str!("../../../../tests/fixtures/cases/classify.ndjson");
/// 2026-05-01, for results that tell a time of day.
const AT_MS: i64 = 1_777_593_600_000;

#[test]
fn every_case_is_judged_as_wanted() {
    let mut wrong = Vec::new();
    for case in cases(CASES) {
        let json = classify_document(AT_MS, &case.evidence.to_string()).unwrap();
        let actual: Map<String, Value> = serde_json::from_str(&json).unwrap();
        if let Err(differences) = check_case(&case.expected, &case.reference, &actual) {
            wrong.push(format!("{}:\n{differences}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_cases_are_there() {
    assert!(cases(CASES).len() >= 12);
}
