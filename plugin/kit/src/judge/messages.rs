//! What an operator reads about a run that failed.

use super::facts::Case;
use crate::outcome::{DELETED_BY_OTHERS, InfraCause, Termination};
use crate::stream::{AgentStream, Report, Verdict};

// ---------------------------------------------------------------------- any run

/// Row 2.
pub fn cancelled<S: AgentStream>(_: &Case<'_, S>) -> String {
    "Run cancelled".to_owned()
}

/// Row 3: how long, and which retry was open.
pub fn timed_out<S: AgentStream>(case: &Case<'_, S>) -> String {
    let seconds = case.evidence.run.timeout_sec;
    let retry = case.stream.retry().map(|retry| format!(" while the API was retried: {retry}"));
    let retry = retry.unwrap_or_default();
    let text = if seconds > 0.0 {
        format!("Timed out after {seconds}s{retry}")
    } else {
        format!("Timed out{retry}: the Job's activeDeadlineSeconds passed")
    };
    explained(case, text)
}

/// Row 3b: how long, and what it did last.
pub fn quiet<S: AgentStream>(case: &Case<'_, S>) -> String {
    let last = match case.stream.kept().last_activity.as_str() {
        "" => "it has printed nothing at all".to_owned(),
        last => format!("the last event was {last}"),
    };
    let seconds = case.evidence.quiet_sec.unwrap_or_default();
    format!("{} printed nothing for {seconds}s; {last}", S::WORDS.name)
}

/// Row 3c: why it was stopped.
pub fn stopped<S: AgentStream>(case: &Case<'_, S>) -> String {
    let reason = case.evidence.stopped_for.as_deref().unwrap_or("no reason");
    let text = format!("{} was stopped because it would not have ended by itself: {reason}", S::WORDS.name);
    match case.stream.retry() {
        Some(retry) if !reason.contains(&retry) => format!("{text}; {retry}"),
        Some(_) | None => text,
    }
}

// ---------------------------------------------------------------------- with a report

/// Row 4.
pub fn wrapper_failed<S: AgentStream>(case: &Case<'_, S>) -> String {
    let code = case.evidence.exit_code().map_or("unknown".to_owned(), |code| code.to_string());
    let name = S::WORDS.name;
    explained(case, format!("{name} reported success, but its container exited with code {code}"))
}

/// The words of the agent's report.
pub fn run_failed<S: AgentStream>(case: &Case<'_, S>) -> String {
    let subtype = case.stream.subtype();
    let detail = case.report().and_then(Report::detail);
    let mut text = format!("{} run failed", S::WORDS.name);
    if !subtype.is_empty() && subtype != "success" {
        text.push_str(&format!(": subtype={subtype}"));
    }
    if let Some(detail) = detail {
        text.push_str(&format!(": {detail}"));
    }
    text
}

/// Row 16: the words of its report, and the cause.
pub fn run_failed_otherwise<S: AgentStream>(case: &Case<'_, S>) -> String {
    explained(case, run_failed(case))
}

/// Row 12.
pub fn refused<S: AgentStream>(case: &Case<'_, S>) -> String {
    match case.report().and_then(Report::detail) {
        Some(detail) => format!("{} refused the request: {detail}", S::WORDS.name),
        None => format!("{} refused the request", S::WORDS.name),
    }
}

/// Row 15.
pub fn aborted<S: AgentStream>(case: &Case<'_, S>) -> String {
    let detail = case.report().and_then(Report::detail).map(|detail| format!(": {detail}"));
    explained(case, format!("{} was interrupted{}", S::WORDS.name, detail.unwrap_or_default()))
}

// ---------------------------------------------------------------------- without a report

/// Row 17: how that was noticed.
pub fn deleted<S: AgentStream>(case: &Case<'_, S>) -> String {
    let kept = case.stream.kept();
    let facts = case.evidence.deletion.describe(kept.stdout_bytes, kept.nonempty_lines);
    let text = format!("K8s Job was deleted externally before {} could complete {facts}", S::WORDS.name);
    let suffix = match case.evidence.cause() {
        Some(InfraCause::Deleted) | None => format!(": {DELETED_BY_OTHERS}"),
        Some(_) => case.evidence.pod_suffix(),
    };
    with_cause(case, text) + &suffix
}

/// Row 18.
pub fn empty_response<S: AgentStream>(case: &Case<'_, S>) -> String {
    let text = "LLM API returned an empty response (stop_reason: null, output_tokens: 0) — the upstream model API may be \
                degraded or misconfigured";
    explained(case, text.to_owned())
}

/// Row 19.
pub fn truncated<S: AgentStream>(case: &Case<'_, S>) -> String {
    let mut text = format!(
        "{} run was truncated mid-stream{} — assistant produced content but no result event arrived",
        S::WORDS.name,
        model_hint(case)
    );
    if let Some(end) = case.evidence.describe_unobserved_end() {
        text.push_str(&format!("; {end}"));
    }
    if let Some(retry) = case.stream.retry() {
        text.push_str(&format!("; {retry}"));
    }
    explained(case, text)
}

/// Row 21.
pub fn no_command<S: AgentStream>(case: &Case<'_, S>) -> String {
    let text = if case.stream.kept().has_init {
        "A command of the agent's container was not found (exit code 127)".to_owned()
    } else {
        format!("The image has no `{}` on PATH", S::WORDS.lexicon.program)
    };
    explained(case, text)
}

/// A run that printed its init event and nothing else.
pub fn ended_at_start<S: AgentStream>(case: &Case<'_, S>) -> String {
    let container = case.evidence.container.as_ref();
    let name = S::WORDS.name;
    let is_signalled = container.is_some_and(Termination::is_signalled);
    let exit = container.map(|container| container.describe_exit(case.evidence.cause().is_some()));
    let exit = exit.unwrap_or_else(|| "exit code unknown".to_owned());
    if is_signalled {
        return explained(case, format!("{name} was ended by a signal right after init ({exit})"));
    }
    let text = format!("{name} exited immediately after init{} ({exit})", model_hint(case));
    if cause(case).is_some() || case.evidence.cause().is_some() {
        return explained(case, text);
    }
    let guess = "the model may be unsupported or the session may have been rejected before producing output";
    explained(case, format!("{text} — {guess}"))
}

/// Row 23: what it printed instead.
pub fn unparseable<S: AgentStream>(case: &Case<'_, S>) -> String {
    let kept = case.stream.kept();
    let format = kept.format;
    let what = if kept.stdout_bytes == 0 {
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
    explained(case, format!("Failed to parse {} JSON output: {what}", S::WORDS.name))
}

/// Any other run without a result event.
pub fn partial_run<S: AgentStream>(case: &Case<'_, S>) -> String {
    let name = S::WORDS.name;
    let code = case.evidence.exit_code();
    let ended = code.map_or(format!("{name} ended without a readable exit code"), |code| {
        format!("{name} exited with code {code}")
    });
    let text = if case.stream.retry().is_some() || cause(case).is_some() || code.is_some() {
        ended
    } else if case.stream.kept().has_init {
        format!(
            "{name} started but did not produce a result{} — check API credentials, model support, and adapter config",
            model_hint(case)
        )
    } else {
        ended
    };
    let text = match case.stream.retry() {
        Some(retry) => format!("{text}: {retry}"),
        None => text,
    };
    explained(case, text) + &case.stream.suffix()
}

// ---------------------------------------------------------------------- parts of messages

/// `text` with the cause, one line that the agent printed, and the container's end.
pub fn explained<S: AgentStream>(case: &Case<'_, S>, text: String) -> String {
    with_cause(case, text) + &case.evidence.pod_suffix()
}

fn with_cause<S: AgentStream>(case: &Case<'_, S>, text: String) -> String {
    match cause(case).filter(|cause| !text.contains(cause.as_str())) {
        Some(cause) => format!("{text}: {cause}"),
        None => text,
    }
}

/// The line that explains the failure best. A message of the CLI about its request explains more than a line beside events.
fn cause<S: AgentStream>(case: &Case<'_, S>) -> Option<String> {
    let report = case.api_failure.filter(|_| case.verdict == Verdict::Open).and_then(Report::detail);
    report.map(str::to_owned).or_else(|| case.stream.kept().untyped.cause())
}

fn model_hint<S: AgentStream>(case: &Case<'_, S>) -> String {
    case.stream.model().map_or_else(String::new, |model| format!(" (model: {model})"))
}
