//! The versions of the contract that this host supports, and which of them a component implements.
//!
//! The engine works with the newest version's types. Each older version is a module with the types that
//! differ and their conversions. `docs/compatibility.md` says how long a version is supported.

mod exports;
mod v0_1;
mod v0_2;

use crate::component_info::ComponentInfo;
pub(crate) use exports::{Exports, ExportsPre};

const PACKAGE: &str = "paperclip:agent";
const INTERFACES: [&str; 3] = ["types", "runs", "tools"];

/// A version of the contract that this host supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ContractVersion {
    V0_1,
    V0_2,
}

impl ContractVersion {
    /// The supported versions, oldest first.
    const SUPPORTED: [Self; 2] = [Self::V0_1, Self::V0_2];
    const NEWEST: Self = Self::V0_2;

    /// The version as it is written in the names of exports.
    pub(crate) const fn number(self) -> &'static str {
        match self {
            Self::V0_1 => "0.1.0",
            Self::V0_2 => paperclip_contract::VERSION,
        }
    }

    /// The supported version that is compatible with this number. Before 1.0 the minor version is the one
    /// that breaks: a later 0.1.x only adds interfaces.
    fn compatible_with(number: &str) -> Option<Self> {
        Self::SUPPORTED.into_iter().find(|version| series(version.number()) == series(number))
    }
}

/// The supported versions for a message, such as `0.1.0 and 0.2.0`.
pub(crate) fn supported() -> String {
    ContractVersion::SUPPORTED.map(ContractVersion::number).join(" and ")
}

/// The series of the contract that this host supports, oldest first, such as `0.1`.
pub fn series_supported() -> Vec<&'static str> {
    ContractVersion::SUPPORTED.into_iter().map(|version| major_and_minor(version.number())).collect()
}

/// Returns the first two parts of a version.
fn major_and_minor(number: &str) -> &str {
    number.match_indices('.').nth(1).map_or(number, |(end, _)| &number[..end])
}

/// Why a component is not a plugin for this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// It has these imports.
    Imports(Vec<String>),
    /// It implements this version of the contract only.
    Version(String),
    /// It lacks these interfaces.
    Missing(Vec<String>),
}

/// Returns the version number of the contract that a component exports: the newest that this host supports,
/// else the first.
pub(crate) fn exported_version(info: &ComponentInfo) -> Option<&str> {
    let numbers = || interfaces(info).map(|(_, number)| number);
    let supported = numbers().filter_map(|number| Some((ContractVersion::compatible_with(number)?, number)));
    supported.max().map(|(_, number)| number).or_else(|| numbers().next())
}

/// Checks names and versions. The types of the functions are checked when an instance is created.
///
/// # Errors
/// The component does not implement a version that this host supports, or it has imports.
pub(crate) fn check(info: &ComponentInfo) -> Result<ContractVersion, Mismatch> {
    let version = match exported_version(info) {
        Some(number) => {
            ContractVersion::compatible_with(number).ok_or_else(|| Mismatch::Version(number.to_owned()))?
        }
        None => ContractVersion::NEWEST,
    };
    let is_exported = |interface: &str| {
        interfaces(info).any(|(name, number)| name == interface && series(number) == series(version.number()))
    };
    let missing: Vec<String> = INTERFACES
        .iter()
        .filter(|name| !is_exported(name))
        .map(|name| format!("{PACKAGE}/{name}@{}", version.number()))
        .collect();
    if !missing.is_empty() {
        return Err(Mismatch::Missing(missing));
    }
    if !info.imports.is_empty() {
        return Err(Mismatch::Imports(info.imports.clone()));
    }
    Ok(version)
}

/// The exported interfaces of the contract: `paperclip:agent/runs@0.2.0` → (`runs`, `0.2.0`).
fn interfaces(info: &ComponentInfo) -> impl Iterator<Item = (&str, &str)> {
    info.exports.iter().filter_map(|export| export.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@'))
}

/// `0.1.7` → `0.1`.
pub(crate) fn series(number: &str) -> &str {
    number.rsplit_once('.').map_or(number, |(series, _)| series)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporting(version: &str, interfaces: &[&str]) -> ComponentInfo {
        ComponentInfo {
            exports: interfaces.iter().map(|name| format!("{PACKAGE}/{name}@{version}")).collect(),
            ..ComponentInfo::default()
        }
    }

    #[test]
    fn accepts_a_later_patch_with_more_interfaces() {
        assert_eq!(check(&exporting("0.2.0", &["types", "runs", "tools"])), Ok(ContractVersion::V0_2));
        assert_eq!(
            check(&exporting("0.2.9", &["types", "runs", "tools", "more"])),
            Ok(ContractVersion::V0_2)
        );
        assert_eq!(check(&exporting("0.1.0", &["types", "runs", "tools"])), Ok(ContractVersion::V0_1));
    }

    #[test]
    fn picks_the_newest_of_several_exported_versions() {
        let mut both = exporting("0.2.0", &["types", "runs", "tools"]);
        both.exports.extend(exporting("0.1.0", &["types", "runs", "tools"]).exports);
        both.exports.extend(exporting("0.9.0", &["types"]).exports);
        assert_eq!(check(&both), Ok(ContractVersion::V0_2));
        assert_eq!(exported_version(&both), Some("0.2.0"));
    }

    #[test]
    fn reports_an_unsupported_version_before_anything_else() {
        let newer = ComponentInfo { imports: vec!["x".into()], ..exporting("0.9.0", &["types"]) };
        assert_eq!(check(&newer), Err(Mismatch::Version("0.9.0".into())));
        assert_eq!(exported_version(&newer), Some("0.9.0"));
        assert_eq!(
            check(&exporting("0.10.0", &["types", "runs", "tools"])),
            Err(Mismatch::Version("0.10.0".into()))
        );
    }

    #[test]
    fn names_missing_interfaces_and_imports() {
        assert_eq!(
            check(&exporting("0.2.0", &["types", "tools"])),
            Err(Mismatch::Missing(vec!["paperclip:agent/runs@0.2.0".into()]))
        );
        let mut mixed = exporting("0.1.0", &["types", "runs"]);
        mixed.exports.extend(exporting("0.9.0", &["tools"]).exports);
        assert_eq!(check(&mixed), Err(Mismatch::Missing(vec!["paperclip:agent/tools@0.1.0".into()])));
        let importing = ComponentInfo {
            imports: vec!["wasi:clocks/wall-clock@0.2.0".into()],
            ..exporting("0.2.0", &["types", "runs", "tools"])
        };
        assert_eq!(check(&importing), Err(Mismatch::Imports(vec!["wasi:clocks/wall-clock@0.2.0".into()])));
    }
}
