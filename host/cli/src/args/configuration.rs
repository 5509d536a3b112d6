//! The configuration of a command: its file, overridden by the environment and the flags.

use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::Config;
use paperclip_prepare::access::ClusterChoice;
use paperclip_prepare::config::{Addresses, JournalMode, TlsFiles};

use super::{AccessArgs, CheckArgs, ContextArgs, RunArgs, ServeArgs};

impl ServeArgs {
    /// Returns the configuration of the daemon.
    ///
    /// # Errors
    /// The file cannot be read or is wrong, or the configuration is not valid.
    pub(crate) fn configuration(&self) -> Result<Config, Diagnostic> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => Config::read(path)?,
        };
        self.override_fields(&mut config);
        config.check()?;
        Ok(config)
    }

    fn override_fields(&self, config: &mut Config) {
        if !self.listen.is_empty() {
            config.listen = Addresses(self.listen.clone());
        }
        if let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) {
            config.tls = Some(TlsFiles { certificate: certificate.clone(), key: key.clone() });
        }
        if let Some(journal) = self.journal {
            config.journal = journal;
        }
        if let Some(format) = self.log_format {
            config.log.format = format;
        }
        if let Some(level) = self.log_level {
            config.log.level = level;
        }
        replace(&mut config.token_file, &self.token_file);
        replace(&mut config.admin_token_file, &self.admin_token_file);
        replace(&mut config.peers.advertise_url, &self.advertise_url);
        replace(&mut config.peers.key_file, &self.peer_key_file);
        replace(&mut config.peers.ca_file, &self.peer_ca_file);
        replace(&mut config.peers.server_name, &self.peer_server_name);
        replace(&mut config.state, &self.state);
        replace(&mut config.plugins, &self.plugins);
        replace(&mut config.plugins_namespace, &self.plugins_namespace);
        replace(&mut config.namespace, &self.namespace);
        replace(&mut config.paperclip_api_url, &self.paperclip_api_url);
        replace(&mut config.paperclip_home, &self.paperclip_home);
        replace(&mut config.self_pod, &self.self_pod);
        replace(&mut config.traces.endpoint, &self.traces_endpoint);
        self.access.override_fields(&mut config.cluster);
    }
}

impl RunArgs {
    /// Returns the configuration of one run. Without a file its journal is at best effort.
    ///
    /// # Errors
    /// The file cannot be read or is wrong.
    pub(crate) fn configuration(&self) -> Result<Config, Diagnostic> {
        let mut config = match &self.config {
            None => Config { journal: JournalMode::BestEffort, ..Config::default() },
            Some(path) => Config::read(path)?,
        };
        if let Some(journal) = self.journal {
            config.journal = journal;
        }
        config.masked_env.splice(0..0, self.masked_env.iter().cloned());
        config.unmasked_env.splice(0..0, self.unmasked_env.iter().cloned());
        replace(&mut config.state, &self.state);
        replace(&mut config.plugins, &self.plugin.plugins);
        self.context.override_fields(&mut config);
        self.access.override_fields(&mut config.cluster);
        Ok(config)
    }
}

impl CheckArgs {
    /// Returns the configuration of the environment test.
    ///
    /// # Errors
    /// The file cannot be read or is wrong.
    pub(crate) fn configuration(&self) -> Result<Config, Diagnostic> {
        let mut config = match &self.config {
            None => Config::default(),
            Some(path) => Config::read(path)?,
        };
        replace(&mut config.namespace, &self.namespace);
        replace(&mut config.paperclip_api_url, &self.paperclip_api_url);
        replace(&mut config.paperclip_home, &self.paperclip_home);
        replace(&mut config.self_pod, &self.self_pod);
        replace(&mut config.plugins, &self.plugin.plugins);
        self.access.override_fields(&mut config.cluster);
        Ok(config)
    }
}

impl ContextArgs {
    /// Overrides the fields that a context's preparation uses.
    pub(crate) fn override_fields(&self, config: &mut Config) {
        replace(&mut config.namespace, &self.namespace);
        replace(&mut config.paperclip_api_url, &self.paperclip_api_url);
        replace(&mut config.paperclip_home, &self.paperclip_home);
        replace(&mut config.self_pod, &self.self_pod);
    }
}

impl AccessArgs {
    fn override_fields(&self, choice: &mut ClusterChoice) {
        replace(&mut choice.kind, &self.cluster);
        replace(&mut choice.kubeconfig, &self.kubeconfig);
        replace(&mut choice.context, &self.context_name);
    }
}

fn replace<T: Clone>(field: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        field.clone_from(flag);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn flags_override_the_file_and_unmasked_names_add_to_it() {
        let folder = std::env::temp_dir().join(format!("paperclip-cli-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("host.toml");
        std::fs::write(
            &file,
            "namespace = \"file\"\nunmasked_env = [\"B\"]\n[cluster]\ncontext = \"file\"\n",
        )
        .expect("written");
        let file = file.to_str().expect("UTF-8");
        let args = |flags: &[&str]| {
            let line = ["paperclip-host", "run", "--context", "c", "--config", file];
            let Command::Run(args) = Args::parse_from(line.iter().chain(flags)).command else {
                panic!("another command")
            };
            args.configuration().expect("valid")
        };
        let config = args(&["--namespace", "flag", "--unmasked-env", "A"]);
        assert_eq!(config.namespace.as_deref(), Some("flag"));
        assert_eq!(config.unmasked_env, ["A", "B"]);
        assert_eq!(config.cluster.context.as_deref(), Some("file"));
        assert_eq!(config.journal, JournalMode::Required);
        std::fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn a_run_without_a_file_has_its_journal_at_best_effort() {
        let Command::Run(args) = Args::parse_from(["paperclip-host", "run", "--context", "c"]).command else {
            panic!("another command")
        };
        assert_eq!(args.configuration().expect("valid").journal, JournalMode::BestEffort);
    }
}
