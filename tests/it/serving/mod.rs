//! The daemon as a client meets it.

mod adopt;
mod api;
mod continuing;
mod daemon;
mod hostile;
mod intake;
mod memory;
mod policy;
mod records;
mod replicas;
mod resume;
mod strangers;
mod swap;
