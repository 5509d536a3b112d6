//! How replicas reach each other.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How replicas pass on requests for each other's runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeersConfig {
    /// Where other replicas reach this one, such as `http://10.0.0.7:7411`.
    pub advertise_url: Option<String>,
    /// A file with the key that all replicas share. Without it no request is passed on, and none of another replica is accepted.
    pub key_file: Option<PathBuf>,
    /// A PEM file with the certificates that are trusted if a replica's URL is `https://`; default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The name in the certificates of replicas; default: the address.
    pub server_name: Option<String>,
    /// Labels of the pods of replicas: a host that runs in a pod passes requests to no other address.
    pub selector: String,
}

impl Default for PeersConfig {
    fn default() -> Self {
        PeersConfig {
            advertise_url: None,
            key_file: None,
            ca_file: None,
            server_name: None,
            selector: "app.kubernetes.io/name=paperclip-host".to_owned(),
        }
    }
}

impl PeersConfig {
    /// Returns what is wrong with a field, and its name.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let url = self.advertise_url.as_deref()?;
        match address(url) {
            Some(_) => None,
            None => Some((
                "peers.advertise_url",
                format!("{url:?} is not http:// or https:// with an IP address and a port, without a path"),
            )),
        }
    }
}

/// Returns the IP address in the URL of a replica; none if it is no such URL.
pub fn address(url: &str) -> Option<IpAddr> {
    let authority = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
    let socket: std::net::SocketAddr = authority.trim_end_matches('/').parse().ok()?;
    Some(socket.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_replica_has_the_address_of_its_pod() {
        let problem =
            |url: &str| PeersConfig { advertise_url: Some(url.into()), ..PeersConfig::default() }.problem();
        for good in ["http://10.0.0.7:7411", "https://[fd00::7]:7411", "http://127.0.0.1:1/"] {
            assert_eq!(problem(good), None);
        }
        for bad in [
            "10.0.0.7:7411",
            "http://host:7411",
            "http://10.0.0.7",
            "http://u@10.0.0.7:1",
            "http://10.0.0.7:1/x",
        ] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }
}
