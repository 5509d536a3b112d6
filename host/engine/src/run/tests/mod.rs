//! Runs whose plugin says what it is told to.

mod answers;
