//! The local cluster from outside: through `kube`, and byte for byte over HTTP.

// A test says what is wrong by panicking, and so may what helps it.
#![allow(clippy::unwrap_used)]

mod objects;
mod patches;
mod refusals;
mod runs;
mod serving;
mod watches;
mod wire;
mod world;
