//! The plugin runtime of a process.

use paperclip_guest::{Runtime, RuntimeError, RuntimeOptions};

use crate::state;

/// The plugins that are built into a program: agent type and bytes.
pub type BuiltinPlugins = &'static [(&'static str, &'static [u8])];

/// Sets the runtime up. It keeps what it compiles for the next process; without a usable folder for that it compiles each time.
///
/// # Errors
/// The address space for so many instances cannot be reserved.
pub fn runtime(max_instances: u32) -> Result<Runtime, RuntimeError> {
    let cache_dir = state::cache_folder().map(|folder| folder.join("plugins"));
    let options = RuntimeOptions { max_instances, cache_dir, ..RuntimeOptions::default() };
    match Runtime::new(&options) {
        // A run does not fail for a cache that costs a tenth of a second.
        Err(RuntimeError::Cache { dir, reason, hint }) => {
            tracing::warn!(dir = %dir.display(), %reason, hint, "compiled plugins are not cached");
            Runtime::new(&RuntimeOptions { cache_dir: None, ..options })
        }
        outcome => outcome,
    }
}
