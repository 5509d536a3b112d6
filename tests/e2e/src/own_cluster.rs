//! The cluster of `tests/kubernetes`, whose parts can be killed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The cluster's control script and folder.
#[derive(Debug, Clone)]
pub(crate) struct OwnCluster {
    pub(crate) script: PathBuf,
    pub(crate) folder: PathBuf,
    /// The files of the agent's image.
    pub(crate) image_files: PathBuf,
}

impl OwnCluster {
    pub(crate) fn restart(&self, component: &str) -> Result<()> {
        self.run(&["restart"], &[component])
    }

    pub(crate) fn stop(&self, component: &str) -> Result<()> {
        self.run(&["stop"], &[component])
    }

    pub(crate) fn start(&self, component: &str) -> Result<()> {
        self.run(&["start"], &[component])
    }

    /// Imports the agent's image under another name.
    pub(crate) fn import_image(&self, name: &str) -> Result<()> {
        self.import(name, &self.image_files, "sh")
    }

    /// Imports an image of these files and this command.
    pub(crate) fn import(&self, name: &str, files: &Path, command: &str) -> Result<()> {
        let files = files.to_str().context("the folder of the image's files is not UTF-8")?;
        self.run(&["import"], &[name, files, command])
    }

    fn run(&self, before: &[&str], after: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.script);
        let output = command.args(before).arg(&self.folder).args(after).output();
        let output = output.with_context(|| format!("cannot start {}", self.script.display()))?;
        if !output.status.success() {
            bail!("{before:?} {after:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}
