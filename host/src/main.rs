//! `paperclip-host`: runs Paperclip's agents on Kubernetes. The command line is in `paperclip-cli`; this program adds the built-in
//! plugins and the settings of the process.

mod heap;

use std::process::ExitCode;

/// The plugins that were built before this program: agent type and bytes.
const BUILTIN_PLUGINS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/builtin_plugins.rs"));

fn main() -> ExitCode {
    heap::limit_arenas();
    paperclip_cli::main(BUILTIN_PLUGINS)
}
