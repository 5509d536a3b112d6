//! Golden recordings: evidence of runs and what a version of a plugin must make of it before new runs take it.
//!
//! They stand beside the plugins, in `golden/<agent type>/*.ndjson` of their folder: an object `{"name","evidence","expected"}` a line, with
//! `evidence` as `paperclip-host classify` takes it and `expected` the fields that the result must have.

use crate::plugin::Plugin;
use crate::tools::Tools;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Folder of the recordings within that of the plugins.
const FOLDER: &str = "golden";
/// Evidence tells no time of its own where it matters; any fixed one does.
const AT_MS: u64 = 1_700_000_000_000;

#[derive(Deserialize)]
struct Recording {
    name: String,
    evidence: Value,
    expected: Map<String, Value>,
}

/// Replays all recordings of a plugin's agent type. The error names the recording and the first field that differs.
pub(crate) fn replay(plugin: &Arc<Plugin>, plugins: &Path) -> Result<(), String> {
    let folder = plugins.join(FOLDER).join(plugin.adapter_type());
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(()) };
    let tools = Tools::new(Arc::clone(plugin));
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let place = || format!("golden recording {}:{number}", file.display());
            let recording: Recording =
                serde_json::from_str(line).map_err(|error| format!("{}: {error}; mend the file", place()))?;
            judge(&tools, &recording).map_err(|why| format!("{} ({}): {why}", place(), recording.name))?;
        }
    }
    Ok(())
}

fn judge(tools: &Tools, recording: &Recording) -> Result<(), String> {
    let result = tools
        .classify(AT_MS, &recording.evidence.to_string())
        .map_err(|fault| fault.to_string())?
        .map_err(|wrong| format!("the evidence is not taken: {wrong}"))?;
    let result: Map<String, Value> =
        serde_json::from_str(&result).map_err(|error| format!("the result is no JSON object: {error}"))?;
    for (field, expected) in &recording.expected {
        let found = result.get(field).unwrap_or(&Value::Null);
        if found != expected {
            return Err(format!("{field} is {found}, expected {expected}"));
        }
    }
    Ok(())
}
