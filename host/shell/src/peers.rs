//! Requests that one host passes on to another, with the key that hosts share.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use kube::client::ConfigExt;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::transport;

/// Says that a request comes from another host, which is named: it is not passed on again.
pub const FORWARDED: HeaderName = HeaderName::from_static("x-paperclip-forwarded");
/// How long another host may take to answer. What it answers may be a stream that stays open.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// A client of other hosts. One per process.
#[derive(Debug)]
pub struct Peers {
    /// Sent as the bearer token.
    key: HeaderValue,
    /// Who sends.
    host: HeaderValue,
    plain: Client<HttpConnector, Full<Bytes>>,
    tls: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Peers {
    /// Returns a client that sends this key for this host. By TLS it trusts the certificates of a file, else those of the system, and expects
    /// the certificate of `server_name`, else that of the address.
    ///
    /// # Errors
    /// The file has no certificate, or key or host cannot be sent.
    pub fn new(
        key: &str,
        host: &str,
        ca_file: Option<&Path>,
        server_name: Option<&str>,
    ) -> Result<Peers, String> {
        let mut key = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|error| error.to_string())?;
        key.set_sensitive(true);
        let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
        let mut config = kube::Config::new(Uri::from_static("https://peers.invalid"));
        config.tls_server_name = server_name.map(str::to_owned);
        if let Some(file) = ca_file {
            config.root_cert = Some(certificates(file)?);
        }
        let tls = config.rustls_https_connector_with_connector(transport::tcp());
        let tls = tls.map_err(|error| transport::explain(&error))?;
        Ok(Peers {
            key,
            host,
            plain: transport::http().build(transport::tcp()),
            tls: transport::http().build(tls),
        })
    }

    /// Sends a request to the host at this URL, and returns the head of the answer with a body to be read. Redirects are returned.
    ///
    /// # Errors
    /// The host does not answer, or its URL cannot be used.
    pub async fn send(
        &self,
        base: &str,
        path: &PathAndQuery,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, String> {
        let base: Uri = base.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let (mut head, body) = request.into_parts();
        let is_tls = match base.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(_) | None => return Err("its URL is neither http:// nor https://".to_owned()),
        };
        let mut uri = base.into_parts();
        uri.path_and_query = Some(path.clone());
        head.uri = Uri::from_parts(uri).map_err(|error| error.to_string())?;
        head.headers.insert(AUTHORIZATION, self.key.clone());
        head.headers.insert(FORWARDED, self.host.clone());
        let request = Request::from_parts(head, Full::new(body));
        let answer = if is_tls { self.tls.request(request) } else { self.plain.request(request) };
        match tokio::time::timeout(ANSWER_DEADLINE, answer).await {
            Ok(answer) => answer.map_err(|error| transport::explain(&error)),
            Err(_elapsed) => Err(format!("no answer within {} s", ANSWER_DEADLINE.as_secs())),
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let problem = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let found = CertificateDer::pem_file_iter(file).map_err(|error| problem(&error))?;
    let found: Result<Vec<_>, _> = found.map(|one| one.map(|one| one.to_vec())).collect();
    let found = found.map_err(|error| problem(&error))?;
    if found.is_empty() { Err(problem(&"it has no certificate in PEM")) } else { Ok(found) }
}
