//! The daemon's API: HTTP with JSON.

mod answer;
mod forwarding;
mod listener;
mod plugins;
mod rate;
mod routes;
mod runs;
mod text;
mod token;
mod version;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::watch as signal;

use crate::supervisor::Supervisor;

pub(crate) use listener::{Listener, serve};
pub use token::Token;

use rate::Rate;

/// How long the head of a request may take to arrive.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// What every handler uses.
#[derive(Debug, Clone)]
struct App {
    supervisor: Supervisor,
    rate: Arc<Rate>,
    /// Becomes true when event streams must end.
    closing: signal::Receiver<bool>,
}

/// Returns all routes.
pub(crate) fn router(supervisor: Supervisor, token: Token, closing: signal::Receiver<bool>) -> Router {
    let limits = &supervisor.host().config.limits;
    let body_bytes = (limits.request_mib as usize) << 20;
    let app = App { rate: Arc::new(Rate::new(limits.requests_per_second)), supervisor, closing };
    routes::router(app, Arc::new(token), body_bytes)
}
