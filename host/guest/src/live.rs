//! One instance of a plugin. Its calls are metered; after the first fault every call returns that fault.

use crate::budget::MAX_TABLE_ELEMENTS;
use crate::contract::{Exports, ExportsPre};
use crate::fault::{self, Allowance};
use crate::runtime::Runtime;
use paperclip_engine::{FaultCause, GuestFault};
use std::fmt;
use std::sync::Arc;
use wasmtime::{ResourceLimiter, Store};

/// Fuel of an instantiation, in which a plugin can run code.
const INSTANTIATE_FUEL: u64 = 100_000_000;

/// What an instance uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The fuel that the last call consumed.
    pub fuel: u64,
    /// The linear memory of the instance. It never shrinks.
    pub memory_bytes: u64,
}

/// The plugin that a fault names.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The agent type; the source while the type is unknown.
    pub plugin: String,
    pub version: String,
    pub digest: String,
}

/// An instance with its store and its meter.
pub(crate) struct Live {
    identity: Arc<Identity>,
    store: Store<Meter>,
    exports: Exports,
    allowed: Allowance,
    call_count: u64,
    fault: Option<GuestFault>,
}

impl Live {
    /// Creates an instance.
    ///
    /// # Errors
    /// [`FaultCause::NoCapacity`] if the pool is full; another cause if the plugin fails.
    pub(crate) fn new(
        runtime: &Runtime,
        pre: &ExportsPre,
        identity: Arc<Identity>,
    ) -> Result<Live, GuestFault> {
        let (mut store, allowed) = open_store(runtime);
        let instantiated = store.set_fuel(INSTANTIATE_FUEL).and_then(|()| pre.instantiate(&mut store));
        match instantiated {
            Ok(exports) => Ok(Live { identity, store, exports, allowed, call_count: 0, fault: None }),
            Err(error) => Err(fault_of(&identity, "instantiate", 0, fault::cause(&error, allowed, &store))),
        }
    }

    /// Asks a plugin, in an instance of its own, which members of its agent's events are never masked.
    ///
    /// # Errors
    /// As of [`Live::new`], or the plugin fails.
    pub(crate) fn protocol_members(
        runtime: &Runtime,
        pre: &ExportsPre,
        identity: &Identity,
    ) -> Result<Option<Vec<String>>, GuestFault> {
        let (mut store, allowed) = open_store(runtime);
        let called = store.set_fuel(INSTANTIATE_FUEL).and_then(|()| pre.protocol_members(&mut store));
        called
            .map_err(|error| fault_of(identity, "protocol-members", 0, fault::cause(&error, allowed, &store)))
    }

    /// Calls the instance with at most `fuel`.
    ///
    /// # Errors
    /// The call fails, or an earlier one has failed.
    pub(crate) fn call<T>(
        &mut self,
        name: &'static str,
        fuel: u64,
        call: impl FnOnce(&mut Store<Meter>, &Exports) -> wasmtime::Result<T>,
    ) -> Result<T, GuestFault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.allowed.fuel = fuel;
        match self.store.set_fuel(fuel).and_then(|()| call(&mut self.store, &self.exports)) {
            Ok(answer) => {
                self.call_count += 1;
                Ok(answer)
            }
            Err(error) => {
                let cause = fault::cause(&error, self.allowed, &self.store);
                Err(self.fail(name, cause))
            }
        }
    }

    /// Fails the instance because the result of a call is invalid.
    pub(crate) fn fail(&mut self, call: &'static str, cause: FaultCause) -> GuestFault {
        let fault = fault_of(&self.identity, call, self.call_count, cause);
        self.fault.insert(fault).clone()
    }

    /// Continues the count of calls of the instance that this one replaces.
    pub(crate) fn continue_count_of(&mut self, before: &Live) {
        self.call_count = before.call_count;
    }

    pub(crate) fn usage(&self) -> Usage {
        // It fails only if fuel is disabled, which it never is.
        let left = self.store.get_fuel().unwrap_or(0);
        Usage {
            fuel: self.allowed.fuel.saturating_sub(left),
            memory_bytes: self.store.data().memory_bytes as u64,
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.fault.is_some()
    }
}

fn open_store(runtime: &Runtime) -> (Store<Meter>, Allowance) {
    let limits = paperclip_engine::limits();
    let allowed = Allowance {
        fuel: INSTANTIATE_FUEL,
        memory_bytes: runtime.memory_bytes(),
        output_bytes: limits.max_output_bytes,
    };
    let mut store = Store::new(runtime.engine(), Meter::new(allowed.memory_bytes));
    store.limiter(|meter| meter);
    store.set_hostcall_fuel(usize::try_from(allowed.output_bytes).unwrap_or(usize::MAX));
    (store, allowed)
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("identity", &self.identity)
            .field("call_count", &self.call_count)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

fn fault_of(identity: &Identity, call: &'static str, step: u64, cause: FaultCause) -> GuestFault {
    GuestFault {
        plugin: identity.plugin.clone(),
        version: identity.version.clone(),
        digest: identity.digest.clone(),
        call,
        step,
        cause,
    }
}

/// Measures and limits the linear memory of an instance.
#[derive(Debug)]
pub(crate) struct Meter {
    limit_bytes: usize,
    memory_bytes: usize,
}

/// An instance exceeds a limit. This is an error of the call, so that the plugin ends instead of handling a
/// failed growth.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum LimitExceeded {
    #[error("memory limit")]
    Memory,
    #[error("table limit")]
    Table { elements: usize },
}

impl Meter {
    fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes: usize::try_from(limit_bytes).unwrap_or(usize::MAX), memory_bytes: 0 }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.limit_bytes {
            return Err(LimitExceeded::Memory.into());
        }
        // A component has at most one memory.
        self.memory_bytes = desired;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            return Err(LimitExceeded::Table { elements: desired }.into());
        }
        Ok(true)
    }
}
