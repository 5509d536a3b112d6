//! Output for people: the rendered transcript of a run, a spinner, a summary at the end, errors.

pub(crate) mod style;
mod summary;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use paperclip_diagnostic::Diagnostic;
use paperclip_engine::record::{Level, Record, SequencedRecord, Stream};
use paperclip_guest::Tools;
use paperclip_prepare::transcript;
use paperclip_shell::Sink;

use style::{DIM, ERROR, PALETTE, WARNING};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Shows records on stdout, and between them a spinner with the elapsed time on stderr.
pub(crate) struct PrettySink {
    tools: Tools,
    spinner: ProgressBar,
    started: Instant,
    lines: u64,
}

impl PrettySink {
    pub(crate) fn new(tools: Tools) -> Self {
        PrettySink { tools, spinner: spinner(), started: Instant::now(), lines: 0 }
    }

    fn show(&mut self, record: Record) -> io::Result<()> {
        let text = match record {
            Record::Log { stream: Stream::Stdout, text, .. } => {
                self.lines += 1;
                self.render_line(&text)
            }
            Record::Log { stream: Stream::Stderr, text, .. } => {
                format!("{WARNING}stderr{WARNING:#} {text}\n")
            }
            Record::Gap { lost_lines, lost_bytes, reason, .. } => {
                let size = match (lost_lines, lost_bytes) {
                    (Some(lines), _) => format!("{lines} lines"),
                    (None, Some(bytes)) => format!("{bytes} bytes"),
                    (None, None) => "an unknown amount".to_owned(),
                };
                format!("{ERROR}⚠ output lost: {size} ({reason}){ERROR:#}\n")
            }
            Record::Status { level, text } => {
                let text = text.strip_prefix("[paperclip] ").unwrap_or(&text).to_owned();
                self.spinner.set_message(text.clone());
                let style = match level {
                    Level::Info => DIM,
                    Level::Warning => WARNING,
                    Level::Error => ERROR,
                };
                format!("{style}· {text}{style:#}\n")
            }
            Record::Meta(_) => String::new(),
            Record::Result(result) => {
                self.spinner.finish_and_clear();
                summary::render(&result, self.started.elapsed(), self.lines)
            }
        };
        self.spinner.suspend(|| anstream::stdout().write_all(text.as_bytes()))
    }

    fn render_line(&self, line: &str) -> String {
        let at = jiff::Timestamp::now().to_string();
        let line = line.to_owned();
        let entries = self.tools.transcript(std::slice::from_ref(&line), &at);
        match entries.ok().as_deref() {
            Some([entries]) => transcript::text(entries, &PALETTE).unwrap_or_else(|_| format!("{line}\n")),
            // The plugin cannot render it: it is shown as it is.
            Some(_) | None => format!("{line}\n"),
        }
    }
}

impl Sink for PrettySink {
    async fn take(&mut self, record: SequencedRecord) -> io::Result<()> {
        self.show(record.record)
    }

    async fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

fn spinner() -> ProgressBar {
    if !(io::stdout().is_terminal() && io::stderr().is_terminal()) {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{spinner:.cyan} {elapsed:.dim} {wide_msg:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.enable_steady_tick(TICK);
    spinner
}

/// Prints an error on stderr: the message, and below it the hint.
pub(crate) fn show_error(diagnostic: &Diagnostic) {
    anstream::eprintln!("{ERROR}error:{ERROR:#} {}", diagnostic.message);
    if let Some(hint) = &diagnostic.hint {
        anstream::eprintln!("{DIM}hint:{DIM:#} {hint}");
    }
}
