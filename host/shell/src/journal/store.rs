//! The state folder of a host: `runs/<run>` with a journal each, and `plugins/<digest>.wasm` with their plugins.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use paperclip_engine::journal::Entry;

use super::segments::{self, Header};

/// Longest part of a run id that a folder's name keeps, in bytes.
const MAX_NAME_BYTES: usize = 100;

/// How long the journals of ended runs are kept. Journals of other runs are never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub age: Duration,
    /// Bytes of all of them; the oldest are removed first.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { age: Duration::from_secs(7 * 24 * 3_600), bytes: 1 << 30 }
    }
}

/// Returns the folder of a run's journal.
pub fn run_folder(state: &Path, run_id: &str) -> PathBuf {
    state.join("runs").join(folder_name(run_id))
}

/// Plugins that no journal needs are kept for this long after a run has last kept them: its journal is perhaps not written yet.
const UNUSED_PLUGIN_AGE: Duration = Duration::from_secs(3_600);

/// Keeps a plugin's bytes, so that its runs can be resumed whatever happens to its file.
///
/// # Errors
/// The file cannot be written.
pub fn keep_plugin(state: &Path, digest: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = state.join("plugins");
    let path = folder.join(format!("{digest}.wasm"));
    if path.exists() {
        // When a run last kept it. A disk that does not record it has the plugin nevertheless.
        let file = std::fs::File::options().append(true).open(&path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
        return Ok(());
    }
    segments::private_folder(&folder)?;
    paperclip_files::replace(&path, bytes)
}

/// Returns the path of a plugin's file that was kept.
pub fn kept_plugin(state: &Path, digest: &str) -> PathBuf {
    state.join("plugins").join(format!("{digest}.wasm"))
}

/// Removes journals of ended runs that are too old or too many, and plugins that no journal needs. Returns how many runs were removed.
///
/// # Errors
/// The state folder cannot be read. A folder that cannot be removed is left for the next time.
pub fn prune(state: &Path, retention: Retention, now: SystemTime) -> io::Result<usize> {
    let mut ended = Vec::new();
    let mut needed = BTreeSet::new();
    for folder in folders(&state.join("runs"))? {
        let header = segments::header(&folder);
        match ended_at(&folder) {
            Some((at, bytes)) => ended.push((at, bytes, folder, header)),
            None => needed.extend(header.map(|header| header.plugin_digest)),
        }
    }
    ended.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    let (mut bytes, mut removed) = (0, 0);
    for (at, size, folder, header) in ended {
        bytes += size;
        let age = now.duration_since(at).unwrap_or_default();
        if (age > retention.age || bytes > retention.bytes) && remove(&folder) {
            removed += 1;
        } else {
            needed.extend(header.map(|Header { plugin_digest, .. }| plugin_digest));
        }
    }
    if removed > 0 {
        remove_plugins(state, &needed, now);
    }
    Ok(removed)
}

/// Returns when a run ended and how large its journal is, if it has ended and its cleanup is complete.
fn ended_at(folder: &Path) -> Option<(SystemTime, u64)> {
    let last = segments::last_record(folder).ok()??;
    let Ok(Entry::Closed) = Entry::parse(&last) else { return None };
    let mut newest = SystemTime::UNIX_EPOCH;
    let mut bytes = 0;
    for path in segments::paths(folder).ok()? {
        let metadata = std::fs::metadata(path).ok()?;
        bytes += metadata.len();
        newest = newest.max(metadata.modified().ok()?);
    }
    Some((newest, bytes))
}

/// Removes a run's folder, unless a process holds it.
fn remove(folder: &Path) -> bool {
    match segments::try_hold(folder) {
        Ok(Some(_lock)) => std::fs::remove_dir_all(folder).is_ok(),
        Ok(None) | Err(_) => false,
    }
}

fn remove_plugins(state: &Path, needed: &BTreeSet<String>, now: SystemTime) {
    let Ok(entries) = std::fs::read_dir(state.join("plugins")) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let digest = path.file_stem().and_then(|stem| stem.to_str());
        let is_unneeded = digest.is_some_and(|digest| !needed.contains(digest));
        if is_unneeded && is_older(&path, now, UNUSED_PLUGIN_AGE) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn is_older(path: &Path, now: SystemTime, age: Duration) -> bool {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|at| now.duration_since(at).is_ok_and(|passed| passed > age))
}

fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Returns a file name that is different for each run id and cannot leave its folder.
fn folder_name(run_id: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    let kept: String =
        run_id.chars().map(|char| if is_plain(char) { char } else { '_' }).take(MAX_NAME_BYTES).collect();
    if kept == run_id && !kept.is_empty() && !kept.starts_with('.') {
        return kept;
    }
    format!("run_{kept}_{:08x}", crc32fast::hash(run_id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_start_together_keep_one_plugin() {
        let state = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            let keeping: Vec<_> =
                (0..8).map(|_| scope.spawn(|| keep_plugin(state.path(), "d", &[7; 1 << 20]))).collect();
            for kept in keeping {
                kept.join().expect("no panic").expect("kept");
            }
        });
        let kept = std::fs::read_dir(state.path().join("plugins")).expect("the folder").count();
        assert_eq!(kept, 1, "nothing unfinished is left");
        assert_eq!(std::fs::read(kept_plugin(state.path(), "d")).expect("kept"), [7; 1 << 20]);
    }

    #[test]
    fn a_plugin_that_a_run_has_just_kept_is_not_removed_although_no_journal_needs_it_yet() {
        let state = tempfile::tempdir().expect("a folder");
        keep_plugin(state.path(), "old", b"old").expect("kept");
        let of_last_week = SystemTime::now() - Duration::from_secs(7 * 24 * 3_600);
        let file = std::fs::File::options().append(true).open(kept_plugin(state.path(), "old"));
        file.and_then(|file| file.set_modified(of_last_week)).expect("set");
        keep_plugin(state.path(), "new", b"new").expect("kept");
        let kept = || ["old", "new"].map(|digest| kept_plugin(state.path(), digest).exists());

        keep_plugin(state.path(), "old", b"old").expect("a run starts that keeps it, too");
        remove_plugins(state.path(), &BTreeSet::new(), SystemTime::now());
        assert_eq!(kept(), [true, true]);

        let in_two_hours = SystemTime::now() + Duration::from_secs(7_200);
        remove_plugins(state.path(), &["new".to_owned()].into(), in_two_hours);
        assert_eq!(kept(), [false, true], "a journal needs the other one");
    }

    #[test]
    fn a_folder_name_cannot_leave_the_state_folder_and_differs_for_each_run() {
        assert_eq!(folder_name("3f2a-run.1"), "3f2a-run.1");
        for odd in ["..", ".", "", "../x", "a/b", "a b", "ä"] {
            let name = folder_name(odd);
            assert!(name.starts_with("run_") && !name.contains('/'), "{name}");
        }
        assert_ne!(folder_name("a/b"), folder_name("a b"));
        let long = "x".repeat(300);
        assert!(folder_name(&long).len() < 120 && folder_name(&long) != folder_name(&long[1..]));
    }
}
