//! Codes and hints of the errors of plugins.

use crate::catalogue::QUARANTINE_MS;
use std::borrow::Cow;

use paperclip_diagnostic::Diagnose;

use crate::catalogue::{InstallError, NoPrevious};
use crate::contract::series;
use crate::load_error::LoadError;
use crate::registry::{FolderError, NoPlugin};
use crate::runtime::RuntimeError;

impl Diagnose for InstallError {
    fn code(&self) -> &'static str {
        match self {
            InstallError::NoFolder => "no_plugins_folder",
            InstallError::InConfigMap(_) => "plugin_in_config_map",
            InstallError::Load(error) => error.code(),
            InstallError::OtherType { .. } => "plugin_other_type",
            InstallError::Rejected(_) => "plugin_rejected",
            InstallError::Write(_) => "plugins_folder_unwritable",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            InstallError::NoFolder => Some("name one with --plugins, which this host may write".into()),
            InstallError::InConfigMap(_) => Some("change that ConfigMap, or delete it first".into()),
            InstallError::Load(error) => error.hint(),
            InstallError::OtherType { found, .. } => Some(format!("put it under /v1/plugins/{found}").into()),
            InstallError::Rejected(_) => Some("put a version that reproduces the recordings".into()),
            InstallError::Write(_) => Some("name a folder with --plugins that this host may write".into()),
        }
    }
}

impl Diagnose for LoadError {
    fn code(&self) -> &'static str {
        match self {
            LoadError::Read { .. } => "plugin_unreadable",
            LoadError::TooLarge { .. } => "plugin_too_large",
            LoadError::NotAComponent { .. } => "plugin_not_a_component",
            LoadError::Damaged { .. } => "plugin_damaged",
            LoadError::Version { .. } => "plugin_contract_version",
            LoadError::NotAPlugin { .. } => "plugin_exports_missing",
            LoadError::Imports { .. } => "plugin_has_imports",
            LoadError::Memory { .. } => "plugin_memory_too_large",
            LoadError::Compile { .. } => "plugin_does_not_compile",
            LoadError::Shape { .. } => "plugin_signature_mismatch",
            LoadError::Trial { .. } => "plugin_trial_failed",
            LoadError::NoCapacity { .. } => "plugin_no_capacity",
            LoadError::Descriptor { .. } => "plugin_bad_descriptor",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            LoadError::Read { .. } => "check the path and its permissions",
            LoadError::TooLarge { .. } => "build it with the profile `plugin`, stripped of debug information",
            LoadError::NotAComponent { found, .. } => found.hint(),
            LoadError::Damaged { .. } => "build or copy it again",
            LoadError::Version { found, supported, .. } => {
                let hint =
                    format!("use a build of the plugin for {supported}, or a host that supports {found}");
                return Some(hint.into());
            }
            LoadError::NotAPlugin { .. } => "build it for the world `agent-plugin` of the contract",
            LoadError::Imports { .. } => "build it for wasm32-unknown-unknown, without WASI",
            LoadError::Memory { .. } => "make its static data smaller",
            LoadError::Compile { .. } => {
                "build it with wit-component and Rust's default features for wasm32-unknown-unknown"
            }
            LoadError::Shape { version, .. } => {
                return Some(format!("build it again from wit/{}", series(version)).into());
            }
            LoadError::Trial { .. } => "use another version: this one is broken",
            LoadError::NoCapacity { .. } => "wait until runs have ended, or allow more instances",
            LoadError::Descriptor { .. } => "fix its `describe`",
        };
        Some(hint.into())
    }
}

impl Diagnose for FolderError {
    fn code(&self) -> &'static str {
        "plugins_folder_unreadable"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("name a folder that exists and that this user may read".into())
    }
}

impl Diagnose for NoPlugin {
    fn code(&self) -> &'static str {
        "no_plugin"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            NoPlugin::Unknown { adapter_type, into, .. } => {
                Some(format!("put {adapter_type}.wasm into {into} to add it").into())
            }
            NoPlugin::Rejected { hint, .. } => hint.as_deref().map(Cow::from),
            NoPlugin::Quarantined { adapter_type, .. } => Some(
                format!(
                    "it is used again after {} minutes, at once after `paperclip-host plugins revert {adapter_type}`; \
                     a fixed version goes into the plugins folder",
                    QUARANTINE_MS / 60_000
                )
                .into(),
            ),
        }
    }
}

impl Diagnose for NoPrevious {
    fn code(&self) -> &'static str {
        "no_previous_plugin"
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("put the file of that version into the plugins folder".into())
    }
}

impl Diagnose for RuntimeError {
    fn code(&self) -> &'static str {
        match self {
            RuntimeError::Cache { .. } => "plugin_cache_unusable",
            RuntimeError::Pool { .. } => "plugin_pool_too_large",
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let hint = match self {
            RuntimeError::Cache { hint, .. } => hint,
            RuntimeError::Pool { .. } => {
                "allow fewer instances, or raise the limit of address space (ulimit -v)"
            }
        };
        Some(hint.into())
    }
}
