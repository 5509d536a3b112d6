//! One watch that goes on whatever the server does.
//!
//! kube's watcher resumes and re-lists by itself, but repeats two things for ever, both observed: a watch that the server refuses with
//! HTTP 410 at its start, and, thousands of times a second, one that the server closes at once. Neither leaves its own loop, so that its
//! requests are paced below it, and it is made anew where its resource version has expired.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::client::Body;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::BoxError;

use super::{Heard, MANAGED_BY, MANAGER};
use crate::transport;

/// What the server closes a watch after; one that has died unnoticed is found 5 s later.
const WATCH_TIMEOUT_S: u32 = 45;
/// Least time between the beginnings of two watches of the same objects.
const MIN_RESTART: Duration = Duration::from_secs(1);
/// Longest time until the server must have begun to answer.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// First wait after a failure; doubled with each further one.
const BACKOFF_BASE: Duration = Duration::from_millis(200);
/// Longest wait: a server that is back must not be waited for.
const BACKOFF_CAP: Duration = Duration::from_millis(1_600);
/// Failures further apart have nothing to do with each other.
const STREAK_GAP: Duration = Duration::from_secs(10);

/// What a watch brings.
#[derive(Debug)]
pub(super) enum News<K> {
    Event(Event<K>),
    /// The server refuses the watch itself. SequencedRecord once for failures in a row.
    Refused(String),
}

/// Watches the objects of a kind with our label; never ends.
pub(super) async fn supervise<K>(
    client: Client,
    namespace: String,
    heard_at: Heard,
    mut tell: impl FnMut(News<K>),
) where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api: Api<K> = Api::namespaced(paced(client, heard_at), &namespace);
    let config =
        watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}")).timeout(WATCH_TIMEOUT_S);
    let mut failures = Failures::default();
    loop {
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        while let Some(event) = events.next().await {
            let error = match event {
                Ok(event) => {
                    tell(News::Event(event));
                    continue;
                }
                Err(error) => error,
            };
            let wait = failures.next();
            let text = transport::explain(&error);
            if failures.streak == 1 {
                tracing::warn!(namespace, kind = %K::kind(&()), error = text, "the watch failed; trying again");
                if matches!(status(&error), Some(401 | 403)) {
                    let plural = K::plural(&());
                    tell(News::Refused(format!(
                        "{plural} in namespace {namespace} cannot be watched: {text}; grant list and watch on {plural}"
                    )));
                }
            } else {
                tracing::debug!(namespace, kind = %K::kind(&()), error = text, "the watch failed again");
            }
            tokio::time::sleep(wait).await;
            if is_expired(&error) {
                break;
            }
        }
    }
}

/// Whether the watcher would go on with a resource version that the server no longer has. It re-lists by itself only where the
/// server says so within a watch that had begun.
fn is_expired(error: &watcher::Error) -> bool {
    !matches!(error, watcher::Error::WatchError(_)) && status(error) == Some(410)
}

fn status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}

/// The same client, but for a pause before a watch that follows another too soon, and a deadline until an answer begins.
fn paced(client: Client, heard_at: Heard) -> Client {
    let namespace = client.default_namespace().to_owned();
    let next_at = Arc::new(Mutex::new(Instant::now()));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let client = client.clone();
        let (next_at, heard_at) = (Arc::clone(&next_at), Arc::clone(&heard_at));
        async move {
            if is_watch(request.uri()) {
                let mut next_at = next_at.lock().await;
                tokio::time::sleep_until(*next_at).await;
                *next_at = Instant::now() + MIN_RESTART;
            }
            match tokio::time::timeout(START_DEADLINE, client.send(request)).await {
                Ok(Ok(answer)) => {
                    if answer.status().is_success() {
                        *super::lock(&heard_at) = Instant::now();
                    }
                    Ok(answer)
                }
                Ok(Err(error)) => Err(BoxError::from(error)),
                Err(_elapsed) => Err(format!("no answer within {} s", START_DEADLINE.as_secs()).into()),
            }
        }
    });
    Client::new(service, namespace)
}

fn is_watch(uri: &http::Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// Failures one after another.
#[derive(Debug, Default)]
struct Failures {
    streak: u32,
    last: Option<Instant>,
}

impl Failures {
    /// Counts one, and how long to wait for it.
    fn next(&mut self) -> Duration {
        let now = Instant::now();
        if self.last.is_none_or(|last| now.duration_since(last) > STREAK_GAP) {
            self.streak = 0;
        }
        let wait = BACKOFF_BASE.saturating_mul(1 << self.streak.min(8)).min(BACKOFF_CAP);
        self.streak += 1;
        self.last = Some(now);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_cap_and_begin_anew_after_a_good_while() {
        let mut failures = Failures::default();
        let waits: Vec<u128> = (0..5).map(|_| failures.next().as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 1_600]);
        tokio::time::advance(STREAK_GAP + Duration::from_millis(1)).await;
        assert_eq!((failures.next().as_millis(), failures.streak), (200, 1));
    }

    #[test]
    fn a_watch_is_known_by_its_query() {
        assert!(is_watch(&http::Uri::from_static(
            "/apis/batch/v1/namespaces/n/jobs?&watch=true&timeoutSeconds=45"
        )));
        assert!(!is_watch(&http::Uri::from_static(
            "/apis/batch/v1/namespaces/n/jobs?&labelSelector=watch%3Dtrue"
        )));
    }
}
