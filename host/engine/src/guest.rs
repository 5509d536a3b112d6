//! What the engine needs of a plugin's instance. Implemented by the wasm host, and by scripted guests in tests.

use paperclip_contract::types::{Command, Event, Refusal, Request};

use crate::policy::Refused;
use crate::time::Timestamp;

/// One run inside one plugin instance.
///
/// After a [`GuestFault`] the instance is dead: the engine calls nothing but `drop` any more.
pub trait Guest {
    /// Begins the run: its first commands, or why the plugin refuses to begin it.
    fn start(
        &mut self,
        at: Timestamp,
        request: &Request,
    ) -> Result<Result<Vec<Command>, Refusal>, GuestFault>;

    /// Hands over what happened, oldest first, and takes what is to be done.
    fn step(&mut self, at: Timestamp, events: &[Event]) -> Result<Vec<Command>, GuestFault>;

    /// The whole state of the run, for [`Guest::restore`] on a fresh instance of the same plugin version.
    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault>;

    /// Takes a run up from a snapshot, instead of [`Guest::start`].
    fn restore(&mut self, snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault>;

    /// Where the run stands, in a few words for people.
    fn phase(&mut self) -> Result<String, GuestFault>;
}

/// A plugin instance that broke: what an operator needs to know about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin} {version} (sha256:{digest:.12}) failed in {call}, step {step}: {cause}")]
pub struct GuestFault {
    /// Agent type of the plugin, such as `claude_k8s`.
    pub plugin: String,
    /// The plugin's own version.
    pub version: String,
    /// SHA-256 of the plugin's bytes, hexadecimal.
    pub digest: String,
    /// The exported function that was called, such as `step`.
    pub call: &'static str,
    /// How many calls the instance had answered before.
    pub step: u64,
    pub cause: FaultCause,
}

/// Why an instance broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultCause {
    /// It trapped; the text has the panic's message and place where the plugin told them.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It used up the fuel of one call.
    #[error("it ran over {fuel} units of fuel in one call (an endless loop?)")]
    OutOfFuel { fuel: u64 },
    /// It asked for more linear memory than it may have.
    #[error("it wanted more than {limit_bytes} bytes of memory")]
    OutOfMemory { limit_bytes: u64 },
    /// It returned more than it may.
    #[error("it returned {what}: {found}, at most {limit} are allowed")]
    OverLimit { what: &'static str, found: u64, limit: u64 },
    /// What it returned makes no sense, such as a command id used twice.
    #[error("it broke the contract: {0}")]
    Contract(String),
    /// It asked for what its grant does not allow.
    #[error("it asked for what it may not have: {0}")]
    Refused(Refused),
    /// No place is left for another instance.
    #[error("no room for another instance: {0}")]
    NoRoom(String),
}
