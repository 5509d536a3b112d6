//! The shell script that a run's container executes.

use super::termination::{MARKER, MESSAGE_MAX_BYTES};

/// A folder of the container for the run's own use.
pub const RUN_DIR: &str = "/tmp/paperclip";
const STDERR_FILE: &str = "/tmp/paperclip/stderr";
/// Where Kubernetes looks for a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// A script for any POSIX shell that feeds the prompt to the agent and
/// - passes TERM and INT on to it: as PID 1 the shell would otherwise ignore them, and the agent would never know;
/// - ends only when the agent has ended, with the agent's exit code;
/// - keeps the agent's stderr out of the output that is parsed, and leaves its tail as the termination message.
///
/// INT is passed on as TERM, because a shell starts its background programs with INT ignored. The shell's own remarks
/// (`Killed`) would stand among the agent's output, and its exit code says the same: they go nowhere.
pub fn script(program: &str, arguments: &[String], prompt_files: &str) -> String {
    let call: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
    let call = call.join(" ");
    let tail_bytes = MESSAGE_MAX_BYTES - MARKER.len() - 1;
    // A `wait` that a signal interrupts is repeated; one that finds the agent already waited for (127) told its code
    // before. bash at times forgets the code of an agent that ends right after such a signal (-1): the signal ended it.
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

/// A word that a POSIX shell reads back as this text.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
