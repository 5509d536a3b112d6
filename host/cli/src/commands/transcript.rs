//! `transcript`: renders an agent's output.

use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;

use crate::args::TranscriptArgs;
use crate::exit::{CommandError, Exit, usage};
use crate::plugins;
use crate::pretty::style::PALETTE;
use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::plugins::BuiltinPlugins;
use paperclip_prepare::transcript;
use serde_json::Value;

/// Lines that are rendered in one call.
const BATCH_LINES: usize = 64;

pub(crate) fn transcript(args: &TranscriptArgs, builtins: BuiltinPlugins) -> Result<Exit, CommandError> {
    let tools = plugins::tools(&args.plugin, builtins)?;
    let mut reader = open(&args.file)?;
    let mut batch = Vec::new();
    loop {
        let is_more = read_batch(&mut *reader, &mut batch).map_err(|error| {
            usage(
                Diagnostic::new("file_unreadable", format!("output {}: {error}", args.file.display()))
                    .with_hint("name a readable file, or - for stdin"),
            )
        })?;
        let at = jiff::Timestamp::now().to_string();
        for entries in tools.transcript(&batch, &at)? {
            show(&entries, args.json)?;
        }
        if !is_more {
            return Ok(Exit::Succeeded);
        }
    }
}

fn show(entries: &str, is_json: bool) -> Result<(), CommandError> {
    if is_json {
        let mut out = io::stdout().lock();
        for entry in serde_json::from_str::<Vec<Value>>(entries)? {
            writeln!(out, "{entry}")?;
        }
    } else {
        write!(anstream::stdout().lock(), "{}", transcript::text(entries, &PALETTE)?)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, CommandError> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = std::fs::File::open(path).map_err(|error| {
        usage(
            Diagnostic::new("file_unreadable", format!("output {}: {error}", path.display()))
                .with_hint("name a readable file, or - for stdin"),
        )
    })?;
    Ok(Box::new(BufReader::new(file)))
}

/// Reads the next lines, whatever bytes they hold. Returns false if there are no more.
fn read_batch(reader: &mut dyn BufRead, batch: &mut Vec<String>) -> io::Result<bool> {
    batch.clear();
    let mut line = Vec::new();
    while batch.len() < BATCH_LINES {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        batch.push(String::from_utf8_lossy(&line).into_owned());
    }
    Ok(true)
}
