//! How far an agent has come, as its stream says.

/// What an agent's stream says about the end of its work. A process may keep running after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The agent has not reported its end.
    Open,
    /// The agent has reported its end.
    Ended {
        /// It reported a success.
        is_good: bool,
        /// Tasks that it started in the background are still open, so another report may follow.
        has_open_tasks: bool,
    },
}
