//! Whether what a component exports and imports is the contract that this host speaks.

use crate::anatomy::Anatomy;
use paperclip_contract::VERSION;

const PACKAGE: &str = "paperclip:agent";
const INTERFACES: [&str; 3] = ["types", "runs", "tools"];

/// Why a component is no plugin for this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// It imports these.
    Imports(Vec<String>),
    /// It speaks this version of the contract.
    Version(String),
    /// It lacks these interfaces.
    Missing(Vec<String>),
}

/// The version of the contract that a component speaks, if it exports any of it.
pub(crate) fn version(anatomy: &Anatomy) -> Option<&str> {
    anatomy.exports.iter().find_map(|name| interface(name)).map(|(_, version)| version)
}

/// Checks names and versions. Whether the functions have the right types shows when an instance is made.
pub(crate) fn check(anatomy: &Anatomy) -> Result<(), Mismatch> {
    let other = anatomy.exports.iter().filter_map(|name| interface(name)).find(|(_, version)| {
        // A later 0.1.x has more interfaces at most.
        series(version) != series(VERSION)
    });
    if let Some((_, version)) = other {
        return Err(Mismatch::Version(version.to_owned()));
    }
    let is_exported = |wanted: &&str| {
        anatomy.exports.iter().filter_map(|name| interface(name)).any(|(name, _)| name == *wanted)
    };
    let missing: Vec<String> = INTERFACES
        .iter()
        .filter(|name| !is_exported(name))
        .map(|name| format!("{PACKAGE}/{name}@{VERSION}"))
        .collect();
    if !missing.is_empty() {
        return Err(Mismatch::Missing(missing));
    }
    if !anatomy.imports.is_empty() {
        return Err(Mismatch::Imports(anatomy.imports.clone()));
    }
    Ok(())
}

/// `paperclip:agent/runs@0.2.0` → (`runs`, `0.2.0`).
fn interface(export: &str) -> Option<(&str, &str)> {
    export.strip_prefix(PACKAGE)?.strip_prefix('/')?.split_once('@')
}

/// `0.1.7` → `0.1`; before 1.0 the minor version is the one that breaks.
fn series(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(series, _)| series)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporting(version: &str, interfaces: &[&str]) -> Anatomy {
        Anatomy {
            exports: interfaces.iter().map(|name| format!("{PACKAGE}/{name}@{version}")).collect(),
            ..Anatomy::default()
        }
    }

    #[test]
    fn a_later_patch_with_more_interfaces_is_taken() {
        assert_eq!(check(&exporting("0.2.0", &["types", "runs", "tools"])), Ok(()));
        assert_eq!(check(&exporting("0.2.9", &["types", "runs", "tools", "more"])), Ok(()));
    }

    #[test]
    fn another_version_is_named_before_anything_else() {
        let newer = Anatomy { imports: vec!["x".into()], ..exporting("0.9.0", &["types"]) };
        assert_eq!(check(&newer), Err(Mismatch::Version("0.9.0".into())));
        assert_eq!(version(&newer), Some("0.9.0"));
        assert_eq!(
            check(&exporting("0.10.0", &["types", "runs", "tools"])),
            Err(Mismatch::Version("0.10.0".into()))
        );
    }

    #[test]
    fn what_is_missing_or_imported_is_named() {
        assert_eq!(
            check(&exporting("0.2.0", &["types", "tools"])),
            Err(Mismatch::Missing(vec!["paperclip:agent/runs@0.2.0".into()]))
        );
        let importing = Anatomy {
            imports: vec!["wasi:clocks/wall-clock@0.2.0".into()],
            ..exporting("0.2.0", &["types", "runs", "tools"])
        };
        assert_eq!(check(&importing), Err(Mismatch::Imports(vec!["wasi:clocks/wall-clock@0.2.0".into()])));
    }
}
