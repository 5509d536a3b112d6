//! How far an agent has come, as its stream says.

/// What an agent's stream says about the end of its work. A process may keep running after that, and may even start to work again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The agent has not reported its end.
    Open,
    /// The agent has reported its end.
    Ended {
        /// It reported a success.
        is_good: bool,
        /// How many tasks that it started in the background are still open. While there is one, another report may follow.
        open_tasks: u64,
    },
}
