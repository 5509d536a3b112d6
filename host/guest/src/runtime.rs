//! The compiler and the pool of instances that all plugins of a process share.

use crate::budget::{CORE_INSTANCES, MAX_TABLE_ELEMENTS, MEMORIES, MEMORY_BYTES, STACK_BYTES, TABLES};
use crate::cache;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Frames of a trap's backtrace that are kept: a panic alone takes about six.
const BACKTRACE_FRAMES: NonZeroUsize = NonZeroUsize::new(32).expect("32 is not zero");

/// What a process gives its plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeOptions {
    /// Instances that may live at a time, those of runs and of tools together. Each takes some 4 GiB of address space
    /// and no memory until it is used; `vm.max_map_count` bounds it near 10,000 on Linux.
    pub max_instances: u32,
    /// Linear memory of one instance.
    pub memory_bytes: u64,
    /// A private folder for compiled plugins, made if it is missing; none compiles anew in each process.
    pub cache_dir: Option<PathBuf>,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { max_instances: 1_000, memory_bytes: MEMORY_BYTES, cache_dir: None }
    }
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("cache of compiled plugins {}: {reason}", dir.display())]
    Cache { dir: PathBuf, reason: String, hint: &'static str },
    #[error("cannot reserve room for {max_instances} plugin instances of {memory_bytes} bytes: {reason}")]
    Pool { max_instances: u32, memory_bytes: u64, reason: String },
}

/// wasmtime, set up for plugins: deterministic, metered, and without any way to the outside. A clone is another handle
/// of the same.
#[derive(Debug, Clone)]
pub struct Runtime {
    engine: Engine,
    memory_bytes: u64,
    max_instances: u32,
}

impl Runtime {
    /// Reserves the pool and opens the cache.
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

    /// Linear memory of one instance.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Instances that may live at a time.
    pub fn max_instances(&self) -> u32 {
        self.max_instances
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// What makes calls repeatable and bounded, and what a plugin does not need and therefore does not get.
fn restrict(config: &mut Config) {
    config
        // A journal must replay to the same commands on any machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Fuel rather than epochs: it is deterministic and needs no ticking thread.
        .consume_fuel(true)
        .max_wasm_stack(STACK_BYTES)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES))
        // Access to a dead instance's memory: what a panic said stands there.
        .coredump_on_trap(true)
        .wasm_component_model(true)
        // Calls are synchronous; support for others doubles their cost.
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
