//! One watch that continues whatever the server does.
//!
//! kube's watcher resumes and lists again by itself, but repeats two things forever, both observed: a watch that the server refuses with
//! HTTP 410 at its start, and, thousands of times a second, a watch that the server closes at once. Neither leaves the watcher's own
//! loop. So its requests are paced below it, and a new watcher is made when the resource version has expired.

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

use super::{LastActivity, MANAGED_BY, MANAGER};
use crate::transport;

/// After this the server closes a watch, in s; one that was cut unnoticed is found 5 s later.
const WATCH_TIMEOUT_S: u32 = 45;
/// Least time between the starts of two watches of the same objects.
const MIN_RESTART: Duration = Duration::from_secs(1);
/// Longest time until the server must have started to answer.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// First wait after a failure; doubled with each further failure.
const BACKOFF_BASE: Duration = Duration::from_millis(200);
/// Longest wait: the watch must be back soon after the server is.
const BACKOFF_CAP: Duration = Duration::from_millis(1_600);
/// Failures further apart are not failures in a row.
const STREAK_GAP: Duration = Duration::from_secs(10);

/// What a watch reports.
#[derive(Debug)]
pub(crate) enum Notice<K> {
    Event(Event<K>),
    /// The server refuses the watch itself. Reported once for failures in a row.
    Refused(String),
}

/// Selects the objects that have the product's label.
pub(crate) fn of_the_product() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// Watches the objects of a kind that a selector of labels selects; never ends.
pub(crate) async fn supervise<K>(
    client: Client,
    namespace: String,
    labels: String,
    last_activity: LastActivity,
    mut report: impl FnMut(Notice<K>),
) where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    let api: Api<K> = Api::namespaced(paced(client, last_activity), &namespace);
    let config = watcher::Config::default().labels(&labels).timeout(WATCH_TIMEOUT_S);
    let mut failures = Failures::default();
    loop {
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        while let Some(event) = events.next().await {
            let error = match event {
                Ok(event) => {
                    report(Notice::Event(event));
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
                    report(Notice::Refused(format!(
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

/// Whether the watcher would continue with a resource version that the server no longer has. It lists again by itself only if the
/// server says so within a watch that had started.
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

/// Returns the client with a pause before a watch that follows another too soon, and a deadline until a response starts.
fn paced(client: Client, last_activity: LastActivity) -> Client {
    let namespace = client.default_namespace().to_owned();
    let next_at = Arc::new(Mutex::new(Instant::now()));
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let client = client.clone();
        let (next_at, last_activity) = (Arc::clone(&next_at), Arc::clone(&last_activity));
        async move {
            if is_watch(request.uri()) {
                let mut next_at = next_at.lock().await;
                tokio::time::sleep_until(*next_at).await;
                *next_at = Instant::now() + MIN_RESTART;
            }
            match tokio::time::timeout(START_DEADLINE, client.send(request)).await {
                Ok(Ok(answer)) => {
                    if answer.status().is_success() {
                        *super::lock(&last_activity) = Instant::now();
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

/// Failures in a row.
#[derive(Debug, Default)]
struct Failures {
    streak: u32,
    last: Option<Instant>,
}

impl Failures {
    /// Counts a failure. Returns how long to wait after it.
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
    async fn waits_double_up_to_the_cap_and_restart_after_a_gap() {
        let mut failures = Failures::default();
        let waits: Vec<u128> = (0..5).map(|_| failures.next().as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_600, 1_600]);
        tokio::time::advance(STREAK_GAP + Duration::from_millis(1)).await;
        assert_eq!((failures.next().as_millis(), failures.streak), (200, 1));
    }

    #[test]
    fn recognises_a_watch_by_its_query() {
        assert!(is_watch(&http::Uri::from_static(
            "/apis/batch/v1/namespaces/n/jobs?&watch=true&timeoutSeconds=45"
        )));
        assert!(!is_watch(&http::Uri::from_static(
            "/apis/batch/v1/namespaces/n/jobs?&labelSelector=watch%3Dtrue"
        )));
    }
}
