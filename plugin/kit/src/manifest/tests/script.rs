//! Runs the container's script in the shells of this machine, with a fake agent.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::OutputBy;
use super::super::command::{Script, quoted};
use super::super::termination::{MARKER, MESSAGE_MAX_BYTES, split};

/// A container's directories on this machine, with a fake agent.
struct Container {
    root: TempDir,
    setup: Vec<String>,
    output_by: OutputBy,
    control_tag: Option<&'static str>,
}

struct Ended {
    code: Option<i32>,
    stdout: Vec<u8>,
    /// The shell's own messages.
    shell_stderr: String,
    message: Option<String>,
}

impl Container {
    fn new(agent: &str, prompt: &[u8]) -> Container {
        let root = tempfile::tempdir().unwrap();
        for dir in ["prompt", "paperclip", "bin"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        fs::write(root.path().join("prompt/prompt.txt"), prompt).unwrap();
        write_program(&root.path().join("bin/agent"), agent);
        Container { root, setup: Vec::new(), output_by: OutputBy::Pipe, control_tag: None }
    }

    /// Makes a FIFO from which a read never returns.
    fn make_fifo(&self) {
        let fifo = self.root.path().join("bin/agent.fifo");
        assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
    }

    fn start(&self, shell: &str, arguments: &[&str]) -> Child {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let root = self.root.path().to_str().unwrap();
        let script = Script {
            setup: &self.setup,
            program: "agent",
            arguments: &arguments,
            prompt_files: "/tmp/prompt/prompt.txt",
            output_by: self.output_by,
            control_tag: self.control_tag,
        };
        let text = script
            .to_string()
            .replace("/tmp/prompt", &format!("{root}/prompt"))
            .replace("/tmp/init", &format!("{root}/init"))
            .replace("/tmp/paperclip", &format!("{root}/paperclip"))
            .replace("/dev/termination-log", &format!("{root}/termination-log"));
        let path = format!("{root}/bin:{}", std::env::var("PATH").unwrap());
        let mut words = shell.split(' ');
        Command::new(words.next().unwrap())
            .args(words)
            .args(["-c", &text])
            .env("PATH", path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn ended(&self, mut child: Child) -> Ended {
        let mut stdout = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        let mut shell_stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut shell_stderr).unwrap();
        let code = child.wait().unwrap().code();
        let message = fs::read(self.root.path().join("termination-log")).ok();
        Ended {
            code,
            stdout,
            shell_stderr,
            message: message.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    fn run(&self, shell: &str, arguments: &[&str]) -> Ended {
        self.ended(self.start(shell, arguments))
    }
}

/// Another process writes the file: one that is still open for writing in a fork of this process cannot be executed.
fn write_program(path: &Path, script: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$0\"; chmod +x \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
}

/// Returns the shells of this machine that an agent's image may have as `sh`.
fn shells() -> Vec<&'static str> {
    let is_installed = |program: &&str| {
        let name = program.split(' ').next().unwrap_or_default();
        std::env::var("PATH").unwrap().split(':').any(|dir| Path::new(dir).join(name).exists())
    };
    ["sh", "dash", "bash --posix", "bash", "busybox sh"].into_iter().filter(is_installed).collect()
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
}

#[test]
fn passes_prompt_arguments_output_and_exit_code_through() {
    let prompt: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for shell in shells() {
        let agent = Container::new("printf '%s|' \"$@\"; cat; exit 7", &prompt);
        let ended = agent.run(shell, &["--flag", "it's $HOME `id` \"x\" \\ *", "", "two\nlines"]);
        assert_eq!(ended.code, Some(7), "{shell}");
        let mut expected = b"--flag|it's $HOME `id` \"x\" \\ *||two\nlines|".to_vec();
        expected.extend_from_slice(&prompt);
        assert!(ended.stdout == expected, "{shell}");
        assert_eq!(ended.message, None, "{shell}");
    }
}

#[test]
fn exit_codes_are_those_of_the_agent() {
    for shell in shells() {
        for (agent, code) in
            [("exit 0", 0), ("exit 1", 1), ("exit 127", 127), ("exit 255", 255), ("kill -KILL $$", 137)]
        {
            let ended = Container::new(agent, b"").run(shell, &[]);
            assert_eq!(ended.code, Some(code), "{shell}: {agent}");
            assert_eq!((ended.shell_stderr.as_str(), ended.message), ("", None), "{shell}: {agent}");
        }
    }
}

#[test]
fn reports_a_missing_agent() {
    for shell in shells() {
        let container = Container::new("", b"");
        fs::remove_file(container.root.path().join("bin/agent")).unwrap();
        let ended = container.run(shell, &[]);
        assert_eq!(ended.code, Some(127), "{shell}");
        let message = ended.message.unwrap_or_default();
        assert!(split(&message).1.is_some_and(|tail| tail.contains("not found")), "{shell}: {message}");
    }
}

/// Returns the signals that a shell can trap. It cannot trap those that were ignored when it started, such as INT if these tests run in
/// the background.
fn catchable() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    [("TERM", 15), ("INT", 2)]
        .into_iter()
        .filter(|(_, n)| ignored >> (n - 1) & 1 == 0)
        .map(|(name, _)| name)
        .collect()
}

/// Part of a fake agent: prints that it is ready once the shell only waits for it.
const READY: &str = "until grep -q '^State:.S' /proc/$PPID/status; do :; done; echo ready";

#[test]
fn forwards_signals_and_waits_for_the_agent() {
    // A shell that waits handles a signal at once; one that reads may miss it.
    let agent =
        format!("trap 'echo stopping; kill -KILL $!; exit 42' TERM; cat \"$0.fifo\" & {READY}; wait $!");
    for shell in shells() {
        for name in catchable() {
            let container = Container::new(&agent, b"");
            container.make_fifo();
            let mut child = container.start(shell, &[]);
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n", "{shell}");
            signal(&child, name);
            let mut rest = String::new();
            output.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "stopping\n", "{shell} {name}");
            let code = child.wait().unwrap().code();
            // bash may lose the code, see the script.
            let is_lost = shell.starts_with("bash") && code == Some(143);
            assert!(code == Some(42) || is_lost, "{shell} {name}: {code:?}");
        }
    }
}

#[test]
fn an_agent_killed_by_the_signal_reports_it() {
    // `exec`, so that the signal ends the process that reads the pipe.
    for shell in shells() {
        let container = Container::new(&format!("{READY}; exec cat \"$0.fifo\""), b"");
        container.make_fifo();
        let mut child = container.start(shell, &[]);
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        signal(&child, "TERM");
        output.read_to_string(&mut line).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143), "{shell}");
    }
}

#[test]
fn the_tail_of_stderr_becomes_the_termination_message() {
    for shell in shells() {
        let ended = Container::new("echo out; echo broken >&2; exit 3", b"").run(shell, &[]);
        assert_eq!((ended.code, ended.stdout.as_slice()), (Some(3), b"out\n".as_slice()), "{shell}");
        assert_eq!(split(&ended.message.unwrap()), ("", Some("broken\n")), "{shell}");

        let long = "i=0; while [ $i -lt 500 ]; do echo \"line number $i of many\" >&2; i=$((i+1)); done";
        let message = Container::new(long, b"").run(shell, &[]).message.unwrap();
        assert_eq!(message.len(), MESSAGE_MAX_BYTES, "{shell}");
        assert!(message.starts_with(&format!("{MARKER}\n")), "{shell}");
        assert!(message.ends_with("line number 499 of many\n"), "{shell}");
    }
}

#[test]
fn keeps_the_agents_own_termination_message() {
    for shell in shells() {
        let container = Container::new("echo own >\"${0%/bin/agent}/termination-log\"; echo err >&2", b"");
        let message = container.run(shell, &[]).message.unwrap();
        assert_eq!(split(&message), ("own\n", Some("err\n")), "{shell}");
    }
}

#[test]
fn prints_what_the_agent_writes_to_a_file_to_the_last_byte() {
    let agent = "printf start; cat; head -c 700000 /dev/zero | tr '\\0' x; echo err >&2; exit 3";
    for shell in shells() {
        let mut container = Container::new(agent, b"prompt");
        container.output_by = OutputBy::File;
        let ended = container.run(shell, &[]);
        assert_eq!((ended.code, ended.stdout.len()), (Some(3), 11 + 700_000), "{shell}");
        assert!(ended.stdout.starts_with(b"startpromptx"), "{shell}");
        assert_eq!(split(&ended.message.unwrap()), ("", Some("err\n")), "{shell}");
    }
}

#[test]
fn a_signal_does_not_cut_the_file_off() {
    let agent = "trap 'echo stopping; kill -KILL $!; exit 42' TERM; cat \"$0.fifo\" & echo ready; wait $!";
    for shell in shells() {
        let mut container = Container::new(agent, b"");
        container.output_by = OutputBy::File;
        container.make_fifo();
        let mut child = container.start(shell, &[]);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "{shell}");
        signal(&child, "TERM");
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "stopping\n", "{shell}");
        child.wait().unwrap();
    }
}

#[test]
fn commands_run_before_the_agent_and_are_not_in_its_output() {
    for shell in shells() {
        let mut container =
            Container::new("cat \"$HOME_OF_AGENT/made\" 2>/dev/null || echo none; echo err >&2", b"");
        container.setup = vec!["echo said".to_owned(), "echo failed >&2".to_owned()];
        let ended = container.run(shell, &[]);
        assert_eq!(ended.stdout, b"none\n", "{shell}");
        assert_eq!(split(&ended.message.unwrap()).1, Some("said\nfailed\nerr\n"), "{shell}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_shell_reads_back_every_text(texts in prop::collection::vec("[^\0]{0,12}|['\"\\\\$`!* \n;&|<>()#~]{0,12}", 1..8)) {
        let words: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
        let script = format!("printf '%s\\0' {}", words.join(" "));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let read: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
        let expected: Vec<&[u8]> = texts.iter().map(String::as_bytes).chain([b"".as_slice()]).collect();
        prop_assert_eq!(read, expected);
    }
}

#[test]
fn executes_the_init_program_if_it_runs_here() {
    let machine = String::from_utf8(Command::new("uname").arg("-m").output().unwrap().stdout).unwrap();
    let init = |probe: &str| {
        let mut container = Container::new("echo agent; cat", b"prompt");
        container.control_tag = Some("tag");
        container.setup = vec!["echo setup >&2".to_owned()];
        let dir = container.root.path().join("init");
        fs::create_dir(&dir).unwrap();
        let script = format!(r#"[ "$1" != --probe ] || {probe}; printf '%s\n' "$@""#);
        write_program(&dir.join(machine.trim()), &script);
        container
    };
    for shell in shells() {
        let container = init("exit 0");
        let ended = container.run(shell, &["it's", "$(x)"]);
        let root = container.root.path().to_str().unwrap();
        let expected = format!(
            "1\ntag\n{root}/paperclip/stderr\n{root}/termination-log\n-\n{root}/prompt/prompt.txt\n--\nagent\nit's\n$(x)\n"
        );
        assert_eq!((ended.code, String::from_utf8_lossy(&ended.stdout).into_owned()), (Some(0), expected));
        assert_eq!(fs::read_to_string(container.root.path().join("paperclip/stderr")).unwrap(), "setup\n");

        // Another format, a file system without programs, another machine.
        let refused = init("exit 1");
        let not_executable = init("exit 0");
        let file = not_executable.root.path().join("init").join(machine.trim());
        assert!(Command::new("chmod").arg("-x").arg(file).status().unwrap().success());
        let missing = init("exit 0");
        fs::remove_dir_all(missing.root.path().join("init")).unwrap();
        for container in [refused, not_executable, missing] {
            let ended = container.run(shell, &[]);
            assert_eq!((ended.code, ended.stdout), (Some(0), b"agent\nprompt".to_vec()), "{shell}");
            assert_eq!(ended.shell_stderr, "");
        }
    }
}
