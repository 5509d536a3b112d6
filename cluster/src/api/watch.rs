//! `watch`: the changes of a collection as a stream of JSON documents, one a line.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Server;
use super::media::{JSON, View};
use super::query::{Params, Selection};
use crate::error::ApiError;
use crate::resource::Resource;
use crate::store::{Change, ChangeKind, Key, Object, Watch};

/// The default duration of a watch.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// About how often a quiet watch sends a bookmark with the version it has reached.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Answers a watch of a collection, or of the one object that `name` names.
///
/// As in the API server, an error about the version is sent inside the stream.
///
/// # Errors
/// `BadRequest` for parameters that can't be read or don't go together.
pub(super) fn watch(
    server: &Server,
    resource: Resource,
    namespace: Option<&str>,
    params: &Params,
    view: View,
) -> Result<Response, ApiError> {
    let selection = params.selection(resource)?;
    let start = Start::of(params)?;
    let timeout = params.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    let now = Instant::now();
    let mut feed = Feed {
        resource,
        selection,
        view,
        has_bookmarks: params.flag("allowWatchBookmarks")?,
        was_described: false,
        frames: VecDeque::new(),
        source: None,
        ends: now + timeout.filter(|seconds| *seconds > 0).map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        next_bookmark: now + BOOKMARK_INTERVAL,
    };
    feed.start(server, namespace, &start);
    let frames = futures::stream::unfold(feed, |mut feed| async move {
        feed.next().await.map(|frame| (Ok::<Bytes, Infallible>(frame), feed))
    });
    let mut response = Response::new(Body::from_stream(frames.take_until(server.stopped())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    Ok(response)
}

/// The version from which a watch starts.
enum Start {
    /// The objects that are there, as if just added; then the changes.
    Now { marks_list_end: bool },
    /// The changes after now.
    Later,
    /// The changes after a version.
    After(u64),
}

impl Start {
    fn of(params: &Params) -> Result<Start, ApiError> {
        let version = params.version("resourceVersion")?.filter(|version| *version > 0);
        let initial = params.optional_flag("sendInitialEvents")?;
        let is_not_older = params.get("resourceVersionMatch") == Some("NotOlderThan");
        match (initial, version) {
            (Some(_), _) if !is_not_older => Err(ApiError::unprocessable(
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires \
                 setting resourceVersionMatch to NotOlderThan",
            )),
            (None, _) if params.get("resourceVersionMatch").is_some() => Err(ApiError::unprocessable(
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is \
                 forbidden for watch unless sendInitialEvents is provided",
            )),
            (Some(true), _) => Ok(Start::Now { marks_list_end: true }),
            (None, None) => Ok(Start::Now { marks_list_end: false }),
            (Some(false), None) => Ok(Start::Later),
            (Some(false) | None, Some(version)) => Ok(Start::After(version)),
        }
    }
}

struct Feed {
    resource: Resource,
    selection: Selection,
    view: View,
    has_bookmarks: bool,
    /// Whether the columns of a table were already sent.
    was_described: bool,
    /// The events that are not sent yet.
    frames: VecDeque<Bytes>,
    /// `None` once the stream is over.
    source: Option<Watch>,
    ends: Instant,
    next_bookmark: Instant,
}

impl Feed {
    fn start(&mut self, server: &Server, namespace: Option<&str>, start: &Start) {
        let from = match start {
            Start::After(version) => *version,
            Start::Later => server.store.revision(),
            Start::Now { marks_list_end } => {
                let (revision, items) = server.store.list(self.resource, namespace);
                for object in &items {
                    if self.selection.matches(object) {
                        self.push("ADDED", object);
                    }
                }
                if *marks_list_end {
                    self.push_bookmark(revision, true);
                }
                revision
            }
        };
        match server.store.watch(self.resource, namespace.map(str::to_owned), from) {
            Ok(source) => self.source = Some(source),
            Err(error) => self.push_frame("ERROR", &error.to_status()),
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            let source = self.source.as_mut()?;
            let pause = if self.has_bookmarks { self.next_bookmark.min(self.ends) } else { self.ends };
            tokio::select! {
                change = source.next() => match change {
                    Ok(change) => self.send(&change),
                    Err(error) => {
                        self.source = None;
                        self.push_frame("ERROR", &error.to_status());
                    }
                },
                () = tokio::time::sleep_until(pause) => {
                    let now = Instant::now();
                    if self.has_bookmarks {
                        let position = source.position();
                        self.push_bookmark(position, false);
                        self.next_bookmark = now + BOOKMARK_INTERVAL;
                    }
                    if now >= self.ends {
                        self.source = None;
                    }
                }
            }
        }
    }

    /// A change as this watch sees it: what leaves the selection was deleted, what enters it was added.
    fn send(&mut self, change: &Change) {
        let is_in = change.kind != ChangeKind::Deleted && self.selection.matches(&change.object);
        let previous = change.previous.as_deref().filter(|previous| self.selection.matches(previous));
        match (previous, is_in) {
            (None, true) => self.push("ADDED", &change.object),
            (Some(_), true) => self.push("MODIFIED", &change.object),
            (Some(_), false) if change.kind == ChangeKind::Deleted => self.push("DELETED", &change.object),
            (Some(previous), false) => {
                let mut last_seen = previous.clone();
                last_seen["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                self.push("DELETED", &last_seen);
            }
            (None, false) => {}
        }
    }

    fn push(&mut self, kind: &str, object: &Object) {
        let seen = self.view.one(self.resource, object, !self.was_described);
        self.was_described = true;
        self.push_frame(kind, &seen);
    }

    fn push_bookmark(&mut self, revision: u64, is_initial_end: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if is_initial_end {
            metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let object = json!({
            "kind": self.resource.kind(),
            "apiVersion": self.resource.api_version(),
            "metadata": metadata,
        });
        let seen = self.view.one(self.resource, &object, !self.was_described);
        self.push_frame("BOOKMARK", &seen);
    }

    fn push_frame(&mut self, kind: &str, object: &Value) {
        let mut line = json!({"type": kind, "object": object}).to_string();
        line.push('\n');
        self.frames.push_back(Bytes::from(line));
    }
}

/// A watch of one object is a watch of its collection by name.
pub(super) fn watch_one(
    server: &Server,
    key: &Key,
    params: &Params,
    view: View,
) -> Result<Response, ApiError> {
    let by_name = params.with("fieldSelector", &format!("metadata.name={}", key.name));
    let namespace = key.resource.is_namespaced().then_some(key.namespace.as_str());
    watch(server, key.resource, namespace, &by_name, view)
}
