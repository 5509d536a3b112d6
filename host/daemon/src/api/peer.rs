//! Who sends a request, and whether a web page made somebody's browser send it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::connections::Ticket;
use crate::refusal::{Kind, Refusal};

/// The other end of a connection; every request has it as an extension.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) who: Who,
    /// Whether the address is only reachable from this machine, without TLS: then a browser of this machine can be made to send requests.
    pub(super) is_loopback: bool,
    pub(super) ticket: Arc<Ticket>,
}

/// What is known of a peer before it sends anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// A user of this machine, by the system's word: the daemon's own, or root.
    User(u32),
    Address(IpAddr),
}

/// Refuses what a web page can make a browser send: the name by which a page was loaded is in `Host` although it resolves to a loopback
/// address, and `Origin` is there if a page of another site sends the request. This API is for programs.
pub(super) async fn refuse_browsers(request: Request, next: Next) -> Result<Response, Refusal> {
    let is_loopback = request.extensions().get::<Peer>().is_some_and(|peer| peer.is_loopback);
    check(request.headers(), request.uri().authority(), is_loopback)?;
    Ok(next.run(request).await)
}

fn check(headers: &HeaderMap, authority: Option<&Authority>, is_loopback: bool) -> Result<(), Refusal> {
    if headers.contains_key(ORIGIN) {
        return Err(Refusal::new(
            Kind::Forbidden,
            "the request has an Origin: a web page sent it",
            "send requests from a program, without the header Origin",
        ));
    }
    if !is_loopback {
        return Ok(());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let is_named = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(is_loopback_name),
        (None, None) | (Some(_), Some(_)) | (None, Some(_)) => false,
    };
    if is_named && authority.is_none_or(|authority| is_loopback_name(authority.as_str())) {
        return Ok(());
    }
    Err(Refusal::new(
        Kind::Forbidden,
        "Host does not name this machine: a loopback address is reached as localhost or by its number",
        "send the request to 127.0.0.1, [::1] or localhost",
    ))
}

/// Returns whether a host with an optional port is this machine, by its text alone.
fn is_loopback_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let number = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || number.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Returns whether a body is declared as JSON: a form of a web page cannot do that.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).map(HeaderValue::to_str);
    let Some(Ok(declared)) = declared else { return false };
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
        lines.collect()
    }

    #[test]
    fn a_loopback_address_is_reached_by_its_own_names_only() {
        for host in ["127.0.0.1", "127.0.0.1:7400", "127.9.9.9:1", "localhost", "LOCALHOST:80", "[::1]:7400"]
        {
            assert!(check(&headers(&[("host", host)]), None, true).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7400",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "h",
            "10.0.0.1",
            "localhost@evil.example",
            "[::2]",
        ] {
            let refused = check(&headers(&[("host", host)]), None, true).expect_err(host);
            assert_eq!(refused.kind, Kind::Forbidden);
            assert!(check(&headers(&[("host", host)]), None, false).is_ok(), "{host}");
        }
        assert!(check(&HeaderMap::new(), None, true).is_err());
        let mut twice = headers(&[("host", "localhost")]);
        twice.append(HOST, HeaderValue::from_static("evil.example"));
        assert!(check(&twice, None, true).is_err());
        let evil = "evil.example".parse().expect("an authority");
        assert!(check(&headers(&[("host", "localhost")]), Some(&evil), true).is_err());
    }

    #[test]
    fn a_request_of_a_web_page_is_refused_everywhere() {
        for is_loopback in [true, false] {
            for origin in ["http://evil.example", "null", "http://localhost"] {
                let given = headers(&[("host", "localhost"), ("origin", origin)]);
                assert!(check(&given, None, is_loopback).is_err(), "{origin}");
            }
        }
    }

    #[test]
    fn only_json_is_json() {
        for (declared, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("text/plain;application/json", false),
            ("", false),
        ] {
            assert_eq!(is_json(&headers(&[("content-type", declared)])), expected, "{declared}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
