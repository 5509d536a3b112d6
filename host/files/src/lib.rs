//! Reads files that others may have made: regular files only, of a limited size, and beneath a folder. Writes files that others read: whole,
//! or not at all.
//!
//! A [`Root`] opens nothing outside its folder, whatever links lead there, and whoever replaces a folder by a link meanwhile. Nothing
//! blocks: a FIFO or a device is an error, not a reader that waits for ever.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fstat, openat};

/// For reading, without waiting for a writer and without becoming this process's terminal.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Reads a file that the caller's user names. Links are followed.
///
/// # Errors
/// It cannot be opened, is not a regular file ([`io::ErrorKind::InvalidInput`]), or has more than `max_bytes`
/// ([`io::ErrorKind::FileTooLarge`]).
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    read_open(regular(openat(CWD, path, READ, Mode::empty())?)?, max_bytes)
}

/// Writes a file in place of the one that may have its name. Whoever reads it finds the one or the other, whole, also after a crash; and
/// whoever writes it at the same time does not harm this.
///
/// # Errors
/// Its folder cannot be written, or the disk is full. The file that was there stays.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static UNFINISHED: AtomicU64 = AtomicU64::new(0);
    let number = UNFINISHED.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_extension(format!("{}-{number}", std::process::id()));
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    // A relative path of one name is in the current folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// A folder beneath which files are read.
#[derive(Debug)]
pub struct Root {
    /// Without links.
    path: PathBuf,
    folder: OwnedFd,
}

/// What a folder contains, after following links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File,
    /// A FIFO, a socket or a device.
    Other,
}

impl Root {
    /// Opens the folder itself. Links on the way to it are followed.
    ///
    /// # Errors
    /// It does not exist, or is not a folder.
    pub fn open(path: &Path) -> io::Result<Root> {
        let path = path.canonicalize()?;
        let folder = openat(CWD, &path, READ | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Root { path, folder })
    }

    /// Returns the folder's path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path without links of a file or folder, relative to the root. Links are followed as long as they end beneath it.
    ///
    /// # Errors
    /// It does not exist, or is outside the root ([`io::ErrorKind::PermissionDenied`]).
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let real = self.path.join(path).canonicalize()?;
        match real.strip_prefix(&self.path) {
            Ok(relative) => Ok(relative.to_owned()),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("it is outside {}", self.path.display()),
            )),
        }
    }

    /// Reads a file. Links are followed as long as they end beneath the root.
    ///
    /// # Errors
    /// As of [`Root::resolve`] and [`read`].
    pub fn read(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let relative = self.resolve(path)?;
        read_open(regular(self.open_resolved(&relative, READ)?)?, max_bytes)
    }

    /// Returns what a path is. Links are followed as long as they end beneath the root.
    ///
    /// # Errors
    /// As of [`Root::resolve`].
    pub fn kind(&self, path: &Path) -> io::Result<Kind> {
        let opened = self.open_resolved(&self.resolve(path)?, READ)?;
        Ok(match FileType::from_raw_mode(fstat(&opened)?.st_mode) {
            FileType::Directory => Kind::Folder,
            FileType::RegularFile => Kind::File,
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => Kind::Other,
        })
    }

    /// Returns the names in a folder, sorted.
    ///
    /// # Errors
    /// As of [`Root::resolve`], or it is not a folder.
    pub fn names(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        use std::os::unix::ffi::OsStrExt as _;
        let folder = self.open_resolved(&self.resolve(path)?, READ | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::new(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens a path without links, name by name: what was replaced by a link since it was resolved is an error.
    fn open_resolved(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let mut names = relative.components().peekable();
        let mut folder = self.folder.try_clone()?;
        if names.peek().is_none() {
            return Ok(openat(folder.as_fd(), ".", flags, Mode::empty())?);
        }
        while let Some(name) = names.next() {
            let Component::Normal(name) = name else { return Err(io::ErrorKind::InvalidInput.into()) };
            let is_last = names.peek().is_none();
            let flags = if is_last { flags } else { READ | OFlags::DIRECTORY };
            folder = openat(folder.as_fd(), name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        }
        Ok(folder)
    }
}

fn regular(opened: OwnedFd) -> io::Result<File> {
    if FileType::from_raw_mode(fstat(&opened)?.st_mode) == FileType::RegularFile {
        return Ok(File::from(opened));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

/// Reads as a stream: a file may grow meanwhile, and one of the kernel has no size.
fn read_open(file: File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file is larger than {max_bytes} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("root/sub")).expect("folders");
        fs::write(dir.path().join("root/sub/file"), "text").expect("written");
        fs::write(dir.path().join("secret"), "secret").expect("written");
        dir
    }

    #[test]
    fn reads_beneath_the_root_through_links_that_stay_there() {
        let dir = folder();
        let path = dir.path().join("root");
        symlink("sub/file", path.join("relative")).expect("linked");
        symlink(path.join("sub/file"), path.join("absolute")).expect("linked");
        symlink("sub", path.join("folder")).expect("linked");
        let root = Root::open(&path).expect("a root");
        let absolute = path.join("sub/file");
        for name in ["sub/file", "relative", "absolute", "folder/file", "sub/../sub/file"] {
            assert_eq!(root.read(Path::new(name), 4).expect(name), b"text", "{name}");
        }
        assert_eq!(root.read(&absolute, 4).expect("an absolute path"), b"text");
        let names = ["absolute", "folder", "relative", "sub"].map(PathBuf::from);
        assert_eq!(root.names(Path::new("")).expect("a folder"), names);
        assert_eq!(root.kind(Path::new("folder")).expect("a folder"), Kind::Folder);
        assert_eq!(root.kind(Path::new("relative")).expect("a file"), Kind::File);
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let dir = folder();
        let path = dir.path().join("root/sub/file");
        replace(&path, b"other").expect("replaced");
        assert_eq!(fs::read(&path).expect("a file"), b"other");
        assert!(replace(&dir.path().join("nowhere/file"), b"x").is_err());
        assert!(replace(&dir.path().join("root/sub"), b"x").is_err(), "a folder");
        assert_eq!(
            fs::read_dir(dir.path().join("root")).expect("a folder").count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn refuses_every_way_out_of_the_root() {
        let dir = folder();
        let path = dir.path().join("root");
        symlink("../secret", path.join("relative")).expect("linked");
        symlink("/etc/passwd", path.join("absolute")).expect("linked");
        symlink("..", path.join("up")).expect("linked");
        symlink("absolute", path.join("sub/twice")).expect("linked");
        let root = Root::open(&path).expect("a root");
        for name in ["relative", "absolute", "up/secret", "sub/twice", "../secret", "/etc/passwd"] {
            let error = root.read(Path::new(name), 100).expect_err(name);
            assert!(error.kind() != io::ErrorKind::FileTooLarge, "{name}: {error}");
        }
        assert_eq!(root.names(Path::new("up")).expect_err("outside").kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_folder_that_becomes_a_link_after_it_was_resolved_is_refused() {
        let dir = folder();
        let path = dir.path().join("root");
        let root = Root::open(&path).expect("a root");
        let resolved = root.resolve(Path::new("sub/file")).expect("beneath");
        fs::rename(path.join("sub"), dir.path().join("moved")).expect("moved");
        symlink(dir.path().join("moved"), path.join("sub")).expect("linked");
        assert!(root.open_resolved(&resolved, READ).is_err());
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_at_once() {
        let dir = folder();
        let path = dir.path().join("root");
        let made = std::process::Command::new("mkfifo").arg(path.join("fifo")).status().expect("mkfifo runs");
        assert!(made.success());
        let root = Root::open(&path).expect("a root");
        for name in ["fifo", "sub"] {
            let error = root.read(Path::new(name), 100).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
            assert_eq!(read(&path.join(name), 100).expect_err(name).kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(
            read(Path::new("/dev/zero"), 100).expect_err("a device").kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(root.kind(Path::new("fifo")).expect("a FIFO"), Kind::Other);
    }

    #[test]
    fn reads_at_most_the_limit() {
        let dir = folder();
        let file = dir.path().join("secret");
        assert_eq!(read(&file, 6).expect("fits"), b"secret");
        assert_eq!(read(&file, 5).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
    }
}
