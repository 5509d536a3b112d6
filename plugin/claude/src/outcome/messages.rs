//! What an operator reads about a run that failed.

use paperclip_kit::outcome::iso_time;

use super::facts::Case;

pub(super) fn cancelled(_: &Case<'_>) -> String {
    "Run cancelled".to_owned()
}

pub(super) fn timed_out(case: &Case<'_>) -> String {
    let seconds = case.evidence.run.timeout_sec;
    if seconds > 0.0 {
        format!("Timed out after {seconds}s")
    } else {
        "Timed out: the Job's activeDeadlineSeconds passed".to_owned()
    }
}

pub(super) fn session_gone(case: &Case<'_>) -> String {
    described_failure(case).unwrap_or_else(|| "Session unavailable".to_owned())
}

/// What the result event tells, else the exit code.
pub(super) fn run_failed(case: &Case<'_>) -> String {
    described_failure(case).unwrap_or_else(|| match case.exit() {
        Some(code) if code != 0 => format!("Claude exited with code {code}"),
        Some(_) | None => "Claude run failed".to_owned(),
    })
}

pub(super) fn failed_with_cause(case: &Case<'_>) -> String {
    let suffix = if case.exit() == Some(0) { String::new() } else { case.evidence.pod_suffix() };
    run_failed(case) + &suffix
}

pub(super) fn refused(case: &Case<'_>) -> String {
    match case.result.and_then(|event| event.detail()) {
        Some(detail) => format!("Claude refused the request: {detail}"),
        None => "Claude refused the request".to_owned(),
    }
}

pub(super) fn deleted(case: &Case<'_>) -> String {
    let facts = case.evidence.deletion.describe(case.stream.stdout_bytes(), case.stream.nonempty_lines());
    format!("K8s Job was deleted externally before Claude could complete {facts}")
}

pub(super) fn api_gave_nothing(_: &Case<'_>) -> String {
    "LLM API returned an empty response (stop_reason: null, output_tokens: 0) — the upstream model API may be \
     degraded or misconfigured"
        .to_owned()
}

pub(super) fn truncated(case: &Case<'_>) -> String {
    format!(
        "Claude run was truncated mid-stream{} — assistant produced content but no result event arrived; {}",
        model_hint(case),
        case.evidence.describe_truncation()
    )
}

pub(super) fn unparseable(_: &Case<'_>) -> String {
    "Failed to parse Claude JSON output".to_owned()
}

/// A run without a result event that did not exit with 0.
pub(super) fn partial_run(case: &Case<'_>) -> String {
    let stream = case.stream;
    let known_exit = case.exit();
    let ended = known_exit.map_or("Claude ended without a readable exit code".to_owned(), |code| {
        format!("Claude exited with code {code}")
    });
    let text = match (&stream.untyped().first, known_exit) {
        (Some(line), _) => format!("{ended}: {line}"),
        (None, Some(code)) if stream.has_init() => format!(
            "Claude exited immediately after init{} (exit code {code}) — the model may be unsupported or the session \
             may have been rejected before producing output",
            model_hint(case)
        ),
        (None, _) if stream.model().is_some() => format!(
            "Claude started but did not produce a result{} — check API credentials, model support, and adapter config",
            model_hint(case)
        ),
        (None, _) => ended,
    };
    text + &case.evidence.pod_suffix() + &limit_suffix(case)
}

/// `Claude run failed: subtype=S: detail`, as far as the result event has either.
fn described_failure(case: &Case<'_>) -> Option<String> {
    let event = case.result?;
    let mut text = "Claude run failed".to_owned();
    if !event.subtype.is_empty() {
        text = format!("{text}: subtype={}", event.subtype);
    }
    if let Some(detail) = event.detail() {
        text = format!("{text}: {detail}");
    }
    (!event.subtype.is_empty() || event.detail().is_some()).then_some(text)
}

fn model_hint(case: &Case<'_>) -> String {
    case.stream.model().map_or_else(String::new, |model| format!(" (model: {model})"))
}

/// A limit that only an event told would otherwise not stand in the message at all.
fn limit_suffix(case: &Case<'_>) -> String {
    let limits = case.stream.limits();
    if !limits.is_rejected() {
        return String::new();
    }
    let reset =
        limits.resets_at_ms().and_then(iso_time).map_or_else(String::new, |time| format!(", resets {time}"));
    format!(" [rate limit: {} rejected{reset}]", limits.rejected_kinds())
}
