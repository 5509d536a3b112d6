//! Compares what plugins make of the fixtures in `tests/fixtures/cases` with what the reference adapter made of them.
//!
//! The intended differences are stated here, one function each; everything else must be equal.

pub mod form;
pub mod manifest;
pub mod outcome;
pub mod recordings;
