//! One run in its own instance.

use crate::budget::{RUN_FUEL, STEP_FUEL};
use crate::live::{Live, Usage};
use crate::plugin::Plugin;
use paperclip_contract::types::{Command, Event, Refusal, Request};
use paperclip_engine::time::Timestamp;
use paperclip_engine::{FaultCause, Guest, GuestFault};
use std::sync::Arc;
use wasmtime::component::ResourceAny;

/// One run in one instance. It keeps the plugin's version loaded, even when the catalogue has replaced it;
/// dropping it frees the instance.
#[derive(Debug)]
pub struct Instance {
    plugin: Arc<Plugin>,
    live: Live,
    /// Present after `start` or `restore`.
    run: Option<ResourceAny>,
}

impl Instance {
    pub(crate) fn new(plugin: Arc<Plugin>, live: Live) -> Self {
        Self { plugin, live, run: None }
    }

    /// Returns the plugin that the run is pinned to.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Returns the fuel of the last call and the current memory.
    pub fn usage(&self) -> Usage {
        self.live.usage()
    }

    /// Moves the run to a fresh instance, through a snapshot. This frees the memory that only the start of
    /// the run needed, because linear memory never shrinks. The run stays in this instance if no fresh one
    /// can be created.
    ///
    /// # Errors
    /// The plugin fails to make the snapshot.
    pub fn renew(&mut self) -> Result<(), GuestFault> {
        let snapshot = self.snapshot()?;
        let Ok(mut fresh) = self.plugin.instantiate() else { return Ok(()) };
        if let Ok(Ok(())) = fresh.restore(&snapshot) {
            fresh.live.continue_count_of(&self.live);
            *self = fresh;
        }
        Ok(())
    }

    /// Returns the run, for a call that needs one.
    fn started(&mut self, call: &'static str) -> Result<ResourceAny, GuestFault> {
        match self.run {
            Some(run) => Ok(run),
            None => Err(self.live.fail(call, FaultCause::Contract("no run was started".to_owned()))),
        }
    }

    /// Checks that the instance is fresh.
    fn not_started(&mut self, call: &'static str) -> Result<(), GuestFault> {
        match self.run {
            None => Ok(()),
            Some(_) => {
                Err(self.live.fail(call, FaultCause::Contract("a run was started already".to_owned())))
            }
        }
    }

    fn within_limits(
        &mut self,
        call: &'static str,
        commands: Vec<Command>,
    ) -> Result<Vec<Command>, GuestFault> {
        let (found, limit) = (commands.len() as u64, u64::from(paperclip_engine::limits().max_commands));
        if found > limit {
            return Err(self.live.fail(call, FaultCause::OverLimit { what: "commands", found, limit }));
        }
        Ok(commands)
    }
}

impl Guest for Instance {
    fn start(
        &mut self,
        at: Timestamp,
        request: &Request,
    ) -> Result<Result<Vec<Command>, Refusal>, GuestFault> {
        self.not_started("start")?;
        let started = self
            .live
            .call("start", RUN_FUEL, |store, plugin| plugin.start(store, at.as_millis(), request))?;
        match started {
            Ok((run, commands)) => {
                self.run = Some(run);
                self.within_limits("start", commands).map(Ok)
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    fn step(&mut self, at: Timestamp, events: &[Event]) -> Result<Vec<Command>, GuestFault> {
        let run = self.started("step")?;
        let commands = self
            .live
            .call("step", STEP_FUEL, |store, plugin| plugin.step(store, run, at.as_millis(), events))?;
        self.within_limits("step", commands)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault> {
        let run = self.started("snapshot")?;
        self.live.call("snapshot", RUN_FUEL, |store, plugin| plugin.snapshot(store, run))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault> {
        self.not_started("restore")?;
        let restored =
            self.live.call("restore", RUN_FUEL, |store, plugin| plugin.restore(store, snapshot))?;
        Ok(restored.map(|run| self.run = Some(run)))
    }

    fn phase(&mut self) -> Result<String, GuestFault> {
        let run = self.started("phase")?;
        self.live.call("phase", STEP_FUEL, |store, plugin| plugin.phase(store, run))
    }
}
