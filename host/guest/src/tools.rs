//! The pure functions of a plugin that need no run.

use crate::budget::{IDLE_BYTES, MAX_IDLE, TOOL_FUEL};
use crate::contract::Exports;
use crate::live::{Live, Meter};
use crate::plugin::Plugin;
use paperclip_contract::types::{Descriptor, Refusal, Request};
use paperclip_engine::GuestFault;
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::Store;

/// The pure functions of a plugin. Any number of threads can call them: each call uses an idle instance or
/// creates one, and keeps it for later calls unless it failed or its memory grew large.
///
/// Every function returns a [`GuestFault`] if the plugin fails.
#[derive(Debug)]
pub struct Tools {
    plugin: Arc<Plugin>,
    idle: Mutex<Vec<Live>>,
}

/// The outer error is a failure of the plugin.
type Called<T> = Result<T, GuestFault>;

impl Tools {
    /// Creates the functions of a plugin, without an instance.
    pub fn new(plugin: Arc<Plugin>) -> Self {
        Self { plugin, idle: Mutex::new(Vec::new()) }
    }

    /// Returns the plugin whose functions these are.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Returns the plugin's description. [`Plugin::descriptor`] is the one from when it was loaded.
    pub fn describe(&self) -> Called<Descriptor> {
        self.call("describe", |store, plugin| plugin.describe(store))
    }

    /// Returns what a run of `request` would create, as JSON. The refusal names the field at fault.
    pub fn manifest(&self, request: &Request) -> Called<Result<String, Refusal>> {
        self.call("manifest", |store, plugin| plugin.manifest(store, request))
    }

    /// Classifies finished evidence, a JSON document, and returns Paperclip's AdapterExecutionResult. The
    /// inner error says what is wrong with the document.
    pub fn classify(&self, at_ms: u64, evidence_json: &str) -> Called<Result<String, String>> {
        self.call("classify", |store, plugin| plugin.classify(store, at_ms, evidence_json))
    }

    /// Returns an array of transcript entries as JSON for each line of an agent. `at` is the `ts` of the
    /// entries.
    pub fn transcript(&self, lines: &[String], at: &str) -> Called<Vec<String>> {
        self.call("transcript", |store, plugin| plugin.transcript(store, lines, at))
    }

    /// Converts a session, as Paperclip stored it or an agent reported it, to session parameters. None if
    /// there is no session.
    pub fn decode_session(&self, stored_json: &str) -> Called<Option<String>> {
        self.call("decode-session", |store, plugin| plugin.decode_session(store, stored_json))
    }

    /// Converts session parameters to what Paperclip stores, the reverse of [`Tools::decode_session`].
    pub fn encode_session(&self, session_json: &str) -> Called<Option<String>> {
        self.call("encode-session", |store, plugin| plugin.encode_session(store, session_json))
    }

    /// Returns Paperclip's skills snapshot. The inner error says what is wrong with the document.
    pub fn skills(&self, input_json: &str) -> Called<Result<String, String>> {
        self.call("skills", |store, plugin| plugin.skills(store, input_json))
    }

    /// Returns what an environment check has to query from the cluster.
    pub fn plan_check(&self, input_json: &str) -> Called<Result<String, String>> {
        self.call("plan-check", |store, plugin| plugin.plan_check(store, input_json))
    }

    /// Judges the answers to the queries of [`Tools::plan_check`].
    pub fn judge_check(&self, answers_json: &str) -> Called<Result<String, String>> {
        self.call("judge-check", |store, plugin| plugin.judge_check(store, answers_json))
    }

    fn call<T>(
        &self,
        name: &'static str,
        call: impl FnOnce(&mut Store<Meter>, &Exports) -> wasmtime::Result<T>,
    ) -> Called<T> {
        // The lock is not held during the call, and no code that holds it panics.
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut live = match idle {
            Some(live) => live,
            None => self.plugin.live()?,
        };
        let answer = live.call(name, TOOL_FUEL, call);
        if !live.is_dead() && live.usage().memory_bytes <= IDLE_BYTES {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push(live);
            }
        }
        answer
    }
}
