//! The daemon's configuration: one TOML file, over it the environment, over that the flags.
//!
//! The file holds no secret: the token stands in a file of its own, whose path is told here. So a configuration may be printed whole.

mod listen;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use paperclip_diagnostic::Diagnostic;
use paperclip_engine::policy::Grant;
use serde::{Deserialize, Serialize};

use crate::args::{AccessArgs, ClusterKind, JournalMode, RunArgs, ServeArgs};
use crate::exit::usage;

pub(crate) use listen::Listen;

/// The grant for plugins that have none of their own.
const DEFAULT_GRANT: &str = "default";

/// What the daemon was told. Every field may be left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where to listen; default: `127.0.0.1:7400`.
    pub(crate) listen: Listen,
    /// A file with the bearer token; needed unless `listen` is a loopback address or a Unix socket.
    pub(crate) token_file: Option<PathBuf>,
    /// Folder for journals; default: the platform's state folder.
    pub(crate) state: Option<PathBuf>,
    /// Folder with plugins that add to the built-in ones or override them by agent type.
    pub(crate) plugins: Option<PathBuf>,
    /// Namespace for runs whose config names none.
    pub(crate) namespace: Option<String>,
    /// Paperclip's API, for agents and for the cancel poll.
    pub(crate) paperclip_api_url: Option<String>,
    /// Folder from which files that a context names are read.
    pub(crate) paperclip_home: Option<PathBuf>,
    /// The Pod that Paperclip runs in, as JSON, where this process is not in it.
    pub(crate) self_pod: Option<PathBuf>,
    /// Environment names that agents do not inherit, beyond the built-in list; `*` at the end stands for any ending.
    pub(crate) denied_env: Vec<String>,
    /// Environment names whose values are no secrets, and are not masked; `*` at the end stands for any ending.
    pub(crate) unmasked_env: Vec<String>,
    pub(crate) journal: JournalMode,
    /// The cluster that runs agents.
    pub(crate) cluster: ClusterConfig,
    /// Further clusters, which an agent's config may name in `kubeconfig`.
    pub(crate) clusters: BTreeMap<String, NamedCluster>,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
    pub(crate) log: Log,
    pub(crate) traces: TracesConfig,
    /// What plugins may ask for, by agent type; `default` holds for the others.
    pub(crate) grants: BTreeMap<String, Grant>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClusterConfig {
    /// Default: `incluster` inside a cluster, else `kubeconfig` if one is given or found, else `local`.
    pub(crate) kind: Option<ClusterKind>,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) context: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedCluster {
    pub(crate) kubeconfig: PathBuf,
    #[serde(default)]
    pub(crate) context: Option<String>,
}

impl NamedCluster {
    /// The way to it.
    pub(crate) fn access(&self) -> AccessArgs {
        AccessArgs {
            cluster: Some(ClusterKind::Kubeconfig),
            kubeconfig: Some(self.kubeconfig.clone()),
            context_name: self.context.clone(),
        }
    }
}

/// How much this process takes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Runs that are driven at a time; further ones wait in the queue.
    pub(crate) runs: u32,
    pub(crate) runs_per_namespace: u32,
    pub(crate) runs_per_company: u32,
    /// Runs that may wait; more are refused.
    pub(crate) queued_runs: u32,
    /// Memory of this process above which new runs are refused, in MiB; default: 80 % of the container's limit, if it has one.
    pub(crate) memory_mib: Option<u64>,
    /// Size of a request's body, in MiB.
    pub(crate) request_mib: u32,
    /// Requests that change something, a second, over all clients.
    pub(crate) requests_per_second: u32,
    /// Traps of one plugin version within ten minutes after which it is not used for new runs.
    pub(crate) plugin_traps: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            runs: 1_000,
            runs_per_namespace: 1_000,
            runs_per_company: 1_000,
            queued_runs: 10_000,
            memory_mib: None,
            request_mib: 16,
            requests_per_second: 200,
            plugin_traps: 3,
        }
    }
}

/// How long the events and journals of ended runs are kept: whichever is reached first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Retention {
    pub(crate) days: u32,
    pub(crate) mib: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { days: 7, mib: 1_024 }
    }
}

impl Retention {
    /// As the journal's store takes it.
    pub(crate) fn limits(&self) -> paperclip_shell::journal::Retention {
        paperclip_shell::journal::Retention {
            age: Duration::from_secs(u64::from(self.days) * 24 * 3_600),
            bytes: self.mib << 20,
        }
    }
}

/// Who is told of runs as traces.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TracesConfig {
    /// URL of a collector that takes OTLP over plain HTTP, such as `http://127.0.0.1:4318/v1/traces`; default: nobody.
    pub(crate) endpoint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub(crate) level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Log { format: LogFormat::Text, level: LogLevel::Info }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> tracing::Level {
        match level {
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Trace => tracing::Level::TRACE,
        }
    }
}

impl Config {
    /// The file, if one is named, and over it what the environment and the flags say.
    pub(crate) fn load(args: &ServeArgs) -> anyhow::Result<Config> {
        let mut config = match &args.config {
            None => Config::default(),
            Some(path) => Config::read(path)?,
        };
        config.take_flags(args);
        config.check()?;
        Ok(config)
    }

    /// The file alone.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Config> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            usage(
                Diagnostic::new("config_unreadable", format!("config {}: {error}", path.display()))
                    .with_hint("name a readable TOML file"),
            )
        })?;
        Config::parse(path, &text)
    }

    /// For `run`: the file, if one is named, and below its flags what it says of them.
    pub(crate) fn for_run(args: &mut RunArgs) -> anyhow::Result<Config> {
        fn under<T: Clone>(flag: &mut Option<T>, field: &Option<T>) {
            if flag.is_none() {
                flag.clone_from(field);
            }
        }
        let Some(path) = &args.config else {
            return Ok(Config { journal: JournalMode::BestEffort, ..Config::default() });
        };
        let config = Config::read(path)?;
        under(&mut args.state, &config.state);
        under(&mut args.plugin.plugins, &config.plugins);
        under(&mut args.context.namespace, &config.namespace);
        under(&mut args.context.paperclip_api_url, &config.paperclip_api_url);
        under(&mut args.context.paperclip_home, &config.paperclip_home);
        under(&mut args.context.self_pod, &config.self_pod);
        under(&mut args.access.cluster, &config.cluster.kind);
        under(&mut args.access.kubeconfig, &config.cluster.kubeconfig);
        under(&mut args.access.context_name, &config.cluster.context);
        args.unmasked_env.extend(config.unmasked_env.iter().cloned());
        Ok(config)
    }

    fn parse(path: &Path, text: &str) -> anyhow::Result<Config> {
        toml::from_str(text).map_err(|error| {
            let place = match error.span() {
                Some(span) => {
                    let (line, column) = position(text, span.start);
                    format!("{}:{line}:{column}", path.display())
                }
                None => path.display().to_string(),
            };
            let what = error.message().trim().replace('\n', "; ");
            usage(
                Diagnostic::new("bad_config", format!("config {place}: {what}"))
                    .with_hint("docs/operating-serve.md lists all fields"),
            )
        })
    }

    fn take_flags(&mut self, args: &ServeArgs) {
        fn over<T: Clone>(field: &mut Option<T>, flag: &Option<T>) {
            if flag.is_some() {
                field.clone_from(flag);
            }
        }
        if let Some(listen) = &args.listen {
            self.listen = listen.clone();
        }
        if let Some(journal) = args.journal {
            self.journal = journal;
        }
        if let Some(format) = args.log_format {
            self.log.format = format;
        }
        if let Some(level) = args.log_level {
            self.log.level = level;
        }
        over(&mut self.token_file, &args.token_file);
        over(&mut self.state, &args.state);
        over(&mut self.plugins, &args.plugins);
        over(&mut self.namespace, &args.namespace);
        over(&mut self.paperclip_api_url, &args.paperclip_api_url);
        over(&mut self.paperclip_home, &args.paperclip_home);
        over(&mut self.self_pod, &args.self_pod);
        over(&mut self.traces.endpoint, &args.traces_endpoint);
        over(&mut self.cluster.kind, &args.access.cluster);
        over(&mut self.cluster.kubeconfig, &args.access.kubeconfig);
        over(&mut self.cluster.context, &args.access.context_name);
    }

    /// Files that open the host or its clusters to whoever reads them.
    pub(crate) fn own_files(&self) -> Vec<PathBuf> {
        let named = self.clusters.values().map(|named| &named.kubeconfig);
        named.chain(&self.token_file).chain(&self.cluster.kubeconfig).cloned().collect()
    }

    /// What no field alone shows.
    fn check(&self) -> anyhow::Result<()> {
        if self.token_file.is_none() && !self.listen.is_private() {
            let problem =
                format!("listen {}: anybody who reaches this address could start runs", self.listen);
            return Err(usage(Diagnostic::new("token_required", problem).with_hint(
                "name a file with a token in token_file (--token-file), or listen on a loopback address or a Unix socket",
            )));
        }
        let limits = &self.limits;
        for (field, value) in [
            ("runs", limits.runs),
            ("runs_per_namespace", limits.runs_per_namespace),
            ("runs_per_company", limits.runs_per_company),
            ("request_mib", limits.request_mib),
            ("requests_per_second", limits.requests_per_second),
            ("plugin_traps", limits.plugin_traps),
        ] {
            if value == 0 {
                let problem = format!("limits.{field}: 0 would stop all runs");
                return Err(usage(
                    Diagnostic::new("bad_config", problem).with_hint("give 1 or more, or leave it out"),
                ));
            }
        }
        Ok(())
    }

    /// The grant of an agent type's plugin.
    pub(crate) fn grant(&self, adapter_type: &str) -> Grant {
        self.grants.get(adapter_type).or_else(|| self.grants.get(DEFAULT_GRANT)).cloned().unwrap_or_default()
    }

    /// The whole configuration as it holds, as TOML.
    pub(crate) fn print(&self) -> anyhow::Result<String> {
        Ok(toml::to_string_pretty(self)?)
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

    fn parse(text: &str) -> anyhow::Result<Config> {
        Config::parse(Path::new("serve.toml"), text)
    }

    #[test]
    fn a_configuration_survives_being_printed() {
        let text = r#"
            listen = "unix:/run/paperclip.sock"
            namespace = "agents"
            journal = "required"
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
        assert_eq!(config.grant("claude_k8s").images.len(), 1);
        assert_eq!(config.grant("other"), Grant::default());
        assert_eq!(parse(&config.print().expect("printed")).expect("read again"), config);
        assert_eq!(parse("").expect("nothing is needed"), Config::default());
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        for (text, place, what) in [
            ("a = 1", "serve.toml:1:1", "unknown field `a`"),
            (
                "\n[limits]\n  runs = \"many\"\n",
                "serve.toml:3:10",
                "invalid type: string \"many\", expected u32",
            ),
            ("listen = \"nowhere\"", "serve.toml:1:10", "\"nowhere\" is no address"),
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
}
