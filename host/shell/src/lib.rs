//! The shell of a run: carries out the operations of the engine's driver and decides nothing.
//!
//! [`drive`] takes an engine and the [`RunPorts`] through which it acts: a [`Cluster`], Paperclip's API, a [`Journal`] and a [`Sink`].

pub mod calls;
mod clock;
pub mod connect;
mod credential_plugin;
mod diagnose;
pub mod driver;
mod exchange;
pub mod hosts;
pub mod journal;
pub mod logs;
pub mod peers;
pub mod plugin_config_maps;
pub mod poll;
mod read_ahead;
pub mod requests;
pub mod run_records;
pub mod sink;
pub mod snapshot;
mod tls;
mod token_file;
mod transport;
pub mod watches;

pub use connect::{Access, Cluster, ConnectError};
pub use driver::{Called, Control, Observer, Outcome, RunPorts, drive};
pub use journal::{Journal, JournalError};
pub use poll::{PaperclipApi, UrlError};
pub use sink::{NdjsonSink, Sink};
