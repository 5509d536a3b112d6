//! The daemon's API: HTTP with JSON.

mod answer;
mod body;
mod connections;
mod forwarding;
mod listener;
mod peer;
mod plugins;
mod quota;
mod rate;
mod routes;
mod runs;
mod serve;
mod text;
mod tls;
mod token;
mod version;

use std::sync::Arc;

use axum::Router;
use tokio::sync::watch as signal;

use crate::supervisor::Supervisor;

pub(crate) use listener::Listener;
pub(crate) use serve::serve;
pub(crate) use token::Tokens;

use body::Intake;
use rate::Rates;

/// What every handler uses.
#[derive(Debug, Clone)]
struct App {
    supervisor: Supervisor,
    rates: Arc<Rates>,
    intake: Intake,
    /// What clients on TCP have to send; none if nobody can connect by TCP.
    tokens: Option<Arc<Tokens>>,
    /// What whoever puts plugins into this host has to send; none if nobody may.
    admin_tokens: Option<Arc<Tokens>>,
    /// Becomes true when event streams must end.
    closing: signal::Receiver<bool>,
}

/// Who may send requests.
#[derive(Debug)]
pub(crate) struct Access {
    /// What clients on TCP have to send; none if nobody can connect by TCP.
    pub(crate) tokens: Option<Tokens>,
    /// What whoever puts plugins into this host has to send; none if nobody may.
    pub(crate) admin_tokens: Option<Tokens>,
}

/// Returns all routes.
pub(crate) fn router(
    supervisor: Supervisor,
    Access { tokens, admin_tokens }: Access,
    closing: signal::Receiver<bool>,
) -> Router {
    let limits = &supervisor.host().config.limits;
    let app = App {
        rates: Arc::new(Rates::new(limits.requests_per_second)),
        intake: Intake::new(u64::from(limits.intake_mib) << 20),
        tokens: tokens.map(Arc::new),
        admin_tokens: admin_tokens.map(Arc::new),
        supervisor,
        closing,
    };
    routes::router(app)
}
