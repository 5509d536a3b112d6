//! A short fixed corpus of bytes from outside; `fuzz/` looks for more.

use crate::outside::KINDS;

pub(crate) const SEEDS: &[&str] = &[
    "",
    "\u{0}",
    "{}",
    "[1,2",
    "null",
    r#"{"type":"result","is_error":"maybe","result":7,"usage":{"input_tokens":-1}}"#,
    r#"{"type":"assistant","message":{"content":[{"type":"text"},null,{"type":"tool_use","input":[]}]}}"#,
    "2027-01-15T08:00:00.000000001Z a\n2027-01-15T08:00:00.000000001Z b\nunable to retrieve container logs",
    "\u{7f}2027-01-15T08:00:00Z {\"type\":\n2027-13-99T99:99:99Z x\n",
    r#"{"runId":"r","agent":{"id":"a"},"config":{"env":{"A":1,"B":{"type":"secret_ref"}}},"authToken":7}"#,
    r#"{"runId":"","agent":null}"#,
    r#"{"step":{"seq":1,"at_ms":-1,"events":[{"TimerFired":4}]}}"#,
    "00000000 {\"closed\":null}\n6afb5806 {",
    r#"{"metadata":{"name":"p","uid":"u"},"status":{"phase":"Running","containerStatuses":[{"name":"c","state":{}}]}}"#,
    r#"{"metadata":{"creationTimestamp":"2027-01-15T08:00:00Z"},"spec":{"suspend":true},"status":{"conditions":[]}}"#,
    "\u{0}asm\u{1}\u{0}\u{0}\u{0}",
    r#"{"status":"cancelled"}"#,
    r#"{"stdout":"{\"type\":\"result\"}","exitCode":null}"#,
];

/// Each text whole, cut at every tenth of it, and with a bit of each of its bytes turned over.
#[test]
fn nothing_panics_on_bytes_from_outside() {
    for (_, take) in KINDS {
        for seed in SEEDS {
            let bytes = seed.as_bytes();
            take(bytes);
            for tenth in 1..10 {
                take(&bytes[..bytes.len() * tenth / 10]);
            }
            for at in (0..bytes.len()).step_by(3) {
                let mut bytes = bytes.to_vec();
                bytes[at] ^= 1 << (at % 8);
                take(&bytes);
            }
        }
    }
}
