//! The reader's rules, one test each, and a model that cuts, rotates and crashes at random.

mod ends;
mod model;
mod rotation;
mod rules;
mod run;
mod server;
