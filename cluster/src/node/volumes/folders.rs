//! The node's folders, on disk and in memory.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::random;

/// The folder of files that Linux keeps in memory only.
const MEMORY_ROOT: &str = "/dev/shm";

/// Each exists, is absolute, and is safe inside a shell command without quotes: commands are full of mount paths.
#[derive(Clone, Debug)]
pub(crate) struct Folders {
    /// The volumes of claims; they outlive Pods and the process.
    claims: PathBuf,
    /// Everything of a Pod that may be large.
    disk: PathBuf,
    /// Everything of a Pod that may be secret. Its owner's alone, and never written to a disk where there is tmpfs.
    memory: PathBuf,
    /// Identifies this node among all nodes that ever ran on the machine.
    id: String,
}

impl Folders {
    /// Prepares the folders below `root`. What an earlier process left of its Pods is removed; claims stay.
    ///
    /// # Errors
    /// A folder can't be created or emptied.
    pub(crate) fn prepare(root: &Path) -> io::Result<Folders> {
        create_private(root)?;
        let id = read_id(&root.join("node-id"))?;
        let root = shell_safe(&root.canonicalize()?, &id)?;
        let memory_name = format!("paperclip-{id}");
        let memory =
            emptied(&Path::new(MEMORY_ROOT).join(&memory_name)).or_else(|_| emptied(&root.join("memory")))?;
        let disk = emptied(&root.join("pods"))?;
        let claims = root.join("claims");
        create_private(&claims)?;
        Ok(Folders { claims, disk, memory, id })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn memory(&self) -> &Path {
        &self.memory
    }

    /// The contents of a claim.
    pub(crate) fn claim(&self, namespace: &str, name: &str) -> PathBuf {
        self.claims.join(namespace).join(name)
    }

    pub(super) fn on_disk(&self, pod_uid: &str) -> PathBuf {
        self.disk.join(pod_uid)
    }

    pub(super) fn in_memory(&self, pod_uid: &str) -> PathBuf {
        self.memory.join(pod_uid)
    }
}

/// Creates a folder that only its owner can read, with its parents.
pub(super) fn create_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn read_id(file: &Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Ok(_) => new_id(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => new_id(file),
        Err(error) => Err(error),
    }
}

fn new_id(file: &Path) -> io::Result<String> {
    let id = random::uuid().replace('-', "");
    fs::write(file, &id)?;
    Ok(id)
}

/// Creates an empty folder. One of the same name that another user owns is refused, since every user can write to `/dev/shm`.
fn emptied(folder: &Path) -> io::Result<PathBuf> {
    if let Ok(found) = fs::symlink_metadata(folder) {
        if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!("{} is not a folder of this user", folder.display())));
        }
        fs::remove_dir_all(folder)?;
    }
    fs::DirBuilder::new().mode(0o700).create(folder)?;
    Ok(folder.to_owned())
}

/// The folder itself, or a link to it without blanks and other characters that a shell would take apart.
fn shell_safe(folder: &Path, id: &str) -> io::Result<PathBuf> {
    let is_safe = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if folder.to_str().is_some_and(is_safe) {
        return Ok(folder.to_owned());
    }
    let link = Path::new("/tmp").join(format!("paperclip-{id}-state"));
    match std::os::unix::fs::symlink(folder, &link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_ours = fs::symlink_metadata(&link)?.uid() == rustix::process::geteuid().as_raw();
            if is_ours && fs::read_link(&link)? == folder { Ok(link) } else { Err(error) }
        }
        Err(error) => Err(error),
        Ok(()) => Ok(link),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_forgotten_and_claims_are_kept_over_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let first = Folders::prepare(root.path()).unwrap();
        let kept = first.claim("n", "c");
        for folder in [&kept, &first.on_disk("u"), &first.in_memory("u")] {
            fs::create_dir_all(folder).unwrap();
        }
        assert_eq!(fs::metadata(first.memory()).unwrap().mode() & 0o777, 0o700);
        let second = Folders::prepare(root.path()).unwrap();
        assert_eq!(first.id(), second.id());
        assert!(kept.exists());
        assert!(!second.on_disk("u").exists() && !second.in_memory("u").exists());
        fs::remove_dir_all(second.memory()).unwrap();
    }

    #[test]
    fn a_folder_that_a_shell_would_take_apart_is_reached_by_a_link() {
        let root = tempfile::tempdir().unwrap();
        let awkward = root.path().join("Application Support");
        let folders = Folders::prepare(&awkward).unwrap();
        let again = Folders::prepare(&awkward).unwrap();
        let claim = folders.claim("n", "c");
        assert_eq!(claim, again.claim("n", "c"));
        assert!(!claim.to_str().unwrap().contains(' '));
        fs::create_dir_all(&claim).unwrap();
        assert!(awkward.join("claims/n/c").exists());
        fs::remove_file(format!("/tmp/paperclip-{}-state", folders.id())).unwrap();
        fs::remove_dir_all(folders.memory()).unwrap();
    }
}
