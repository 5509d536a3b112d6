//! The agent's process: its stdin, its signals, its end.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::arguments::Run;
use crate::copy::{self, Source};

/// A shell's exit codes for a program that cannot be executed, and for one that does not exist.
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// A shell's exit code for an error of its own.
const FAILED: u8 = 2;

/// Runs the agent to its end. Returns its exit code, as a shell would.
pub(crate) fn run(run: &Run) -> u8 {
    // Before the agent starts, so that no signal is missed: as process 1 this program would not receive it.
    let signals = Signals::new([SIGTERM, SIGINT]);
    let (exit_code, source) = match (signals, prepare(run)) {
        (Ok(signals), Ok((command, source))) => return start(run, signals, command, source),
        (Err(_), _) | (_, Err(_)) => (FAILED, Source::Nothing),
    };
    copy::copy(&run.tag, source, || i32::from(exit_code));
    exit_code
}

/// Opens what the agent writes to. Returns its command, and where its output is read from.
fn prepare(run: &Run) -> io::Result<(Command, Source)> {
    let append = |path: &PathBuf| OpenOptions::new().append(true).create(true).open(path);
    let mut command = Command::new(&run.program);
    command.args(&run.arguments).stdin(Stdio::piped()).stderr(append(&run.stderr_file)?);
    let source = match &run.output_file {
        Some(path) => {
            command.stdout(append(path)?);
            Source::File(File::open(path)?)
        }
        None => {
            let (reader, writer) = io::pipe()?;
            command.stdout(writer);
            Source::Pipe(reader)
        }
    };
    Ok((command, source))
}

/// Starts the agent and copies its output until it has ended.
fn start(run: &Run, signals: Signals, mut command: Command, source: Source) -> u8 {
    let started = command.spawn();
    // It holds an end of the pipe, which would never be at its end.
    drop(command);
    let mut agent = match started {
        Ok(agent) => agent,
        Err(error) => {
            let exit_code = report_not_started(run, &error);
            copy::copy(&run.tag, source, || i32::from(exit_code));
            return exit_code;
        }
    };
    let pid = Pid::from_child(&agent);
    let is_running = Arc::new(AtomicBool::new(true));
    forward(signals, pid, Arc::clone(&is_running));
    if let Some(stdin) = agent.stdin.take() {
        feed(stdin, run.prompt_files.clone());
    }
    let Ok((end_reader, end_writer)) = io::pipe() else { return FAILED };
    let waiter = thread::spawn(move || {
        let exit_code = reap(pid);
        is_running.store(false, Ordering::SeqCst);
        drop(end_writer);
        exit_code
    });
    let mut exit_code = FAILED;
    copy::copy_until(&run.tag, source, &end_reader, || {
        exit_code = waiter.join().unwrap_or(FAILED);
        i32::from(exit_code)
    });
    exit_code
}

/// Writes to the agent's stderr what a shell would, for the termination message.
fn report_not_started(run: &Run, error: &io::Error) -> u8 {
    let (exit_code, why) = match error.kind() {
        io::ErrorKind::NotFound => (NOT_FOUND, "not found".to_owned()),
        _ => (CANNOT_EXECUTE, error.to_string()),
    };
    if let Ok(mut file) = OpenOptions::new().append(true).open(&run.stderr_file) {
        let _ = writeln!(file, "sh: {}: {why}", run.program.to_string_lossy());
    }
    exit_code
}

/// Passes the prompt to the agent. An agent that does not read it is not stopped.
fn feed(mut stdin: ChildStdin, files: Vec<PathBuf>) {
    thread::spawn(move || {
        for file in files {
            if let Ok(mut file) = File::open(file)
                && io::copy(&mut file, &mut stdin).is_err()
            {
                return;
            }
        }
    });
}

/// Forwards signals to the agent while it runs.
fn forward(mut signals: Signals, agent: Pid, is_running: Arc<AtomicBool>) {
    thread::spawn(move || {
        for _ in signals.forever() {
            if is_running.load(Ordering::SeqCst) {
                let _ = kill_process(agent, Signal::TERM);
            }
        }
    });
}

/// Reaps processes until the agent has ended. Returns its exit code.
fn reap(agent: Pid) -> u8 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == agent => {
                return exit_code(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return FAILED,
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

/// Readable once the agent has ended.
pub(crate) type EndOfAgent = PipeReader;
