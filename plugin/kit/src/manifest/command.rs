//! The shell script that a run's container executes.

use std::fmt;

use super::agent_type::OutputBy;
use super::termination::{MARKER, MESSAGE_MAX_BYTES};

/// The container's directory for the run's own files.
pub const RUN_DIR: &str = "/tmp/paperclip";
const STDERR_FILE: &str = "/tmp/paperclip/stderr";
/// The file of an agent that loses output through a pipe.
const OUTPUT_FILE: &str = "/tmp/paperclip/output";
/// The folder of the init program, in files named after machines.
pub const INIT_DIR: &str = "/tmp/init";
/// The format of control lines that this version requests and reads.
pub const CONTROL_FORMAT: &str = "1";
/// The file from which Kubernetes reads a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// A script for any POSIX shell that feeds the prompt to the agent and
/// - forwards TERM and INT to it: as PID 1 the shell would otherwise ignore them, and the agent would not receive them;
/// - ends only when the agent has ended, with the agent's exit code;
/// - separates the agent's stderr from the output that is parsed, and writes its tail as the termination message.
///
/// INT is forwarded as TERM, because a shell starts its background programs with INT ignored. The shell's own messages
/// (`Killed`) are discarded: they would be mixed into the agent's output, and the exit code says the same.
///
/// ```
/// use paperclip_kit::manifest::OutputBy;
/// use paperclip_kit::manifest::command::Script;
///
/// let script = Script {
///     setup: &[],
///     program: "agent",
///     arguments: &["--flag".to_owned()],
///     prompt_files: "/tmp/prompt/prompt.txt",
///     output_by: OutputBy::Pipe,
///     control_tag: None,
/// };
/// assert!(script.to_string().contains("set -- agent '--flag'"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Script<'a> {
    /// Commands that run before the agent. What they write to stderr is in front of the agent's.
    pub setup: &'a [String],
    pub program: &'a str,
    pub arguments: &'a [String],
    /// Files of which `cat` makes the prompt.
    pub prompt_files: &'a str,
    pub output_by: OutputBy,
    /// The tag of the run's control lines, if the container has the init program. It does the same, and counts the output; where it does not
    /// run, the script continues without it.
    pub control_tag: Option<&'a str>,
}

/// Prints the file to which the agent writes, as it grows. After the agent has ended, what is left is printed: the file `output.end`
/// exists before the last measurement of its size.
const PRINT_FILE: &str = r#"
(
  printed=0 last=
  while [ -z "$last" ]; do
    [ ! -e {OUTPUT}.end ] || last=1
    size=$(wc -c <{OUTPUT})
    if [ "$size" -gt "$printed" ]; then
      tail -c +$((printed + 1)) {OUTPUT} | head -c $((size - printed))
      printed=$((size + 0))
    fi
    [ -n "$last" ] || sleep 1
  done
) &
printer=$!"#;

impl fmt::Display for Script<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Script { setup, program, arguments, prompt_files, output_by, control_tag } = self;
        let arguments: String = arguments.iter().map(|argument| format!(" {}", quoted(argument))).collect();
        let (output, to_file) = match output_by {
            OutputBy::Pipe => ("-", String::new()),
            OutputBy::File => (OUTPUT_FILE, format!(" >{OUTPUT_FILE}")),
        };
        let init = control_tag.map_or(String::new(), |tag| {
            format!(
                r#"init={INIT_DIR}/$(uname -m)
if "$init" --probe {CONTROL_FORMAT} && [ -z "$signalled" ]; then
  exec "$init" {CONTROL_FORMAT} {tag} {STDERR_FILE} {TERMINATION_LOG} {output} {prompt_files} -- "$@"
fi
"#
            )
        });
        let (before, after) = match output_by {
            OutputBy::Pipe => (String::new(), String::new()),
            OutputBy::File => {
                (
                    format!(": >{OUTPUT_FILE}{}\n", PRINT_FILE.replace("{OUTPUT}", OUTPUT_FILE)),
                    // A signal interrupts a `wait`; a second one waits for what is left to print.
                    format!(": >{OUTPUT_FILE}.end\nwait \"$printer\"\nwait \"$printer\"\n"),
                )
            }
        };
        let setup: String = setup.iter().map(|line| format!("{line}\n")).collect();
        let (setup, redirection) = match setup.as_str() {
            "" => (String::new(), ">"),
            lines => (format!("{{\n{lines}}} 2>{STDERR_FILE} 1>&2\n"), ">>"),
        };
        let tail_bytes = MESSAGE_MAX_BYTES - MARKER.len() - 1;
        // A `wait` that a signal interrupts is repeated; 127 means that an earlier one returned the code. bash sometimes loses the code
        // of an agent that ends right after such a signal (-1): the signal ended it.
        write!(
            f,
            r#"exec 2>/dev/null
set -- {program}{arguments}
agent= code= signalled=
trap 'signalled=1; [ -z "$agent" ] || kill -TERM "$agent"' TERM INT
{setup}{init}{before}cat {prompt_files} | "$@"{to_file} 2{redirection}{STDERR_FILE} &
agent=$!
[ -z "$signalled" ] || kill -TERM "$agent"
while :; do
  signalled=
  wait "$agent"
  status=$?
  case $status in -*) status=143 ;; esac
  if [ "$status" -ne 127 ] || [ -z "$code" ]; then code=$status; fi
  [ -n "$signalled" ] || break
done
{after}if [ -s {STDERR_FILE} ]; then
  {{ printf '%s\n' '{MARKER}'; tail -c {tail_bytes} {STDERR_FILE}; }} >>{TERMINATION_LOG}
fi
exit "$code"
"#
        )
    }
}

/// Returns a command that links the skills of the run's files into a folder of the program's home. Skills that are installed there stay;
/// a link whose skill this run does not have leads nowhere.
///
/// ```
/// use paperclip_kit::manifest::command::link_skills;
///
/// assert!(link_skills("/tmp/bundle/skills", "/paperclip/.agent/skills").starts_with("mkdir -p '/paperclip/.agent/skills'"));
/// ```
pub fn link_skills(from: &str, to: &str) -> String {
    let (from, to) = (quoted(from), quoted(to));
    format!(
        r#"mkdir -p {to}
for skill in {from}/*/; do
  skill=${{skill%/}}
  link={to}/${{skill##*/}}
  if [ -d "$skill" ] && {{ [ -L "$link" ] || [ ! -e "$link" ]; }}; then ln -sfn "$skill" "$link"; fi
done"#
    )
}

/// Quotes a text as one word of a POSIX shell.
///
/// ```
/// assert_eq!(paperclip_kit::manifest::command::quoted("it's"), r"'it'\''s'");
/// ```
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
