//! The compiler and the pool of instances that all plugins of a process share.

use crate::budget::{CORE_INSTANCES, MAX_TABLE_ELEMENTS, MEMORIES, MEMORY_BYTES, STACK_BYTES, TABLES};
use crate::cache;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// How many frames of a trap's backtrace are kept. A panic alone has about six.
const BACKTRACE_FRAMES: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not zero");

/// The resources of all plugins of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// The most instances at a time, those of runs and of tools together. Each reserves about 4 GiB of
    /// address space and no memory until it is used. On Linux `vm.max_map_count` limits it to about 10,000.
    pub max_instances: u32,
    /// The largest linear memory of one instance.
    pub memory_bytes: u64,
    /// A private folder for compiled plugins, created if it is missing. Without one, each process compiles
    /// them.
    pub cache_dir: Option<PathBuf>,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { max_instances: 1_000, memory_bytes: MEMORY_BYTES, cache_dir: None }
    }
}

/// Why a runtime cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("cache of compiled plugins {}: {reason}", dir.display())]
    Cache { dir: PathBuf, reason: String, hint: &'static str },
    #[error("cannot reserve memory for {max_instances} plugin instances of {memory_bytes} bytes: {reason}")]
    Pool { max_instances: u32, memory_bytes: u64, reason: String },
}

/// wasmtime, configured for plugins: deterministic, metered and without imports. A clone is a handle to the
/// same runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    engine: Engine,
    memory_bytes: u64,
    max_instances: u32,
}

impl Runtime {
    /// Reserves the pool and opens the cache.
    ///
    /// # Errors
    /// The cache's folder is unusable, or the address space for the pool is not available.
    pub fn new(options: &RuntimeOptions) -> Result<Runtime, RuntimeError> {
        let mut config = Config::new();
        restrict(&mut config);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
        if let Some(dir) = &options.cache_dir {
            config.cache(Some(cache::open(dir)?));
        }
        let engine = Engine::new(&config).map_err(|error| RuntimeError::Pool {
            max_instances: options.max_instances,
            memory_bytes: options.memory_bytes,
            reason: format!("{error:#}"),
        })?;
        Ok(Runtime { engine, memory_bytes: options.memory_bytes, max_instances: options.max_instances })
    }

    /// Returns the largest linear memory of one instance.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Returns the most instances at a time.
    pub fn max_instances(&self) -> u32 {
        self.max_instances
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Makes calls repeatable and bounded, and disables what a plugin does not need.
fn restrict(config: &mut Config) {
    config
        // A journal replays to the same commands on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Unlike epochs, fuel is deterministic and needs no thread.
        .consume_fuel(true)
        .max_wasm_stack(STACK_BYTES)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES))
        // The memory of a failed instance contains the message of its panic.
        .coredump_on_trap(true)
        .wasm_component_model(true)
        // Calls are synchronous; support for asynchronous ones doubles their cost.
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
}

fn pool(options: &RuntimeOptions) -> PoolingAllocationConfig {
    let instances = options.max_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
        .total_memories(instances.saturating_mul(MEMORIES))
        .total_tables(instances.saturating_mul(TABLES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(options.memory_bytes).unwrap_or(usize::MAX));
    pool
}
