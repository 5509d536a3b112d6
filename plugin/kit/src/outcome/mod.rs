//! What is known when a run has ended, and the result that Paperclip's server gets for it.
//!
//! [`Evidence`] goes in, an agent type judges it together with what its agent printed, an [`AdapterResult`]
//! comes out. Nothing here knows an agent's stream: that is the business of the crate of the agent type.

mod bounds;
mod cause;
mod code;
mod document;
mod evidence;
mod kept;
mod result;
mod session;

pub use bounds::{bounded_object, head, iso_time, printable, tail, without_nul};
pub use cause::InfraCause;
pub use code::{ErrorCode, ErrorFamily};
pub use document::EvidenceDocument;
pub use evidence::{DeletionTrace, Evidence, JobCondition, JobOutcome, PodEnd, RunFacts, Termination};
pub use kept::{LineTail, TextBlocks};
pub use result::{AdapterResult, BillingType, ExecutionRecovery, RESULT_JSON_BYTES, Usage, UsageBasis};
pub use session::{SessionParams, Workspace};
