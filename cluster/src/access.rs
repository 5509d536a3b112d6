//! Authentication: a bearer token for clients, and a self-signed certificate of the server.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::random;

/// About 190 bits.
const TOKEN_LETTERS: usize = 32;

/// The secrets of one cluster; in a persistent one they outlive the process, and so does a kubeconfig.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) token: String,
    /// Self-signed, so that it is also the authority.
    pub(crate) certificate_pem: String,
    key_pem: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// New secrets for a server at an address.
    pub(crate) fn generate(address: IpAddr) -> anyhow::Result<Access> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), address.to_string()];
        let (certificate_pem, key_pem) =
            self_signed(names.to_vec()).context("the server's certificate can't be made")?;
        let token = random::text(random::ALPHANUMERIC, TOKEN_LETTERS);
        Ok(Access { token, certificate_pem, key_pem })
    }

    /// The secrets kept in a folder; new ones are made and kept if there are none.
    pub(crate) fn in_folder(folder: &Path, address: IpAddr) -> anyhow::Result<Access> {
        let file = |name: &str| folder.join(name);
        let read = |name: &str| fs::read_to_string(file(name));
        let found: io::Result<Access> = (|| {
            Ok(Access {
                token: read("token")?.trim().to_owned(),
                certificate_pem: read("certificate.pem")?,
                key_pem: read("key.pem")?,
            })
        })();
        match found {
            Ok(access) => Ok(access),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let access = Access::generate(address)?;
                fs::create_dir_all(folder)
                    .and_then(|()| write_private(&file("token"), &access.token))
                    .and_then(|()| write_private(&file("certificate.pem"), &access.certificate_pem))
                    .and_then(|()| write_private(&file("key.pem"), &access.key_pem))
                    .with_context(|| format!("the token can't be kept in {}", folder.display()))?;
                Ok(access)
            }
            Err(e) => Err(e).with_context(|| format!("the token can't be read from {}", folder.display())),
        }
    }

    /// Returns the TLS configuration of the server, with HTTP/2 offered first.
    pub(crate) fn tls(&self) -> anyhow::Result<ServerConfig> {
        let certificate = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())
            .context("the server's certificate can't be read")?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .context("the server's key can't be read")?;
        let provider = tokio_rustls::rustls::crypto::ring::default_provider();
        let mut config = ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
            .context("the server's certificate can't be used")?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// A certificate for some names and its key, as PEM.
fn self_signed(names: Vec<String>) -> Result<(String, String), rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Paperclip local cluster");
    let key = rcgen::KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn write_private(file: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())
}
