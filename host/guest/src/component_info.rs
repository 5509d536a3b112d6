//! The structure of a component, read from its bytes without compiling them.

use crate::load_error::Found;
use wasmparser::{Encoding, Instance, Parser, Payload};

/// The size of a page of linear memory.
const PAGE_BYTES: u64 = 64 << 10;

/// The imports and exports of a component, and what an instance of it needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ComponentInfo {
    /// The names of its exports, in order.
    pub exports: Vec<String>,
    /// The names of its imports, in order.
    pub imports: Vec<String>,
    /// How many core instances one instance consists of.
    pub core_instances: u32,
    /// The initial linear memory of an instance.
    pub initial_memory_bytes: u64,
    /// The largest linear memory that the component allows, if it sets a limit.
    pub max_memory_bytes: Option<u64>,
}

/// Why bytes cannot be read as a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// They are something else.
    NotAComponent(Found),
    /// They have the header of a component and are invalid after it.
    Damaged(String),
}

/// Reads the structure of a component.
///
/// # Errors
/// The bytes are not a component, or a damaged one.
pub(crate) fn read(bytes: &[u8]) -> Result<ComponentInfo, Unreadable> {
    if let Some(found) = not_a_component(bytes) {
        return Err(Unreadable::NotAComponent(found));
    }
    walk(bytes).map_err(|error| Unreadable::Damaged(error.to_string()))
}

/// Returns what the first bytes identify, if that is not a component.
fn not_a_component(bytes: &[u8]) -> Option<Found> {
    const MAGIC: &[u8] = b"\0asm";
    const CORE_MODULE: u16 = 0;
    const COMPONENT: u16 = 1;
    if bytes.is_empty() {
        return Some(Found::Nothing);
    }
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Some(Found::Precompiled);
    }
    if let Some([_, _, layer @ ..]) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.get(..4)) {
        return match u16::from_le_bytes([layer[0], layer[1]]) {
            CORE_MODULE => Some(Found::CoreModule),
            COMPONENT => None,
            _ => Some(Found::Unknown),
        };
    }
    match std::str::from_utf8(&bytes[..bytes.len().min(512)]) {
        Ok(text) if !text.contains('\0') => Some(Found::Text),
        _ => Some(Found::Unknown),
    }
}

fn walk(bytes: &[u8]) -> wasmparser::Result<ComponentInfo> {
    let mut info = ComponentInfo::default();
    let mut maximum = Some(0_u64);
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding: Encoding::Component | Encoding::Module, .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    info.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    info.exports.push(export?.name.name.to_owned());
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    info.core_instances += u32::from(matches!(instance?, Instance::Instantiate { .. }));
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    info.initial_memory_bytes += memory.initial.saturating_mul(PAGE_BYTES);
                    let pages = memory.maximum;
                    maximum = maximum.zip(pages).map(|(sum, pages)| sum + pages.saturating_mul(PAGE_BYTES));
                }
            }
            // The compiler validates the rest.
            _ => {}
        }
    }
    info.max_memory_bytes = maximum;
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8]) -> Option<Found> {
        match read(bytes) {
            Err(Unreadable::NotAComponent(found)) => Some(found),
            Ok(_) | Err(Unreadable::Damaged(_)) => None,
        }
    }

    #[test]
    fn distinguishes_bytes_that_are_not_a_component() {
        assert_eq!(found(b""), Some(Found::Nothing));
        assert_eq!(found(b"(component)"), Some(Found::Text));
        assert_eq!(found(b"\0asm\x01\0\0\0"), Some(Found::CoreModule));
        assert_eq!(found(b"\0asm\x0d\0\x02\0"), Some(Found::Unknown));
        assert_eq!(found(b"\0as"), Some(Found::Unknown));
        assert_eq!(found(b"\xfe\xed\xfa\xce"), Some(Found::Unknown));
        assert_eq!(found(b"\0asm\x0d\0\x01\0"), None);
    }

    #[test]
    fn a_truncated_component_is_damaged() {
        let whole = wat::parse_str("(component (core module (memory 2 4)))").unwrap();
        assert!(matches!(read(&whole[..whole.len() - 3]), Err(Unreadable::Damaged(_))));
    }

    #[test]
    fn reads_outermost_imports_and_exports_and_memories_at_any_depth() {
        let bytes = wat::parse_str(
            r#"(component
                (import "env:clock/now" (func $now))
                (core module $m (memory 2 4))
                (core instance (instantiate $m))
                (component (import "inner" (func $f)) (export "inside" (func $f)))
                (export "outside" (func $now)))"#,
        )
        .unwrap();
        assert_eq!(
            read(&bytes).unwrap(),
            ComponentInfo {
                exports: vec!["outside".into()],
                imports: vec!["env:clock/now".into()],
                core_instances: 1,
                initial_memory_bytes: 2 * PAGE_BYTES,
                max_memory_bytes: Some(4 * PAGE_BYTES),
            }
        );
    }
}
