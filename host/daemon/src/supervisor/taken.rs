//! Who has the result of a run: whether Paperclip's server has taken it, and which later run continues this one.
//!
//! It is kept beside the run's journal, so that it survives this process.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file in the run's folder.
const FILE: &str = "taken.json";

/// Who has the result of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Taken {
    /// The server has stored the result.
    pub(crate) is_taken: bool,
    /// The later run whose result this one's is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resumed_by: Option<String>,
}

impl Taken {
    /// Reads it from a run's folder; the default if nobody has the result.
    pub(super) fn read(folder: &Path) -> Taken {
        let text = fs::read(folder.join(FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Writes it into a run's folder, whole or not at all.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let new = folder.join(format!("{FILE}.new"));
        fs::write(&new, serde_json::to_vec(self)?)?;
        fs::rename(new, folder.join(FILE))
    }

    /// Whether another run than this one may have the result.
    pub(super) fn is_free_for(&self, run_id: &str) -> bool {
        !self.is_taken && self.resumed_by.as_deref().is_none_or(|other| other == run_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_this_process() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Taken::read(folder.path()), Taken::default());
        let taken = Taken { is_taken: true, resumed_by: Some("r2".to_owned()) };
        taken.write(folder.path()).expect("written");
        assert_eq!(Taken::read(folder.path()), taken);
        assert!(Taken::default().is_free_for("r2"));
        assert!(!taken.is_free_for("r2"), "the server has it");
        let resumed = Taken { is_taken: false, resumed_by: Some("r2".to_owned()) };
        assert!(resumed.is_free_for("r2") && !resumed.is_free_for("r3"));
    }
}
