//! The shell script that a run's container executes.

use super::termination::{MARKER, MESSAGE_MAX_BYTES};

/// The container's directory for the run's own files.
pub const RUN_DIR: &str = "/tmp/paperclip";
const STDERR_FILE: &str = "/tmp/paperclip/stderr";
/// The file from which Kubernetes reads a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Returns a script for any POSIX shell that feeds the prompt to the agent and
/// - forwards TERM and INT to it: as PID 1 the shell would otherwise ignore them, and the agent would not receive them;
/// - ends only when the agent has ended, with the agent's exit code;
/// - separates the agent's stderr from the output that is parsed, and writes its tail as the termination message.
///
/// INT is forwarded as TERM, because a shell starts its background programs with INT ignored. The shell's own messages
/// (`Killed`) are discarded: they would be mixed into the agent's output, and the exit code says the same.
///
/// ```
/// let script = paperclip_kit::manifest::command::script("agent", &["--flag".to_owned()], "/tmp/prompt/prompt.txt");
/// assert!(script.contains("cat /tmp/prompt/prompt.txt | agent '--flag'"));
/// ```
pub fn script(program: &str, arguments: &[String], prompt_files: &str) -> String {
    let call: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
    let call = call.join(" ");
    let tail_bytes = MESSAGE_MAX_BYTES - MARKER.len() - 1;
    // A `wait` that a signal interrupts is repeated; 127 means that an earlier one returned the code. bash sometimes loses the code
    // of an agent that ends right after such a signal (-1): the signal ended it.
    format!(
        r#"exec 2>/dev/null
agent= code= signalled=
trap 'signalled=1; [ -z "$agent" ] || kill -TERM "$agent"' TERM INT
cat {prompt_files} | {program} {call} 2>{STDERR_FILE} &
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
if [ -s {STDERR_FILE} ]; then
  {{ printf '%s\n' '{MARKER}'; tail -c {tail_bytes} {STDERR_FILE}; }} >>{TERMINATION_LOG}
fi
exit "$code"
"#
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
