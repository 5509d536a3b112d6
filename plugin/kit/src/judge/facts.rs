//! The questions that the rules of all agent types ask about a finished run.

use crate::outcome::{Evidence, InfraCause, JobOutcome};
use crate::phrases::{
    CONTEXT_EXCEEDED, EMPTY_RESPONSE, Topics, may_speak_of_the_answer, may_speak_of_the_conversation,
};
use crate::stream::{AgentStream, Report, Verdict};
use crate::words::Words;

/// What is judged: the evidence and what the agent printed.
#[derive(Debug)]
pub struct Case<'a, S> {
    pub evidence: &'a Evidence,
    pub stream: &'a S,
    /// What the agent has reported about its end.
    pub verdict: Verdict,
    /// What the agent reports about a failed request: in its report, else in a message of its own.
    pub api_failure: Option<&'a Report>,
    /// What that report is about.
    pub topics: Topics,
}

impl<'a, S: AgentStream> Case<'a, S> {
    pub(super) fn new(evidence: &'a Evidence, stream: &'a S) -> Case<'a, S> {
        let api_failure = stream.failed_request();
        let model = stream.model().or(evidence.run.model.as_deref());
        let topics = api_failure.map(|report| report.topics(model, &S::WORDS.lexicon)).unwrap_or_default();
        Case { evidence, stream, verdict: stream.verdict(), api_failure, topics }
    }

    /// The report of a failure or success: of the agent's end, else of a message of its own.
    pub fn report(&self) -> Option<&'a Report> {
        match self.verdict {
            Verdict::Open => self.api_failure,
            Verdict::Success | Verdict::Failure => self.stream.report(),
        }
    }

    /// Returns the HTTP status of the failed request.
    pub fn status(&self) -> Option<u16> {
        self.api_failure?.status(&S::WORDS.lexicon)
    }

    /// Whether the report has one of these reasons, in lower case.
    pub fn has_terminal_reason(&self, reasons: &[&str]) -> bool {
        self.report().is_some_and(|report| reasons.contains(&report.terminal_reason.as_str()))
    }

    /// Whether the report has one of these stop reasons, in lower case.
    pub fn has_stop_reason(&self, reasons: &[&str]) -> bool {
        self.report().is_some_and(|report| report.has_stop_reason(reasons))
    }
}

/// The stop reasons of a run that has used up its turns.
pub const MAX_TURNS_REASONS: [&str; 4] =
    ["max_turns", "max_turns_exhausted", "turn_limit", "turn_limit_exhausted"];
const REQUEST_TOO_LARGE: u16 = 413;
const COMMAND_NOT_FOUND_EXIT: i32 = 127;

// ---------------------------------------------------------------------- any run

/// Holds.
pub fn always<S: AgentStream>(_: &Case<'_, S>) -> bool {
    true
}

/// The run was cancelled.
pub fn is_cancelled<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.evidence.is_cancelled
}

/// Its time or its Job's deadline passed.
pub fn has_timed_out<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.evidence.has_timed_out()
}

/// It was stopped because its agent printed nothing.
pub fn was_quiet<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.evidence.quiet_sec.is_some()
}

/// It was stopped because its agent type saw that the agent would not end by itself.
pub fn was_stopped<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.evidence.stopped_for.is_some()
}

// ---------------------------------------------------------------------- with a report

/// The container did not fail by itself.
pub fn has_good_end<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.evidence.own_failure().is_none()
}

// ---------------------------------------------------------------------- a request of the agent failed

/// The conversation does not fit into the model's context.
pub fn exceeds_context<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.api_failure.is_some_and(|report| {
        let status = report.status(&S::WORDS.lexicon);
        status == Some(REQUEST_TOO_LARGE)
            || report.has_kind("request_too_large")
            || may_speak_of_the_conversation(status)
                && (report.says(CONTEXT_EXCEEDED) || report.says(S::WORDS.lexicon.context))
    })
}

/// The model does not exist, or not for this account.
pub fn misses_model<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.topics.model
}

/// Credentials are missing or refused.
pub fn needs_credentials<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.topics.credentials
}

/// Money or quota is used up.
pub fn is_out_of_quota<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.topics.quota
}

/// The provider cannot serve at the moment.
pub fn is_transient<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.topics.transient
}

/// The API answered, but not with a message.
pub fn got_no_answer<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.api_failure.is_some_and(|report| {
        may_speak_of_the_answer(report.status(&S::WORDS.lexicon)) && report.says(EMPTY_RESPONSE)
    })
}

// ---------------------------------------------------------------------- without a report

/// The container's exit is not 0, as far as is known.
pub fn may_have_failed<S: AgentStream>(case: &Case<'_, S>) -> bool {
    !case.evidence.has_exited_with_0()
}

/// Nothing was done, and the container's exit is not 0.
pub fn failed_before_content<S: AgentStream>(case: &Case<'_, S>) -> bool {
    may_have_failed(case) && !case.stream.kept().has_content
}

/// Lines say that the session does not exist, and nothing was done.
pub fn lines_know_no_session<S: AgentStream>(case: &Case<'_, S>) -> bool {
    failed_before_content(case) && case.stream.kept().untyped.names_unknown_session
}

/// Somebody deleted the Job, and the agent's end was not seen.
pub fn was_deleted<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.evidence.job == JobOutcome::Deleted && case.evidence.exit_code().is_none()
}

/// The model's last answer was empty, and the cluster did not end the container.
pub fn ends_empty<S: AgentStream>(case: &Case<'_, S>) -> bool {
    let is_taken_away = case.evidence.cause().is_some();
    case.stream.kept().ends_empty && !is_taken_away
}

/// The model produced content.
pub fn has_content<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.stream.kept().has_content
}

/// Lines name the model, and nothing was done.
pub fn lines_miss_model<S: AgentStream>(case: &Case<'_, S>) -> bool {
    failed_before_content(case) && case.stream.kept().untyped.topics.model
}

/// Lines name credentials, and nothing was done.
pub fn lines_need_credentials<S: AgentStream>(case: &Case<'_, S>) -> bool {
    failed_before_content(case) && case.stream.kept().untyped.topics.credentials
}

/// Lines name a quota, and nothing was done.
pub fn lines_name_a_quota<S: AgentStream>(case: &Case<'_, S>) -> bool {
    failed_before_content(case) && case.stream.kept().untyped.topics.quota
}

/// Lines name an overload or the network, and nothing was done.
pub fn lines_name_an_overload<S: AgentStream>(case: &Case<'_, S>) -> bool {
    failed_before_content(case) && case.stream.kept().untyped.topics.transient
}

/// The shell or the container runtime did not find the agent's program.
pub fn misses_command<S: AgentStream>(case: &Case<'_, S>) -> bool {
    let container = case.evidence.container.as_ref();
    let says_so =
        |message: &str| message.lines().any(|line| S::WORDS.lexicon.misses_program(&Words::of(line)));
    case.evidence.exit_code() == Some(COMMAND_NOT_FOUND_EXIT)
        || case.stream.kept().untyped.misses_command
        || container.and_then(|container| container.message.as_deref()).is_some_and(says_so)
}

/// The agent reported its start, and its exit is known and not 0.
pub fn ended_after_init<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.stream.kept().has_init && case.evidence.exit_code().is_some() && may_have_failed(case)
}

/// The container exited with 0.
pub fn exited_with_0<S: AgentStream>(case: &Case<'_, S>) -> bool {
    case.evidence.has_exited_with_0()
}

/// The cluster ended the container before the agent had done anything.
pub(super) fn was_taken_away<S: AgentStream>(case: &Case<'_, S>) -> Option<InfraCause> {
    case.evidence.cause().filter(|_| case.verdict == Verdict::Open && !case.stream.kept().has_content)
}
