//! `paperclip-init`: the process with id 1 of an agent's container.
//!
//! It starts the agent, passes the prompt files to its stdin, forwards TERM and INT as TERM, reaps every process of the container, and exits
//! with the agent's code. It copies the agent's output to its own and adds [control lines](paperclip_control_lines), so that whoever reads the
//! container's log knows what is missing. The end of the agent's stderr becomes the container's termination message.
//!
//! ```text
//! paperclip-init --probe FORMAT
//! paperclip-init FORMAT TAG STDERR_FILE TERMINATION_LOG OUTPUT_FILE PROMPT_FILE... -- PROGRAM ARGUMENT...
//! ```
//!
//! `--probe` succeeds if the program runs on this machine and writes control lines of this format. OUTPUT_FILE is a file to which the agent
//! writes instead of a pipe, or `-`.

mod agent;
mod arguments;
mod copy;
mod termination;

use std::process::ExitCode;

use arguments::Command;
use paperclip_control_lines::FORMAT;

/// The arguments are not those above.
const USAGE_EXIT_CODE: u8 = 64;

fn main() -> ExitCode {
    match arguments::parse(std::env::args_os().skip(1)) {
        Some(Command::Probe { format }) => ExitCode::from(u8::from(format != FORMAT)),
        Some(Command::Run(run)) => {
            let exit_code = agent::run(&run);
            termination::write_tail(&run.stderr_file, &run.termination_log);
            ExitCode::from(exit_code)
        }
        None => ExitCode::from(USAGE_EXIT_CODE),
    }
}
