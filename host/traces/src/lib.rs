//! Exports runs as traces to a collector, by OTLP over HTTP with JSON.
//!
//! A run is one trace, whichever processes drive it: the ids of the trace and of its root span are derived from the run's id. Each process
//! adds a span for the time in which it drove the run, and one for each of its calls to the Kubernetes API. The process in which the run
//! ends adds the root span, from the moment at which the run was first accepted.
//!
//! A slow collector does not delay a run: spans wait in a bounded queue, and are lost if it is full.
//!
//! ADR 12 says why this is not OpenTelemetry's SDK.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Uri;
use http::uri::InvalidUri;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use paperclip_diagnostic::Diagnostic;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot};

/// Spans that wait for the collector.
const QUEUED_SPANS: usize = 4_096;
/// Most spans of one request.
const BATCH_SPANS: usize = 512;
/// How long spans are collected before they are sent.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often a request is sent before its spans are lost.
const ATTEMPTS: u32 = 3;
/// How long an attempt may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a flush may take.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// Exports spans to a collector. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Traces {
    queue: mpsc::Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Span(Box<Span>),
    /// Send everything before it now.
    Flush(oneshot::Sender<()>),
}

/// A period of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub run_id: String,
    pub kind: SpanKind,
    pub started_at: SystemTime,
    pub ended_at: SystemTime,
    /// Names as in the log. No value is secret.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanKind {
    /// From its acceptance to the result, over all processes.
    Run,
    /// The wait for admission.
    Queued,
    /// The time in which one process drove it.
    Driven,
    /// A call to the Kubernetes API, such as `create Job`.
    Call(String),
}

impl SpanKind {
    fn name(&self) -> &str {
        match self {
            SpanKind::Run => "run",
            SpanKind::Queued => "queued",
            SpanKind::Driven => "driven",
            SpanKind::Call(what) => what,
        }
    }
}

impl Traces {
    /// Returns an exporter to a collector, such as `http://collector:4318/v1/traces`. It sends from a task of its own. `host_id`
    /// becomes `service.instance.id`.
    ///
    /// # Errors
    /// The endpoint is not a URL of plain HTTP.
    pub fn to(endpoint: &str, host_id: String) -> Result<Traces, Diagnostic> {
        let bad = |cause: String| {
            Diagnostic::new("bad_traces_endpoint", format!("traces.endpoint {endpoint:?}: {cause}")).with_hint(
                "give a URL such as http://127.0.0.1:4318/v1/traces; for TLS run a collector beside this process",
            )
        };
        let uri: Uri = endpoint.parse().map_err(|error: InvalidUri| bad(error.to_string()))?;
        if uri.scheme_str() != Some("http") || uri.authority().is_none() {
            return Err(bad("it is not a URL of plain HTTP".to_owned()));
        }
        let (queue, spans) = mpsc::channel(QUEUED_SPANS);
        let collector =
            Collector { uri, client: Client::builder(TokioExecutor::new()).build_http(), host_id };
        tokio::spawn(collector.serve(spans));
        Ok(Traces { queue })
    }

    /// Queues a span. It is lost if the queue is full.
    pub fn export(&self, span: Span) {
        if self.queue.try_send(Message::Span(Box::new(span))).is_err() {
            tracing::debug!("a span is lost: the collector does not keep up");
        }
    }

    /// Waits until all queued spans are sent, at most two seconds.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let flushed = async {
            // A task that has ended has nothing to send.
            let _ = self.queue.send(Message::Flush(done)).await;
            let _ = is_done.await;
        };
        if tokio::time::timeout(FLUSH_DEADLINE, flushed).await.is_err() {
            tracing::warn!("the last spans were not sent: the collector does not answer");
        }
    }
}

struct Collector {
    uri: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    host_id: String,
}

impl Collector {
    async fn serve(self, mut queue: mpsc::Receiver<Message>) {
        while let Some(first) = queue.recv().await {
            let mut spans = Vec::new();
            let mut next = Some(first);
            let interval = tokio::time::sleep(BATCH_INTERVAL);
            tokio::pin!(interval);
            let flush = loop {
                match next {
                    Some(Message::Span(span)) => spans.push(*span),
                    Some(Message::Flush(done)) => break Some(done),
                    None => break None,
                }
                if spans.len() >= BATCH_SPANS {
                    break None;
                }
                next = tokio::select! {
                    next = queue.recv() => next,
                    () = &mut interval => None,
                };
            };
            if !spans.is_empty() {
                self.send(&spans).await;
            }
            if let Some(done) = flush {
                let _ = done.send(());
            }
        }
    }

    async fn send(&self, spans: &[Span]) {
        let body = Bytes::from(document(&self.host_id, spans).to_string());
        let mut failure = String::new();
        for attempt in 0..ATTEMPTS {
            tokio::time::sleep(BATCH_INTERVAL * attempt).await;
            match tokio::time::timeout(DEADLINE, self.post(body.clone())).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => failure = error,
                Err(_elapsed) => failure = "no answer".to_owned(),
            }
        }
        tracing::warn!(collector = %self.uri, error = failure, spans = spans.len(), "spans are lost");
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let request = http::Request::post(&self.uri)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
        let status = answer.status();
        // Read to its end, so that the connection is reused.
        let _ = answer.into_body().collect().await;
        if status.is_success() { Ok(()) } else { Err(status.to_string()) }
    }
}

/// Returns an ExportTraceServiceRequest in the JSON of the OTLP specification: ids in hexadecimal, times as text in ns.
fn document(host_id: &str, spans: &[Span]) -> Value {
    let resource = [
        ("service.name", "paperclip-host".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", host_id.to_owned()),
    ];
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(&resource) },
        "scopeSpans": [{ "scope": { "name": "paperclip-host" }, "spans": spans.iter().map(span).collect::<Vec<_>>() }],
    }] })
}

fn span(span: &Span) -> Value {
    const INTERNAL: u8 = 1;
    const CLIENT: u8 = 3;
    const FAILED: u8 = 2;
    let root = id(&[b"root", span.run_id.as_bytes()], 8);
    let mut json = json!({
        "traceId": id(&[b"trace", span.run_id.as_bytes()], 16),
        "name": span.kind.name(),
        "kind": if matches!(span.kind, SpanKind::Call(_)) { CLIENT } else { INTERNAL },
        "startTimeUnixNano": nanos(span.started_at),
        "endTimeUnixNano": nanos(span.ended_at),
        "attributes": attributes(&span.attributes),
        "status": match &span.failure {
            Some(failure) => json!({ "code": FAILED, "message": failure }),
            None => json!({}),
        },
    });
    match &span.kind {
        SpanKind::Run => json["spanId"] = json!(root),
        SpanKind::Queued | SpanKind::Driven | SpanKind::Call(_) => {
            json["spanId"] = json!(format!("{:016x}", RandomState::new().hash_one(&span.run_id).max(1)));
            json["parentSpanId"] = json!(root);
        }
    }
    json
}

fn attributes(attributes: &[(&'static str, String)]) -> Value {
    attributes.iter().map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } })).collect()
}

/// Returns the first bytes of a hash, hexadecimal.
fn id(parts: &[&[u8]], bytes: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().take(bytes).map(|byte| format!("{byte:02x}")).collect()
}

fn nanos(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spans_of_a_run_are_one_trace_below_its_root() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let period = |kind, from, to, failure: Option<&str>| Span {
            run_id: "r1".to_owned(),
            kind,
            started_at: at(from),
            ended_at: at(to),
            attributes: vec![("run_id", "r1".to_owned())],
            failure: failure.map(str::to_owned),
        };
        let spans = [
            period(SpanKind::Driven, 1, 2, None),
            period(SpanKind::Driven, 3, 4, None),
            period(SpanKind::Run, 1, 4, Some("timeout")),
        ];
        let document = document("host-1", &spans);
        let spans = &document["resourceSpans"][0]["scopeSpans"][0]["spans"];
        let root = &spans[2];
        for driven in [&spans[0], &spans[1]] {
            assert_eq!(driven["traceId"], root["traceId"]);
            assert_eq!(driven["parentSpanId"], root["spanId"]);
        }
        assert_ne!(spans[0]["spanId"], spans[1]["spanId"]);
        assert_eq!(root["traceId"].as_str().map(str::len), Some(32));
        assert_eq!(root["spanId"].as_str().map(str::len), Some(16));
        assert_eq!(root["endTimeUnixNano"], "4000000000");
        assert_eq!(root["status"], json!({ "code": 2, "message": "timeout" }));
        assert_eq!(root.get("parentSpanId"), None);
    }

    #[tokio::test]
    async fn exports_spans_to_the_collector_and_flushes() {
        use hyper::service::service_fn;
        use hyper_util::rt::TokioIo;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("bound"));
        let (received, mut bodies) = mpsc::channel(1);
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a connection");
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let received = received.clone();
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let _ = received.send(body).await;
                    Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::new())))
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        let traces = Traces::to(&endpoint, "host-1".to_owned()).expect("plain HTTP");
        traces.export(Span {
            run_id: "r1".to_owned(),
            kind: SpanKind::Call("create Job".to_owned()),
            started_at: UNIX_EPOCH,
            ended_at: UNIX_EPOCH,
            attributes: Vec::new(),
            failure: None,
        });
        traces.flush().await;
        let body: Value = serde_json::from_slice(&bodies.recv().await.expect("a request")).expect("JSON");
        assert_eq!(body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"], "create Job");
    }

    #[tokio::test]
    async fn accepts_only_plain_http() {
        for url in ["https://c/v1/traces", "collector:4318", "/v1/traces", "http://"] {
            let error = Traces::to(url, String::new()).expect_err(url).message;
            assert!(error.contains("traces.endpoint"), "{error}");
        }
    }
}
