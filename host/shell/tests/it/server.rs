//! An API server that answers by script and remembers what it was asked, over TCP or in process.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::serve::Listener;
use http::{HeaderMap, Method, Response, StatusCode, Version};
use paperclip_shell::{Access, Cluster};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// The body as JSON, null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether the query has this pair, percent-encoded as it was sent.
    pub(crate) fn asks(&self, pair: &str) -> bool {
        self.query.split('&').any(|found| found == pair)
    }

    pub(crate) fn is(&self, method: &Method, end_of_path: &str) -> bool {
        self.method == *method && self.path.ends_with(end_of_path)
    }

    pub(crate) fn is_watch(&self) -> bool {
        self.asks("watch=true")
    }
}

type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Script = Arc<dyn Fn(Seen) -> Answering + Send + Sync>;

/// What was asked, and how it is answered.
#[derive(Clone)]
pub(crate) struct Server {
    script: Script,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A server that listens; it stops when this is dropped.
pub(crate) struct Listening {
    pub(crate) server: Server,
    pub(crate) url: String,
    task: AbortHandle,
}

impl Server {
    /// Answers at once.
    pub(crate) fn new(script: impl Fn(Seen) -> Response<Body> + Send + Sync + 'static) -> Server {
        Server::slow(move |seen| {
            let answer = script(seen);
            Box::pin(async move { answer })
        })
    }

    /// Answers when it likes.
    pub(crate) fn slow(script: impl Fn(Seen) -> Answering + Send + Sync + 'static) -> Server {
        Server { script: Arc::new(script), seen: Arc::default() }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, is_counted: impl Fn(&Seen) -> bool) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| is_counted(seen)).count()
    }

    async fn answer(self, request: http::Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default().to_vec();
        let seen = Seen {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            version: head.version,
            headers: head.headers,
            body,
        };
        self.seen.lock().unwrap().push(seen.clone());
        (self.script)(seen).await
    }

    /// A cluster whose requests never leave the process: time may stand still.
    pub(crate) fn in_process(&self) -> Cluster {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let answer = server.clone().answer(request.map(Body::new));
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        Cluster::from_client(kube::Client::new(service, "n"))
    }

    pub(crate) async fn listen(self) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        self.listen_on(listener, url)
    }

    pub(crate) fn listen_on<L>(self, listener: L, url: String) -> Listening
    where
        L: Listener,
        L::Addr: std::fmt::Debug,
    {
        let server = self.clone();
        let app = axum::Router::new().fallback(move |request| server.clone().answer(request));
        let task = tokio::spawn(async move { axum::serve(listener, app).await }).abort_handle();
        Listening { server: self, url, task }
    }
}

impl Listening {
    pub(crate) async fn cluster(&self) -> Cluster {
        Cluster::connect(&Access::Inline { kubeconfig: kubeconfig(&self.url) }).await.unwrap()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn kubeconfig(url: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "n"}}],
        "users": [{"name": "u", "user": {"token": "cluster-token"}}],
    })
    .to_string()
}

pub(crate) fn json(status: u16, body: &Value) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(body.to_string())).unwrap()
}

pub(crate) fn text(status: u16, body: &str) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_owned())).unwrap()
}

/// Kubernetes' way to say no.
pub(crate) fn failure(status: u16, reason: &str, message: &str) -> Response<Body> {
    json(
        status,
        &json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": reason,
            "message": message, "code": status,
        }),
    )
}

/// An answer whose body comes in these pieces; an `Err` breaks the connection.
pub(crate) fn pieces(pieces: Vec<Result<Vec<u8>, std::io::Error>>) -> Response<Body> {
    Response::new(Body::from_stream(futures::stream::iter(pieces)))
}

/// A response that starts with this text and never ends.
pub(crate) fn open(text: &str) -> Response<Body> {
    use futures::StreamExt;
    let start = futures::stream::iter([Ok::<_, std::io::Error>(text.as_bytes().to_vec())]);
    Response::new(Body::from_stream(start.chain(futures::stream::pending())))
}

pub(crate) fn not_found() -> Response<Body> {
    failure(StatusCode::NOT_FOUND.as_u16(), "NotFound", "not found")
}
