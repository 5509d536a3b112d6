//! The shell against a scripted API server.

mod calls;
mod connect;
mod driver;
mod journal;
mod logs;
mod poll;
mod server;
mod sink;
mod watches;
