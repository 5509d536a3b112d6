//! Golden recordings: what a version of a plugin has to reproduce before new runs use it.
//!
//! The plugins folder contains them in `golden/<agent type>/`. `*.ndjson` is evidence of runs with its
//! verdict: one object `{"name","evidence","expected"}` per line, where `evidence` is the input of
//! `paperclip-host classify` and `expected` has the fields that the result must have. `*.journal` is a
//! recorded run, the copy of a segment of its journal: the version can decide differently, but must neither
//! fail nor refuse the run.

use crate::judged::judged;
use crate::plugin::Plugin;
use crate::tools::Tools;
use paperclip_cases::{CaseLine, differences};
use paperclip_engine::comparison::Comparison;
use paperclip_engine::journal::Entry;
use paperclip_files::Root;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the recordings within the plugins folder.
const FOLDER: &str = "golden";
/// The largest file of recordings.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Replays all recordings of a plugin's agent type.
///
/// # Errors
/// The plugin fails one. The text names the recording and the first field that differs.
pub(crate) fn replay(plugin: &Arc<Plugin>, plugins: &Path) -> Result<(), String> {
    let folder = Path::new(FOLDER).join(plugin.adapter_type());
    let root = Root::open(plugins).map_err(|error| format!("{}: {error}", plugins.display()))?;
    let names = match root.names(&folder) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{}: {error}", plugins.join(folder).display())),
    };
    let tools = Tools::new(Arc::clone(plugin));
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    let of_kind = |kind: &'static str| {
        files.iter().filter(move |path| path.extension().is_some_and(|extension| extension == kind))
    };
    for file in of_kind("journal") {
        let shown = plugins.join(file);
        read(&root, file)
            .and_then(|text| replay_run(plugin, &text))
            .map_err(|why| format!("recorded run {}: {why}", shown.display()))?;
    }
    for file in of_kind("ndjson") {
        let shown = plugins.join(file);
        let text = read(&root, file).map_err(|error| format!("{}: {error}", shown.display()))?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let place = || format!("golden recording {}:{number}", shown.display());
            let recording: CaseLine =
                serde_json::from_str(line).map_err(|error| format!("{}: {error}; fix the file", place()))?;
            judge(&tools, &recording).map_err(|why| format!("{} ({}): {why}", place(), recording.name))?;
        }
    }
    Ok(())
}

fn read(root: &Root, file: &Path) -> Result<String, String> {
    let bytes = root.read(file, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// Replays a recorded run in a fresh instance, up to the first step at which it decides differently.
fn replay_run(plugin: &Arc<Plugin>, text: &str) -> Result<(), String> {
    let instance = plugin.instantiate().map_err(|fault| fault.to_string())?;
    let mut comparison = Comparison::new(instance);
    for (number, line) in (1..).zip(text.lines()) {
        // Each line starts with its checksum.
        let (_, json) = line.split_once(' ').ok_or_else(|| format!("line {number} has no checksum"))?;
        let entry = Entry::parse(json).map_err(|error| format!("line {number}: {error}"))?;
        if !comparison.entry(entry) {
            break;
        }
    }
    let (_, _, differences) = comparison.finish();
    match differences.into_iter().find_map(|difference| Some((difference.seq, difference.failure?))) {
        Some((step, failure)) => Err(format!("step {step}: {failure}")),
        None => Ok(()),
    }
}

fn judge(tools: &Tools, recording: &CaseLine) -> Result<(), String> {
    let result = judged(tools, &recording.evidence)?;
    match differences(&result, &recording.expected).first() {
        Some(difference) => Err(difference.to_string()),
        None => Ok(()),
    }
}
