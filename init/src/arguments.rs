//! The command line.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use paperclip_control_lines::FORMAT;

/// What the program is to do.
pub(crate) enum Command {
    Probe { format: u32 },
    Run(Run),
}

/// An agent to run.
pub(crate) struct Run {
    /// Distinguishes the control lines of this run from those of another one that the agent may print.
    pub(crate) tag: String,
    pub(crate) stderr_file: PathBuf,
    pub(crate) termination_log: PathBuf,
    /// To which the agent writes, if it loses output through a pipe.
    pub(crate) output_file: Option<PathBuf>,
    pub(crate) prompt_files: Vec<PathBuf>,
    pub(crate) program: OsString,
    pub(crate) arguments: Vec<OsString>,
}

pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Command> {
    let first = arguments.next()?;
    if first == "--probe" {
        return Some(Command::Probe { format: number(&arguments.next()?)? });
    }
    if number(&first)? != FORMAT {
        return None;
    }
    let tag = arguments.next()?.into_string().ok()?;
    let stderr_file = arguments.next()?.into();
    let termination_log = arguments.next()?.into();
    let output_file = arguments.next().filter(|file| file != "-").map(PathBuf::from);
    let prompt_files =
        arguments.by_ref().take_while(|argument| argument != "--").map(PathBuf::from).collect();
    let program = arguments.next()?;
    let arguments = arguments.collect();
    Some(Command::Run(Run {
        tag,
        stderr_file,
        termination_log,
        output_file,
        prompt_files,
        program,
        arguments,
    }))
}

fn number(text: &OsStr) -> Option<u32> {
    text.to_str()?.parse().ok()
}
