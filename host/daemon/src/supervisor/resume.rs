//! Runs of an earlier process: those that have not ended are resumed, of the others the events are kept.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use paperclip_contract::types::{NewSecret, Request, SecretEntry, SecretSource};
use paperclip_engine::intake::Secrets;
use paperclip_engine::run_record::Tenure;
use paperclip_prepare::{Files, HostContext, MaskedEnv, PreparedRun, StartOptions, redactor};
use paperclip_shell::journal::{self, RunFolder};
use paperclip_shell::{Cluster, JournalError};
use serde_json::Value;
use tokio::sync::oneshot;

use super::Supervisor;
use super::feed::Feed;
use super::handle::{RunHandle, RunInfo};
use super::past::{self, PastRun};
use super::records::RecordKey;
use super::runs::ResuppliedSecrets;
use super::start::PendingRun;
use super::taken::Taken;
use crate::refusal::{Kind, Refusal};

/// How long a run waits for a repeated start that brings its secrets.
const SECRETS_DEADLINE: Duration = Duration::from_secs(120);

/// How often a run is tried again whose folder another process has locked.
const LOCKED_RETRY: Duration = Duration::from_secs(1);

/// What can be done with a run's folder.
#[derive(Debug)]
pub(super) enum Resumable {
    /// No run has started in it.
    Nothing,
    /// Its run has ended.
    Ended(Box<PastRun>),
    /// Another process has the run.
    Locked {
        holder: String,
    },
    Ready(Box<PendingRun>),
}

impl Supervisor {
    /// Resumes all runs of the state folder, each in a task of its own.
    pub(crate) async fn resume(&self) {
        let Some(state) = &self.host().state else { return };
        let folders = past::folders(state);
        self.runs().resume_started(folders.len()).await;
        for folder in folders {
            let supervisor = self.clone();
            self.spawn(async move { supervisor.resume_folder(&folder).await });
        }
    }

    /// Resumes the run of a folder, as soon as no other process has it locked.
    async fn resume_folder(self, folder: &Path) {
        let mut resumed = self.resume_run(folder).await;
        self.runs().resume_ended().await;
        while let Err(NotResumed::Locked) = resumed {
            tokio::time::sleep(LOCKED_RETRY).await;
            if self.runs().check_running().await.is_err() || !folder.exists() {
                return;
            }
            if !journal::is_locked(folder) {
                resumed = self.resume_run(folder).await;
            }
        }
        match resumed {
            Ok(Some(pending)) => self.host_run(pending).await,
            Ok(None) | Err(NotResumed::Locked) => {}
            Err(NotResumed::Failed(error)) => {
                tracing::error!(folder = %folder.display(), error = format!("{error:#}"), "run is not resumed");
            }
        }
    }

    async fn resume_run(&self, folder: &Path) -> Result<Option<Box<PendingRun>>, NotResumed> {
        let mut pending = match self.prepare_resume(folder).await.map_err(NotResumed::Failed)? {
            Resumable::Nothing => return Ok(None),
            Resumable::Ended(past) => {
                self.keep_ended(folder, *past).await;
                return Ok(None);
            }
            Resumable::Locked { holder } => {
                tracing::info!(folder = %folder.display(), holder, "run is driven by another process");
                return Err(NotResumed::Locked);
            }
            Resumable::Ready(pending) => pending,
        };
        let run_id = pending.run.info.run_id.clone();
        let supplier = pending.supplier.take();
        let entered = self.runs().enter_running(&pending.run, supplier).await;
        if !entered.map_err(|refusal| NotResumed::Failed(anyhow::Error::new(refusal)))? {
            return Ok(None);
        }
        self.note_entered(&run_id);
        tracing::info!(run_id, "run is resumed");
        Ok(Some(pending))
    }

    /// Opens the folder of a run and reads what is needed to drive it.
    pub(super) async fn prepare_resume(&self, folder: &Path) -> anyhow::Result<Resumable> {
        let path = folder.to_owned();
        let Some(past) = tokio::task::spawn_blocking(move || PastRun::read(&path)).await?? else {
            return Ok(Resumable::Nothing);
        };
        if past.is_closed {
            return Ok(Resumable::Ended(Box::new(past)));
        }
        let (run_id, state) = (past.header.run_id.clone(), self.host().state.clone().unwrap_or_default());
        let held = match RunFolder::open(&state, &run_id) {
            Ok(held) => held,
            Err(JournalError::Locked { holder, .. }) => return Ok(Resumable::Locked { holder }),
            Err(error) => return Err(error.into()),
        };
        let plugin = self.pinned_plugin(state, past.header.clone()).await?;
        let config: Value = serde_json::from_str(&past.request.config_json).unwrap_or_default();
        let cluster = self.clusters().select(&config).unwrap_or(&self.clusters().default).clone();
        let adopted = past.header.adopted.clone();
        let requested =
            adopted.as_ref().map_or(past.secrets.as_slice(), |adopted| std::slice::from_ref(&adopted.secret));
        let secrets = read_back(&cluster, requested).await;
        // An adopted run creates nothing, and needs its secrets only to mask them.
        let lacks_secrets =
            past.end.is_none() && adopted.is_none() && lacks(&past.request, &secrets, requested);
        let (resupplied, resupply) = if lacks_secrets {
            let (sender, receiver) = oneshot::channel();
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        let namespace = HostContext::namespace_of(&past.request);
        let info = RunInfo::of(&past.request, namespace, &plugin, adopted.is_some());
        let feed =
            Feed::resumed(folder.to_owned(), past.generation(), past.next_seq).later(adopted.is_some());
        let masked = MaskedEnv::of_header(&past.header);
        let prepared = PreparedRun {
            redactor: redactor(&past.request, &secrets, &masked, plugin.protocol_members())?,
            plugin,
            // It was checked when the run started.
            paperclip: past
                .request
                .host
                .paperclip_api_url
                .as_deref()
                .and_then(|url| self.host().paperclip_apis.get(url).ok()),
            request: past.request,
            secrets,
            warnings: Vec::new(),
            masked,
            pushes_cancel: past.header.pushes_cancel,
            adopted,
            generation: None,
            record: None,
            takes_over: false,
        };
        let (run, controls) = self.handle_of(info, feed, past.started_at);
        run.set_taken(Taken::read(folder));
        let (folder, supplier) = (Some(held), resupplied);
        let (tenure, end, next_seq) = (Some(Tenure::Folder), past.end, past.next_seq);
        let pending = PendingRun {
            run,
            controls,
            prepared,
            cluster,
            folder,
            resupply,
            supplier,
            memory: None,
            tenure,
            end,
            next_seq,
        };
        Ok(Resumable::Ready(Box::new(pending)))
    }

    /// Waits for the secrets of a resumed run. They were in the memory of the earlier process until the run's own Secret was created;
    /// whoever starts the run again brings them again. Without them the run is driven with what there is, which ends it if its agent has
    /// not started.
    pub(super) async fn wait_for_secrets(
        &self,
        pending: &mut PendingRun,
        resupply: oneshot::Receiver<ResuppliedSecrets>,
    ) {
        let run = Arc::clone(&pending.run);
        let run_id = &run.info.run_id;
        let deadline_s = SECRETS_DEADLINE.as_secs();
        tracing::warn!(run_id, deadline_s, "its secrets are lost: the run waits for a repeated start");
        let resupplied = tokio::select! {
            resupplied = resupply => resupplied.ok(),
            // A request to end or to detach does not wait.
            Some(control) = pending.controls.recv() => {
                let _ = run.control.try_send(control);
                None
            }
            () = tokio::time::sleep(SECRETS_DEADLINE) => None,
        };
        self.runs().stop_awaiting_secrets(run_id).await;
        let Some(ResuppliedSecrets(secrets)) = resupplied else { return };
        let prepared = &mut pending.prepared;
        let protocol = prepared.plugin.protocol_members();
        match redactor(&prepared.request, &secrets, &prepared.masked, protocol) {
            Ok(redactor) => {
                tracing::info!(run_id, "its secrets are known again");
                (prepared.secrets, prepared.redactor) = (secrets, redactor);
            }
            Err(error) => tracing::error!(run_id, %error, "its secrets cannot be masked, and are not used"),
        }
    }

    /// Passes the secrets of a context to the run that waits for them.
    pub(super) async fn resupply(&self, run_id: &str, context: &Value) -> Result<Arc<RunHandle>, Refusal> {
        let run = self.get(run_id).await?;
        let plugin = self.plugin(&run.info.adapter_type, Kind::NoPlugin).await?;
        // Its Job's files exist, or are in its journal.
        let options = StartOptions { files: Some(Files::default()), ..StartOptions::default() };
        let prepared = self.prepare(context, options, &plugin).await?;
        self.runs().resupply(run_id, ResuppliedSecrets(prepared.secrets)).await;
        Ok(run)
    }

    /// Keeps an ended run so that its state and events can be read.
    async fn keep_ended(&self, folder: &Path, past: PastRun) {
        let feed = Feed::of_journal(folder.to_owned(), past.generation(), past.next_seq)
            .later(past.header.adopted.is_some());
        let info = RunInfo {
            run_id: past.header.run_id,
            adapter_type: past.header.adapter_type,
            agent_id: past.request.agent.id.clone(),
            company_id: past.request.agent.company_id.clone(),
            namespace: HostContext::namespace_of(&past.request),
            plugin_version: past.header.plugin_version,
            plugin_digest: past.header.plugin_digest,
            adopted: past.header.adopted.is_some(),
        };
        let config: Value = serde_json::from_str(&past.request.config_json).unwrap_or_default();
        let cluster = self.clusters().select(&config).unwrap_or(&self.clusters().default);
        let record = RecordKey::of_past(&info, cluster);
        let (run, _) = self.handle_of(info, feed, past.started_at);
        run.set_record(record);
        run.set_taken(Taken::read(folder));
        if let Some(end) = past.end {
            run.end(end.ending.into(), Some(end.result), end.at);
        }
        self.runs().enter_ended(run).await;
    }
}

/// Why the run of a folder is not resumed now.
#[derive(Debug)]
enum NotResumed {
    /// Another process has it.
    Locked,
    Failed(anyhow::Error),
}

/// Whether a value is missing of those that the run's Secrets have, or will be requested to have.
fn lacks(request: &Request, secrets: &Secrets, requested: &[NewSecret]) -> bool {
    if requested.is_empty() {
        return request.has_auth_token || request.config_env.iter().any(|entry| entry.value.is_none());
    }
    let mut entries = requested.iter().flat_map(|secret| &secret.entries);
    entries.any(|entry| secrets.resolve(&entry.source).is_none())
}

/// Reads the secrets of a run from the Secrets that its Job owns: no journal has them.
async fn read_back(cluster: &Cluster, requested: &[NewSecret]) -> Secrets {
    let mut values = Vec::new();
    for secret in requested {
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

/// Returns the values that a Secret has, by where they came from.
pub(super) fn values(secret: &Secret, entries: &[SecretEntry]) -> Vec<(SecretSource, String)> {
    let Some(data) = &secret.data else { return Vec::new() };
    let read = entries.iter().filter_map(|entry| {
        let value = String::from_utf8(data.get(&entry.key)?.0.clone()).ok()?;
        Some((entry.source.clone(), value))
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use paperclip_contract::types::SecretSource;
    use serde_json::json;

    #[test]
    fn values_of_a_secret_are_found_by_where_they_came_from() {
        let secret: Secret =
            serde_json::from_value(json!({"data": {"TOKEN": "YWJj", "BROKEN": "/w=="}})).expect("a Secret");
        let entry =
            |key: &str| SecretEntry { key: key.to_owned(), source: SecretSource::ConfigEnv(key.to_owned()) };
        let values = values(&secret, &[entry("TOKEN"), entry("BROKEN"), entry("MISSING")]);
        assert_eq!(values, [(SecretSource::ConfigEnv("TOKEN".to_owned()), "abc".to_owned())]);
    }
}
