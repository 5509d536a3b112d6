//! The questions that the rules ask about a finished run.

use paperclip_kit::outcome::{Evidence, JobOutcome};

use crate::phrases::{
    EMPTY_RESPONSE, LOGIN, MODEL_NOT_FOUND, NAMES_A_MODEL, OVERLOAD, POISONED_MESSAGE_ID, Phrase, QUOTA,
    TOKEN_FAILURE, UNEXPECTED_TOKEN, UNKNOWN_SESSION,
};
use crate::stream::{ResultEvent, Stream};

/// What is judged: the evidence and what the agent printed.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) stream: &'a Stream,
    pub(super) result: Option<&'a ResultEvent>,
}

impl<'a> Case<'a> {
    pub(super) fn new(evidence: &'a Evidence, stream: &'a Stream) -> Case<'a> {
        Case { evidence, stream, result: stream.result() }
    }

    pub(super) fn exit(&self) -> Option<i32> {
        self.evidence.exit_code()
    }

    /// A result event that is an error, or an exit code that is known and not 0.
    pub(super) fn has_failed_result(&self) -> bool {
        self.result.is_some_and(|event| {
            event.is_error || event.has_error_subtype() || self.exit().is_some_and(|code| code != 0)
        })
    }

    fn event_says(&self, phrases: &[Phrase]) -> bool {
        self.result.is_some_and(|event| event.says(phrases))
    }

    fn cli_says(&self, phrases: &[Phrase]) -> bool {
        self.result.is_some_and(|event| event.cli_says(phrases))
    }

    fn has_status(&self, statuses: &[u16]) -> bool {
        self.result.and_then(|event| event.status).is_some_and(|status| statuses.contains(&status))
    }

    /// The event quotes the name of the model that the run asked for.
    fn names_its_model(&self) -> bool {
        let asked = self.stream.model().or(self.evidence.run.model.as_deref());
        let detail = self.result.and_then(ResultEvent::detail).unwrap_or_default();
        asked.is_some_and(|model| !model.is_empty() && detail.contains(model))
    }
}

const MAX_TURNS_REASONS: [&str; 4] =
    ["max_turns", "max_turns_exhausted", "turn_limit", "turn_limit_exhausted"];
const REFUSALS: [&str; 2] = ["refusal", "model_refusal"];
const LOGIN_STATUS: [u16; 2] = [401, 403];
const OVERLOAD_STATUS: [u16; 6] = [429, 500, 502, 503, 504, 529];
const NOT_FOUND_STATUS: u16 = 404;
const FIRST_FAILING_STATUS: u16 = 400;

pub(super) fn is_timed_out(case: &Case<'_>) -> bool {
    case.evidence.is_timed_out || case.evidence.job == JobOutcome::DeadlineExceeded
}

pub(super) fn knows_no_session(case: &Case<'_>) -> bool {
    case.event_says(UNKNOWN_SESSION)
}

pub(super) fn needs_login(case: &Case<'_>) -> bool {
    case.has_status(&LOGIN_STATUS)
        || case.cli_says(LOGIN)
        || case.stream.untyped().asks_for_login
        || case.cli_says(TOKEN_FAILURE) && !case.cli_says(UNEXPECTED_TOKEN)
}

pub(super) fn misses_model(case: &Case<'_>) -> bool {
    case.cli_says(MODEL_NOT_FOUND)
        || case.has_status(&[NOT_FOUND_STATUS]) && (case.cli_says(NAMES_A_MODEL) || case.names_its_model())
}

/// SequencedRecord by the CLI in so many words, never by free text.
pub(super) fn ran_out_of_turns(case: &Case<'_>) -> bool {
    case.result.is_some_and(|event| {
        event.subtype.eq_ignore_ascii_case("error_max_turns")
            || event.stop_reasons.iter().any(|reason| MAX_TURNS_REASONS.contains(&reason.as_str()))
    })
}

pub(super) fn has_poisoned_message_id(case: &Case<'_>) -> bool {
    case.event_says(POISONED_MESSAGE_ID)
}

pub(super) fn is_out_of_quota(case: &Case<'_>) -> bool {
    case.cli_says(QUOTA) || case.stream.limits().is_rejected()
}

pub(super) fn is_overloaded(case: &Case<'_>) -> bool {
    case.has_status(&OVERLOAD_STATUS) || case.cli_says(OVERLOAD)
}

pub(super) fn got_no_message(case: &Case<'_>) -> bool {
    let status = case.result.and_then(|event| event.status);
    status.is_none_or(|status| status < FIRST_FAILING_STATUS) && case.event_says(EMPTY_RESPONSE)
}

pub(super) fn is_refused(case: &Case<'_>) -> bool {
    case.result.is_some_and(|event| {
        let subtype = event.subtype.to_lowercase();
        let mut told = event.stop_reasons.iter().map(String::as_str).chain([subtype.as_str()]);
        told.any(|reason| REFUSALS.contains(&reason))
    })
}

pub(super) fn was_deleted(case: &Case<'_>) -> bool {
    case.evidence.job == JobOutcome::Gone && case.exit().is_none()
}

pub(super) fn lines_ask_for_login(case: &Case<'_>) -> bool {
    case.exit() != Some(0) && case.stream.untyped().asks_for_login
}

pub(super) fn lines_miss_model(case: &Case<'_>) -> bool {
    case.exit() != Some(0) && case.stream.untyped().misses_model
}

pub(super) fn lines_tell_quota(case: &Case<'_>) -> bool {
    case.exit() != Some(0) && (case.stream.untyped().tells_quota || case.stream.limits().is_rejected())
}

pub(super) fn lines_tell_overload(case: &Case<'_>) -> bool {
    case.exit() != Some(0) && case.stream.untyped().tells_overload
}

pub(super) fn ended_after_init(case: &Case<'_>) -> bool {
    case.stream.has_init()
        && case.exit().is_some_and(|code| code != 0)
        && case.stream.untyped().first.is_none()
}
