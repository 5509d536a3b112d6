//! Runs of an earlier process: those that have not ended go on, of the others the events are kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use paperclip_contract::types::{Action, Ending, NewSecret, Request, SecretEntry, SecretSource};
use paperclip_engine::intake::Secrets;
use paperclip_engine::journal::Entry as Line;
use paperclip_engine::ledger::without_prompt;
use paperclip_engine::record::RecordSequencer;
use paperclip_engine::time::Timestamp;
use paperclip_shell::journal::{self, Header, History, RunFolder};
use paperclip_shell::{Cluster, JournalError};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::begin::{Beginning, about, controls};
use super::entry::{Entry, State};
use super::feed::Feed;
use super::refusal::{Kind, Refusal};
use super::{Supervisor, intake};

/// How long a run waits for being started again, with its secrets.
const SECRETS_PATIENCE: Duration = Duration::from_secs(120);

/// What a repeated start brings to a run that was taken up.
#[derive(Debug)]
pub(super) struct Brought(Secrets);

/// What a journal tells of a run.
struct Past {
    header: Header,
    request: Request,
    /// Secrets that it asked to create.
    secrets: Vec<NewSecret>,
    began_at: SystemTime,
    end: Option<(SystemTime, Ending, Map<String, Value>)>,
    /// Nothing is left to be done.
    is_closed: bool,
    next_seq: u64,
}

impl Supervisor {
    /// Takes up all runs of the state folder, each in a task of its own.
    pub(crate) fn resume(&self) {
        let folders = folders(&self.around().state);
        self.shared.resuming.fetch_add(folders.len(), Ordering::Relaxed);
        for folder in folders {
            let supervisor = self.clone();
            self.spawn(async move {
                let taken_up = supervisor.take_up(&folder).await;
                supervisor.resumed_one();
                match taken_up {
                    Ok(Some(beginning)) => supervisor.host(beginning).await,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(folder = %folder.display(), %error, "run is not taken up");
                    }
                }
            });
        }
    }

    async fn take_up(&self, folder: &Path) -> anyhow::Result<Option<Box<Beginning>>> {
        let path = folder.to_owned();
        let past = tokio::task::spawn_blocking(move || Past::read(&path)).await??;
        let Some(past) = past else { return Ok(None) };
        let run_id = past.header.run_id.clone();
        if past.is_closed {
            self.remember(folder, past);
            return Ok(None);
        }
        let held = match RunFolder::open(&self.around().state, &run_id) {
            Ok(held) => held,
            Err(JournalError::Locked { holder, .. }) => {
                tracing::info!(run_id, holder, "run is driven by another process");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let (header, supervisor) = (past.header.clone(), self.clone());
        let plugin = tokio::task::spawn_blocking(move || {
            let loaded = supervisor.catalogue().by_digest(&header.plugin_digest);
            crate::beginning::pinned(
                supervisor.catalogue().runtime(),
                &supervisor.around().state,
                &header,
                loaded,
            )
        });
        let plugin = plugin.await??;
        let config: Value = serde_json::from_str(&past.request.config_json).unwrap_or_default();
        let cluster = intake::cluster(self.around(), &config).unwrap_or(&self.around().cluster).clone();
        let Header { unmasked_env, adopted, .. } = past.header.clone();
        let asked =
            adopted.as_ref().map_or(past.secrets.as_slice(), |adopted| std::slice::from_ref(&adopted.secret));
        let secrets = read_back(&cluster, asked).await;
        let redactor = crate::beginning::redactor(&past.request, &secrets, &unmasked_env)?;
        // One that was adopted creates nothing, and needs them for nothing but to mask them.
        let lacks_secrets = past.end.is_none() && adopted.is_none() && lacks(&past.request, &secrets, asked);
        // Known before the run is: a repeated start that finds the run finds that it is waited for, too.
        let awaits = lacks_secrets.then(|| {
            let (sender, awaits) = oneshot::channel();
            self.shared.awaited().insert(run_id.clone(), sender);
            awaits
        });
        let (sender, controls) = controls();
        let mut about = about(&past.request, intake::namespace(self.around(), &past.request), &plugin);
        about.adopted = adopted.is_some();
        let feed = Feed::new();
        feed.set_journal(folder.to_owned());
        let entry = Arc::new(Entry::new(about, feed, State::Queued, sender, past.began_at));
        self.enter_resumed(&entry);
        self.shared.runs().insert(run_id.clone(), Arc::clone(&entry));
        tracing::info!(run_id, "run is taken up");
        Ok(Some(Box::new(Beginning {
            entry,
            controls,
            plugin,
            cluster,
            request: past.request,
            secrets,
            redactor,
            notes: Vec::new(),
            folder: Some(held),
            unmasked_env,
            adopted,
            awaits,
        })))
    }

    /// Secrets stood in the memory of the earlier process, until the run's own Secret was created. Whoever starts the run once more
    /// brings them again; without that the run goes on with what there is, which ends it if its agent has not begun.
    pub(super) async fn wait_for_secrets(
        &self,
        beginning: &mut Beginning,
        awaited: oneshot::Receiver<Brought>,
    ) {
        let entry = Arc::clone(&beginning.entry);
        let run_id = &entry.about.run_id;
        let patience_s = SECRETS_PATIENCE.as_secs();
        tracing::warn!(run_id, patience_s, "its secrets are lost: the run waits for being started again");
        let brought = tokio::select! {
            brought = awaited => brought.ok(),
            // Whoever wants the run to end, or this process, does not have to wait for that.
            Some(wish) = beginning.controls.recv() => {
                let _ = entry.control.try_send(wish);
                None
            }
            () = tokio::time::sleep(SECRETS_PATIENCE) => None,
        };
        self.shared.awaited().remove(run_id);
        let Some(Brought(secrets)) = brought else { return };
        match crate::beginning::redactor(&beginning.request, &secrets, &beginning.unmasked_env) {
            Ok(redactor) => {
                tracing::info!(run_id, "its secrets are known again");
                (beginning.secrets, beginning.redactor) = (secrets, redactor);
            }
            Err(error) => tracing::error!(run_id, %error, "its secrets cannot be masked, and are not used"),
        }
    }

    /// Hands the secrets of a context to the run that waits for them, if it is one of those.
    pub(super) fn bring_secrets(&self, context: &Value) -> Result<Option<Arc<Entry>>, Refusal> {
        let Some(run_id) = context["runId"].as_str() else { return Ok(None) };
        if !self.shared.awaited().contains_key(run_id) {
            return Ok(None);
        }
        let entry = self.get(run_id)?;
        let plugin = self.catalogue().get(&entry.about.adapter_type);
        let plugin = plugin.map_err(|error| Refusal::of(Kind::NoPlugin, &error))?;
        let taken = intake::take(context, &plugin, self.around())?;
        if let Some(waiting) = self.shared.awaited().remove(run_id) {
            // One that has just given up goes on without.
            let _ = waiting.send(Brought(taken.secrets));
        }
        Ok(Some(entry))
    }

    /// Keeps an ended run to be asked for.
    fn remember(&self, folder: &Path, past: Past) {
        let about = super::entry::About {
            run_id: past.header.run_id.clone(),
            adapter_type: past.header.adapter_type,
            agent_id: past.request.agent.id.clone(),
            company_id: past.request.agent.company_id.clone(),
            namespace: intake::namespace(self.around(), &past.request),
            plugin_version: past.header.plugin_version,
            plugin_digest: past.header.plugin_digest,
            adopted: past.header.adopted.is_some(),
        };
        let (sender, _) = controls();
        let feed = Feed::of_journal(folder.to_owned(), past.next_seq);
        let entry = Entry::new(about, feed, State::Queued, sender, past.began_at);
        if let Some((at, ending, result)) = past.end {
            entry.end(ending.into(), Some(result), at);
        }
        self.shared.runs().insert(past.header.run_id, Arc::new(entry));
    }
}

impl Past {
    /// Reads a folder of the state folder; none if no run has begun in it.
    fn read(folder: &Path) -> anyhow::Result<Option<Past>> {
        let mut sequencer = RecordSequencer::default();
        let (mut request, mut began_at, mut end, mut is_closed, mut next_seq) =
            (None, Timestamp::EPOCH, None, false, 0);
        let mut secrets = Vec::new();
        let history = match History::open(folder) {
            Ok(history) => history,
            // The host died before the first line.
            Err(JournalError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let header = journal::header(folder).context("its header.json cannot be read")?;
        for entry in history.entries() {
            let (_, entry) = entry?;
            match &entry {
                Line::Start { at, request: begun, .. } => {
                    (began_at, request) = (*at, Some(Request::clone(begun)));
                }
                Line::Commands { commands, .. } => {
                    secrets.extend(commands.iter().filter_map(|command| match &command.action {
                        Action::CreateSecret(secret) => without_prompt(secret),
                        _ => None,
                    }));
                }
                Line::Snapshot { at, ledger, request: begun, .. } => {
                    // What came before it may be gone.
                    if let (None, Some(begun)) = (&request, begun) {
                        (began_at, request) = (*at, Some(Request::clone(begun)));
                    }
                    secrets = ledger.secrets().to_vec();
                }
                Line::End { at, ending, result, .. } => {
                    end = Some((system_time(*at), *ending, Map::clone(result)));
                }
                Line::Closed => is_closed = true,
                Line::Step { .. } | Line::Note { .. } | Line::Resumed { .. } => {}
            }
            if let Some(last) = sequencer.entry(entry).last() {
                next_seq = last.seq + 1;
            }
        }
        let Some(request) = request else { return Ok(None) };
        Ok(Some(Past { header, request, secrets, began_at: system_time(began_at), end, is_closed, next_seq }))
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + at.since(Timestamp::EPOCH)
}

fn folders(state: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(state.join("runs")) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_none_yet) => Vec::new(),
    }
}

/// Whether a value is missing of what the run's Secrets are to have, or will be asked to have.
fn lacks(request: &Request, secrets: &Secrets, asked: &[NewSecret]) -> bool {
    if asked.is_empty() {
        return request.has_auth_token || request.config_env.iter().any(|entry| entry.value.is_none());
    }
    let mut entries = asked.iter().flat_map(|secret| &secret.entries);
    entries.any(|entry| secrets.resolve(&entry.source).is_none())
}

/// The secrets of a run stand in no journal: they are read back from the Secrets that its Job owns.
async fn read_back(cluster: &Cluster, asked: &[NewSecret]) -> Secrets {
    let mut values = Vec::new();
    for secret in asked {
        let api: Api<Secret> = Api::namespaced(cluster.client().clone(), &secret.namespace);
        match api.get_opt(&secret.name).await {
            Ok(Some(found)) => values.extend(self::values(&found, &secret.entries)),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(secret = secret.name, %error, "the run's secrets cannot be read back");
            }
        }
    }
    Secrets::of(values)
}

/// The values that a Secret has, by where they had come from.
pub(super) fn values(secret: &Secret, entries: &[SecretEntry]) -> Vec<(SecretSource, String)> {
    let Some(data) = &secret.data else { return Vec::new() };
    let read = entries.iter().filter_map(|entry| {
        let value = String::from_utf8(data.get(&entry.key)?.0.clone()).ok()?;
        Some((entry.source.clone(), value))
    });
    read.collect()
}
