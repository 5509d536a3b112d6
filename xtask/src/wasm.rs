//! `cargo xtask wasm`: plugins, from crates to components in `dist/plugins/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use paperclip_plugin_build::{Export, component, interface, write_if_changed};

use crate::figures::{duration, size};
use crate::process::{self, Artifact};
use crate::workspace::{PluginPackage, Workspace, relative};
use crate::{init, toolchain};

/// Builds the plugins as components into dist/plugins/TYPE.wasm, where TYPE is the agent type, and the init program into dist/init/.
///
/// Those that only tests run, from tests/, go to dist/test-plugins/.
///
/// Compiles every package under plugin/ that is a cdylib for wasm32-unknown-unknown with the profile `plugin`, and makes a
/// component of it, which must not import anything. Files that would not change are not written, and files of plugins that no
/// longer exist are removed. Prints the compiler, and each component's size, imports and exports.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    toolchain: toolchain::Selection,
}

/// A component in `dist/plugins/`.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) agent_type: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    build_all(&Workspace::find()?, options.toolchain)
}

/// Builds every plugin of the product. Other commands start with this.
pub(crate) fn build(workspace: &Workspace, toolchain: toolchain::Selection) -> Result<Vec<Component>> {
    init::build(workspace)?;
    build_into(workspace, toolchain, &workspace.plugins, &workspace.dist_plugins())
}

/// Builds every plugin of the product, and those that only tests run.
pub(crate) fn build_all(workspace: &Workspace, toolchain: toolchain::Selection) -> Result<()> {
    build(workspace, toolchain)?;
    build_into(workspace, toolchain, &workspace.test_plugins, &workspace.dist_test_plugins())?;
    Ok(())
}

fn build_into(
    workspace: &Workspace,
    toolchain: toolchain::Selection,
    plugins: &[PluginPackage],
    folder: &Path,
) -> Result<Vec<Component>> {
    let compiler = toolchain::prepare(toolchain)?;
    let start = Instant::now();
    let mut cargo = compiler.build(workspace);
    cargo.current_dir(&workspace.root).args(["--profile", "plugin", "--lib"]);
    for plugin in plugins {
        cargo.args(["--package", &plugin.name]);
    }
    let artifacts = process::build(&mut cargo)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    remove_stale(workspace, plugins, folder)?;
    let components: Result<Vec<_>> =
        plugins.iter().map(|plugin| publish(workspace, plugin, folder, &artifacts)).collect();
    process::note(&format!("plugins built in {}", duration(start.elapsed())));
    components
}

/// Makes a component of the module that cargo built, and writes it to the folder.
fn publish(
    workspace: &Workspace,
    plugin: &PluginPackage,
    folder: &Path,
    artifacts: &[Artifact],
) -> Result<Component> {
    let module = artifacts
        .iter()
        .filter(|artifact| artifact.package_id == plugin.id)
        .flat_map(|artifact| &artifact.filenames)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
        .with_context(|| format!("cargo built no module for the plugin {}", plugin.name))?;
    let core = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let bytes = component(&core).with_context(|| format!("{} is not a plugin", plugin.name))?;
    let path = folder.join(format!("{}.wasm", plugin.agent_type));
    let is_new = write_if_changed(&path, &bytes)?;
    let exports = interface(&bytes)?.exports;
    process::note(&format!(
        "{}: {}, imports none, exports {}{}",
        relative(&path, workspace),
        size(bytes.len() as u64),
        exports.iter().map(describe_export).collect::<Vec<_>>().join(", "),
        if is_new { "" } else { " (unchanged)" },
    ));
    Ok(Component { agent_type: plugin.agent_type.clone(), path, bytes })
}

fn describe_export(export: &Export) -> String {
    match export.functions {
        0 => format!("{} (types)", export.name),
        1 => format!("{} (1 function)", export.name),
        many => format!("{} ({many} functions)", export.name),
    }
}

/// Removes components without a package: the host embeds every file in `dist/plugins/`, also that of a renamed plugin.
fn remove_stale(workspace: &Workspace, plugins: &[PluginPackage], folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        let is_ours =
            plugins.iter().any(|plugin| path.file_stem().is_some_and(|stem| *stem == *plugin.agent_type));
        if is_component && !is_ours {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            process::note(&format!(
                "removed {}: no package of the workspace builds it",
                relative(&path, workspace)
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_without_a_package_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let plugin = |agent_type: &str| PluginPackage {
            name: String::new(),
            id: String::new(),
            agent_type: agent_type.to_owned(),
        };
        let workspace = Workspace {
            root: root.path().to_owned(),
            target: root.path().join("target"),
            plugins: vec![plugin("claude_k8s")],
            test_plugins: Vec::new(),
        };
        fs::create_dir_all(workspace.dist_plugins()).unwrap();
        for name in ["claude_k8s.wasm", "renamed.wasm", "notes.txt"] {
            fs::write(workspace.dist_plugins().join(name), "").unwrap();
        }
        remove_stale(&workspace, &workspace.plugins, &workspace.dist_plugins()).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(workspace.dist_plugins()).unwrap().map(|file| file.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["claude_k8s.wasm", "notes.txt"]);
    }
}
