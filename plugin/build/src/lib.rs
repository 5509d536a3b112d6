//! Builds a plugin's crate as a component, and lists what a component consists of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::{Resolve, WorldItem, WorldKey};

/// The imports and exports of a component.
#[derive(Debug, PartialEq, Eq)]
pub struct Interface {
    pub imports: Vec<String>,
    pub exports: Vec<Export>,
}

/// A function, or an interface with its functions.
#[derive(Debug, PartialEq, Eq)]
pub struct Export {
    /// `paperclip:agent/tools@0.1.0`, or a function's name.
    pub name: String,
    /// 1 for a function, 0 for an interface of types.
    pub functions: usize,
}

/// The bytes of a component by purpose.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub bytes: u64,
}

/// The target of plugins. It is not a WASI target, because plugins import nothing.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Builds the crate in `folder` with its profile `plugin`, makes a component of it, and returns the component's file: beside the crate's
/// module in cargo's target folder, named by the agent type, which is the package's name with `_` for `-`.
///
/// # Errors
/// Cargo fails, or the crate is not a plugin.
pub fn build(folder: impl AsRef<Path>) -> Result<PathBuf> {
    let folder = folder.as_ref();
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).args(["build", "--lib", "--target", WASM_TARGET, "--profile", "plugin"]);
    cargo.arg("--message-format=json-render-diagnostics").stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "{} is not built; if the target is missing, `rustup target add {WASM_TARGET}` installs it",
            folder.display()
        );
    }
    let manifest = fs::canonicalize(folder.join("Cargo.toml")).context("there is no Cargo.toml")?;
    let module = String::from_utf8(output.stdout)?
        .lines()
        .rev()
        .find_map(|line| module_of(line, &manifest))
        .with_context(|| format!("{} has no library with `crate-type = [\"cdylib\"]`", manifest.display()))?;
    let core = fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    let bytes = component(&core).with_context(|| format!("{} is not a plugin", manifest.display()))?;
    let name = module.file_name().context("a module has a name")?;
    // Cargo's module has that name: the component is in a folder of its own.
    let components = module.with_file_name("components");
    fs::create_dir_all(&components).with_context(|| format!("cannot create {}", components.display()))?;
    let file = components.join(name);
    write_if_changed(&file, &bytes)?;
    Ok(file)
}

/// Writes a file atomically. Does not write it if it already has those bytes, so that everything built from it stays fresh.
/// Returns whether it was written. Whoever watches it never reads a half.
///
/// # Errors
/// Its folder cannot be written.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let half = path.with_extension("tmp");
    fs::write(&half, bytes).with_context(|| format!("cannot write {}", half.display()))?;
    fs::rename(&half, path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

/// Returns the module that a message of cargo says it has built for the package with this manifest.
fn module_of(message: &str, manifest: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    if Path::new(message["manifest_path"].as_str()?) != manifest {
        return None;
    }
    let files = message["filenames"].as_array()?;
    let mut files = files.iter().filter_map(|file| file.as_str()).map(PathBuf::from);
    files.find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

/// Makes a component of a core module that wit-bindgen described, and checks that it is a plugin: it imports nothing and
/// exports something.
///
/// # Errors
/// It is no such module; the message says what it imports, or that it exports nothing.
pub fn component(core: &[u8]) -> Result<Vec<u8>> {
    let component = ComponentEncoder::default()
        .validate(true)
        .module(core)
        .and_then(|mut encoder| encoder.encode())
        .context("the module cannot be made a component")?;
    let interface = interface(&component)?;
    if !interface.imports.is_empty() {
        bail!(
            "it imports {}: a plugin imports nothing. Move what it needs into the events that the host passes to it",
            interface.imports.join(", ")
        );
    }
    if interface.exports.is_empty() {
        bail!("it exports nothing: the crate must implement and export the contract's world");
    }
    Ok(component)
}

/// Returns what a component imports and exports.
///
/// # Errors
/// The bytes are not a component.
pub fn interface(component: &[u8]) -> Result<Interface> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("it is a package of WIT, not a component");
    };
    let world = &resolve.worlds[world];
    Ok(Interface {
        imports: world.imports.keys().map(|key| resolve.name_world_key(key)).collect(),
        exports: world.exports.iter().map(|(key, item)| export(&resolve, key, item)).collect(),
    })
}

/// Returns the sizes of a component's sections, the largest first.
///
/// # Errors
/// The bytes are not valid wasm.
pub fn sections(component: &[u8]) -> Result<Vec<Section>> {
    let mut bytes_by_name: BTreeMap<String, u64> = BTreeMap::new();
    let mut enclosing = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.context("it is not valid wasm")?;
        match payload {
            Payload::Version { encoding, .. } => enclosing.push(encoding),
            Payload::End(_) => {
                enclosing.pop();
            }
            _ => {}
        }
        if let (Some(name), Some((_, range))) =
            (section_name(&payload, enclosing.last()), payload.as_section())
        {
            *bytes_by_name.entry(name).or_default() += (range.end - range.start) as u64;
        }
    }
    let named: u64 = bytes_by_name.values().sum();
    bytes_by_name.insert("section headers".to_owned(), component.len() as u64 - named);
    let mut sections: Vec<_> =
        bytes_by_name.into_iter().map(|(name, bytes)| Section { name, bytes }).collect();
    sections.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    Ok(sections)
}

fn export(resolve: &Resolve, key: &WorldKey, item: &WorldItem) -> Export {
    let functions = match item {
        WorldItem::Interface { id, .. } => resolve.interfaces[*id].functions.len(),
        WorldItem::Function(_) => 1,
        WorldItem::Type { .. } => 0,
    };
    Export { name: resolve.name_world_key(key), functions }
}

/// None for what is no section, and for sections that hold others, which are counted themselves.
fn section_name(payload: &Payload<'_>, enclosing: Option<&Encoding>) -> Option<String> {
    let name = match payload {
        Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => return None,
        Payload::CodeSectionStart { .. } => "core: code",
        Payload::DataSection(_) => "core: data",
        Payload::FunctionSection(_) | Payload::TypeSection(_) => "core: functions' types",
        Payload::ElementSection(_) | Payload::TableSection(_) => "core: tables",
        Payload::CustomSection(custom) => return Some(format!("custom: {}", custom.name())),
        _ => match enclosing {
            Some(Encoding::Component) => "component: types, aliases, instances, exports",
            Some(Encoding::Module) | None => "core: other",
        },
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use wit_component::{StringEncoding, embed_component_metadata};

    use super::*;

    /// A core module with those imports and exports, which says of itself that it implements the world `w`.
    fn module(wit: &str, wat: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("test.wit", wit).unwrap();
        let world = resolve.select_world(&[package], Some("w")).unwrap();
        let mut core = wat::parse_str(wat).unwrap();
        embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
        core
    }

    fn answering_plugin() -> Vec<u8> {
        module(
            "package t:t@1.0.0; interface tools { answer: func() -> u32; double: func(x: u32) -> u32; } world w { export tools; export ask: func(); }",
            r#"(module
                (memory (export "memory") 1)
                (data (i32.const 0) "forty-two")
                (func (export "t:t/tools@1.0.0#answer") (result i32) i32.const 42)
                (func (export "t:t/tools@1.0.0#double") (param i32) (result i32) local.get 0 local.get 0 i32.add)
                (func (export "ask")))"#,
        )
    }

    #[test]
    fn unchanged_file_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claude_k8s.wasm");
        assert!(write_if_changed(&path, b"one").unwrap());
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified);
        assert!(write_if_changed(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left behind");
    }

    #[test]
    fn plugin_is_a_component_that_imports_nothing() {
        let bytes = component(&answering_plugin()).unwrap();
        let exports = [("t:t/tools@1.0.0", 2), ("ask", 1)];
        let mut found = interface(&bytes).unwrap();
        found.exports.sort_by_key(|export| std::cmp::Reverse(export.functions));
        assert!(found.imports.is_empty());
        assert_eq!(
            found.exports,
            exports.map(|(name, functions)| Export { name: name.to_owned(), functions })
        );
    }

    #[test]
    fn the_module_of_a_package_is_found_in_what_cargo_says() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","filenames":["/t/a.rlib","/t/a.wasm"]}"#;
        assert_eq!(module_of(message, Path::new("/p/Cargo.toml")), Some("/t/a.wasm".into()));
        assert_eq!(module_of(message, Path::new("/q/Cargo.toml")), None);
        assert_eq!(module_of("Compiling a", Path::new("/p/Cargo.toml")), None);
    }

    #[test]
    fn import_is_rejected_by_name() {
        let core = module(
            "package t:t@1.0.0; interface clock { now: func() -> u64; } world w { import clock; export ask: func(); }",
            r#"(module (import "t:t/clock@1.0.0" "now" (func (result i64))) (func (export "ask") (drop (call 0))))"#,
        );
        let error = component(&core).unwrap_err().to_string();
        assert!(error.starts_with("it imports t:t/clock@1.0.0: a plugin imports nothing"), "{error}");
    }

    #[test]
    fn import_outside_the_contract_is_rejected_by_name() {
        let core = module(
            "package t:t@1.0.0; world w { export ask: func(); }",
            r#"(module (import "env" "time" (func)) (func (export "ask") (call 0)))"#,
        );
        let error = format!("{:#}", component(&core).unwrap_err());
        assert!(error.contains("env"), "{error}");
    }

    #[test]
    fn module_without_the_contract_is_rejected() {
        let error = component(&wat::parse_str("(module)").unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("it exports nothing"), "{error}");
    }

    #[test]
    fn sections_add_up_to_the_component() {
        let bytes = component(&answering_plugin()).unwrap();
        let sections = sections(&bytes).unwrap();
        assert_eq!(sections.iter().map(|section| section.bytes).sum::<u64>(), bytes.len() as u64);
        assert!(sections.iter().any(|section| section.name == "core: code"));
        assert!(sections.is_sorted_by(|a, b| a.bytes >= b.bytes));
    }
}
