//! The interface of a plugin's instance. The wasm host implements it, and scripted guests in tests.

use paperclip_contract::types::{Command, Event, Refusal, Request};

use crate::policy::Refused;
use crate::time::Timestamp;

/// One run inside one plugin instance.
///
/// After a [`GuestFault`] the instance is unusable: the engine calls only `drop`.
pub trait Guest {
    /// Starts the run. Returns its first commands, or why the plugin refuses the request.
    ///
    /// # Errors
    /// The instance failed.
    fn start(
        &mut self,
        at: Timestamp,
        request: &Request,
    ) -> Result<Result<Vec<Command>, Refusal>, GuestFault>;

    /// Passes events, oldest first. Returns the commands to carry out.
    ///
    /// # Errors
    /// The instance failed.
    fn step(&mut self, at: Timestamp, events: &[Event]) -> Result<Vec<Command>, GuestFault>;

    /// Returns the whole state of the run, for [`Guest::restore`] on a fresh instance of the same plugin version.
    ///
    /// # Errors
    /// The instance failed.
    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault>;

    /// Resumes a run from a snapshot, instead of [`Guest::start`]. Returns why the plugin refuses the snapshot, if it does.
    ///
    /// # Errors
    /// The instance failed.
    fn restore(&mut self, snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault>;

    /// Returns the phase of the run in a few words for a person.
    ///
    /// # Errors
    /// The instance failed.
    fn phase(&mut self) -> Result<String, GuestFault>;
}

/// The failure of a plugin instance, with what an operator needs to know about it.
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

/// Why an instance failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultCause {
    /// It trapped. The text has the panic's message and location if the plugin reported them.
    #[error("it trapped: {0}")]
    Trap(String),
    /// It used all fuel of one call.
    #[error("it ran over {fuel} units of fuel in one call (an endless loop?)")]
    OutOfFuel { fuel: u64 },
    /// It requested more linear memory than its limit.
    #[error("it requested more than {limit_bytes} bytes of memory")]
    OutOfMemory { limit_bytes: u64 },
    /// It returned more than a limit allows.
    #[error("it returned {what}: {found}, at most {limit} are allowed")]
    OverLimit { what: &'static str, found: u64, limit: u64 },
    /// It returned something that breaks the contract, such as a command id that was already used.
    #[error("it broke the contract: {0}")]
    Contract(String),
    /// It requested something that its grant does not allow.
    #[error("it requested what it is not granted: {0}")]
    Refused(Refused),
    /// The host has no capacity for another instance.
    #[error("no capacity for another instance: {0}")]
    NoCapacity(String),
}
