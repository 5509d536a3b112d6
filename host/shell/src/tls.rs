//! Which certificates of an API server are trusted.

use std::sync::Arc;

use kube::Config;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

/// Returns the TLS configuration of a cluster.
///
/// # Errors
/// Its certificates or keys cannot be used.
pub(crate) fn client_config(config: &Config) -> Result<ClientConfig, kube::Error> {
    use kube::client::ConfigExt as _;
    let mut tls = config.rustls_client_config()?;
    let named = config.root_cert.as_deref().filter(|_| !config.accept_invalid_certs).unwrap_or_default();
    if let Some(verifier) = Verifier::new(named) {
        tls.dangerous().set_certificate_verifier(Arc::new(verifier));
    }
    Ok(tls)
}

/// Verifies as usual, and accepts besides a server whose certificate is itself the one that the kubeconfig names as its authority, as
/// kubectl does: webpki refuses an authority's certificate as a server's.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Returns `None` without authorities, or where one of them cannot be used: kube's own verifier reports it.
    fn new(authorities: &[Vec<u8>]) -> Option<Verifier> {
        let authorities: Vec<_> = authorities.iter().map(|der| CertificateDer::from(der.clone())).collect();
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone()).ok()?;
        }
        let usual = WebPkiServerVerifier::builder(Arc::new(roots)).build().ok()?;
        Some(Verifier { usual, authorities })
    }
}

/// Whether the only fault of a certificate is that it is an authority's. It is found after the dates were checked.
fn is_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else { return false };
    matches!(cause.downcast_ref::<webpki::Error>(), Some(webpki::Error::CaUsedAsEndEntity))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.usual.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(error) if is_authority(&error) && self.authorities.contains(certificate) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use std::time::Duration;

    /// A certificate that is its own authority, for this machine, in the year 2030.
    fn authority() -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2030, 1, 1), date_time_ymd(2031, 1, 1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn verify(
        trusted: &CertificateDer<'_>,
        shown: &CertificateDer<'_>,
        name: &str,
        year: u64,
    ) -> Result<(), Error> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let verifier = Verifier::new(&[trusted.to_vec()]).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600 + 86_400));
        verifier.verify_server_cert(shown, &[], &name, &[], now).map(drop)
    }

    #[test]
    fn a_server_certificate_that_is_the_named_authority_is_accepted() {
        let (one, other) = (authority(), authority());
        assert_eq!(verify(&one, &one, "127.0.0.1", 2030), Ok(()));
        assert!(is_authority(&verify(&one, &other, "127.0.0.1", 2030).unwrap_err()), "not the named one");
        let refused = [
            verify(&one, &one, "127.0.0.2", 2030).unwrap_err(),
            verify(&one, &one, "127.0.0.1", 2029).unwrap_err(),
            verify(&one, &one, "127.0.0.1", 2032).unwrap_err(),
        ];
        let [name, early, late] = refused.map(|error| format!("{error:?}"));
        assert!(name.contains("NotValidForName"), "{name}");
        assert!(early.contains("NotValidYet") && late.contains("Expired"), "{early} {late}");
    }
}
