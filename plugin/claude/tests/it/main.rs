//! The judgement and the transcript of the Claude plugin, through its public interface.

mod cases;
mod catalogue;
mod judged;
mod judgement;
mod precedence;
mod properties;
mod recordings;
mod retry;
mod transcripts;
