//! The operator's configuration: one TOML file. A command line puts its environment and flags over it.
//!
//! The file holds no secret: it names the file that holds the token. So a configuration can be printed whole.

mod agents;
mod limits;
mod listen;
mod log;
mod paperclip_pod;
mod peers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paperclip_diagnostic::Diagnostic;
use paperclip_engine::policy::{CompanyGrant, Grant};
use serde::{Deserialize, Serialize};

use crate::access::{ClusterChoice, ClusterKind};

pub use agents::{Agents, DataMount, EnvFrom, Reference};
pub use limits::{Limits, Retention};
pub use listen::{Addresses, Listen, TlsFiles};
pub use log::{Log, LogFormat, LogLevel};
pub use paperclip_pod::PaperclipPodConfig;
pub use peers::{PeersConfig, address as peer_address};

/// The name of the grant for plugins that have none of their own.
const DEFAULT_GRANT: &str = "default";

/// The operator's configuration. Every field is optional.
///
/// ```
/// use paperclip_prepare::Config;
///
/// let config = Config { listen: "0.0.0.0:7400".parse().unwrap(), ..Config::default() };
/// let error = config.check().unwrap_err();
/// assert_eq!(error.code, "token_required");
/// assert!(error.hint.unwrap().contains("--token-file"));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen; default: `127.0.0.1:7400`, and `paperclip-host.sock` in Paperclip's home folder if that is known.
    pub listen: Addresses,
    /// The certificate of the addresses that are spoken to by TLS.
    pub tls: Option<TlsFiles>,
    /// A file with the bearer token, or with two while it is replaced; default: `token` in the state folder, which is generated. It must
    /// be named if an address is reachable from other machines without TLS.
    pub token_file: Option<PathBuf>,
    /// A file with the bearer token of whoever puts plugins into this host by `PUT /v1/plugins/{type}`; nobody may without one.
    pub admin_token_file: Option<PathBuf>,
    /// Folder for journals; default: the platform's state folder.
    pub state: Option<PathBuf>,
    /// Folder with plugins that add to the built-in ones or override them by agent type; default: `installed-plugins` in the state folder if there is an
    /// `admin_token_file`.
    pub plugins: Option<PathBuf>,
    /// Namespace of the default cluster whose ConfigMaps with the label `paperclip.io/plugin` are plugins, like files of the plugins folder.
    /// Whoever may write them decides what agents run.
    pub plugins_namespace: Option<String>,
    /// Namespace for runs whose config names none.
    pub namespace: Option<String>,
    /// Paperclip's API, for agents and for the cancel poll.
    pub paperclip_api_url: Option<String>,
    /// Folder from which files that a context names are read.
    pub paperclip_home: Option<PathBuf>,
    /// A file with the Pod that Paperclip runs in, as JSON; it takes the place of `paperclip_pod`.
    pub self_pod: Option<PathBuf>,
    /// Where Paperclip's pod is.
    pub paperclip_pod: PaperclipPodConfig,
    /// What the operator gives to all agents.
    pub agents: Agents,
    /// Environment names that agents do not inherit, beyond the built-in list; `*` at the end matches any ending.
    pub denied_env: Vec<String>,
    /// Environment names whose values are masked in output, beyond those that are known to be secrets; `*` at the end matches any ending.
    pub masked_env: Vec<String>,
    /// Environment names whose values are not secrets, and are not masked; `*` at the end matches any ending.
    pub unmasked_env: Vec<String>,
    /// What happens to a run whose journal cannot be written.
    pub journal: JournalMode,
    /// The cluster that runs agents.
    pub cluster: ClusterChoice,
    /// Further clusters, which an agent's config may name in `kubeconfig`.
    pub clusters: BTreeMap<String, NamedCluster>,
    /// How replicas reach each other.
    pub peers: PeersConfig,
    pub limits: Limits,
    pub retention: Retention,
    pub log: Log,
    pub traces: TracesConfig,
    /// What plugins may ask for, by agent type; `default` applies to the others.
    pub grants: BTreeMap<String, Grant>,
    /// What the runs of a company may ask for, by its id, in place of the same fields of `grants`.
    pub companies: BTreeMap<String, CompanyGrant>,
}

/// What happens to a run whose journal cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum JournalMode {
    /// Detach from the run: what it does must be on disk first
    #[default]
    Required,
    /// Warn and continue
    BestEffort,
}

/// A further cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedCluster {
    pub kubeconfig: PathBuf,
    /// Context of the kubeconfig; default: its current one.
    #[serde(default)]
    pub context: Option<String>,
}

impl NamedCluster {
    /// Returns the choice of this cluster.
    pub fn choice(&self) -> ClusterChoice {
        ClusterChoice {
            kind: Some(ClusterKind::Kubeconfig),
            kubeconfig: Some(self.kubeconfig.clone()),
            context: self.context.clone(),
        }
    }
}

/// Where runs are exported to as traces.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// URL of a collector that takes OTLP over plain HTTP, such as `http://127.0.0.1:4318/v1/traces`; default: no export.
    pub endpoint: Option<String>,
}

impl Config {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, or a field is unknown or has a wrong value: the message names file, line and column.
    pub fn read(path: &Path) -> Result<Config, Diagnostic> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Diagnostic::new("config_unreadable", format!("config {}: {error}", path.display()))
                .with_hint("name a readable TOML file")
        })?;
        Config::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Config, Diagnostic> {
        toml::from_str(text).map_err(|error| {
            let place = match error.span() {
                Some(span) => {
                    let (line, column) = position(text, span.start);
                    format!("{}:{line}:{column}", path.display())
                }
                None => path.display().to_string(),
            };
            let what = error.message().trim().replace('\n', "; ");
            Diagnostic::new("bad_config", format!("config {place}: {what}"))
                .with_hint("docs/operating-serve.md lists all fields")
        })
    }

    /// Checks what a daemon needs and no field alone shows.
    ///
    /// # Errors
    /// The daemon would be open to everybody, or a limit of zero would stop all runs.
    pub fn check(&self) -> Result<(), Diagnostic> {
        let addresses = self.addresses();
        if self.token_file.is_none()
            && let Some(open) = addresses.iter().find(|address| !address.is_private())
        {
            let message = format!("listen {open}: whoever reaches this address could try to start runs");
            return Err(Diagnostic::new("token_required", message).with_hint(
                "name a file with a token in token_file (--token-file), or listen with TLS, on a loopback address or a Unix socket",
            ));
        }
        if self.tls.is_none()
            && let Some(tls) = addresses.iter().find(|address| matches!(address, Listen::Tls(_)))
        {
            return Err(Diagnostic::new("bad_config", format!("listen {tls}: there is no certificate"))
                .with_hint("name its files in [tls] (--tls-certificate and --tls-key)"));
        }
        if let Some((field, problem)) = self.agents.problem().or_else(|| self.peers.problem()) {
            return Err(Diagnostic::new("bad_config", format!("{field}: {problem}"))
                .with_hint("correct that field of the configuration"));
        }
        if let Some((id, _)) = self.companies.iter().find(|(_, company)| company.runs == Some(0)) {
            let message = format!("companies.{id}.runs: 0 would stop all runs of the company");
            return Err(Diagnostic::new("bad_config", message).with_hint("give 1 or more, or leave it out"));
        }
        if let Some(limit) = self.limits.zero() {
            let message = format!("limits.{limit}: 0 would stop all runs");
            return Err(Diagnostic::new("bad_config", message).with_hint("give 1 or more, or leave it out"));
        }
        Ok(())
    }

    /// Returns where to listen: as configured, else the default.
    pub fn addresses(&self) -> Vec<Listen> {
        if !self.listen.0.is_empty() {
            return self.listen.0.clone();
        }
        let socket = self.paperclip_home.as_deref().map(Listen::home_socket);
        [Listen::default()].into_iter().chain(socket).collect()
    }

    /// Returns the files that give access to this host or its clusters to whoever reads them.
    pub fn credential_files(&self) -> Vec<PathBuf> {
        let named = self.clusters.values().map(|named| &named.kubeconfig);
        let key = self.tls.iter().map(|tls| &tls.key);
        named
            .chain(&self.token_file)
            .chain(&self.admin_token_file)
            .chain(&self.peers.key_file)
            .chain(&self.cluster.kubeconfig)
            .chain(key)
            .cloned()
            .collect()
    }

    /// Returns the grant of an agent type's plugin in the runs of a company. What the operator gives to all agents is granted: an account,
    /// and the whole data volume.
    pub fn grant(&self, adapter_type: &str, company_id: &str) -> Grant {
        let grant = self.grants.get(adapter_type).or_else(|| self.grants.get(DEFAULT_GRANT)).cloned();
        let grant = grant.unwrap_or_default();
        let grant = match self.companies.get(company_id) {
            Some(company) => company.apply_to(grant),
            None => grant,
        };
        let grant = match &self.agents.service_account {
            Some(account) => grant.with_service_account(account),
            None => grant,
        };
        let is_shared = self.agents.data_mount == Some(DataMount::Shared);
        Grant { shared_data_volume: grant.shared_data_volume || is_shared, ..grant }
    }

    /// Returns the limits of driven runs of the companies that have one of their own.
    pub fn runs_of_companies(&self) -> BTreeMap<String, usize> {
        let limits = self.companies.iter().map(|(id, company)| (id, company.runs));
        limits.filter_map(|(id, runs)| Some((id.clone(), usize::try_from(runs?).ok()?))).collect()
    }

    /// Returns the whole configuration as TOML, with the addresses of the default.
    ///
    /// # Errors
    /// A value cannot be written as TOML, such as a path that is not UTF-8.
    pub fn print(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(&Config { listen: Addresses(self.addresses()), ..self.clone() })
    }
}

/// Line and column of a byte, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Diagnostic> {
        Config::parse(Path::new("serve.toml"), text)
    }

    #[test]
    fn a_printed_configuration_reads_back_equal() {
        let text = r#"
            listen = ["unix:/run/paperclip.sock", "tls:0.0.0.0:7411"]
            namespace = "agents"
            journal = "required"
            [tls]
            certificate = "/etc/tls.crt"
            key = "/etc/tls.key"
            [cluster]
            kind = "kubeconfig"
            [clusters.eu]
            kubeconfig = "/etc/eu"
            [limits]
            runs = 7
            [log]
            format = "json"
            [grants.claude_k8s]
            images = ["ghcr.io/acme/*"]
            max_memory = "8Gi"
        "#;
        let config = parse(text).expect("good");
        assert_eq!(config.limits, Limits { runs: 7, ..Limits::default() });
        assert_eq!(config.grant("claude_k8s", "").images.len(), 1);
        assert_eq!(config.grant("other", ""), Grant::default());
        assert_eq!(parse(&config.print().expect("printed")).expect("read again"), config);
        assert_eq!(parse("").expect("no field is needed"), Config::default());
    }

    #[test]
    fn a_company_has_its_own_grant_and_no_other_one() {
        let config = parse(
            r#"
            [agents]
            service_account = "agent"
            [grants.claude_k8s]
            images = ["ghcr.io/*"]
            [companies.acme]
            namespace = "acme"
            images = ["ghcr.io/acme/*"]
            runs = 2
        "#,
        )
        .expect("good");
        let names = |patterns: &[paperclip_engine::policy::Pattern]| {
            patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect::<Vec<_>>()
        };
        let acme = config.grant("claude_k8s", "acme");
        assert_eq!(
            (names(&acme.namespaces), names(&acme.images)),
            (vec!["acme".into()], vec!["ghcr.io/acme/*".into()])
        );
        let other = config.grant("claude_k8s", "other");
        assert_eq!((names(&other.namespaces), names(&other.images)), (vec![], vec!["ghcr.io/*".into()]));
        assert_eq!(names(&other.service_accounts), ["agent"], "the operator's own choice");
        assert_eq!(names(&Config::default().grant("claude_k8s", "acme").service_accounts), [] as [&str; 0]);
    }

    #[test]
    fn a_mistake_is_reported_with_its_position() {
        for (text, place, what) in [
            ("a = 1", "serve.toml:1:1", "unknown field `a`"),
            (
                "\n[limits]\n  runs = \"many\"\n",
                "serve.toml:3:10",
                "invalid type: string \"many\", expected u32",
            ),
            ("listen = \"nowhere\"", "serve.toml:1:10", "\"nowhere\" is not an address"),
            ("[grants.x]\nimages = [\"a*b\"]\n", "serve.toml:2:", "has a `*` before its end"),
            ("x = ", "serve.toml:1:", "docs/operating-serve.md"),
        ] {
            let error = parse(text).expect_err("refused").to_string();
            assert!(error.contains(place) && error.contains(what), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_open_address_needs_a_token() {
        let open = Config { listen: "0.0.0.0:7400".parse().expect("an address"), ..Config::default() };
        let error = open.check().expect_err("refused").to_string();
        assert!(error.contains("0.0.0.0:7400") && error.contains("token_file"), "{error}");
        let guarded = Config { token_file: Some("t".into()), ..open };
        guarded.check().expect("guarded");
        let none = Config { limits: Limits { runs: 0, ..Limits::default() }, ..Config::default() };
        assert!(none.check().expect_err("refused").to_string().contains("limits.runs"));
    }

    #[test]
    fn listens_in_the_home_folder_of_paperclip_if_it_is_known() {
        let addresses = |text: &str| {
            let config = parse(text).expect("good");
            config.addresses().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(addresses(""), ["127.0.0.1:7400"]);
        let home = "paperclip_home = \"/paperclip\"\n";
        assert_eq!(addresses(home), ["127.0.0.1:7400", "unix:/paperclip/paperclip-host.sock"]);
        assert_eq!(addresses(&format!("{home}listen = \"[::1]:1\"")), ["[::1]:1"]);
    }

    #[test]
    fn tls_needs_a_certificate_and_no_named_token() {
        let listen = "listen = \"tls:0.0.0.0:7411\"\n";
        let error = parse(listen).expect("read").check().expect_err("refused");
        assert!(error.hint.is_some_and(|hint| hint.contains("[tls]")), "{}", error.message);
        parse(&format!("{listen}[tls]\ncertificate = \"c\"\nkey = \"k\"\n"))
            .expect("read")
            .check()
            .expect("good");
    }
}
