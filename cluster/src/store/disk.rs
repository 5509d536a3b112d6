//! Objects as files, one each, so that a cluster of its own outlives its process.
//!
//! A file is replaced by renaming, so a process that is killed leaves the old or the new object, never half of
//! one. Nothing is forced to the platters: this is as durable as the machine is up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Key, Object};
use crate::resource::Resource;

/// The folder of a resource that has no namespaces; no namespace can be called so.
const NO_NAMESPACE: &str = "_";

const LAST_DELETION: &str = "last-deletion";

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
}

impl Disk {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        create_private(&folder)?;
        Ok(Disk { folder })
    }

    pub(super) fn load(&self) -> io::Result<Vec<(Key, Object)>> {
        let mut found = Vec::new();
        for resource in Resource::ALL {
            for namespace in entries(&self.folder.join(resource.qualified()))? {
                for file in entries(&namespace)? {
                    if file.extension().is_some_and(|extension| extension == "json") {
                        let object: Object = serde_json::from_slice(&fs::read(&file)?)
                            .map_err(|e| io::Error::other(format!("{} is no object: {e}", file.display())))?;
                        found.push((Key::of(resource, &object), object));
                    }
                }
            }
        }
        Ok(found)
    }

    /// The version of the last deletion: every other version is in an object.
    pub(super) fn last_deletion(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(LAST_DELETION)).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    pub(super) fn write(&self, key: &Key, object: &Object) -> io::Result<()> {
        let file = self.file(key);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let draft = file.with_extension("draft");
        fs::write(&draft, serde_json::to_vec(object)?)?;
        fs::rename(&draft, &file)
    }

    /// Forgets an object that was deleted at a version.
    pub(super) fn remove(&self, key: &Key, revision: u64) -> io::Result<()> {
        fs::write(self.folder.join(LAST_DELETION), revision.to_string())?;
        match fs::remove_file(self.file(key)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn file(&self, key: &Key) -> PathBuf {
        let namespace = if key.namespace.is_empty() { NO_NAMESPACE } else { &key.namespace };
        // Not `with_extension`: a name may have dots of its own.
        self.folder.join(key.resource.qualified()).join(namespace).join(format!("{}.json", key.name))
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Secrets lie here: the folder is its owner's alone.
fn create_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
