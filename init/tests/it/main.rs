//! Runs the program with agents that are shell scripts.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use paperclip_control_lines::{
    ANNOTATION, ControlLine, Count, End, FORMAT, MAX_LINES, Parsed, parse, prefix,
};
use paperclip_kit::manifest::CONTROL_LINES;
use paperclip_kit::manifest::command::CONTROL_FORMAT;
use paperclip_kit::manifest::termination::{MARKER, MESSAGE_MAX_BYTES, split};
use tempfile::TempDir;

const TAG: &str = "5f3a9c01d2b4e678";
const PROGRAM: &str = env!("CARGO_BIN_EXE_paperclip-init");

/// The directories of a container.
struct Container {
    root: TempDir,
    writes_to_file: bool,
}

/// What an agent's log contains.
struct Log {
    code: Option<i32>,
    /// The agent's output.
    output: Vec<u8>,
    /// The control lines, each with the number of the lines that precede it.
    control: Vec<(u64, ControlLine)>,
    message: Option<String>,
}

impl Container {
    fn new(prompt: &[u8]) -> Container {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("prompt"), prompt).unwrap();
        Container { root, writes_to_file: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Child {
        let output = if self.writes_to_file { self.path("output") } else { PathBuf::from("-") };
        Command::new(PROGRAM)
            .args([CONTROL_FORMAT, TAG])
            .args([self.path("stderr"), self.path("termination-log"), output, self.path("prompt")])
            .args(["--", program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn start(&self, script: &str) -> Child {
        self.command("sh", &["-c", script])
    }

    fn ended(&self, mut child: Child) -> Log {
        let mut bytes = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
        let code = child.wait().unwrap().code();
        let (mut output, mut control, mut lines) = (Vec::new(), Vec::new(), 0);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match parse(&prefix(TAG), line.strip_suffix(b"\n").expect("every line is terminated")) {
                Parsed::Output => {
                    output.extend_from_slice(line);
                    lines += 1;
                }
                Parsed::Control(line) => control.push((lines, line)),
                Parsed::Torn => panic!("{}", String::from_utf8_lossy(line)),
            }
        }
        let message = fs::read_to_string(self.path("termination-log")).ok();
        Log { code, output, control, message }
    }

    fn run(&self, script: &str) -> Log {
        self.ended(self.start(script))
    }
}

impl Log {
    /// Checks every control line, and that the last one has this end.
    fn assert_counted(&self, exit_code: i32, is_terminated: bool) {
        assert_eq!(self.code, Some(exit_code));
        let mut ends: Vec<usize> = vec![0];
        ends.extend(self.output.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
        let mut before = 0;
        for (lines, control) in &self.control {
            let mut count = Count::default();
            count.add(&self.output[..ends[usize::try_from(*lines).unwrap()]]);
            assert_eq!(control.count, count);
            assert!(lines - before <= MAX_LINES, "{before} to {lines}");
            before = *lines;
        }
        assert_eq!(self.control.first().map(|(lines, _)| *lines), Some(0));
        let (lines, last) = self.control.last().unwrap();
        assert_eq!((*lines, last.end), (ends.len() as u64 - 1, Some(End { exit_code, is_terminated })));
        assert_eq!(self.control.iter().filter(|(_, line)| line.end.is_some()).count(), 1);
    }
}

#[test]
fn the_interface_is_the_one_that_the_kit_uses() {
    assert_eq!((CONTROL_FORMAT, CONTROL_LINES), (&*FORMAT.to_string(), ANNOTATION));
    let probe = |format: &str| Command::new(PROGRAM).args(["--probe", format]).status().unwrap().code();
    assert_eq!((probe(CONTROL_FORMAT), probe("2")), (Some(0), Some(1)));
    assert_eq!(Command::new(PROGRAM).status().unwrap().code(), Some(64));
}

#[test]
fn passes_prompt_output_and_exit_code_through() {
    let prompt: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for writes_to_file in [false, true] {
        let container = Container { writes_to_file, ..Container::new(&prompt) };
        let log = container.run("cat; echo; exit 7");
        assert_eq!(log.output, [prompt.as_slice(), b"\n"].concat());
        log.assert_counted(7, true);
        assert_eq!(log.message, None);
    }
}

#[test]
fn counts_bursts_of_short_lines() {
    for writes_to_file in [false, true] {
        let log = Container { writes_to_file, ..Container::new(b"") }.run("seq 100000");
        assert!(log.output.ends_with(b"\n100000\n"));
        log.assert_counted(0, true);
        assert!(log.control.len() >= 102);
    }
}

#[test]
fn an_agent_that_prints_nothing_is_counted_too() {
    let log = Container::new(b"").run("exit 0");
    assert!(log.output.is_empty());
    log.assert_counted(0, true);
}

#[test]
fn an_unterminated_last_line_is_terminated_and_marked() {
    for writes_to_file in [false, true] {
        let log = Container { writes_to_file, ..Container::new(b"") }.run("printf 'a\\nb'; exit 3");
        assert_eq!(log.output, b"a\nb\n");
        log.assert_counted(3, false);
    }
}

#[test]
fn an_agent_that_does_not_read_its_prompt_ends() {
    let prompt = vec![b'x'; 1 << 20];
    Container::new(&prompt).run("exec <&-; echo done").assert_counted(0, true);
}

#[test]
fn output_is_counted_while_the_agent_runs() {
    for writes_to_file in [false, true] {
        let container = Container { writes_to_file, ..Container::new(b"") };
        fs::remove_file(container.path("prompt")).unwrap();
        assert!(Command::new("mkfifo").arg(container.path("prompt")).status().unwrap().success());
        let mut child = container.start("echo one; read answer; echo $answer");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let (start, one, counted) = (lines.next().unwrap(), lines.next().unwrap(), lines.next().unwrap());
        assert_eq!(one, "one");
        let count_of = |line: &str| match parse(&prefix(TAG), line.as_bytes()) {
            Parsed::Control(line) => (line.count.lines, line.end.is_some()),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!((count_of(&start), count_of(&counted)), ((0, false), (1, false)));
        // The agent waits for this.
        fs::write(container.path("prompt"), "two\n").unwrap();
        assert_eq!(lines.next().as_deref(), Some("two"));
        assert_eq!(count_of(&lines.last().unwrap()), (2, true));
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn forwards_term_and_int_as_term() {
    for signal in ["TERM", "INT"] {
        let container = Container::new(b"");
        fs::remove_file(container.path("prompt")).unwrap();
        assert!(Command::new("mkfifo").arg(container.path("prompt")).status().unwrap().success());
        let mut child = container.start("trap 'echo stopped; exit 9' TERM; echo started; read answer");
        let mut stdout = child.stdout.take().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"started\n") {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).unwrap(), 1);
            head.push(byte[0]);
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("stopped\n"), "{rest}");
        assert_eq!(child.wait().unwrap().code(), Some(9));
    }
}

#[test]
fn an_agent_that_a_signal_ends_has_the_exit_code_of_a_shell() {
    Container::new(b"").run("kill -KILL $$").assert_counted(137, true);
}

#[test]
fn processes_that_the_agent_left_behind_are_not_awaited() {
    // It holds the pipe open.
    let log = Container::new(b"").run("echo one; tail -f /dev/null & echo $! >&2; exit 0");
    log.assert_counted(0, true);
    let (_, stderr) = split(log.message.as_deref().unwrap());
    assert!(Command::new("kill").arg(stderr.unwrap().trim()).status().unwrap().success());
}

#[test]
fn the_end_of_stderr_is_the_termination_message() {
    let container = Container::new(b"");
    fs::write(container.path("stderr"), "of the setup\n").unwrap();
    let log = container.run("echo boom >&2; exit 1");
    assert_eq!(log.message.as_deref(), Some(&*format!("{MARKER}\nof the setup\nboom\n")));

    let log = Container::new(b"").run("seq 10000 >&2");
    let message = log.message.unwrap();
    assert_eq!(message.len(), MESSAGE_MAX_BYTES);
    assert!(split(&message).1.unwrap().ends_with("9999\n10000\n"));
}

#[test]
fn a_program_that_cannot_be_executed_has_the_exit_code_of_a_shell() {
    let container = Container::new(b"");
    let log = container.ended(container.command("no-such-agent", &[]));
    log.assert_counted(127, true);
    assert!(log.message.unwrap().contains("no-such-agent: not found"));

    let container = Container::new(b"");
    let file = container.path("prompt");
    let log = container.ended(container.command(Path::new(&file).to_str().unwrap(), &[]));
    log.assert_counted(126, true);
}
