//! The client over TLS: which versions of HTTP it speaks, and whom it trusts.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::Listener;
use http::Version;
use paperclip_contract::types::ObjectRef;
use paperclip_engine::api::{ApiCall, ApiReply};
use paperclip_engine::driver::LogPiece;
use paperclip_engine::intake::Secrets;
use paperclip_engine::log::LogRequest;
use paperclip_shell::logs::LogStream;
use paperclip_shell::{Access, Cluster, calls};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::server::TlsStream;

use crate::server::{Listening, Server, kubeconfig, not_found, text};

/// Accepts TLS; a handshake that fails is the client's business.
struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (tcp, address) = self.tcp.accept().await.unwrap();
            if let Ok(tls) = self.acceptor.accept(tcp).await {
                return (tls, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A certificate for this machine, and its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// A server that offers both versions of HTTP.
async fn listen(server: Server, certificate: &str, key: &str) -> Listening {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", tcp.local_addr().unwrap());
    server.listen_on(Tls { tcp, acceptor: TlsAcceptor::from(Arc::new(config)) }, url)
}

async fn connect(url: &str, certificate: &str) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate).unwrap();
    let server = format!(r#""certificate-authority":{},"server":"#, json!(ca.display().to_string()));
    let kubeconfig = kubeconfig(url).replace(r#""server":"#, &server);
    Cluster::connect(&Access::Inline { kubeconfig }).await.unwrap()
}

#[tokio::test]
async fn calls_share_an_http_2_connection_and_streams_use_http_1() {
    let (certificate, key) = certificate();
    let server =
        Server::new(|seen| if seen.path.ends_with("/log") { text(200, "line") } else { not_found() });
    let server = listen(server, &certificate, &key).await;
    let cluster = connect(&server.url, &certificate).await;
    let get = ApiCall::GetJob { namespace: "n".into(), name: "j".into() };
    assert_eq!(calls::call(&cluster, &Secrets::default(), get).await, Ok(ApiReply::Job(None)));
    let pod = ObjectRef { namespace: "n".into(), name: "p".into(), uid: "u".into() };
    let request = LogRequest { follow: true, since_s: None };
    let mut stream = LogStream::open(&cluster, pod, "agent".to_owned(), request);
    assert_eq!(
        std::future::poll_fn(|context| stream.poll_next(context)).await,
        LogPiece::Opened { keeps_unread: false }
    );
    let versions: Vec<Version> = server.server.seen().iter().map(|seen| seen.version).collect();
    assert_eq!(versions, [Version::HTTP_2, Version::HTTP_11]);
    assert!(server.server.seen().iter().all(|seen| seen.headers["authorization"] == "Bearer cluster-token"));
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (certificate, key) = certificate();
    let (other, _) = self::certificate();
    let server = listen(Server::new(|_| not_found()), &certificate, &key).await;
    let error = connect(&server.url, &other).await.version().await.unwrap_err().to_string();
    assert!(error.contains("certificate") && error.contains(&server.url), "{error}");
    assert!(server.server.seen().is_empty(), "no token was sent");
}

/// A certificate for this machine that is an authority's, as some installers make it.
fn authority() -> (String, String) {
    let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_server_whose_certificate_is_its_own_authority_is_used_if_the_kubeconfig_names_it() {
    let ((certificate, key), (other, _)) = (authority(), authority());
    let server = listen(Server::new(|_| not_found()), &certificate, &key).await;
    let get = ApiCall::GetJob { namespace: "n".into(), name: "j".into() };
    let cluster = connect(&server.url, &certificate).await;
    assert_eq!(calls::call(&cluster, &Secrets::default(), get).await, Ok(ApiReply::Job(None)));
    let error = connect(&server.url, &other).await.version().await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(server.server.seen().len(), 1, "no token was sent to the other");
}
