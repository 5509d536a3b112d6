//! Connections: TCP, TLS and HTTP as every client of this process uses them.

use std::time::Duration;

use hyper_util::client::legacy::Builder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::credential_plugin;

/// Longest time to open a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which a connection is probed. Log streams are silent for long, and only a probe finds a half-open one.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Probes without an answer after which a connection is dead.
const KEEPALIVE_PROBES: u32 = 3;
/// Longest time that sent bytes may stay unacknowledged.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval and patience of HTTP/2 pings while calls are open: a dead shared connection is dropped before a call's own deadline.
const PING: Duration = Duration::from_secs(10);
/// Most bytes that an HTTP/1.1 connection reads ahead of its reader.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// How long an idle connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns a TCP connector with keepalive; TLS may be put on top.
pub(crate) fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
    tcp
}

/// HTTP over such connections.
pub(crate) fn http() -> Builder {
    let mut http = Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_buf_size(READ_AHEAD_BYTES)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING);
    http
}

/// Returns an error's text with its causes, each once: hyper's outermost text alone is "client error (Connect)".
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(part) = credential_plugin::failure(error) {
            // Its causes quote what the plugin wrote.
            return if text.is_empty() { part } else { format!("{text}: {part}") };
        }
        let part = error.to_string();
        let is_wrapper = matches!(
            error.downcast_ref::<kube::Error>(),
            Some(kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::Auth(_))
        );
        if text.is_empty() && !is_wrapper {
            text = part;
        } else if !is_wrapper && !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn names_each_cause_once_and_no_wrapper() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "refused");
        assert_eq!(explain(&kube::Error::Service(Box::new(refused))), "refused");
        let outer = kube::Error::ReadEvents(io::Error::other("reset"));
        assert_eq!(explain(&outer), "Error reading events stream: reset");
    }
}
