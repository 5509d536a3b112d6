//! The daemon as a client meets it.

mod adopt;
mod api;
mod daemon;
mod hostile;
mod policy;
mod resume;
mod swap;
