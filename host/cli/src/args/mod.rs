//! The arguments of the command line.

mod configuration;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use paperclip_prepare::access::ClusterKind;
use paperclip_prepare::config::{JournalMode, Listen, LogFormat, LogLevel};

/// Runs Paperclip's AI agents on Kubernetes: one Job per run, its output streamed live, one result that says what happened.
#[derive(Debug, Parser)]
#[command(name = "paperclip-host", version, max_term_width = 110, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 succeeded, 1 failed, 2 bad usage or configuration, 3 cancelled, 4 detached (the run continues in the cluster).
Diagnostics on stderr: PAPERCLIP_LOG=info, debug or trace.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one agent and stream its output until its result
    Run(Box<RunArgs>),
    /// Serve runs over HTTP: start, follow and cancel them, and replace plugins without a restart
    Serve(Box<ServeArgs>),
    /// Print the Job that a run would create, and create nothing
    Manifest(ManifestArgs),
    /// Classify finished evidence: one JSON document per line in, one result per line out
    Classify(ClassifyArgs),
    /// Render an agent's output for a person, or as Paperclip's transcript entries
    Transcript(TranscriptArgs),
    /// Test the environment: API, namespace, rights, Secret, volume; each problem comes with a hint
    Check(CheckArgs),
    /// Show, inspect and verify plugins
    Plugins(PluginsArgs),
    /// Replay a recorded run with a plugin and show where its decisions differ
    Replay(ReplayArgs),
    /// Serve a local cluster with a kubeconfig that kubectl can use; its containers are local processes
    #[command(hide = !paperclip_prepare::access::HAS_LOCAL_CLUSTER)]
    Cluster(ClusterArgs),
}

/// The plugin that decides.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PluginArgs {
    /// Agent type, such as claude_k8s; default: the context's agent.adapterType, or without a context the first that is built in
    #[arg(long, value_name = "TYPE")]
    pub(crate) adapter: Option<String>,
    /// Folder with plugins (*.wasm) that add to the built-in ones or override them by agent type
    #[arg(long, value_name = "DIR", env = "PAPERCLIP_PLUGINS")]
    pub(crate) plugins: Option<PathBuf>,
}

/// The execution context of a run, and what it refers to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ContextArgs {
    /// Paperclip's execution context, a JSON object {runId, agent, runtime, config, context, authToken, paperclipPod?}; - for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) context: PathBuf,
    /// The Pod that Paperclip runs in (core/v1, JSON), from which agents inherit image, volumes and environment; default: the one that
    /// the context or the configuration names
    #[arg(long, value_name = "FILE")]
    pub(crate) self_pod: Option<PathBuf>,
    /// Paperclip's home folder, from which files that a context names are read
    #[arg(long, value_name = "DIR", env = "PAPERCLIP_HOME")]
    pub(crate) paperclip_home: Option<PathBuf>,
    /// URL of Paperclip's API, for agents and for the cancel poll; default: that of Paperclip's pod
    #[arg(long, value_name = "URL", env = "PAPERCLIP_API_URL")]
    pub(crate) paperclip_api_url: Option<String>,
    /// Namespace for runs whose config names none; default: that of Paperclip's pod, then that of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) plugin: PluginArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    /// Folder for journals and the local cluster's volumes; default: the platform's state folder
    #[arg(long, value_name = "DIR", env = "PAPERCLIP_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Configuration (TOML) with the fields of `serve`, as far as they concern one run; flags override it
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// What happens to a run whose journal cannot be written; default: as the configuration says, best-effort without one
    #[arg(long, value_enum)]
    pub(crate) journal: Option<JournalMode>,
    /// Environment name whose value is masked although neither its name nor a reference says that it is a secret; * at the end matches any
    /// ending; can be given more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) masked_env: Vec<String>,
    /// Environment name whose value is not a secret and is shown; * at the end matches any ending; can be given more than once; a resumed
    /// run keeps those that it was started with
    #[arg(long, value_name = "NAME")]
    pub(crate) unmasked_env: Vec<String>,
    /// How the run is shown on stdout
    #[arg(long, value_enum, default_value_t = Output::Pretty)]
    pub(crate) output: Output,
    /// Number of the first record to show; a resumed or repeated run is shown from its start
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) from: u64,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServeArgs {
    /// Configuration, a TOML file; flags and environment override it
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Check the configuration and exit: 0 if it is valid, else 2
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Print the effective configuration and exit; it has no secrets
    #[arg(long, conflicts_with = "check_config")]
    pub(crate) print_config: bool,
    /// Address to listen on, tls:ADDR, or unix:PATH; port 0 takes a free one; can be given more than once, or as a list with commas;
    /// default: 127.0.0.1:7400, and paperclip-host.sock in Paperclip's home folder if that is known
    #[arg(long, value_name = "ADDR", env = "PAPERCLIP_LISTEN", value_delimiter = ',')]
    pub(crate) listen: Vec<Listen>,
    /// File with the bearer token that clients on TCP send, or with two while it is replaced; default: the file token in the state folder, which is generated;
    /// must be given to listen on an address of the network without TLS
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the bearer token of whoever puts plugins into this host (`plugins push`); without one nobody may
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_ADMIN_TOKEN_FILE")]
    pub(crate) admin_token_file: Option<PathBuf>,
    /// Certificate chain (PEM) for addresses with tls:; read again when it changes
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_TLS_CERTIFICATE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_TLS_KEY", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Where other replicas reach this one, such as http://10.0.0.7:7411
    #[arg(long, value_name = "URL", env = "PAPERCLIP_ADVERTISE_URL")]
    pub(crate) advertise_url: Option<String>,
    /// File with the key that all replicas share, with which they pass on requests for each other's runs
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_PEER_KEY_FILE")]
    pub(crate) peer_key_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted if the URL of another replica is https://; default: those of the system
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_PEER_CA_FILE")]
    pub(crate) peer_ca_file: Option<PathBuf>,
    /// The name in the certificates of other replicas; default: their address
    #[arg(long, value_name = "NAME", env = "PAPERCLIP_PEER_SERVER_NAME")]
    pub(crate) peer_server_name: Option<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    /// Folder for journals and the local cluster's volumes; default: the platform's state folder
    #[arg(long, value_name = "DIR", env = "PAPERCLIP_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Namespace of the default cluster whose ConfigMaps with the label paperclip.io/plugin are plugins, like files of the plugins folder;
    /// watched. Whoever may write them decides what agents run
    #[arg(long, value_name = "NAMESPACE", env = "PAPERCLIP_PLUGINS_NAMESPACE")]
    pub(crate) plugins_namespace: Option<String>,
    /// Folder with plugins (*.wasm) that add to the built-in ones or override them by agent type; watched
    #[arg(long, value_name = "DIR", env = "PAPERCLIP_PLUGINS")]
    pub(crate) plugins: Option<PathBuf>,
    /// What happens to a run whose journal cannot be written
    #[arg(long, value_enum)]
    pub(crate) journal: Option<JournalMode>,
    /// The Pod that Paperclip runs in (core/v1, JSON), from which agents inherit image, volumes and environment; default: the one that
    /// the context or the configuration names
    #[arg(long, value_name = "FILE")]
    pub(crate) self_pod: Option<PathBuf>,
    /// Paperclip's home folder, from which files that a context names are read
    #[arg(long, value_name = "DIR", env = "PAPERCLIP_HOME")]
    pub(crate) paperclip_home: Option<PathBuf>,
    /// URL of Paperclip's API, for agents and for the cancel poll; default: that of Paperclip's pod
    #[arg(long, value_name = "URL", env = "PAPERCLIP_API_URL")]
    pub(crate) paperclip_api_url: Option<String>,
    /// Namespace for runs whose config names none; default: that of Paperclip's pod, then that of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Format of the log on stderr; default: text
    #[arg(long, value_enum, env = "PAPERCLIP_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// Level of the log; default: info
    #[arg(long, value_enum, env = "PAPERCLIP_LOG")]
    pub(crate) log_level: Option<LogLevel>,
    /// URL of a collector to which runs are exported as traces, by OTLP over plain HTTP, such as http://127.0.0.1:4318/v1/traces
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")]
    pub(crate) traces_endpoint: Option<String>,
}

/// The cluster that runs the agents.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AccessArgs {
    /// Where agents run; default: incluster inside a cluster, else kubeconfig if one is given or found, else (except for serve) local
    #[arg(long, value_enum)]
    pub(crate) cluster: Option<ClusterKind>,
    /// Kubeconfig file; default: $KUBECONFIG, then ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; default: its current one
    #[arg(long, value_name = "NAME")]
    pub(crate) context_name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For a person: the rendered transcript and a spinner
    Pretty,
    /// For a program: one JSON record per line, {"type":"log"|"status"|"meta"|"gap"|"result",...}
    Ndjson,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ManifestArgs {
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) plugin: PluginArgs,
    /// Configuration (TOML) with the fields of `serve`, as far as they concern a manifest; flags override it
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ClassifyArgs {
    /// Evidence, one JSON document per line: {"config","stdout","job":{"outcome"},"container","pod"}; - for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) evidence: PathBuf,
    #[command(flatten)]
    pub(crate) plugin: PluginArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TranscriptArgs {
    /// An agent's output; - for stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print Paperclip's transcript entries, one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) plugin: PluginArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CheckArgs {
    /// An execution context whose config is tested too; - for stdin; default: an agent without a config
    #[arg(long, value_name = "FILE")]
    pub(crate) context: Option<PathBuf>,
    /// The Pod that Paperclip runs in (core/v1, JSON)
    #[arg(long, value_name = "FILE")]
    pub(crate) self_pod: Option<PathBuf>,
    /// Paperclip's home folder, from which files that a context names are read
    #[arg(long, value_name = "DIR", env = "PAPERCLIP_HOME")]
    pub(crate) paperclip_home: Option<PathBuf>,
    /// URL of Paperclip's API; default: that of Paperclip's pod
    #[arg(long, value_name = "URL", env = "PAPERCLIP_API_URL")]
    pub(crate) paperclip_api_url: Option<String>,
    /// Namespace of runs whose config names none; default: that of Paperclip's pod, then that of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Configuration (TOML) with the fields of `serve`, as far as they concern the test; flags override it
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Print Paperclip's environment test result: {"adapterType","status","checks","testedAt"}
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) plugin: PluginArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PluginsArgs {
    #[command(subcommand)]
    pub(crate) command: PluginsCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum PluginsCommand {
    /// List the plugins in use, and those that are rejected
    List {
        /// Folder with plugins that add to the built-in ones or override them
        #[arg(long, value_name = "DIR", env = "PAPERCLIP_PLUGINS")]
        plugins: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the properties of a plugin's file or a built-in plugin: digest, contract, exports, imports, memory
    Inspect {
        /// A file, or the agent type of a built-in plugin
        #[arg(value_name = "FILE|TYPE")]
        plugin: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put a plugin into a running daemon: new runs of its agent type use it; running ones keep theirs
    ///
    /// It has to pass what a file in the plugins folder has to pass; one that is rejected changes nothing, and the exit code is 2.
    Push {
        /// The component
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// File with the daemon's admin token (`serve --admin-token-file`)
        #[arg(long, value_name = "FILE", env = "PAPERCLIP_ADMIN_TOKEN_FILE")]
        admin_token_file: PathBuf,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Print a plugin as a ConfigMap for `kubectl apply`: hosts with `--plugins-namespace` use it at once
    ConfigMap {
        /// The component
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The ConfigMap's name; default: paperclip-plugin-TYPE
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Make a running daemon go back to the previous version of a plugin; running runs keep theirs
    Revert {
        /// Agent type, such as claude_k8s
        #[arg(value_name = "TYPE")]
        adapter_type: String,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Check that this host accepts a plugin; exit code 2 and the reason if not
    Verify {
        /// A file, or the agent type of a built-in plugin
        #[arg(value_name = "FILE|TYPE")]
        plugin: PathBuf,
    },
    /// Judge recorded cases with a plugin, and show each field that is not as expected; exit code 1 if there is one
    ///
    /// A case is NAME.ndjson (the program's output) with NAME.exit (its exit code, negative for a signal), and if there are any NAME.stderr and
    /// NAME.json: {"evidence": {...}, "expected": {...}}, members of the evidence beside the recording's, and fields that the result has.
    /// expected.txt may have a line NAME CODE for each case (`success`: none), config.json the config of all. A *.ndjson without NAME.exit has a
    /// case {"name", "evidence", "expected"} in each line.
    Test {
        #[command(flatten)]
        cases: CasesArgs,
        /// Write the results that the plugin gives now as the expected ones, into NAME.json
        #[arg(long)]
        accept: bool,
    },
    /// Measure a plugin: its size, the time to compile it and to make an instance, and how fast it reads recorded output
    Bench {
        #[command(flatten)]
        cases: CasesArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Watch a plugin's file: verify each new version, judge the recorded cases with it and replay recorded runs, until Ctrl-C
    Dev {
        #[command(flatten)]
        cases: CasesArgs,
        /// Runs to replay: a folder with journals, such as STATE/runs
        #[arg(long, value_name = "DIR")]
        journals: Option<PathBuf>,
        /// Put each version that judges all cases as expected into a running daemon; its admin token
        #[arg(long, value_name = "FILE", env = "PAPERCLIP_ADMIN_TOKEN_FILE")]
        admin_token_file: Option<PathBuf>,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
}

/// A plugin with recorded cases.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CasesArgs {
    /// A file, or the agent type of a built-in plugin
    #[arg(value_name = "FILE|TYPE")]
    pub(crate) plugin: PathBuf,
    /// Folder with the recorded cases
    #[arg(long, value_name = "DIR")]
    pub(crate) fixtures: PathBuf,
}

/// A running daemon.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DaemonArgs {
    /// The daemon's address, its URL, or unix:PATH; default: the socket in Paperclip's home folder if there is one, else 127.0.0.1:7400
    #[arg(
        long,
        visible_alias = "to",
        value_name = "ADDR",
        env = "PAPERCLIP_LISTEN",
        value_delimiter = ',',
        value_parser = daemon_address
    )]
    pub(crate) listen: Vec<Listen>,
    /// File with the daemon's bearer token; default: the one that it has generated into its state folder
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// File with the daemon's own certificate, by which it is trusted at an address tls:ADDR
    #[arg(long, value_name = "FILE", env = "PAPERCLIP_TLS_CERTIFICATE")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The daemon's state folder; default: the platform's
    #[arg(long, value_name = "DIR", env = "PAPERCLIP_STATE")]
    pub(crate) state: Option<PathBuf>,
    /// Paperclip's home folder
    #[arg(long, value_name = "DIR", env = "PAPERCLIP_HOME")]
    pub(crate) paperclip_home: Option<PathBuf>,
}

/// Parses an address at which a daemon listens, or its URL.
fn daemon_address(text: &str) -> Result<Listen, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(address), _) => address.parse(),
        (None, Some(address)) => format!("tls:{address}").parse(),
        (None, None) => text.parse(),
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ReplayArgs {
    /// A run's folder below `<state>/runs`, or one journal-NNNNNN.ndjson of it
    #[arg(value_name = "JOURNAL")]
    pub(crate) journal: PathBuf,
    /// Plugin to compare with it; default: the one that the run was started with
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Args)]
#[cfg_attr(not(feature = "local-cluster"), allow(dead_code, reason = "parsed, then refused"))]
pub(crate) struct ClusterArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7480")]
    pub(crate) listen: SocketAddr,
    /// Folder for objects, volumes and logs, kept over restarts; default: a temporary one
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Write the kubeconfig here (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig_out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_named_by_its_address_or_its_url() {
        for (text, address) in [
            ("http://127.0.0.1:7400/", "127.0.0.1:7400"),
            ("https://10.0.0.1:7411", "tls:10.0.0.1:7411"),
            ("unix:/run/p.sock", "unix:/run/p.sock"),
        ] {
            assert_eq!(daemon_address(text), address.parse(), "{text}");
        }
        assert!(daemon_address("http://").is_err());
    }

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }
}
