//! Ends the containers when this process has ended, for whatever reason.
//!
//! A small shell reads a pipe that only this process can write to. When the pipe ends, because the process ended or
//! was killed, the shell kills what is left of every container and removes the folder that holds their secrets. A
//! parent-death signal would need code between fork and exec, and would reach only the first process of a container.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::Group;

/// `$1` is the mark of the node's processes, `$2` the folder to remove. Several rounds, as a process may start another
/// while it is looked for.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=' '
while read -r sign group; do
    case "$sign" in
        +) groups="$groups$group " ;;
        -) groups="${groups%% "$group" *} ${groups#* "$group" }" ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
for round in 1 2 3 4 5 6 7 8 9 10; do
    marked=$(grep -alF -- "$1" /proc/[0-9]*/environ)
    [ -n "$marked" ] || break
    for environ in $marked; do
        process="${environ#/proc/}"
        kill -s KILL -- "${process%/environ}"
    done
done
rm -rf -- "$2"
"#;

#[derive(Debug)]
pub(super) struct Watchdog {
    child: Mutex<Child>,
}

impl Watchdog {
    /// # Errors
    /// There is no `sh`, or no process can be started.
    pub(super) fn start(mark: &str, folder: &Path) -> io::Result<Watchdog> {
        let child = Command::new("sh")
            .args(["-c", SCRIPT, "paperclip-watchdog", mark])
            .arg(folder)
            .current_dir("/")
            // Ctrl-C in a terminal is not meant for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Watchdog { child: Mutex::new(child) })
    }

    /// The group is killed if this process ends before [`Watchdog::forget`].
    pub(super) fn watch(&self, group: Group) {
        self.send('+', group);
    }

    pub(super) fn forget(&self, group: Group) {
        self.send('-', group);
    }

    fn send(&self, sign: char, group: Group) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let sent =
            child.stdin.as_mut().map_or(Ok(()), |pipe| writeln!(pipe, "{sign} {}", group.0.as_raw_nonzero()));
        if let Err(error) = sent {
            tracing::warn!(%error, "the watchdog of the containers has ended: they can outlive this process");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(child.stdin.take());
        let _nothing_to_do = child.wait();
    }
}
