//! Makes small plugins from WAT. They behave well unless a test replaces the body of a function.

use std::collections::BTreeMap;
use std::fmt::Write;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{
    Function, LiftLowerAbi, ManglingAndAbi, Resolve, WasmExport, WasmExportKind, WorldId, WorldItem, WorldKey,
};

macro_rules! wit {
    ($version:literal) => {
        [
            include_str!(concat!("../../../../wit/", $version, "/world.wit")),
            include_str!(concat!("../../../../wit/", $version, "/types.wit")),
            include_str!(concat!("../../../../wit/", $version, "/runs.wit")),
            include_str!(concat!("../../../../wit/", $version, "/tools.wit")),
        ]
    };
}

const WIT_0_1: [&str; 4] = wit!("0.1");
const WIT_0_2: [&str; 4] = wit!("0.2");
const MANGLING: ManglingAndAbi = ManglingAndAbi::Legacy(LiftLowerAbi::Sync);

/// Addresses of the module's constant data. The memory from `SCRATCH` to `HEAP` is zero and free for a body to use; the host's
/// arguments are allocated from `HEAP` on.
const DESCRIPTOR: u32 = 1_024;
const STRINGS: u32 = 2_048;
pub(crate) const SCRATCH: u32 = 64 << 10;
const HEAP: u32 = 192 << 10;
const INITIAL_PAGES: u32 = 4;

/// A plugin to make.
#[derive(Debug, Clone)]
pub(crate) struct Forge {
    adapter_type: String,
    version: String,
    contract: String,
    edits: Vec<(String, String)>,
    imports: String,
    functions: String,
    bodies: BTreeMap<String, String>,
    max_pages: Option<u32>,
}

impl Forge {
    pub(crate) fn new(adapter_type: &str) -> Self {
        let bodies = [
            ("describe", format!("(i32.const {DESCRIPTOR})")),
            // ok((a new run, no commands))
            ("start", "(i32.store (i32.const 516) (call $new (i32.const 7))) (i32.const 512)".to_owned()),
            ("restore", "(i32.store (i32.const 516) (call $new (i32.const 7))) (i32.const 512)".to_owned()),
            ("step", "(i32.const 544)".to_owned()),
            ("snapshot", "(i32.const 544)".to_owned()),
            ("phase", "(i32.const 544)".to_owned()),
        ];
        Self {
            adapter_type: adapter_type.to_owned(),
            version: "1.2.3".to_owned(),
            contract: "0.2.0".to_owned(),
            edits: Vec::new(),
            imports: String::new(),
            functions: String::new(),
            bodies: bodies.into_iter().map(|(name, body)| (name.to_owned(), body)).collect(),
            max_pages: None,
        }
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    /// Builds for another version of the contract; one that does not exist has the types of the newest.
    pub(crate) fn contract(mut self, version: &str) -> Self {
        self.contract = version.to_owned();
        self
    }

    /// Changes the contract that it is built for.
    pub(crate) fn edit(mut self, from: &str, to: &str) -> Self {
        self.edits.push((from.to_owned(), to.to_owned()));
        self
    }

    /// Adds imports to the core module.
    pub(crate) fn import(mut self, wat: &str) -> Self {
        self.imports.push_str(wat);
        self
    }

    /// Adds functions to the core module.
    pub(crate) fn function(mut self, wat: &str) -> Self {
        self.functions.push_str(wat);
        self
    }

    /// Replaces what a function of the contract does.
    pub(crate) fn body(mut self, function: &str, wat: &str) -> Self {
        self.bodies.insert(function.to_owned(), wat.to_owned());
        self
    }

    /// Limits the memory in the module itself.
    pub(crate) fn max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }

    pub(crate) fn component(&self) -> Vec<u8> {
        ComponentEncoder::default()
            .validate(true)
            .module(&self.module())
            .and_then(|mut encoder| encoder.encode())
            .unwrap()
    }

    /// The core module that becomes the component.
    pub(crate) fn module(&self) -> Vec<u8> {
        let (resolve, world) = self.contract_text();
        let mut module = wat::parse_str(self.wat(&resolve, world)).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        module
    }

    fn contract_text(&self) -> (Resolve, WorldId) {
        let (wit, number) = match self.contract.starts_with("0.1.") {
            true => (WIT_0_1, "@0.1.0"),
            false => (WIT_0_2, "@0.2.0"),
        };
        let mut text = wit.concat().replace(number, &format!("@{}", self.contract));
        for (from, to) in &self.edits {
            assert!(text.contains(from.as_str()), "the contract has no {from:?}");
            text = text.replace(from.as_str(), to);
        }
        let mut resolve = Resolve::default();
        let package = resolve.push_source("agent.wit", &text).unwrap();
        let world = resolve.select_world(&[package], Some("agent-plugin")).unwrap();
        (resolve, world)
    }

    fn wat(&self, resolve: &Resolve, world: WorldId) -> String {
        let runs = format!("[export]paperclip:agent/runs@{}", self.contract);
        let mut wat = format!(
            "(module $plugin {}\n(import {runs:?} \"[resource-new]run\" (func $new (param i32) (result i32)))\n",
            self.imports
        );
        wat.push_str(&self.memory());
        for (key, item) in &resolve.worlds[world].exports {
            let WorldItem::Interface { id, .. } = item else { continue };
            for function in resolve.interfaces[*id].functions.values() {
                self.push_function(&mut wat, resolve, key, function);
            }
        }
        wat + &self.functions + ")"
    }

    /// Memory, its data, and an allocator that never frees.
    fn memory(&self) -> String {
        let texts = [&self.adapter_type, "A label", &self.version, "agent", "", "", "{}", "{}", "A document"];
        let (mut record, mut strings, mut at) = (String::new(), String::new(), STRINGS);
        for text in texts {
            // `revealed-env` and `models` are empty lists, which look like empty strings.
            for word in [at, text.len() as u32] {
                for byte in word.to_le_bytes() {
                    write!(record, "\\{byte:02x}").unwrap();
                }
            }
            // Each is aligned: the address of a list must be, even if the list is empty.
            let size = text.len().next_multiple_of(8);
            strings.push_str(text);
            strings.push_str(&"\\00".repeat(size - text.len()));
            at += size as u32;
        }
        let max = self.max_pages.map(|pages| pages.to_string()).unwrap_or_default();
        format!(
            r#"(memory (export "memory") {INITIAL_PAGES} {max})
            (data (i32.const {DESCRIPTOR}) "{record}") (data (i32.const {STRINGS}) "{strings}")
            (global $heap (mut i32) (i32.const {HEAP}))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
                (global.set $heap (i32.add (local.get $at) (local.get 3)))
                (block (loop
                    (br_if 1 (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
                    (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))
                    (unreachable)))
                (local.get $at))"#
        )
    }

    fn push_function(&self, wat: &mut String, resolve: &Resolve, interface: &WorldKey, function: &Function) {
        let export =
            WasmExport::Func { interface: Some(interface), func: function, kind: WasmExportKind::Normal };
        let export = resolve.wasm_export_name(MANGLING, export);
        let signature = resolve.wasm_signature(AbiVariant::GuestExport, function);
        let name = function.name.rsplit('.').next().unwrap();
        let body = self.bodies.get(name).map_or("(unreachable)", String::as_str);
        writeln!(
            wat,
            "(func $plugin::{name} (export {export:?}) {} {} {body})",
            types("param", &signature.params),
            types("result", &signature.results),
        )
        .unwrap();
    }
}

fn types(keyword: &str, types: &[WasmType]) -> String {
    if types.is_empty() {
        return String::new();
    }
    let names = types.iter().map(|ty| match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
    });
    format!("({keyword} {})", names.collect::<Vec<_>>().join(" "))
}
