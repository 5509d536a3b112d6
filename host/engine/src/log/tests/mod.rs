//! The rules that the reader holds, one test each, and a model that cuts, rotates and crashes at random.

mod model;
mod rules;
mod run;
mod server;
