//! The judgement and the transcript of the Claude plugin, through its public interface.

mod cases;
mod catalogue;
mod precedence;
mod properties;
mod recordings;
mod retry;
mod rows;
mod seeds;
mod story;
mod transcripts;
