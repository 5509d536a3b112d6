//! The summary at the end of a run.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value};

use super::style::{DIM, ERROR, SUCCESS, WARNING};

/// Renders a result: the outcome with its cause, then duration, lines, tokens and cost.
pub(crate) fn render(result: &Map<String, Value>, elapsed: Duration, lines: u64) -> String {
    let text_of = |key: &str| result.get(key).and_then(Value::as_str);
    let code = text_of("errorCode");
    let message = text_of("errorMessage");
    let mut text = match (code, message) {
        (None, None) => format!("{SUCCESS}✔ succeeded{SUCCESS:#}"),
        (Some("cancelled"), _) => format!("{WARNING}■ cancelled{WARNING:#}"),
        (code, message) => {
            let code = code.unwrap_or("failed");
            format!("{ERROR}✘ failed: {code}{ERROR:#}\n  {}", message.unwrap_or_default())
        }
    };
    let _ = write!(text, "\n{DIM}  {} · {lines} lines", duration(elapsed));
    if let Some(usage) = result.get("usage") {
        let count = |key: &str| usage[key].as_u64().unwrap_or_default();
        let (input, cached, output) =
            (count("inputTokens"), count("cachedInputTokens"), count("outputTokens"));
        let _ = write!(text, " · tokens in {input} (cached {cached}) out {output}");
    }
    if let Some(cost) = result.get("costUsd").and_then(Value::as_f64) {
        let _ = write!(text, " · ${cost:.4}");
    }
    if let Some(session) = text_of("sessionId") {
        let _ = write!(text, " · session {session}");
    }
    let _ = writeln!(text, "{DIM:#}");
    text
}

fn duration(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    if seconds < 60 {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else if seconds < 3600 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {} min", seconds / 3600, seconds % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plain(result: Value, elapsed: Duration) -> String {
        let Value::Object(result) = result else { unreachable!() };
        anstream::adapter::strip_str(&render(&result, elapsed, 7)).to_string()
    }

    #[test]
    fn renders_success_failure_and_cancellation() {
        let ok = json!({"errorCode": null, "costUsd": 0.5, "usage": {"inputTokens": 3, "cachedInputTokens": 2, "outputTokens": 1}});
        assert_eq!(
            plain(ok, Duration::from_millis(1234)),
            "✔ succeeded\n  1.2 s · 7 lines · tokens in 3 (cached 2) out 1 · $0.5000\n"
        );
        let failed = json!({"errorCode": "timeout", "errorMessage": "Timed out after 60s"});
        assert_eq!(
            plain(failed, Duration::from_secs(61)),
            "✘ failed: timeout\n  Timed out after 60s\n  1 min 1 s · 7 lines\n"
        );
        let cancelled = json!({"errorCode": "cancelled", "errorMessage": "Run cancelled"});
        assert_eq!(plain(cancelled, Duration::from_secs(3600)), "■ cancelled\n  1 h 0 min · 7 lines\n");
    }
}
