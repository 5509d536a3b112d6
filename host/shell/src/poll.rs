//! Polls of Paperclip's API, with the run's token. Redirects are not followed: the token would go to another server.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HeaderName};
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use kube::client::ConfigExt;
use paperclip_contract::types::ApiError;

use crate::exchange::no_answer;
use crate::transport;

/// How long a response may take.
pub const POLL_DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of a response that are read.
pub const MAX_BODY_BYTES: usize = 64 << 10;
/// The header with the run's id.
const RUN_ID: HeaderName = HeaderName::from_static("x-paperclip-run-id");

/// Why a URL cannot be used for Paperclip's API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("Paperclip's API URL {url:?}: {cause}")]
    Bad { url: String, cause: String },
    #[error("Paperclip's API URL {url}: no TLS: {cause}")]
    Tls { url: String, cause: String },
}

/// Paperclip's API at its configured URL. Cheap to clone; one per process.
#[derive(Debug, Clone)]
pub struct PaperclipApi {
    /// Without a slash at its end.
    base: String,
    client: Connections,
}

#[derive(Debug, Clone)]
enum Connections {
    Plain(Client<HttpConnector, Empty<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>),
}

impl PaperclipApi {
    /// Returns a client for an `http://` or `https://` URL, with or without a path. Opens no connection yet.
    ///
    /// # Errors
    /// The URL has another scheme, a query or a password, or TLS cannot be set up.
    pub fn new(url: &str) -> Result<PaperclipApi, UrlError> {
        let bad = |cause: &str| UrlError::Bad { url: url.to_owned(), cause: cause.to_owned() };
        let url = url.trim();
        let base = url.trim_end_matches('/');
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
        if uri.query().is_some() {
            return Err(bad("it has a query"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(UrlError::Bad {
                url: uri.host().unwrap_or_default().to_owned(),
                cause: "it has a user or password; the run's token is the only credential".to_owned(),
            });
        }
        let client = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {
                Connections::Plain(transport::http().build(transport::tcp()))
            }
            Some(scheme) if *scheme == Scheme::HTTPS => {
                let tls =
                    kube::Config::new(uri.clone()).rustls_https_connector_with_connector(transport::tcp());
                let tls = tls.map_err(|error| UrlError::Tls {
                    url: base.to_owned(),
                    cause: transport::explain(&error),
                })?;
                Connections::Tls(transport::http().build(tls))
            }
            Some(scheme) => return Err(bad(&format!("it speaks {scheme}, not http or https"))),
            None => return Err(bad("it has no http:// or https://")),
        };
        Ok(PaperclipApi { base: base.to_owned(), client })
    }

    /// Returns the URL, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// GETs a path below the URL. Returns the status and the body, cut to [`MAX_BODY_BYTES`]. Redirects are returned, not followed.
    ///
    /// # Errors
    /// No response came within [`POLL_DEADLINE`], or the request is invalid.
    pub async fn get(
        &self,
        path: &str,
        token: Option<&str>,
        run_id: &str,
    ) -> Result<(u16, String), ApiError> {
        let request = self.request(path, token, run_id).map_err(no_answer)?;
        match tokio::time::timeout(POLL_DEADLINE, self.send(request)).await {
            Ok(outcome) => outcome.map_err(|cause| no_answer(format!("{}: {cause}", self.base))),
            Err(_elapsed) => {
                Err(no_answer(format!("{}: no answer within {} s", self.base, POLL_DEADLINE.as_secs())))
            }
        }
    }

    fn request(
        &self,
        path: &str,
        token: Option<&str>,
        run_id: &str,
    ) -> Result<http::Request<Empty<Bytes>>, String> {
        if !path.starts_with('/') {
            return Err(format!("path {path:?} does not start with a slash"));
        }
        let mut request =
            http::Request::get(format!("{}{path}", self.base)).header(ACCEPT, "application/json");
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value =
                value.map_err(|_invalid| "authToken has characters that no header can have".to_owned())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Ok(run_id) = HeaderValue::from_str(run_id) {
            request = request.header(RUN_ID, run_id);
        }
        request.body(Empty::new()).map_err(|error| format!("path {path:?}: {error}"))
    }

    async fn send(&self, request: http::Request<Empty<Bytes>>) -> Result<(u16, String), String> {
        let response = match &self.client {
            Connections::Plain(client) => client.request(request).await,
            Connections::Tls(client) => client.request(request).await,
        };
        let response = response.map_err(|error| transport::explain(&error))?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while bytes.len() < MAX_BODY_BYTES
            && let Some(frame) = body.frame().await
        {
            let frame = frame.map_err(|error| transport::explain(&error))?;
            if let Some(data) = frame.data_ref() {
                let capacity = MAX_BODY_BYTES - bytes.len();
                bytes.extend_from_slice(&data[..data.len().min(capacity)]);
            }
        }
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use paperclip_diagnostic::Diagnose as _;

    use super::*;

    #[test]
    fn accepts_only_an_http_url_without_query_and_password() {
        for (url, expected) in [
            ("ftp://p", "it speaks ftp"),
            ("paperclip", "it has no http://"),
            ("http://", "empty string"),
            ("http://p?x=1", "it has a query"),
            ("", "empty"),
        ] {
            let error = PaperclipApi::new(url).expect_err(url);
            let hint = error.hint().expect("a hint");
            assert!(
                error.to_string().contains(expected) && hint.contains("http://paperclip:3100"),
                "{error}"
            );
        }
        let error = PaperclipApi::new("http://user:canary@p").expect_err("a password").to_string();
        assert!(!error.contains("canary"), "{error}");
        assert_eq!(PaperclipApi::new("http://p:3100/base/").expect("good").url(), "http://p:3100/base");
    }
}
