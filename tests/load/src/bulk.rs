//! `bulk`: one run on the local cluster whose agent prints as fast as its output is read.
//!
//! The host and the local cluster are one process, so that the figures contain what the cluster does for each line, too.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

/// The first and the last line of the agent, as the plugin reads them.
const INIT: &str = r#"{"type":"system","subtype":"init","session_id":"s","model":"claude"}"#;
const RESULT: &str =
    r#"{"type":"result","subtype":"success","is_error":false,"result":"done","session_id":"s"}"#;
/// How often the peak of the host's memory is read.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// How much the agent prints at once, in bytes: its own system calls are few among those that are counted.
const PRINT_BYTES: usize = 1 << 20;
/// How many system calls strace has counted, in the last row of its table.
const TOTAL: &str = "total";

/// One run whose agent prints as fast as its output is read: time, CPU, system calls, memory, journal.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The host's program
    #[arg(long, value_name = "FILE")]
    host: PathBuf,
    #[command(flatten)]
    output: Output,
}

/// What the agent prints besides its first and its last line.
#[derive(clap::Args, Debug, Clone, Copy)]
pub(crate) struct Output {
    #[arg(long, default_value_t = 200_000)]
    lines: u64,
    /// Size of a line with its line feed
    #[arg(long, default_value_t = 1_000)]
    line_bytes: usize,
}

impl Output {
    fn line(self, number: u64) -> String {
        let text = format!("line {number} ");
        let fill = self.line_bytes.saturating_sub(text.len() + 1);
        format!("{text}{}\n", "x".repeat(fill))
    }

    fn bytes(self) -> u64 {
        let ends = (INIT.len() + RESULT.len() + 2) as u64;
        ends + (0..self.lines).map(|number| self.line(number).len() as u64).sum::<u64>()
    }
}

/// Prints what an agent prints.
pub(crate) fn print(output: Output) -> Result<()> {
    let mut stdout = io::BufWriter::with_capacity(PRINT_BYTES, io::stdout().lock());
    writeln!(stdout, "{INIT}")?;
    for number in 0..output.lines {
        stdout.write_all(output.line(number).as_bytes())?;
    }
    writeln!(stdout, "{RESULT}")?;
    Ok(stdout.flush()?)
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let bench = Bench::new(folder.path(), options)?;
    // The plugin is compiled before it is measured.
    bench.show("warm-up", Output { lines: 1, ..options.output })?;
    let measured = bench.measure("measured")?;
    let (lines, replay) = bench.count_again("measured", options.output)?;
    let system_calls = bench.count_system_calls("traced")?;

    let (line_count, bytes) = (options.output.lines + 2, options.output.bytes());
    let seconds = measured.wall.as_secs_f64();
    println!("output            {line_count} lines, {:.1} MB", bytes as f64 / 1e6);
    println!("wall              {seconds:.1} s, {:.0} MB/s", bytes as f64 / 1e6 / seconds);
    println!("CPU of the host   {:.1} s user, {:.1} s system", measured.user_s, measured.system_s);
    match system_calls {
        Some(calls) => println!("system calls      {:.3} a line (strace)", calls as f64 / line_count as f64),
        None => println!("system calls      not counted: there is no strace"),
    }
    println!("context switches  {:.3} a line", measured.switches as f64 / line_count as f64);
    println!(
        "journal           {:.2} bytes a byte of output",
        bench.journal_bytes("measured")? as f64 / bytes as f64
    );
    println!("replay            {:.0} MB/s", bytes as f64 / 1e6 / replay.as_secs_f64());
    println!("peak RSS          {:.1} MiB", measured.peak_bytes as f64 / f64::from(1 << 20));
    ensure!(lines == line_count, "{lines} of {line_count} lines have arrived");
    Ok(())
}

struct Bench<'a> {
    folder: &'a Path,
    host: &'a Path,
    output: Output,
    /// `PATH` with the agent's program first.
    path: std::ffi::OsString,
}

struct Measured {
    wall: Duration,
    user_s: f64,
    system_s: f64,
    switches: u64,
    peak_bytes: u64,
}

impl Bench<'_> {
    fn new<'a>(folder: &'a Path, options: &'a Options) -> Result<Bench<'a>> {
        let programs = folder.join("bin");
        fs::create_dir(&programs)?;
        let agent = programs.join("claude");
        let this = std::env::current_exe()?;
        let script =
            format!("#!/bin/sh\nexec '{}' print --lines $LINES --line-bytes $LINE_BYTES\n", this.display());
        fs::write(&agent, script)?;
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))?;
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&others)))?;
        Ok(Bench { folder, host: &options.host, output: options.output, path })
    }

    /// Returns the command of a run, behind a prefix such as `strace`.
    fn command(&self, prefix: &[&str], run_id: &str, output: Output) -> Result<Command> {
        let context = self.folder.join(format!("{run_id}.json"));
        let content = json!({
            "runId": run_id, "runtime": {}, "context": { "taskId": "T-1" }, "authToken": "token-0123456789",
            "agent": { "id": "agent", "companyId": "acme", "name": "Nova", "adapterType": "claude_k8s" },
            "config": { "image": "load/agent:1", "env": {
                "LINES": output.lines.to_string(), "LINE_BYTES": output.line_bytes.to_string(),
            } },
        });
        fs::write(&context, content.to_string())?;
        let mut command = match prefix {
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(self.host);
                command
            }
            [] => Command::new(self.host),
        };
        command.args(["run", "--cluster", "local", "--output", "ndjson", "--context"]).arg(context);
        command.arg("--state").arg(self.folder.join("state"));
        command.env("PATH", &self.path).env("XDG_CACHE_HOME", self.folder.join("cache"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    fn show(&self, run_id: &str, output: Output) -> Result<()> {
        let status = self.command(&[], run_id, output)?.status().context("the host cannot be started")?;
        ensure!(status.success(), "the run {run_id} has failed: {status}");
        Ok(())
    }

    fn measure(&self, run_id: &str) -> Result<Measured> {
        let mut command = self.command(&[], run_id, self.output)?;
        let start = Instant::now();
        let mut host = command.spawn()?;
        let mut measured =
            Measured { wall: Duration::ZERO, user_s: 0.0, system_s: 0.0, switches: 0, peak_bytes: 0 };
        // The counters of threads that have ended are in the process's times only, so that the last sample is nearly exact.
        while host.try_wait()?.is_none() {
            if let Ok(sample) = sample(host.id()) {
                measured = sample;
            }
            measured.wall = start.elapsed();
            std::thread::sleep(SAMPLE_EVERY);
        }
        let status = host.wait()?;
        ensure!(status.success(), "the run has failed: {status}");
        Ok(measured)
    }

    /// Shows the ended run again, from its journal. Returns how many of the agent's lines there are in order, and how long it took.
    fn count_again(&self, run_id: &str, output: Output) -> Result<(u64, Duration)> {
        let start = Instant::now();
        let mut host = self.command(&[], run_id, output)?.stdout(Stdio::piped()).spawn()?;
        let mut lines = 0;
        for record in BufReader::new(host.stdout.take().context("stdout is piped")?).lines() {
            let record = record?;
            if record.starts_with(r#"{"type":"gap""#) {
                bail!("there is a gap: {record}");
            }
            let is_next =
                record.starts_with(&format!(r#"{{"type":"log","stream":"stdout","index":{lines},"#));
            lines += u64::from(is_next);
        }
        let took = start.elapsed();
        ensure!(host.wait()?.success(), "the run cannot be shown again");
        Ok((lines, took))
    }

    /// Counts the system calls of a run, if there is a program that does.
    fn count_system_calls(&self, run_id: &str) -> Result<Option<u64>> {
        if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            return Ok(None);
        }
        let table = self.folder.join("strace");
        let table_text = table.to_str().context("the folder's path is text")?;
        let prefix =
            ["strace", "--follow-forks", "--summary-only", "--summary-sort-by=calls", "--output", table_text];
        let status = self.command(&prefix, run_id, self.output)?.status()?;
        ensure!(status.success(), "the traced run has failed: {status}");
        let table = fs::read_to_string(table)?;
        for row in table.lines().take(12) {
            eprintln!("{row}");
        }
        let total = table.lines().rev().find(|row| row.trim_end().ends_with(TOTAL)).context("no total")?;
        let calls = total.split_ascii_whitespace().nth(3).context("no count of calls")?;
        Ok(Some(calls.parse()?))
    }

    fn journal_bytes(&self, run_id: &str) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(self.folder.join("state/runs").join(run_id))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("journal-") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(bytes)
    }
}

/// Returns what a process has used so far; its `wall` is not known.
fn sample(pid: u32) -> Result<Measured> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The fields behind the program's name, which is in parentheses and may hold anything; utime and stime are the 14th and 15th.
    let mut fields = stat.rsplit_once(')').context("no name")?.1.split_ascii_whitespace().skip(11);
    let mut seconds = || -> Result<f64> {
        let ticks: u64 = fields.next().context("no times")?.parse()?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    };
    let (user_s, system_s) = (seconds()?, seconds()?);
    let mut switches = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // A thread may have ended meanwhile.
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        switches += count.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Measured { wall: Duration::ZERO, user_s, system_s, switches, peak_bytes: kib << 10 })
}
