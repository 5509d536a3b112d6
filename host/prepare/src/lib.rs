//! From an execution context to a run that is ready to start. The command line and the daemon both take this way.
//!
//! 1. [`Config`] is what the operator configured, [`HostContext`] what this host adds to every run.
//! 2. [`HostContext::prepare`] splits an execution context into what the plugin may see and the secrets: a [`PreparedRun`].
//! 3. [`PreparedRun::open_journal`] takes the run's folder and reads what the run has been so far: an [`OpenedRun`].
//! 4. [`OpenedRun::start`] makes the engine's run and the ports through which it acts; [`paperclip_shell::drive`] drives them.
//!
//! [`access`] connects to clusters, [`environment`] is Paperclip's environment test, [`plugins`] sets the plugin runtime up,
//! [`state`] names the folders, [`token`] reads the API's bearer token, and [`transcript`] renders an agent's output for people.

pub mod access;
pub mod config;
pub mod documents;
pub mod environment;
mod files;
mod host;
mod masking;
mod operator;
mod paperclip_apis;
pub mod paperclip_pod;
pub mod plugins;
mod run;
mod server_env;
pub mod state;
mod supplied;
pub mod token;
pub mod transcript;
mod variables;

pub use config::Config;
pub use host::{HostContext, PrepareError, StartOptions, Target, adapter_type};
pub use masking::{MaskedEnv, MaskingError, redactor};
pub use paperclip_apis::PaperclipApis;
pub use paperclip_pod::PaperclipPodError;
pub use run::{
    OpenedRun, PinError, PreparedRun, RunConnections, StartError, StartedRun, open_folder, pinned_plugin,
};
pub use supplied::{Files, McpServer, Supplied, SuppliedError, SuppliedFile};
pub use variables::VariableError;
