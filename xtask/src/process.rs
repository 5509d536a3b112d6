//! Runs other programs: prints the command line, reports failures, and times the stages of a task.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::figures::duration;

const HEADING: Style = AnsiColor::Cyan.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const FAINT: Style = Style::new().dimmed();

/// Variables that are too long to print: a list of folders, and flags with unprintable separators.
const UNSHOWN_VARIABLES: [&str; 2] = ["PATH", "CARGO_ENCODED_RUSTFLAGS"];

/// Runs a command that inherits the terminal.
///
/// # Errors
/// If it does not exit with 0; the error names the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command.status().with_context(|| cannot_start(command))?;
    check(command, status)
}

/// Returns what a command prints, without the final line feed; its stderr is inherited.
///
/// # Errors
/// If it does not exit with 0, or prints something that is not UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| cannot_start(command))?;
    check(command, output.status)?;
    let text = String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not UTF-8", line(command)))?;
    Ok(text.trim_end().to_owned())
}

/// A library or program that cargo built.
#[derive(Debug, Deserialize)]
pub(crate) struct Artifact {
    pub(crate) package_id: String,
    pub(crate) filenames: Vec<PathBuf>,
    /// Set if the artifact is a program.
    pub(crate) executable: Option<PathBuf>,
}

/// Runs a cargo command that builds something, and returns what it built, including what was fresh.
pub(crate) fn build(cargo: &mut Command) -> Result<Vec<Artifact>> {
    announce(cargo);
    let mut child = cargo
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(cargo))?;
    let stdout = child.stdout.take().expect("stdout is piped, two lines above");
    let mut artifacts = Vec::new();
    for message in BufReader::new(stdout).lines() {
        artifacts.extend(artifact(&message.context("cannot read cargo's messages")?)?);
    }
    let status = child.wait().with_context(|| cannot_start(cargo))?;
    check(cargo, status)?;
    Ok(artifacts)
}

/// Returns the path of a program that cargo has just built.
pub(crate) fn built_program<'a>(built: &'a [Artifact], name: &str) -> Result<&'a Path> {
    let mut programs = built.iter().filter_map(|artifact| artifact.executable.as_deref());
    let found = programs.find(|path| path.file_name().is_some_and(|file| file == name));
    found.with_context(|| format!("cargo built no program {name}"))
}

/// Runs `work` as a stage of a task, between a heading and the time that it took.
pub(crate) fn stage<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    anstream::eprintln!("{HEADING}=== {name}{HEADING:#}");
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    match result {
        Ok(value) => {
            anstream::eprintln!("{GOOD}=== {name}: done{GOOD:#} in {}", duration(took));
            Ok((value, took))
        }
        Err(error) => {
            anstream::eprintln!("{BAD}=== {name}: failed{BAD:#} after {}", duration(took));
            Err(error.context(format!("{name} failed")))
        }
    }
}

/// Prints a line about progress.
pub(crate) fn note(text: &str) {
    anstream::eprintln!("{text}");
}

/// Prints the last line of a task that succeeded.
pub(crate) fn summary(text: &str) {
    anstream::eprintln!("{GOOD}{text}{GOOD:#}");
}

/// Prints the error of a task that failed, with its causes.
pub(crate) fn report_error(error: &anyhow::Error) {
    anstream::eprintln!("{BAD}error:{BAD:#} {error:#}");
}

/// Prints a command line before it runs.
pub(crate) fn announce(command: &Command) {
    anstream::eprintln!("{FAINT}$ {}{FAINT:#}", line(command));
}

/// Returns the program of that name on PATH.
pub(crate) fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

fn check(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", line(command))
}

/// Returns a command as a person would type it: the variables it sets, the program, its arguments.
fn line(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        let value = value.filter(|_| !UNSHOWN_VARIABLES.iter().any(|unshown| name == *unshown))?;
        Some(format!("{}={}", name.display(), quoted(value)))
    });
    let words = std::iter::once(program(command)).chain(command.get_args()).map(quoted);
    variables.chain(words).collect::<Vec<_>>().join(" ")
}

/// Shows the cargo that runs this task as `cargo`, however long its path.
fn program(command: &Command) -> &OsStr {
    let program = command.get_program();
    if std::env::var_os("CARGO").is_some_and(|cargo| cargo == program) {
        OsStr::new("cargo")
    } else {
        program
    }
}

/// Quotes a word for a shell.
fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Parses one of cargo's messages. Returns None if it is not an artifact.
fn artifact(message: &str) -> Result<Option<Artifact>> {
    #[derive(Deserialize)]
    struct Reason {
        reason: String,
    }
    let parsed: Reason = serde_json::from_str(message).context("cargo printed a message that is not JSON")?;
    if parsed.reason != "compiler-artifact" {
        return Ok(None);
    }
    let artifact = serde_json::from_str(message).context("cargo's message is not an artifact")?;
    Ok(Some(artifact))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_shown_as_a_person_would_type_it() {
        let mut command = Command::new("echo");
        command
            .env("CARGO_ENCODED_RUSTFLAGS", "-Ca\u{1f}-Cb")
            .env("A", "b c")
            .env_remove("D")
            .args(["it's", "", "-x=1"]);
        assert_eq!(line(&command), r"A='b c' echo 'it'\''s' '' -x=1");
    }

    #[test]
    fn failure_names_the_command_and_its_status() {
        let error = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 7'` failed (exit status: 7)");
    }

    #[test]
    fn missing_program_is_named() {
        let error = run(&mut Command::new("/nowhere/paperclip")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start `/nowhere/paperclip`");
    }

    #[test]
    fn only_artifacts_are_parsed_from_cargos_messages() {
        assert!(artifact(r#"{"reason":"build-finished","success":true}"#).unwrap().is_none());
        let built = artifact(
            r#"{"reason":"compiler-artifact","package_id":"p","filenames":["/t/p.wasm"],"executable":null,"fresh":true}"#,
        );
        assert_eq!(built.unwrap().unwrap().filenames, [PathBuf::from("/t/p.wasm")]);
        assert!(artifact("warning: no JSON").is_err());
    }

    #[test]
    fn only_executable_programs_are_found_on_the_path() {
        assert!(find_program("sh", OsStr::new("/nowhere:/bin:/usr/bin")).is_some());
        assert!(find_program("passwd", OsStr::new("/etc")).is_none());
    }
}
