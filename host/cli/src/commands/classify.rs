//! `classify`: classifies finished evidence.

use std::io::{self, BufRead, BufReader, BufWriter, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::args::ClassifyArgs;
use crate::exit::{CommandError, Exit, usage};
use crate::plugins;
use paperclip_diagnostic::Diagnostic;
use paperclip_prepare::plugins::BuiltinPlugins;

pub(crate) fn classify(args: &ClassifyArgs, builtins: BuiltinPlugins) -> Result<Exit, CommandError> {
    let tools = plugins::tools(&args.plugin, builtins)?;
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let name = args.evidence.display();
    let mut out = BufWriter::new(io::stdout().lock());
    for (number, line) in (1..).zip(open(args)?.lines()) {
        let line = line.map_err(|error| {
            usage(Diagnostic::new("file_unreadable", format!("evidence {name}, line {number}: {error}")))
        })?;
        if line.trim().is_empty() {
            continue;
        }
        match tools.classify(now_ms, &line)? {
            Ok(result) => writeln!(out, "{result}")?,
            Err(problem) => {
                out.flush()?;
                let problem =
                    Diagnostic::new("bad_evidence", format!("evidence {name}, line {number}: {problem}"));
                return Err(usage(
                    problem.with_hint("correct that line: each line is one document of evidence"),
                ));
            }
        }
    }
    out.flush()?;
    Ok(Exit::Succeeded)
}

fn open(args: &ClassifyArgs) -> Result<Box<dyn BufRead>, CommandError> {
    if args.evidence.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = std::fs::File::open(&args.evidence).map_err(|error| {
        usage(
            Diagnostic::new("file_unreadable", format!("evidence {}: {error}", args.evidence.display()))
                .with_hint("name a readable file, or - for stdin"),
        )
    })?;
    Ok(Box::new(BufReader::new(file)))
}
