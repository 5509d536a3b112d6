//! The cases that the reference adapter was measured with, and situations of public bug reports.

use claude_k8s::outcome::classify_document;
use paperclip_parity::outcome::{cases, check_case};
use serde_json::{Map, Value};

const FILES: [&str; 2] = [
    include_str!("../../../../tests/fixtures/cases/classify.ndjson"),
    include_str!("../../../../tests/fixtures/cases/reports.ndjson"),
];
/// 2026-05-01, for results that name a time of day.
const AT_MS: i64 = 1_777_593_600_000;

#[test]
fn judges_every_case_as_expected() {
    let mut wrong = Vec::new();
    for case in FILES.into_iter().flat_map(cases) {
        let json = classify_document(AT_MS, &case.evidence.to_string()).unwrap();
        let actual: Map<String, Value> = serde_json::from_str(&json).unwrap();
        if let Err(differences) = check_case(&case.expected, &case.reference, &actual) {
            wrong.push(format!("{}:\n{differences}\n{}", case.name, actual["errorMessage"]));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn both_files_have_cases() {
    let [classify, reports] = FILES.map(|file| cases(file).len());
    assert!(classify >= 12 && reports >= 39);
}
