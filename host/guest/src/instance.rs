//! A run in an instance of its own.

use crate::budget::{RUN_FUEL, STEP_FUEL};
use crate::live::{Live, Usage};
use crate::plugin::Plugin;
use paperclip_contract::types::{Command, Event, Refusal, Request};
use paperclip_engine::time::Timestamp;
use paperclip_engine::{FaultCause, Guest, GuestFault};
use std::sync::Arc;
use wasmtime::component::ResourceAny;

/// One run in one instance. Dropping it frees the instance; the plugin's version stays loaded until then, whatever the
/// registry says.
#[derive(Debug)]
pub struct Instance {
    plugin: Arc<Plugin>,
    live: Live,
    /// There is one after `start` or `restore`.
    run: Option<ResourceAny>,
}

impl Instance {
    pub(crate) fn new(plugin: Arc<Plugin>, live: Live) -> Self {
        Self { plugin, live, run: None }
    }

    /// The plugin that the run is pinned to.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Fuel of the last call and memory now.
    pub fn usage(&self) -> Usage {
        self.live.usage()
    }

    /// Lets the run go on in a fresh instance, from its snapshot: linear memory never shrinks, and what the beginning took is not
    /// needed any more. Where there is no fresh one to be had, the run goes on in this one.
    ///
    /// # Errors
    /// The plugin broke over its snapshot.
    pub fn renew(&mut self) -> Result<(), GuestFault> {
        let snapshot = self.snapshot()?;
        let Ok(mut fresh) = self.plugin.instantiate() else { return Ok(()) };
        if let Ok(Ok(())) = fresh.restore(&snapshot) {
            fresh.live.go_on_counting(&self.live);
            *self = fresh;
        }
        Ok(())
    }

    /// The run, for a call that needs one.
    fn begun(&mut self, call: &'static str) -> Result<ResourceAny, GuestFault> {
        match self.run {
            Some(run) => Ok(run),
            None => Err(self.live.fail(call, FaultCause::Contract("there is no run yet".to_owned()))),
        }
    }

    /// Makes sure that the instance is fresh.
    fn unbegun(&mut self, call: &'static str) -> Result<(), GuestFault> {
        match self.run {
            None => Ok(()),
            Some(_) => Err(self.live.fail(call, FaultCause::Contract("there is a run already".to_owned()))),
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
        self.unbegun("start")?;
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
        let run = self.begun("step")?;
        let commands = self
            .live
            .call("step", STEP_FUEL, |store, plugin| plugin.step(store, run, at.as_millis(), events))?;
        self.within_limits("step", commands)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, GuestFault> {
        let run = self.begun("snapshot")?;
        self.live.call("snapshot", RUN_FUEL, |store, plugin| plugin.snapshot(store, run))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<Result<(), Refusal>, GuestFault> {
        self.unbegun("restore")?;
        let restored =
            self.live.call("restore", RUN_FUEL, |store, plugin| plugin.restore(store, snapshot))?;
        Ok(restored.map(|run| self.run = Some(run)))
    }

    fn phase(&mut self) -> Result<String, GuestFault> {
        let run = self.begun("phase")?;
        self.live.call("phase", STEP_FUEL, |store, plugin| plugin.phase(store, run))
    }
}
