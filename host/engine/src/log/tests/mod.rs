//! The reader's rules, one test each, and a model that cuts, rotates and crashes at random.

mod counted;
mod ends;
mod model;
mod rotation;
mod rules;
mod run;
mod server;
