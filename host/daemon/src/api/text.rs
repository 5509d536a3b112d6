//! Records with their text for people: what the plugin's transcript makes of an agent's line.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use paperclip_guest::Tools;
use paperclip_prepare::transcript::{self, Palette};
use serde_json::Value;

/// Adds `rendered` to each line of the agent's output: a list of lines of text. A line that the plugin cannot render has none.
pub(super) fn with_text(
    records: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    tools: Arc<Tools>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    records.then(move |chunk| {
        let tools = Arc::clone(&tools);
        async move {
            let chunk = chunk?;
            // A plugin's call takes time that other requests must not wait for.
            tokio::task::spawn_blocking(move || add_text(&chunk, |lines| entries(&tools, lines)))
                .await
                .map_err(io::Error::other)?
        }
    })
}

/// Returns the transcript's entries of each line; none if the plugin fails.
fn entries(tools: &Tools, lines: &[String]) -> Option<Vec<String>> {
    let entries = tools.transcript(lines, &jiff::Timestamp::now().to_string());
    entries.ok().filter(|entries| entries.len() == lines.len())
}

fn add_text(chunk: &[u8], entries: impl Fn(&[String]) -> Option<Vec<String>>) -> io::Result<Bytes> {
    let mut records = Vec::new();
    let mut lines = Vec::new();
    for line in chunk.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record: Value = serde_json::from_slice(line)?;
        if is_output(&record) {
            lines.push(record["text"].as_str().unwrap_or_default().to_owned());
        }
        records.push(record);
    }
    let mut rendered = if lines.is_empty() { None } else { entries(&lines) }.unwrap_or_default().into_iter();
    let mut out = Vec::with_capacity(chunk.len() * 2);
    for mut record in records {
        let entries = if is_output(&record) { rendered.next() } else { None };
        if let Some(text) = entries.and_then(|entries| transcript::text(&entries, &Palette::default()).ok()) {
            record["rendered"] = text.lines().collect();
        }
        serde_json::to_writer(&mut out, &record)?;
        out.push(b'\n');
    }
    Ok(out.into())
}

fn is_output(record: &Value) -> bool {
    record["type"] == "log" && record["stream"] == "stdout"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_line_of_output_has_its_text_beside_it() {
        let records = [
            json!({"seq": 0, "type": "status", "level": "info", "text": "s"}),
            json!({"seq": 1, "type": "log", "stream": "stdout", "index": 0, "text": "one"}),
            json!({"seq": 2, "type": "log", "stream": "stderr", "index": 0, "text": "err"}),
            json!({"seq": 3, "type": "log", "stream": "stdout", "index": 1, "text": "two"}),
        ];
        let chunk = records.iter().map(|record| format!("{record}\n")).collect::<String>();
        let render = |lines: &[String]| {
            assert_eq!(lines, ["one", "two"], "in one call");
            Some(vec![
                json!([{"kind": "assistant", "ts": "t", "text": "a\nb"}]).to_string(),
                json!([]).to_string(),
            ])
        };
        let out = add_text(chunk.as_bytes(), render).expect("records");
        let out: Vec<Value> = std::str::from_utf8(&out)
            .expect("text")
            .lines()
            .map(|line| serde_json::from_str(line).expect("a record"))
            .collect();
        assert_eq!(out[1]["rendered"], json!(["● a", "  b"]));
        assert_eq!(out[3]["rendered"], json!([]), "nothing to show");
        assert_eq!((&out[0], &out[2]), (&records[0], &records[2]));
        let unrendered = add_text(chunk.as_bytes(), |_| None).expect("records");
        assert_eq!(unrendered, chunk, "a plugin that fails hides nothing");
    }
}
