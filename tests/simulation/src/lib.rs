//! Plugin, engine and driver, unchanged, in a simulated world with faults: the proof that a run's result is right whatever the cluster
//! does. `docs/simulation.md` says how to read a failure and how to add a fault or an invariant.

mod agenda;
pub mod campaign;
pub mod case;
mod cluster;
pub mod coverage;
pub mod coverage_points;
mod disk;
pub mod entropy;
pub mod expected;
pub mod fault;
pub mod grammar;
mod guest;
mod invariants;
pub mod mutant;
pub mod order;
pub mod ownership;
pub mod plugin;
pub mod records;
pub mod scenario;
pub mod script;
mod trace;
mod world;

pub use case::{Case, Outcome};
pub use invariants::Violation;
pub use plugin::Plugin;
pub use trace::HEADING;
