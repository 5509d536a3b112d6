//! How many requests this process has sent to the Kubernetes API, by verb, resource and answer.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;

/// Verbs of the Kubernetes API that are counted separately.
pub const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];
/// Resources that are counted separately.
pub const RESOURCES: [&str; 9] = [
    "jobs",
    "pods",
    "pods/log",
    "secrets",
    "configmaps",
    "leases",
    "events",
    "selfsubjectaccessreviews",
    "other",
];

/// Classes of responses that are counted separately; `none`: no response came.
pub const CODES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// Counters of requests; reading and counting need no lock.
#[derive(Debug, Default)]
pub struct RequestCounts {
    counts: [[[AtomicU64; CODES.len()]; RESOURCES.len()]; VERBS.len()],
}

/// One counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    pub verb: &'static str,
    pub resource: &'static str,
    /// Class of the answer's status, such as `2xx`.
    pub code: &'static str,
    pub count: u64,
}

impl RequestCounts {
    /// Returns all counters that are not zero.
    pub fn read(&self) -> Vec<RequestCount> {
        let mut counts = Vec::new();
        for (verb, row) in VERBS.iter().zip(&self.counts) {
            for (resource, cells) in RESOURCES.iter().zip(row) {
                for (code, cell) in CODES.iter().zip(cells) {
                    let count = cell.load(Ordering::Relaxed);
                    if count > 0 {
                        counts.push(RequestCount { verb, resource, code, count });
                    }
                }
            }
        }
        counts
    }

    /// Returns the sum of all counters.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().flatten().map(|cell| cell.load(Ordering::Relaxed)).sum()
    }

    /// Classifies a request, for [`RequestCounts::count`].
    pub(crate) fn asked<B>(request: &http::Request<B>) -> Asked {
        let (verb, resource) = classify(request.method(), request.uri());
        let last = RESOURCES.len() - 1;
        Asked {
            row: VERBS.iter().position(|known| *known == verb).unwrap_or_default(),
            column: RESOURCES.iter().position(|known| *known == resource).unwrap_or(last),
        }
    }

    /// Counts a response by its status, or that there was none.
    pub(crate) fn count(&self, asked: Asked, status: Option<http::StatusCode>) {
        let none = CODES.len() - 1;
        let code =
            status.map_or(none, |status| usize::from(status.as_u16() / 100).saturating_sub(1).min(none));
        self.counts[asked.row][asked.column][code].fetch_add(1, Ordering::Relaxed);
    }
}

/// The counters of one kind of request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    row: usize,
    column: usize,
}

/// Verb and resource of a request, by the paths that the API has for namespaced resources:
/// `/api/v1/namespaces/{ns}/{resource}[/{name}[/{subresource}]]`, and `/apis/{group}/{version}/…` likewise.
fn classify<'a>(method: &Method, uri: &'a http::Uri) -> (&'static str, &'a str) {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let below_version = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => &[],
    };
    let (resource, has_name) = match below_version {
        ["namespaces", _, "pods", _, "log"] => ("pods/log", true),
        ["namespaces", _, resource, rest @ ..] => (*resource, !rest.is_empty()),
        [resource, rest @ ..] => (*resource, !rest.is_empty()),
        [] => ("other", true),
    };
    let is_watch = uri
        .query()
        .is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1")));
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ if is_watch => "watch",
        _ if has_name => "get",
        _ => "list",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_classified_by_method_path_and_query() {
        for (method, uri, expected) in [
            (Method::GET, "/apis/batch/v1/namespaces/n/jobs?labelSelector=a", ("list", "jobs")),
            (
                Method::GET,
                "/apis/batch/v1/namespaces/n/jobs?&watch=true&resourceVersion=1",
                ("watch", "jobs"),
            ),
            (Method::GET, "/apis/batch/v1/namespaces/n/jobs/j", ("get", "jobs")),
            (Method::GET, "/api/v1/namespaces/n/pods/p/log?container=c", ("get", "pods/log")),
            (Method::POST, "/api/v1/namespaces/n/pods?dryRun=All", ("create", "pods")),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/n/leases/l", ("update", "leases")),
            (Method::PATCH, "/apis/batch/v1/namespaces/n/jobs/j", ("patch", "jobs")),
            (Method::DELETE, "/apis/batch/v1/namespaces/n/jobs/j", ("delete", "jobs")),
            (Method::GET, "/version", ("get", "other")),
        ] {
            let uri: http::Uri = uri.parse().expect("a path");
            assert_eq!(classify(&method, &uri), expected, "{method} {uri}");
        }
    }

    #[test]
    fn counts_add_up_and_unknown_resources_are_other() {
        let counts = RequestCounts::default();
        for uri in ["/api/v1/namespaces/n/pods", "/api/v1/namespaces/n/pods", "/api/v1/namespaces/n/things"] {
            let asked = RequestCounts::asked(&http::Request::get(uri).body(()).expect("a request"));
            counts.count(asked, Some(http::StatusCode::OK));
        }
        let asked = RequestCounts::asked(&http::Request::get("/version").body(()).expect("a request"));
        counts.count(asked, None);
        assert_eq!(counts.total(), 4);
        assert_eq!(
            counts.read(),
            [
                RequestCount { verb: "get", resource: "other", code: "none", count: 1 },
                RequestCount { verb: "list", resource: "pods", code: "2xx", count: 2 },
                RequestCount { verb: "list", resource: "other", code: "2xx", count: 1 },
            ]
        );
    }
}
