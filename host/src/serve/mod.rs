//! The daemon's face: HTTP with JSON.

mod answer;
mod authority;
mod connections;
mod plugins;
mod rate;
mod routes;
mod runs;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::watch as signal;

use crate::supervisor::Supervisor;

pub(crate) use authority::Authority;
pub(crate) use connections::{Door, serve};
pub(crate) use watch::watch_plugins;

use rate::Rate;

/// Longest time for a request's head and body to come in.
const READ_DEADLINE: Duration = Duration::from_secs(30);

/// What every handler has.
#[derive(Debug, Clone)]
struct App {
    supervisor: Supervisor,
    rate: Arc<Rate>,
    /// Becomes true when event streams are to end.
    closing: signal::Receiver<bool>,
}

/// All routes, behind what holds for each of them.
pub(crate) fn router(
    supervisor: Supervisor,
    authority: Authority,
    closing: signal::Receiver<bool>,
) -> Router {
    let limits = &supervisor.around().config.limits;
    let body_bytes = (limits.request_mib as usize) << 20;
    let app = App { rate: Arc::new(Rate::new(limits.requests_per_second)), supervisor, closing };
    routes::router(app, Arc::new(authority), body_bytes)
}
