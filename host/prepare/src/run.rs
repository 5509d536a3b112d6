//! A prepared run on its way to its start: its journal is opened, its plugin pinned, its instance made.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use paperclip_contract::types::Request;
use paperclip_diagnostic::Diagnose;
use paperclip_engine::intake::Secrets;
use paperclip_engine::journal::FORMAT;
use paperclip_engine::policy::Policy;
use paperclip_engine::record::Level;
use paperclip_engine::redact::Redactor;
use paperclip_engine::run_record::RunRecord;
use paperclip_engine::{Guest, GuestFault, PluginIdentity, Run, RunSpec, SegmentLimits};
use paperclip_guest::{Instance, LoadError, Plugin, Runtime};
use paperclip_shell::driver::Observer;
use paperclip_shell::journal::{self, Adopted, Header, History, JournalError, RunFolder};
use paperclip_shell::{Cluster, Journal, PaperclipApi, RunPorts, Sink};

use crate::config::JournalMode;
use crate::host::HostContext;
use crate::masking::{self, MaskedEnv, MaskingError};

/// Interval of the cancel poll, which `paperclip_engine::polls` carries out.
const POLL_INTERVAL: Duration = Duration::from_secs(15);

/// A run whose context was read and checked. Nothing exists of it yet.
#[derive(Debug)]
pub struct PreparedRun {
    /// The plugin that decides for the run until its end.
    pub plugin: Arc<Plugin>,
    pub request: Request,
    pub secrets: Secrets,
    pub redactor: Redactor,
    /// Paperclip's API, for the cancel poll.
    pub paperclip: Option<PaperclipApi>,
    /// What could not be read of what the context names.
    pub warnings: Vec<String>,
    /// Variables whose values are masked.
    pub masked: MaskedEnv,
    /// Whether the client requests cancellations itself, so that Paperclip's API is not polled for them.
    pub pushes_cancel: bool,
    /// The Job that another host created for the run, if this host adopts it.
    pub adopted: Option<Adopted>,
    /// What distinguishes its records from those of the same run on another host.
    pub generation: Option<String>,
    /// The record of the run, as this process has claimed it.
    pub record: Option<Box<RunRecord>>,
    /// The record existed before this process claimed it.
    pub takes_over: bool,
}

/// A run whose journal is open.
#[derive(Debug)]
pub struct OpenedRun {
    prepared: PreparedRun,
    journal: Journal,
    history: History,
    header: Header,
}

/// Through what a run acts, as its caller provides it.
#[derive(Debug)]
pub struct RunConnections<S> {
    pub cluster: Cluster,
    /// The cluster's name for people.
    pub place: String,
    pub sink: S,
    pub observer: Arc<dyn Observer>,
}

/// A run that [`paperclip_shell::drive`] can drive.
#[derive(Debug)]
pub struct StartedRun<G, S> {
    pub run: Run<G>,
    pub ports: RunPorts<S>,
}

/// Why a prepared run does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Masking(#[from] MaskingError),
    #[error(transparent)]
    Plugin(#[from] GuestFault),
}

impl Diagnose for StartError {
    fn code(&self) -> &'static str {
        match self {
            StartError::Journal(error) => error.code(),
            StartError::Masking(error) => error.code(),
            StartError::Plugin(_) => "plugin_failed",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            StartError::Journal(error) => error.hint(),
            StartError::Masking(error) => error.hint(),
            StartError::Plugin(_) => None,
        }
    }
}

impl PreparedRun {
    /// Opens the run's journal, or resumes the one that `folder` or the state folder has. A run that has a journal keeps what it was
    /// started with: its masked variables and the Job that it adopted.
    ///
    /// # Errors
    /// Another process drives the run, or the journal is required and cannot be written.
    pub fn open_journal(
        mut self,
        host: &HostContext,
        folder: Option<RunFolder>,
    ) -> Result<OpenedRun, StartError> {
        let folder = match folder {
            Some(folder) => Some(folder),
            None => open_folder(host, &self.request.run_id)?,
        };
        let recorded = folder.as_ref().and_then(RunFolder::header).cloned();
        let header = recorded.unwrap_or_else(|| self.header());
        let masked = MaskedEnv::of_header(&header);
        if masked != self.masked {
            let protocol = self.plugin.protocol_members();
            self.redactor = masking::redactor(&self.request, &self.secrets, &masked, protocol)?;
        }
        let history = folder.as_ref().map(RunFolder::history).unwrap_or_default();
        let journal = match (&host.state, folder) {
            (Some(state), Some(folder)) => {
                start_journal(state, folder, &self.plugin, &header, host.config.journal)?
            }
            (_, _) => Journal::none(),
        };
        Ok(OpenedRun { prepared: self, journal, history, header })
    }

    fn header(&self) -> Header {
        let (masked_env, unmasked_env) = match &self.masked {
            MaskedEnv::Names(names) => (Some(names.clone()), Vec::new()),
            MaskedEnv::AllBut(patterns) => (None, patterns.clone()),
        };
        Header {
            format: FORMAT,
            run_id: self.request.run_id.clone(),
            adapter_type: self.plugin.adapter_type().to_owned(),
            plugin_version: self.plugin.version().to_owned(),
            plugin_digest: self.plugin.digest().to_owned(),
            contract: self.plugin.contract().to_owned(),
            masked_env,
            unmasked_env,
            pushes_cancel: self.pushes_cancel,
            generation: self.generation.clone(),
            adopted: self.adopted.clone(),
        }
    }

    /// The first lines of the run's record: where it runs, which plugin decides, and what could not be read; or where it comes from.
    fn notes(&self, place: &str) -> Vec<(Level, String)> {
        if let Some(adopted) = &self.adopted {
            let note = format!(
                "Adopted Job {} in {}: the host that started this run is not running, and its journal is not here",
                adopted.job.name, adopted.job.namespace
            );
            let notes = std::iter::once(note).chain(self.warnings.iter().cloned());
            return notes.map(|text| (Level::Info, text)).collect();
        }
        let plugin = &self.plugin;
        let mut notes = vec![
            (Level::Info, format!("Agents run on the {place}")),
            (
                Level::Info,
                format!(
                    "Plugin {} {} (sha256:{:.12})",
                    plugin.adapter_type(),
                    plugin.version(),
                    plugin.digest()
                ),
            ),
        ];
        notes.extend(self.warnings.iter().map(|text| (Level::Warning, text.clone())));
        notes
    }
}

impl OpenedRun {
    /// Returns the folder of the run's journal, if it has one.
    pub fn journal_folder(&self) -> Option<&Path> {
        self.journal.folder()
    }

    /// Makes the plugin's instance and the engine's run. `wrap` may put an observer around the instance.
    ///
    /// # Errors
    /// The plugin cannot be instantiated.
    pub fn start<G: Guest, S: Sink>(
        self,
        host: &HostContext,
        ports: RunConnections<S>,
        wrap: impl FnOnce(Instance) -> G,
    ) -> Result<StartedRun<G, S>, StartError> {
        let OpenedRun { prepared, journal, history, header } = self;
        let notes = if history.is_empty() { prepared.notes(&ports.place) } else { Vec::new() };
        let PreparedRun { plugin, request, secrets, redactor, paperclip, record, takes_over, .. } = prepared;
        let instance = plugin.instantiate()?;
        let run_id = request.run_id.clone();
        let spec = RunSpec {
            policy: Policy::new(
                host.config.grant(plugin.adapter_type(), &request.agent.company_id),
                &request,
            )
            .without_account(host.own_account.clone()),
            redactor,
            host_id: host.host_id.clone(),
            seed: seed(&run_id),
            plugin: PluginIdentity {
                adapter_type: plugin.adapter_type().to_owned(),
                version: plugin.version().to_owned(),
                digest: plugin.digest().to_owned(),
            },
            poll_interval: (!header.pushes_cancel).then_some(POLL_INTERVAL),
            segments: SegmentLimits::default(),
            adopts: header.adopted.map(|adopted| adopted.job),
            record,
            verifies_record: takes_over,
            request,
        };
        let RunConnections { cluster, sink, observer, place: _ } = ports;
        let ports = RunPorts { run_id, cluster, secrets, paperclip, journal, history, notes, sink, observer };
        Ok(StartedRun { run: Run::new(spec, wrap(instance)), ports })
    }
}

/// Takes the folder of a run. Where the journal is at best effort and the folder cannot be written, the run has none.
///
/// # Errors
/// Another process drives the run, or the journal is required and the folder cannot be written.
pub fn open_folder(host: &HostContext, run_id: &str) -> Result<Option<RunFolder>, JournalError> {
    let Some(state) = &host.state else { return Ok(None) };
    match (RunFolder::open(state, run_id), host.config.journal) {
        (Ok(folder), _) => Ok(Some(folder)),
        (Err(JournalError::Io { path, cause }), JournalMode::BestEffort) => {
            journal::warn(&path, &cause);
            Ok(None)
        }
        (Err(error), _) => Err(error),
    }
}

fn start_journal(
    state: &Path,
    mut folder: RunFolder,
    plugin: &Plugin,
    header: &Header,
    mode: JournalMode,
) -> Result<Journal, JournalError> {
    match (write_header(state, &mut folder, plugin, header), mode) {
        (Ok(()), _) => Ok(Journal::new(folder, mode == JournalMode::Required)),
        (Err(error), JournalMode::BestEffort) => {
            journal::warn(folder.path(), &error);
            Ok(Journal::none())
        }
        (Err(error), JournalMode::Required) => Err(error),
    }
}

/// Keeps the plugin and writes into the run's folder what the run is, unless the folder has that already.
fn write_header(
    state: &Path,
    folder: &mut RunFolder,
    plugin: &Plugin,
    header: &Header,
) -> Result<(), JournalError> {
    if folder.header().is_some() {
        return Ok(());
    }
    journal::keep_plugin(state, plugin.digest(), plugin.file())
        .map_err(|cause| JournalError::Io { path: journal::kept_plugin(state, plugin.digest()), cause })?;
    folder.write_header(header)
}

/// Returns the plugin that a run was started with, which it keeps whatever plugin is in use now: `loaded` if it is that one, else the
/// file that was kept with the run.
///
/// # Errors
/// The plugin is no longer kept, or cannot be loaded.
pub fn pinned_plugin(
    runtime: &Runtime,
    state: &Path,
    header: &Header,
    loaded: Option<Arc<Plugin>>,
) -> Result<Arc<Plugin>, PinError> {
    if let Some(plugin) = loaded.filter(|plugin| plugin.digest() == header.plugin_digest) {
        return Ok(plugin);
    }
    Plugin::load_file(runtime, &journal::kept_plugin(state, &header.plugin_digest)).map_err(|cause| {
        let Header { run_id, adapter_type, plugin_version, .. } = header.clone();
        PinError { run_id, adapter_type, plugin_version, cause }
    })
}

/// The plugin that a run was started with cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[error("run {run_id} was started with plugin {adapter_type} {plugin_version} and keeps it: {cause}")]
pub struct PinError {
    run_id: String,
    adapter_type: String,
    plugin_version: String,
    cause: LoadError,
}

impl Diagnose for PinError {
    fn code(&self) -> &'static str {
        self.cause.code()
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        self.cause.hint()
    }
}

/// The seed of a run's jitter: runs that fail together should not retry together.
fn seed(run_id: &str) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(run_id)
}
