//! One instance of a plugin: calls into it are metered, and after the first fault it stays dead.

use crate::budget::MAX_TABLE_ELEMENTS;
use crate::contract::{Exports, ExportsPre};
use crate::fault::{self, Allowance};
use crate::runtime::Runtime;
use paperclip_engine::{FaultCause, GuestFault};
use std::fmt;
use std::sync::Arc;
use wasmtime::{ResourceLimiter, Store};

/// Fuel of making an instance: a plugin may run code for that too.
const INSTANTIATE_FUEL: u64 = 100_000_000;

/// What an instance has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Fuel that the last call took.
    pub fuel: u64,
    /// Linear memory that the instance has now. It never shrinks.
    pub memory_bytes: u64,
}

/// Who a fault is blamed on.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Agent type, or the source while that is unknown.
    pub plugin: String,
    pub version: String,
    pub digest: String,
}

/// The instance itself.
pub(crate) struct Live {
    identity: Arc<Identity>,
    store: Store<Meter>,
    exports: Exports,
    allowed: Allowance,
    answered: u64,
    fault: Option<GuestFault>,
}

impl Live {
    /// Makes an instance.
    ///
    /// # Errors
    /// [`FaultCause::NoRoom`] if as many instances live as may.
    pub(crate) fn new(
        runtime: &Runtime,
        pre: &ExportsPre,
        identity: Arc<Identity>,
    ) -> Result<Live, GuestFault> {
        let limits = paperclip_engine::limits();
        let allowed = Allowance {
            fuel: INSTANTIATE_FUEL,
            memory_bytes: runtime.memory_bytes(),
            output_bytes: limits.max_output_bytes,
        };
        let mut store = Store::new(runtime.engine(), Meter::new(allowed.memory_bytes));
        store.limiter(|meter| meter);
        store.set_hostcall_fuel(usize::try_from(allowed.output_bytes).unwrap_or(usize::MAX));
        let made = store.set_fuel(INSTANTIATE_FUEL).and_then(|()| pre.instantiate(&mut store));
        match made {
            Ok(exports) => Ok(Live { identity, store, exports, allowed, answered: 0, fault: None }),
            Err(error) => Err(blame(&identity, "instantiate", 0, fault::cause(&error, allowed, &store))),
        }
    }

    /// Calls into the instance with `fuel` to burn. After a fault every call has that fault as its answer.
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
                self.answered += 1;
                Ok(answer)
            }
            Err(error) => {
                let cause = fault::cause(&error, self.allowed, &self.store);
                Err(self.fail(name, cause))
            }
        }
    }

    /// Ends the instance with a fault of a call whose answer cannot be taken.
    pub(crate) fn fail(&mut self, call: &'static str, cause: FaultCause) -> GuestFault {
        let fault = blame(&self.identity, call, self.answered, cause);
        self.fault.insert(fault).clone()
    }

    /// Counts calls from where another instance is, which this one takes the place of.
    pub(crate) fn go_on_counting(&mut self, before: &Live) {
        self.answered = before.answered;
    }

    pub(crate) fn usage(&self) -> Usage {
        // Fuel is always on, so that there is always some left to tell.
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

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("identity", &self.identity)
            .field("answered", &self.answered)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

fn blame(identity: &Identity, call: &'static str, step: u64, cause: FaultCause) -> GuestFault {
    GuestFault {
        plugin: identity.plugin.clone(),
        version: identity.version.clone(),
        digest: identity.digest.clone(),
        call,
        step,
        cause,
    }
}

/// Counts and bounds the linear memory of an instance.
#[derive(Debug)]
pub(crate) struct Meter {
    limit_bytes: usize,
    memory_bytes: usize,
}

/// More than an instance may have. Raised as an error, so that the plugin ends there instead of handling a failed
/// growth.
#[derive(Debug, Clone, Copy, thiserror::Error)]
pub(crate) enum Overdrawn {
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
            return Err(Overdrawn::Memory.into());
        }
        // A component has one memory at most.
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
            return Err(Overdrawn::Table { elements: desired }.into());
        }
        Ok(true)
    }
}
