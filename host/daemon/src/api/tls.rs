//! TLS for TCP addresses: the certificate's files are read again when they change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::config::TlsFiles;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::reloaded::Reloaded;

/// How long a client may take for its part of the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The largest file of a certificate or key.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Accepts TLS connections with the current certificate.
#[derive(Debug, Clone)]
pub(super) struct Tls(Arc<Reloaded<ServerConfig>>);

impl Tls {
    /// # Errors
    /// A file cannot be read, or certificate and key do not fit.
    pub(super) fn open(files: &TlsFiles) -> Result<Tls, Diagnostic> {
        let paths = vec![files.certificate.clone(), files.key.clone()];
        let files = files.clone();
        Ok(Tls(Arc::new(Reloaded::open(paths, move || read(&files))?)))
    }

    /// # Errors
    /// The client does not speak TLS, or takes too long.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = TlsAcceptor::from(self.0.get());
        match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, Diagnostic> {
    let bad = |path: &std::path::Path, cause: String| {
        Diagnostic::new("bad_certificate", format!("{}: {cause}", path.display()))
            .with_hint("name the certificate chain and its private key, both as PEM, in [tls]")
    };
    let read = |path: &std::path::Path| {
        paperclip_files::read(path, MAX_FILE_BYTES).map_err(|error| bad(path, error.to_string()))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(&files.certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate, "it has no certificate".to_owned()));
    }
    // The parser's own error may show what is in the file.
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|_| bad(&files.key, "it has no private key".to_owned()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| bad(&files.certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    use super::*;

    fn write(folder: &Path) -> (TlsFiles, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(["host.test".to_owned()]).expect("a certificate");
        let files = TlsFiles { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        std::fs::write(&files.certificate, made.cert.pem()).expect("written");
        std::fs::write(&files.key, made.signing_key.serialize_pem()).expect("written");
        (files, made.cert.der().clone())
    }

    /// Returns whether a client that trusts only this certificate connects.
    async fn connects(tls: &Tls, trusted: CertificateDer<'static>) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(trusted).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("an address");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        let (accepted, _) = listener.accept().await.expect("accepted");
        let connector = TlsConnector::from(Arc::new(config));
        let name = "host.test".try_into().expect("a name");
        let (served, connected) = tokio::join!(tls.accept(accepted), connector.connect(name, stream));
        served.is_ok() && connected.is_ok()
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_without_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let (files, first) = write(dir.path());
        let tls = Tls::open(&files).expect("a certificate");
        assert!(connects(&tls, first.clone()).await);
        let (_, second) = write(dir.path());
        assert!(connects(&tls, second.clone()).await);
        assert!(!connects(&tls, first).await);
        std::fs::write(&files.certificate, "damaged").expect("written");
        assert!(connects(&tls, second).await, "the former one stays in use");
    }

    #[test]
    fn a_wrong_file_is_named_without_its_content() {
        let dir = tempfile::tempdir().expect("a folder");
        let (files, _) = write(dir.path());
        std::fs::write(&files.key, "canary").expect("written");
        let error = Tls::open(&files).expect_err("refused").to_string();
        assert!(error.contains("tls.key") && !error.contains("canary"), "{error}");
        std::fs::write(&files.certificate, "").expect("written");
        assert!(Tls::open(&files).expect_err("refused").to_string().contains("tls.crt"));
    }
}
