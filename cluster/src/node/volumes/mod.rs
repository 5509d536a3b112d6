//! A Pod's volumes on this machine, and the mounts of its containers.

mod content;
mod folders;
mod paths;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

pub(crate) use folders::Folders;
pub(crate) use paths::PathMap;

use super::objects::Objects;
use content::File;
use folders::create_private;

/// The default path of a container's termination message.
const DEFAULT_TERMINATION_PATH: &str = "/dev/termination-log";

/// Why a volume is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("MountVolume.SetUp failed for volume \"{volume}\" : {cause}")]
pub(super) struct MountError {
    volume: String,
    cause: String,
}

/// The volumes of one Pod. Whoever holds it removes them with [`PodVolumes::remove`].
#[derive(Clone, Debug)]
pub(super) struct PodVolumes {
    by_name: BTreeMap<String, PathBuf>,
    disk: PathBuf,
    memory: PathBuf,
}

impl PodVolumes {
    /// Creates every volume of the Pod, or none. It can be called again after a failure, and then starts over.
    ///
    /// # Errors
    /// A Secret, ConfigMap or key is not there, the kind of volume is not known here, or the disk refuses.
    pub(super) fn mount(pod: &Pod, folders: &Folders, objects: &Objects) -> Result<PodVolumes, MountError> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut volumes = PodVolumes {
            by_name: BTreeMap::new(),
            disk: folders.on_disk(uid),
            memory: folders.in_memory(uid),
        };
        let declared = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        for volume in declared {
            match volumes.make(volume, pod, folders, objects) {
                Ok(folder) => volumes.by_name.insert(volume.name.clone(), folder),
                Err(cause) => {
                    volumes.remove();
                    return Err(MountError { volume: volume.name.clone(), cause });
                }
            };
        }
        Ok(volumes)
    }

    /// Maps the mount paths of a container to this machine, with an empty file for its termination message.
    ///
    /// # Errors
    /// A `subPath` leaves its volume, or the disk refuses.
    pub(super) fn mounts(&self, container: &Container) -> Result<PathMap, String> {
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.as_deref().unwrap_or_default() {
            let Some(folder) = self.by_name.get(&mount.name) else {
                return Err(format!(
                    "volume \"{}\" of mount {} is not declared",
                    mount.name, mount.mount_path
                ));
            };
            let sub_path = mount.sub_path.as_deref().unwrap_or_default();
            mounts.push((mount.mount_path.clone(), sub_folder(folder, sub_path)?));
        }
        let message = self.termination_file(&container.name);
        // Truncated: what an earlier attempt said is not this one's.
        write_file(&message, 0o600, b"").map_err(|error| format!("{}: {error}", message.display()))?;
        let path = container.termination_message_path.as_deref().unwrap_or(DEFAULT_TERMINATION_PATH);
        mounts.push((path.to_owned(), message));
        let paths = PathMap::new(mounts.iter().cloned());
        let own: Vec<&str> =
            own_folders(container).filter(|dir| is_of_container_alone(dir, &paths)).collect();
        for dir in own {
            let root = self.root_folder(&container.name).map_err(|error| format!("{dir}: {error}"))?;
            let folder = inside(&root, dir.trim_start_matches('/'))?;
            create_private(&folder).map_err(|error| format!("{dir}: {error}"))?;
            mounts.push((dir.to_owned(), folder));
        }
        Ok(PathMap::new(mounts))
    }

    /// The file behind a container's `terminationMessagePath`.
    pub(super) fn termination_file(&self, container: &str) -> PathBuf {
        self.memory.join("containers").join(container).join("termination-log")
    }

    /// The folder in which a container runs that names no other: the root of a file system that it does not have.
    ///
    /// # Errors
    /// It can't be created.
    pub(super) fn root_folder(&self, container: &str) -> io::Result<PathBuf> {
        let folder = self.disk.join("containers").join(container);
        create_private(&folder)?;
        Ok(folder)
    }

    /// Removes everything but the contents of claims.
    pub(super) fn remove(&self) {
        for folder in [&self.memory, &self.disk] {
            if let Err(error) = fs::remove_dir_all(folder)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, folder = %folder.display(), "the volumes of a pod can't be removed");
            }
        }
    }

    fn make(
        &self,
        volume: &Volume,
        pod: &Pod,
        folders: &Folders,
        objects: &Objects,
    ) -> Result<PathBuf, String> {
        let in_memory = self.memory.join("volumes").join(&volume.name);
        let on_disk = self.disk.join("volumes").join(&volume.name);
        let folder = match volume {
            Volume { empty_dir: Some(empty), .. } => {
                if empty.medium.as_deref() == Some("Memory") {
                    in_memory
                } else {
                    on_disk
                }
            }
            Volume { persistent_volume_claim: Some(claim), .. } => {
                folders.claim(objects.namespace(), &claim.claim_name)
            }
            // It may contain programs, and a folder in memory is often one from which nothing can be executed.
            Volume { config_map: Some(_), .. } => {
                let files = content::files(volume, pod, objects)?;
                write_files(&on_disk, &files).map_err(|error| error.to_string())?;
                return Ok(on_disk);
            }
            Volume { secret: Some(_), .. }
            | Volume { projected: Some(_), .. }
            | Volume { downward_api: Some(_), .. } => {
                let files = content::files(volume, pod, objects)?;
                write_files(&in_memory, &files).map_err(|error| error.to_string())?;
                return Ok(in_memory);
            }
            Volume { host_path: Some(_), .. } => {
                return Err(
                    "hostPath volumes are refused by the local cluster: containers run on this machine \
                            anyway; use a persistentVolumeClaim or an emptyDir"
                        .to_owned(),
                );
            }
            Volume { .. } => {
                return Err("this kind of volume is not known to the local cluster: use emptyDir, secret, \
                            configMap, projected, downwardAPI or persistentVolumeClaim"
                    .to_owned());
            }
        };
        create_private(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(folder)
    }
}

fn write_files(folder: &Path, files: &[File]) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    create_private(folder)?;
    for file in files {
        let path = inside(folder, &file.path).map_err(io::Error::other)?;
        write_file(&path, u32::try_from(file.mode).unwrap_or(0o600), &file.bytes)?;
    }
    Ok(())
}

fn write_file(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        create_private(folder)?;
    }
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)
}

/// The folders that a program takes for granted: where it starts, and its home.
fn own_folders(container: &Container) -> impl Iterator<Item = &str> {
    let home = container.env.iter().flatten().filter(|variable| variable.name == "HOME");
    container.working_dir.as_deref().into_iter().chain(home.filter_map(|variable| variable.value.as_deref()))
}

/// Whether a folder is neither in a volume nor on this machine: a container would have it in its own file system, so it gets one here.
fn is_of_container_alone(dir: &str, paths: &PathMap) -> bool {
    let (folder, is_mounted) = paths.resolve(dir);
    folder.is_absolute() && !is_mounted && !folder.is_dir()
}

/// A `subPath`: the existing file or folder, or a new folder.
fn sub_folder(folder: &Path, sub_path: &str) -> Result<PathBuf, String> {
    let path = inside(folder, sub_path)?;
    if !path.exists() {
        create_private(&path).map_err(|error| format!("failed to create subPath {sub_path}: {error}"))?;
    }
    Ok(path)
}

fn inside(folder: &Path, relative: &str) -> Result<PathBuf, String> {
    let is_inside =
        Path::new(relative).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if is_inside {
        Ok(if relative.is_empty() { folder.to_owned() } else { folder.join(relative) })
    } else {
        Err(format!("{relative} must be a path inside the volume"))
    }
}
