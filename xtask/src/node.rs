//! Node.js and packages of npm, outside the checkout.
//!
//! Paperclip's server and the adapter need a recent Node.js. A machine that has an older one, or none, gets one as an npm package.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::kubernetes::cache_folder;
use crate::process;
use crate::workspace::Workspace;

/// The oldest Node.js that Paperclip's server 2026.916.1 supports.
const OLDEST: (u32, u32) = (24, 11);
/// The folder whose lock file pins the Node.js for machines without one.
const NODE_PACKAGE: &str = "adapter/e2e/node";
/// The last line of an error about npm.
const WITHOUT: &str =
    "; contributors without npm leave these checks out with `cargo xtask ci --without paperclip`";

/// A Node.js that is recent enough.
#[derive(Debug)]
pub(crate) struct Node {
    /// PATH with it first.
    path: OsString,
}

impl Node {
    /// Returns the Node.js on PATH, or installs one.
    ///
    /// # Errors
    /// There is none, and npm cannot install it.
    pub(crate) fn find(workspace: &Workspace) -> Result<Node> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if process::find_program("node", &path).is_some() {
            let printed = process::output(Command::new("node").arg("--version"))?;
            if version(&printed).is_some_and(|version| version >= OLDEST) {
                return Ok(Node { path });
            }
            process::note(&format!(
                "node is {printed}; Paperclip's server needs {}.{}: using an npm package",
                OLDEST.0, OLDEST.1
            ));
        }
        let folder = install(workspace, NODE_PACKAGE, &path)?.join("node_modules/.bin");
        if !folder.join("node").exists() {
            bail!("npm has no Node.js for this platform: install Node.js {}.{} or later", OLDEST.0, OLDEST.1);
        }
        let folders = std::iter::once(folder).chain(std::env::split_paths(&path));
        Ok(Node { path: std::env::join_paths(folders).context("the cache folder has a colon in its name")? })
    }

    /// Returns a command that runs a program with this Node.js.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        command.env("PATH", &self.path);
        command
    }

    /// Returns the path of a program. A command is searched on the PATH of this process, not on the one that it gets.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        process::find_program(name, &self.path).unwrap_or_else(|| name.into())
    }

    /// Installs the packages of a folder's lock file into the cache, once, and returns where.
    pub(crate) fn install(&self, workspace: &Workspace, package: &str) -> Result<PathBuf> {
        install(workspace, package, &self.path)
    }
}

/// The folder for what is downloaded. That of root is readable for the user that runs Paperclip's server.
pub(crate) fn cache() -> Result<PathBuf> {
    if is_root()? {
        return Ok("/var/cache/paperclip-k8s".into());
    }
    cache_folder()
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").or_else(|_| fs::metadata(".")).context("cannot find out the user")?.uid()
        == 0)
}

fn install(workspace: &Workspace, package: &str, path: &OsStr) -> Result<PathBuf> {
    let source = workspace.root.join(package);
    let read =
        |name: &str| fs::read(source.join(name)).with_context(|| format!("cannot read {package}/{name}"));
    let files =
        ["package.json", "package-lock.json", ".npmrc"].map(|name| read(name).map(|content| (name, content)));
    let mut digest = Sha256::new();
    let mut contents = Vec::new();
    for file in files {
        let (name, content) = file?;
        digest.update(&content);
        contents.push((name, content));
    }
    let digest: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let name = package.rsplit('/').next().unwrap_or(package);
    let folder = cache()?.join(format!("npm-{name}-{digest}"));
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(folder);
    }
    if process::find_program("npm", path).is_none() {
        bail!("npm is not on PATH: install Node.js with npm{WITHOUT}");
    }
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o755)
        .create(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, content) in contents {
        fs::write(folder.join(name), content)
            .with_context(|| format!("cannot write {name} into {}", folder.display()))?;
    }
    // What the lock file names is installed as it says. Not `npm ci`: that refuses a lock file without the optional packages of other
    // platforms, which a registry may lack.
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder)
        .env("PATH", path);
    process::run(&mut npm).with_context(|| {
        format!("the packages of {package} cannot be installed: npm needs its registry (registry.npmjs.org){WITHOUT}")
    })?;
    fs::write(&complete, "").with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(folder)
}

/// Reads `v24.11.0`.
fn version(printed: &str) -> Option<(u32, u32)> {
    let mut parts = printed.trim().strip_prefix('v')?.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("v24.22.3\n"), Some((24, 22)));
        assert!(version("v24.9.0").unwrap() < OLDEST && version("v26.0.1").unwrap() > OLDEST);
        assert_eq!(version("24.11.0"), None);
        assert_eq!(version("v24"), None);
    }

    #[test]
    fn lock_files_name_no_registry() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for folder in [
            "adapter",
            "adapter/e2e/node",
            "adapter/e2e/server",
            "tests/agents/package",
            "tests/claude/package",
        ] {
            let lock = fs::read_to_string(root.join(folder).join("package-lock.json")).unwrap();
            let addresses: Vec<_> = lock.lines().filter(|line| line.contains("\"resolved\"")).collect();
            assert!(addresses.is_empty(), "{folder}: {addresses:?}");
        }
    }
}
