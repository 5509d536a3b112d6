//! The workspace as cargo describes it: its root, its target folder, its plugins.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;

pub(crate) use paperclip_plugin_build::WASM_TARGET;

/// Folders of the workspace, and its plugins.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, which is not always `target/`.
    pub(crate) target: PathBuf,
    /// By package name.
    pub(crate) plugins: Vec<PluginPackage>,
    /// Plugins that only tests run, from `tests/`.
    pub(crate) test_plugins: Vec<PluginPackage>,
}

/// A package that is built as a component.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PluginPackage {
    /// The package's name, such as `claude-k8s`.
    pub(crate) name: String,
    /// The package's id in cargo's messages.
    pub(crate) id: String,
    /// The agent type that the plugin serves, such as `claude_k8s`.
    pub(crate) agent_type: String,
}

impl Workspace {
    /// Reads the workspace from `cargo metadata`.
    ///
    /// # Errors
    /// If there is no workspace, or it has no plugins.
    pub(crate) fn find() -> Result<Self> {
        let metadata = process::output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
        Self::from_metadata(&metadata)
    }

    /// The folder of finished files: the host's program and, in `plugins/`, the components. Ignored by git.
    pub(crate) fn dist(&self) -> PathBuf {
        self.root.join("dist")
    }

    /// The folder of components, `<agent type>.wasm` for each plugin.
    pub(crate) fn dist_plugins(&self) -> PathBuf {
        self.dist().join("plugins")
    }

    /// The folder of the components that only tests run.
    pub(crate) fn dist_test_plugins(&self) -> PathBuf {
        self.dist().join("test-plugins")
    }

    fn from_metadata(json: &str) -> Result<Self> {
        let metadata: Metadata = serde_json::from_str(json).context("cannot read `cargo metadata`")?;
        let folder = metadata.workspace_root.join("plugin");
        let plugins = components(&metadata.packages, &folder);
        let test_plugins = components(&metadata.packages, &metadata.workspace_root.join("tests"));
        if plugins.is_empty() {
            bail!(
                "there is no plugin in {}: no package there has `crate-type = [\"cdylib\"]`",
                folder.display()
            );
        }
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory, plugins, test_plugins })
    }
}

/// Returns the components below a folder, by package name.
fn components(packages: &[Package], folder: &Path) -> Vec<PluginPackage> {
    let mut components: Vec<PluginPackage> = packages
        .iter()
        .filter(|package| package.manifest_path.starts_with(folder) && package.is_component())
        .map(|package| PluginPackage {
            agent_type: agent_type(&package.name),
            name: package.name.clone(),
            id: package.id.clone(),
        })
        .collect();
    components.sort_by(|a, b| a.name.cmp(&b.name));
    components
}

/// Returns the cargo that runs this task, without the variables that it set for this task.
///
/// `cargo run` describes its package in the environment. Build scripts that read those variables (ring's does) would run again,
/// and their dependents would be rebuilt, each time that this task and a plain cargo alternate.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_about_this_package) {
            command.env_remove(name);
        }
    }
    command
}

/// Returns the agent type of a plugin's package, in Paperclip's spelling: `claude-k8s` serves `claude_k8s`.
pub(crate) fn agent_type(package: &str) -> String {
    package.replace('-', "_")
}

/// Returns a path relative to the workspace, for messages.
pub(crate) fn relative<'a>(path: &'a Path, workspace: &Workspace) -> std::path::Display<'a> {
    path.strip_prefix(&workspace.root).unwrap_or(path).display()
}

fn is_about_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    id: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Package {
    fn is_component(&self) -> bool {
        self.targets.iter().flat_map(|target| &target.kind).any(|kind| kind == "cdylib")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_types_use_paperclips_spelling() {
        assert_eq!(agent_type("claude-k8s"), "claude_k8s");
        assert_eq!(agent_type("paperclip-hermes-k8s"), "paperclip_hermes_k8s");
    }

    #[test]
    fn plugins_are_the_components_in_the_plugin_folder() {
        let package = |name: &str, folder: &str, kind: &str| {
            serde_json::json!({
                "name": name, "id": format!("path+file:///w/{folder}#0.1.0"),
                "manifest_path": format!("/w/{folder}/Cargo.toml"), "targets": [{"kind": [kind, "rlib"]}, {"kind": ["test"]}],
            })
        };
        let metadata = serde_json::json!({
            "workspace_root": "/w", "target_directory": "/t",
            "packages": [
                package("opencode-k8s", "plugin/opencode", "cdylib"), package("paperclip-kit", "plugin/kit", "lib"),
                package("claude-k8s", "plugin/claude", "cdylib"), package("other", "plugins-not", "cdylib"),
                package("echo-k8s", "tests/echo", "cdylib"),
            ],
        });
        let workspace = Workspace::from_metadata(&metadata.to_string()).unwrap();
        let types = |plugins: &[PluginPackage]| -> Vec<String> {
            plugins.iter().map(|plugin| plugin.agent_type.clone()).collect()
        };
        assert_eq!(types(&workspace.plugins), ["claude_k8s", "opencode_k8s"]);
        assert_eq!(types(&workspace.test_plugins), ["echo_k8s"]);
        assert_eq!(workspace.dist_plugins(), Path::new("/w/dist/plugins"));
    }

    #[test]
    fn workspace_without_plugins_is_an_error() {
        let metadata = r#"{"workspace_root":"/w","target_directory":"/t","packages":[]}"#;
        let error = Workspace::from_metadata(metadata).unwrap_err().to_string();
        assert!(error.starts_with("there is no plugin in /w/plugin"), "{error}");
    }
}
