//! The functions that a plugin exports, for all versions of the contract with the engine's types.

use super::{ContractVersion, v0_1, v0_2};
use crate::live::Meter;
use crate::masking;
use paperclip_contract::types::{Command, Descriptor, Event, Refusal, Request};
use wasmtime::component::{InstancePre, ResourceAny};
use wasmtime::{Result, Store};

/// A compiled plugin whose exports have been found.
pub(crate) enum ExportsPre {
    V0_1(v0_1::AgentPluginPre<Meter>),
    V0_2(v0_2::AgentPluginPre<Meter>),
}

/// The exports of one instance.
pub(crate) enum Exports {
    V0_1(v0_1::AgentPlugin),
    V0_2(v0_2::AgentPlugin),
}

impl ExportsPre {
    /// Finds the exports of a version of the contract.
    ///
    /// # Errors
    /// An export is missing.
    pub(crate) fn new(version: ContractVersion, pre: InstancePre<Meter>) -> Result<Self> {
        match version {
            ContractVersion::V0_1 => v0_1::AgentPluginPre::new(pre).map(Self::V0_1),
            ContractVersion::V0_2 => v0_2::AgentPluginPre::new(pre).map(Self::V0_2),
        }
    }

    /// Creates an instance.
    ///
    /// # Errors
    /// There is no capacity, the plugin failed, or an export does not have the type that the contract gives
    /// it.
    pub(crate) fn instantiate(&self, store: &mut Store<Meter>) -> Result<Exports> {
        match self {
            Self::V0_1(pre) => pre.instantiate(store).map(Exports::V0_1),
            Self::V0_2(pre) => pre.instantiate(store).map(Exports::V0_2),
        }
    }
}

/// The interface `masking`, which a plugin may export.
impl ExportsPre {
    /// Creates an instance and calls `protocol-members`. `None`: the plugin does not export it.
    ///
    /// # Errors
    /// As of [`ExportsPre::instantiate`], or the call fails.
    pub(crate) fn protocol_members(&self, store: &mut Store<Meter>) -> Result<Option<Vec<String>>> {
        let pre = match self {
            Self::V0_1(_) => return Ok(None),
            Self::V0_2(pre) => pre.instance_pre(),
        };
        let component = pre.component();
        let interface = component.get_export_index(None, masking::INTERFACE);
        let function =
            interface.and_then(|within| component.get_export_index(Some(&within), masking::FUNCTION));
        let Some(function) = function else { return Ok(None) };
        let instance = pre.instantiate(&mut *store)?;
        let function = instance.get_typed_func::<(), (Vec<String>,)>(&mut *store, &function)?;
        let (members,) = function.call(store, ())?;
        Ok(Some(members))
    }
}

/// Makes a call whose types are the same in all versions.
macro_rules! runs {
    ($exports:expr, |$runs:ident| $call:expr) => {
        match $exports {
            Exports::V0_1(plugin) => {
                let $runs = plugin.paperclip_agent_runs().run();
                $call
            }
            Exports::V0_2(plugin) => {
                let $runs = plugin.paperclip_agent_runs().run();
                $call
            }
        }
    };
}

/// Makes a call whose types are the same in all versions.
macro_rules! tools {
    ($exports:expr, |$tools:ident| $call:expr) => {
        match $exports {
            Exports::V0_1(plugin) => {
                let $tools = plugin.paperclip_agent_tools();
                $call
            }
            Exports::V0_2(plugin) => {
                let $tools = plugin.paperclip_agent_tools();
                $call
            }
        }
    };
}

/// The interface `runs`.
impl Exports {
    pub(crate) fn start(
        &self,
        store: &mut Store<Meter>,
        at_ms: u64,
        request: &Request,
    ) -> Result<Result<(ResourceAny, Vec<Command>), Refusal>> {
        match self {
            Self::V0_1(plugin) => {
                let started = plugin.paperclip_agent_runs().run().call_start(store, at_ms, request.into())?;
                Ok(started.map(|(run, commands)| (run, into_newest(commands))))
            }
            Self::V0_2(plugin) => plugin.paperclip_agent_runs().run().call_start(store, at_ms, request),
        }
    }

    pub(crate) fn step(
        &self,
        store: &mut Store<Meter>,
        run: ResourceAny,
        at_ms: u64,
        events: &[Event],
    ) -> Result<Vec<Command>> {
        match self {
            Self::V0_1(plugin) => {
                let events: Vec<_> = events.iter().map(Into::into).collect();
                plugin.paperclip_agent_runs().run().call_step(store, run, at_ms, &events).map(into_newest)
            }
            Self::V0_2(plugin) => plugin.paperclip_agent_runs().run().call_step(store, run, at_ms, events),
        }
    }

    pub(crate) fn snapshot(&self, store: &mut Store<Meter>, run: ResourceAny) -> Result<Vec<u8>> {
        runs!(self, |runs| runs.call_snapshot(store, run))
    }

    pub(crate) fn restore(
        &self,
        store: &mut Store<Meter>,
        snapshot: &[u8],
    ) -> Result<Result<ResourceAny, Refusal>> {
        runs!(self, |runs| runs.call_restore(store, snapshot))
    }

    pub(crate) fn phase(&self, store: &mut Store<Meter>, run: ResourceAny) -> Result<String> {
        runs!(self, |runs| runs.call_phase(store, run))
    }
}

/// The interface `tools`.
impl Exports {
    pub(crate) fn describe(&self, store: &mut Store<Meter>) -> Result<Descriptor> {
        tools!(self, |tools| tools.call_describe(store))
    }

    pub(crate) fn manifest(
        &self,
        store: &mut Store<Meter>,
        request: &Request,
    ) -> Result<Result<String, Refusal>> {
        match self {
            Self::V0_1(plugin) => plugin.paperclip_agent_tools().call_manifest(store, request.into()),
            Self::V0_2(plugin) => plugin.paperclip_agent_tools().call_manifest(store, request),
        }
    }

    pub(crate) fn classify(
        &self,
        store: &mut Store<Meter>,
        at_ms: u64,
        evidence_json: &str,
    ) -> Result<Result<String, String>> {
        tools!(self, |tools| tools.call_classify(store, at_ms, evidence_json))
    }

    pub(crate) fn transcript(
        &self,
        store: &mut Store<Meter>,
        lines: &[String],
        at: &str,
    ) -> Result<Vec<String>> {
        match self {
            Self::V0_1(plugin) => {
                let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                plugin.paperclip_agent_tools().call_transcript(store, &lines, at)
            }
            Self::V0_2(plugin) => plugin.paperclip_agent_tools().call_transcript(store, lines, at),
        }
    }

    pub(crate) fn decode_session(
        &self,
        store: &mut Store<Meter>,
        stored_json: &str,
    ) -> Result<Option<String>> {
        tools!(self, |tools| tools.call_decode_session(store, stored_json))
    }

    pub(crate) fn encode_session(
        &self,
        store: &mut Store<Meter>,
        session_json: &str,
    ) -> Result<Option<String>> {
        tools!(self, |tools| tools.call_encode_session(store, session_json))
    }

    pub(crate) fn skills(
        &self,
        store: &mut Store<Meter>,
        input_json: &str,
    ) -> Result<Result<String, String>> {
        tools!(self, |tools| tools.call_skills(store, input_json))
    }

    pub(crate) fn plan_check(
        &self,
        store: &mut Store<Meter>,
        input_json: &str,
    ) -> Result<Result<String, String>> {
        tools!(self, |tools| tools.call_plan_check(store, input_json))
    }

    pub(crate) fn judge_check(
        &self,
        store: &mut Store<Meter>,
        answers_json: &str,
    ) -> Result<Result<String, String>> {
        tools!(self, |tools| tools.call_judge_check(store, answers_json))
    }
}

fn into_newest<T>(commands: Vec<T>) -> Vec<Command>
where
    Command: From<T>,
{
    commands.into_iter().map(Into::into).collect()
}
