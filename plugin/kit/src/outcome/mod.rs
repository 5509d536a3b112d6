//! What is known when a run has ended, and the result that Paperclip's server gets for it.
//!
//! An agent type judges [`Evidence`] together with what its agent printed; the judgement is an [`AdapterResult`]. Nothing here
//! knows an agent's stream: the crate of the agent type does.

mod bounds;
mod cause;
mod code;
mod document;
mod escapes;
mod evidence;
mod kept;
mod result;
mod session;
mod stream_end;

pub use bounds::{bounded_object, head, iso_time, printable, quoted, tail, without_nul};
pub use cause::InfraCause;
pub use code::{AgentCodes, ErrorCode, ErrorFamily};
pub use document::EvidenceDocument;
pub use escapes::without_escapes;
pub use evidence::{
    DELETED_BY_OTHERS, DeletionTrace, Evidence, JobCondition, JobOutcome, PodEnd, RunFacts, Termination,
};
pub use kept::{LineTail, TextBlocks};
pub use result::{
    AdapterResult, Billing, BillingType, ExecutionRecovery, RESULT_JSON_BYTES, Usage, UsageBasis,
};
pub use session::{SessionParams, Workspace};
pub use stream_end::StreamEnd;
