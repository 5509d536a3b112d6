//! The node at work, through the store alone: objects go in, and what becomes of them is waited for.

mod bench;
mod containers;
mod deletion;
mod jobs;
mod logging;
mod restarts;
mod volumes;
