//! What is judged of a run. The tests of the host have the component judge these runs, too.

mod rows;
mod seeds;
pub(crate) mod story;
