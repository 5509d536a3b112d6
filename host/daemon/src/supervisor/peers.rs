//! Which hosts requests are passed on to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::config::{PeersConfig, peer_address};
use paperclip_shell::hosts::OtherHost;
use paperclip_shell::peers::Peers;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::Supervisor;
use crate::refusal::Kind;

/// For how long the address of a pod is known to be one of ours.
const CHECKED_PERIOD: Duration = Duration::from_secs(30);

/// Other hosts, as this one reaches them and is reached by them.
#[derive(Debug)]
pub(crate) struct PeerAccess {
    client: Peers,
    key: Key,
    selector: String,
    /// When addresses were found to be those of pods of ours.
    checked: Mutex<BTreeMap<IpAddr, Instant>>,
}

/// The key that hosts share.
struct Key(String);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

/// Length of the shortest key that is accepted, in bytes.
const MIN_KEY_BYTES: usize = 16;

fn read_key(file: &Path) -> Result<String, Diagnostic> {
    let bad = |cause: &dyn std::fmt::Display| {
        Diagnostic::new("bad_config", format!("peers.key_file {}: {cause}", file.display())).with_hint(format!(
            "give all replicas one file with a line of {MIN_KEY_BYTES} characters or more without spaces, such as `openssl rand -hex 32` prints"
        ))
    };
    let text = std::fs::read_to_string(file).map_err(|error| bad(&error))?;
    let key = text.trim();
    if key.len() < MIN_KEY_BYTES || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad(&"it holds no key"));
    }
    Ok(key.to_owned())
}

impl PeerAccess {
    /// Reads the key and the certificates; none without a key.
    ///
    /// # Errors
    /// A file cannot be read or used.
    pub(crate) fn open(config: &PeersConfig, host_id: &str) -> Result<Option<PeerAccess>, Diagnostic> {
        let Some(file) = &config.key_file else { return Ok(None) };
        let key = read_key(file)?;
        let (ca_file, server_name) = (config.ca_file.as_deref(), config.server_name.as_deref());
        let client = Peers::new(&key, host_id, ca_file, server_name).map_err(|error| {
            let place = ca_file.unwrap_or_else(|| Path::new("the certificates of the system"));
            Diagnostic::new("bad_config", format!("peers: {}: {error}", place.display()))
                .with_hint("correct peers.ca_file and peers.server_name")
        })?;
        let (selector, checked) = (config.selector.clone(), Mutex::default());
        Ok(Some(PeerAccess { client, key: Key(key), selector, checked }))
    }

    /// Returns whether a bearer token is the key of hosts.
    pub(crate) fn admits(&self, token: &[u8]) -> bool {
        token.ct_eq(self.key.0.as_bytes()).into()
    }

    fn is_checked(&self, address: IpAddr) -> bool {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.retain(|_, at| at.elapsed() < CHECKED_PERIOD);
        checked.contains_key(&address)
    }

    fn set_checked(&self, address: IpAddr) {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(address, Instant::now());
    }
}

impl Supervisor {
    /// Returns the client of other hosts, if this host has their key.
    pub(crate) fn peers(&self) -> Option<&Peers> {
        self.peer_access().map(|access| &access.client)
    }

    /// Returns how other hosts are reached, if this host has their key.
    pub(crate) fn peer_access(&self) -> Option<&PeerAccess> {
        self.shared.resources.peers.as_ref()
    }

    /// Returns the other hosts that have an address.
    pub(crate) fn other_hosts(&self) -> BTreeSet<OtherHost> {
        self.clusters().all().flat_map(|(_, cluster)| cluster.hosts().others()).collect()
    }

    /// Checks that an address, which anybody may have written who may change Leases, is that of a pod of ours; outside a cluster, that it is on
    /// this machine. A request has the token of its run.
    ///
    /// # Errors
    /// It is not, or it is not known.
    pub(crate) async fn check_peer(&self, address: &str) -> Result<(), PeerProblem> {
        let refuse = |why: String| PeerProblem {
            kind: Kind::DrivenElsewhere,
            why,
            hint: "set peers.advertise_url of that host to the IP address of its pod, and peers.selector to the labels of hosts",
        };
        let Some(access) = self.peer_access() else {
            return Err(refuse("this host has no peers.key_file".to_owned()));
        };
        let ip = peer_address(address).ok_or_else(|| refuse("it has no IP address".to_owned()))?;
        let cluster = &self.clusters().default;
        if !cluster.runs_in_pod() {
            let is_here = ip.is_loopback();
            return if is_here {
                Ok(())
            } else {
                Err(refuse("this host does not run in a pod, and it is not on this machine".to_owned()))
            };
        }
        if access.is_checked(ip) {
            return Ok(());
        }
        let namespace = cluster.default_namespace();
        let query = pods_query(namespace, &access.selector, ip);
        let request =
            http::Request::get(query).body(Vec::new()).map_err(|error| refuse(error.to_string()))?;
        let pods = cluster.ask(request).await.map_err(|error| PeerProblem {
            kind: Kind::NotReady,
            why: format!("whether it is a pod of ours is not known: {}", error.message),
            hint: "try again; the host needs the right to list Pods in its namespace",
        })?;
        let is_ours =
            pods["items"].as_array().is_some_and(|pods| pods.iter().any(|pod| has_address(pod, ip)));
        if !is_ours {
            return Err(refuse(format!(
                "no pod in {namespace} with the labels {} has that address",
                access.selector
            )));
        }
        access.set_checked(ip);
        Ok(())
    }
}

/// Why nothing is sent to an address.
#[derive(Debug)]
pub(crate) struct PeerProblem {
    pub(crate) kind: Kind,
    pub(crate) why: String,
    pub(crate) hint: &'static str,
}

/// The request for the pods with labels and an address.
fn pods_query(namespace: &str, selector: &str, ip: IpAddr) -> String {
    let encode = |text: &str| {
        let bytes = text.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        });
        bytes.collect::<String>()
    };
    let field = encode(&format!("status.podIP={ip}"));
    format!("/api/v1/namespaces/{namespace}/pods?labelSelector={}&fieldSelector={field}", encode(selector))
}

/// Whether a pod that has not ended has this address.
fn has_address(pod: &Value, ip: IpAddr) -> bool {
    let is_same = |text: &Value| text.as_str().and_then(|text| text.parse::<IpAddr>().ok()) == Some(ip);
    let others = pod["status"]["podIPs"].as_array().into_iter().flatten();
    let is_over = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    !is_over && (is_same(&pod["status"]["podIP"]) || others.into_iter().any(|one| is_same(&one["ip"])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_found_by_its_address_while_it_runs() {
        let ip: IpAddr = "10.0.0.7".parse().expect("an address");
        assert_eq!(
            pods_query("n", "app.kubernetes.io/name=paperclip-host", ip),
            "/api/v1/namespaces/n/pods?labelSelector=app.kubernetes.io%2Fname%3Dpaperclip-host&fieldSelector=status.podIP%3D10.0.0.7"
        );
        let pod = |phase: &str, address: &str| json!({"status": {"phase": phase, "podIP": address, "podIPs": [{"ip": address}, {"ip": "fd00::7"}]}});
        assert!(has_address(&pod("Running", "10.0.0.7"), ip));
        assert!(has_address(&pod("Running", "10.0.0.8"), "fd00::7".parse().expect("an address")));
        assert!(!has_address(&pod("Running", "10.0.0.8"), ip));
        assert!(!has_address(&pod("Failed", "10.0.0.7"), ip), "its address may be another pod's by now");
    }
}
