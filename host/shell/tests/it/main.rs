//! The shell against a scripted API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails where it is")]

mod calls;
mod connect;
mod driver;
mod journal;
mod logs;
mod poll;
mod server;
mod sink;
mod tls;
mod watches;
