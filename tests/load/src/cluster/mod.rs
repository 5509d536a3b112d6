//! A scripted API server: the part of the Kubernetes API that runs use, over HTTP, with agents that follow a timetable.

mod agent;
mod answer;
mod logs;
mod objects;
mod store;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::io::AsyncReadExt as _;

pub(crate) use agent::{MARK, now_us};

use agent::Agents;
use store::Store;

/// The behaviour of every agent.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Script {
    /// Lines that each agent writes, the first and the last included
    #[arg(long, default_value_t = 200)]
    pub(crate) lines: u64,
    /// Time from an agent's first line to its last, in seconds
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Agents continue at the same rate until POST /end
    #[arg(long)]
    pub(crate) endless: bool,
}

impl Script {
    fn pause(&self) -> Duration {
        Duration::from_secs(self.seconds) / u32::try_from(self.lines.max(2) - 1).unwrap_or(u32::MAX)
    }
}

#[derive(Debug, Clone)]
struct App {
    store: Arc<Store>,
    agents: Arc<Agents>,
}

/// Serves until standard input ends; the first line on stdout is the address.
pub(crate) async fn run(script: &Script) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let app = App { store: Arc::default(), agents: Arc::new(Agents::new(script.clone())) };
    let router = Router::new()
        .route("/version", get(answer::version))
        .route("/end", post(agent::end))
        .route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", post(answer::allowed))
        .route("/api/v1/namespaces/{namespace}/pods/{name}/log", get(logs::read))
        .route(
            "/api/{version}/namespaces/{namespace}/{resource}",
            get(objects::list).post(objects::create_core),
        )
        .route(
            "/apis/{group}/{version}/namespaces/{namespace}/{resource}",
            get(objects::list).post(objects::create),
        )
        .route(
            "/api/{version}/namespaces/{namespace}/{resource}/{name}",
            get(objects::get).patch(objects::patch).delete(objects::delete),
        )
        .route(
            "/apis/{group}/{version}/namespaces/{namespace}/{resource}/{name}",
            get(objects::get).put(objects::replace).patch(objects::patch).delete(objects::delete),
        )
        .with_state(app);
    let mut input = tokio::io::stdin();
    let ended = async move {
        // The process that started this one has ended.
        let mut byte = [0];
        while input.read(&mut byte).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        served = async { axum::serve(listener, router).await } => Ok(served?),
        () = ended => Ok(()),
    }
}
