//! What an operator reads about a run that failed.

use paperclip_kit::outcome::{DELETED_BY_OTHERS, InfraCause, iso_time};

use super::facts::Case;
use crate::stream::Report;

// ---------------------------------------------------------------------- any run

pub(super) fn cancelled(_: &Case<'_>) -> String {
    "Run cancelled".to_owned()
}

pub(super) fn timed_out(case: &Case<'_>) -> String {
    let seconds = case.evidence.run.timeout_sec;
    let retry = case.stream.retry().map(|retry| format!(" while the API was retried: {}", retry.describe()));
    let retry = retry.unwrap_or_default();
    let text = if seconds > 0.0 {
        format!("Timed out after {seconds}s{retry}")
    } else {
        format!("Timed out{retry}: the Job's activeDeadlineSeconds passed")
    };
    explained(case, text)
}

pub(super) fn quiet(case: &Case<'_>) -> String {
    let last = match case.stream.last_activity() {
        "" => "it has printed nothing at all".to_owned(),
        last => format!("the last event was {last}"),
    };
    let seconds = case.evidence.quiet_sec.unwrap_or_default();
    format!("Claude printed nothing for {seconds}s; {last}")
}

// ---------------------------------------------------------------------- with a result event

pub(super) fn wrapper_failed(case: &Case<'_>) -> String {
    let code = case.evidence.exit_code().map_or("unknown".to_owned(), |code| code.to_string());
    explained(case, format!("Claude reported success, but its container exited with code {code}"))
}

/// The words of the CLI's report.
pub(super) fn run_failed(case: &Case<'_>) -> String {
    let subtype = case.result.map(|event| event.subtype.as_str()).unwrap_or_default();
    let detail = case.report().and_then(Report::detail);
    let mut text = "Claude run failed".to_owned();
    if !subtype.is_empty() && subtype != "success" {
        text.push_str(&format!(": subtype={subtype}"));
    }
    if let Some(detail) = detail {
        text.push_str(&format!(": {detail}"));
    }
    text
}

pub(super) fn run_failed_otherwise(case: &Case<'_>) -> String {
    explained(case, run_failed(case))
}

pub(super) fn refused(case: &Case<'_>) -> String {
    match case.report().and_then(Report::detail) {
        Some(detail) => format!("Claude refused the request: {detail}"),
        None => "Claude refused the request".to_owned(),
    }
}

pub(super) fn aborted(case: &Case<'_>) -> String {
    let detail = case.report().and_then(Report::detail).map(|detail| format!(": {detail}"));
    explained(case, format!("Claude was interrupted{}", detail.unwrap_or_default()))
}

// ---------------------------------------------------------------------- without a result event

pub(super) fn deleted(case: &Case<'_>) -> String {
    let facts = case.evidence.deletion.describe(case.stream.stdout_bytes(), case.stream.nonempty_lines());
    let text = format!("K8s Job was deleted externally before Claude could complete {facts}");
    let suffix = match case.evidence.cause() {
        Some(InfraCause::Deleted) | None => format!(": {DELETED_BY_OTHERS}"),
        Some(_) => case.evidence.pod_suffix(),
    };
    with_cause(case, text) + &suffix
}

pub(super) fn empty_response(case: &Case<'_>) -> String {
    let text = "LLM API returned an empty response (stop_reason: null, output_tokens: 0) — the upstream model API may be \
                degraded or misconfigured";
    explained(case, text.to_owned())
}

pub(super) fn truncated(case: &Case<'_>) -> String {
    let mut text = format!(
        "Claude run was truncated mid-stream{} — assistant produced content but no result event arrived",
        model_hint(case)
    );
    if let Some(end) = case.evidence.describe_unobserved_end() {
        text.push_str(&format!("; {end}"));
    }
    if let Some(retry) = case.stream.retry() {
        text.push_str(&format!("; {}", retry.describe()));
    }
    explained(case, text)
}

pub(super) fn no_command(case: &Case<'_>) -> String {
    let text = if case.stream.has_init() {
        "A command of the agent's container was not found (exit code 127)"
    } else {
        "The image has no `claude` on PATH"
    };
    explained(case, text.to_owned())
}

/// A run that printed its init event and nothing else.
pub(super) fn ended_at_start(case: &Case<'_>) -> String {
    let container = case.evidence.container.as_ref();
    let is_signalled = container.is_some_and(paperclip_kit::outcome::Termination::is_signalled);
    let exit = container.map(|container| container.describe_exit(case.evidence.cause().is_some()));
    let exit = exit.unwrap_or_else(|| "exit code unknown".to_owned());
    if is_signalled {
        return explained(case, format!("Claude was ended by a signal right after init ({exit})"));
    }
    let text = format!("Claude exited immediately after init{} ({exit})", model_hint(case));
    if cause(case).is_some() || case.evidence.cause().is_some() {
        return explained(case, text);
    }
    let guess = "the model may be unsupported or the session may have been rejected before producing output";
    explained(case, format!("{text} — {guess}"))
}

pub(super) fn unparseable(case: &Case<'_>) -> String {
    let format = case.stream.format();
    let what = if case.stream.stdout_bytes() == 0 {
        "it printed not one byte"
    } else if format.has_cut_event {
        "its last event is cut"
    } else if format.has_event {
        "it printed events, but no result event"
    } else if format.has_array {
        "it printed a JSON array without a result event"
    } else if format.has_text {
        "it printed text only, no events"
    } else {
        "it printed blank lines only"
    };
    explained(case, format!("Failed to parse Claude JSON output: {what}"))
}

/// Any other run without a result event.
pub(super) fn partial_run(case: &Case<'_>) -> String {
    let code = case.evidence.exit_code();
    let ended = code.map_or("Claude ended without a readable exit code".to_owned(), |code| {
        format!("Claude exited with code {code}")
    });
    let text = if case.stream.retry().is_some() || cause(case).is_some() || code.is_some() {
        ended
    } else if case.stream.has_init() {
        format!(
            "Claude started but did not produce a result{} — check API credentials, model support, and adapter config",
            model_hint(case)
        )
    } else {
        ended
    };
    let text = match case.stream.retry() {
        Some(retry) => format!("{text}: {}", retry.describe()),
        None => text,
    };
    explained(case, text) + &limit_suffix(case)
}

// ---------------------------------------------------------------------- parts of messages

/// `text` with the cause, one line that the agent printed, and the container's end.
fn explained(case: &Case<'_>, text: String) -> String {
    with_cause(case, text) + &case.evidence.pod_suffix()
}

fn with_cause(case: &Case<'_>, text: String) -> String {
    match cause(case).filter(|cause| !text.contains(cause.as_str())) {
        Some(cause) => format!("{text}: {cause}"),
        None => text,
    }
}

/// The line that explains the failure best. A message of the CLI about its request explains more than a line beside events.
fn cause(case: &Case<'_>) -> Option<String> {
    let report = case.stream.failure().filter(|_| case.result.is_none()).and_then(Report::detail);
    report.map(str::to_owned).or_else(|| case.stream.untyped().cause())
}

fn model_hint(case: &Case<'_>) -> String {
    case.stream.model().map_or_else(String::new, |model| format!(" (model: {model})"))
}

/// A limit that only an event reported, which the message would otherwise not mention.
fn limit_suffix(case: &Case<'_>) -> String {
    let limits = case.stream.limits();
    if !limits.is_rejected() {
        return String::new();
    }
    let reset =
        limits.resets_at_ms().and_then(iso_time).map_or_else(String::new, |time| format!(", resets {time}"));
    format!(" [rate limit: {} rejected{reset}]", limits.rejected_kinds())
}
