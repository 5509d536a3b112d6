//! The files that a context names: instructions and skills.
//!
//! Only files below Paperclip's home folder are read: a run's config must not give access to any file of this machine, nor must a link
//! in a skill. A file that cannot be read is a warning; the agent can work without it. Files that are too large together refuse the run.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use paperclip_contract::types::ContextFile;
use paperclip_files::{Kind, Root};
use serde::Deserialize;

use crate::supplied::{FILES_MAX_BYTES, SuppliedError};

/// The name under which the plugin finds an agent's instructions among the files of a request.
pub(crate) const INSTRUCTIONS_FILE: &str = "agent-instructions.md";
/// The folder that has a folder for each skill.
const SKILLS_FOLDER: &str = "skills";
/// Most files of a skill.
const MAX_FILES: usize = 1_000;
/// Most folders of a skill: a folder without files costs a look, too.
const MAX_FOLDERS: usize = 1_000;

/// The part of a plugin's snapshot of skills that concerns files.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SkillSnapshot {
    entries: Vec<Skill>,
}

/// A skill. The run gets those whose state is `configured`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Skill {
    key: String,
    runtime_name: Option<String>,
    state: String,
    source_path: Option<String>,
    detail: Option<String>,
}

/// Why something is not read.
enum Unread {
    /// It is left out, with a warning.
    LeftOut(String),
    /// The run is refused: this file exceeds the budget.
    Budget { file: String },
}

impl From<String> for Unread {
    fn from(why: String) -> Unread {
        Unread::LeftOut(why)
    }
}

/// Reads the files of one run.
pub(crate) struct FileReader {
    /// Paperclip's home folder, or why there is none.
    home: Result<Root, String>,
    /// How many bytes may still be read.
    budget: usize,
    pub(crate) files: Vec<ContextFile>,
    pub(crate) warnings: Vec<String>,
}

impl FileReader {
    pub(crate) fn new(home: Option<&Path>) -> FileReader {
        let home = match home {
            None => Err("Paperclip's home folder is not known (--paperclip-home)".to_owned()),
            Some(home) => Root::open(home).map_err(|error| format!("{}: {error}", home.display())),
        };
        FileReader { home, budget: FILES_MAX_BYTES, files: Vec::new(), warnings: Vec::new() }
    }

    /// Reads the file of `instructionsFilePath`.
    ///
    /// # Errors
    /// It is too large.
    pub(crate) fn read_instructions(&mut self, path: &str) -> Result<(), SuppliedError> {
        let Self { home, budget, .. } = self;
        let read = home.as_ref().map_err(|why| Unread::LeftOut(why.clone()));
        match read.and_then(|home| read_text(home, Path::new(path), path, budget)) {
            Ok(content) => self.files.push(ContextFile::text(INSTRUCTIONS_FILE, content)),
            Err(Unread::LeftOut(why)) => {
                self.warnings.push(format!("instructions {path}: {why}; the agent runs without them"));
            }
            Err(Unread::Budget { file }) => {
                return Err(SuppliedError::Budget { what: "the instructions".to_owned(), file });
            }
        }
        Ok(())
    }

    /// Reads the folders of the skills that the run gets.
    ///
    /// # Errors
    /// They are too large together: names the skill and the file that exceed the budget.
    pub(crate) fn read_skills(&mut self, skills: &SkillSnapshot) -> Result<(), SuppliedError> {
        for skill in &skills.entries {
            let without = |why: &str| format!("skill {}: {why}; the agent runs without it", skill.key);
            match skill.state.as_str() {
                "configured" => match self.read_skill(skill) {
                    Ok(()) => {}
                    Err(Unread::LeftOut(why)) => self.warnings.push(without(&why)),
                    Err(Unread::Budget { file }) => {
                        return Err(SuppliedError::Budget { what: format!("skill {}", skill.key), file });
                    }
                },
                "missing" => {
                    self.warnings.push(without(skill.detail.as_deref().unwrap_or("it does not exist")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_skill(&mut self, skill: &Skill) -> Result<(), Unread> {
        let source = skill.source_path.as_deref().ok_or("Paperclip names no folder for it".to_owned())?;
        let name = skill.runtime_name.as_deref().unwrap_or(&skill.key);
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Err(format!("{name:?} cannot be the name of a folder").into());
        }
        let home = self.home.as_ref().map_err(|why| Unread::LeftOut(why.clone()))?;
        let mut walk = Walk {
            home,
            budget: self.budget,
            files: Vec::new(),
            skipped: Vec::new(),
            above: BTreeSet::new(),
            folders: 0,
        };
        walk.folder(Path::new(source), &format!("{SKILLS_FOLDER}/{name}"))?;
        let Walk { budget, files, skipped, .. } = walk;
        if files.is_empty() {
            return Err(format!("{source} holds no file").into());
        }
        self.budget = budget;
        for skipped in skipped {
            self.warnings.push(format!("skill {}: {skipped}; it is left out", skill.key));
        }
        self.files.extend(files);
        Ok(())
    }
}

/// A walk over the files below a folder, in the order of their names.
struct Walk<'a> {
    home: &'a Root,
    budget: usize,
    files: Vec<ContextFile>,
    /// What is left out, and why.
    skipped: Vec<String>,
    /// The folders above the current one: following a link back to one of them would never end.
    above: BTreeSet<PathBuf>,
    /// How many folders were read.
    folders: usize,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, as_path: &str) -> Result<(), Unread> {
        let real = self.home.resolve(folder).map_err(|error| outside(&error))?;
        self.folders += 1;
        if self.folders > MAX_FOLDERS {
            return Err(format!("it has more than {MAX_FOLDERS} folders").into());
        }
        if !self.above.insert(real.clone()) {
            self.skipped.push(format!("{as_path} leads back to a folder above it"));
            return Ok(());
        }
        for name in self.home.names(&real).map_err(|error| error.to_string())? {
            let path = real.join(&name);
            let name = name.to_string_lossy();
            let as_path = format!("{as_path}/{name}");
            // Links are followed, as long as they end in Paperclip's home folder: it keeps versions of skills behind them.
            match self.home.kind(&path) {
                Ok(Kind::Folder) if name == ".git" => {}
                Ok(Kind::Folder) => self.folder(&path, &as_path)?,
                Ok(Kind::File) => self.file(&path, as_path)?,
                Ok(Kind::Other) => self.skipped.push(format!("{as_path}: it is not a file")),
                Err(error) => self.skipped.push(format!("{as_path}: {}", outside(&error))),
            }
        }
        self.above.remove(&real);
        Ok(())
    }

    fn file(&mut self, path: &Path, as_path: String) -> Result<(), Unread> {
        if self.files.len() == MAX_FILES {
            return Err(format!("it has more than {MAX_FILES} files").into());
        }
        match read_text(self.home, path, &as_path, &mut self.budget) {
            Ok(content) => self.files.push(ContextFile::text(as_path, content)),
            Err(Unread::LeftOut(why)) => self.skipped.push(format!("{as_path}: {why}")),
            Err(budget @ Unread::Budget { .. }) => return Err(budget),
        }
        Ok(())
    }
}

/// Reads a text file, and takes its size from the budget.
fn read_text(home: &Root, path: &Path, shown: &str, budget: &mut usize) -> Result<String, Unread> {
    match home.read(path, *budget as u64) {
        Ok(bytes) => {
            *budget -= bytes.len();
            Ok(String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())?)
        }
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(Unread::Budget { file: shown.to_owned() })
        }
        Err(error) => Err(outside(&error).into()),
    }
}

/// Says why a path cannot be used.
fn outside(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => {
            format!("{error}, Paperclip's home folder")
        }
        io::ErrorKind::InvalidInput => "it is not a file".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join("skills/review/more")).unwrap();
        fs::write(home.path().join("AGENTS.md"), "Be kind.").unwrap();
        fs::write(home.path().join("skills/review/SKILL.md"), "# Review").unwrap();
        fs::write(home.path().join("skills/review/more/a.md"), "a").unwrap();
        home
    }

    fn snapshot(entries: &str) -> SkillSnapshot {
        serde_json::from_str(&format!("{{\"entries\":[{entries}]}}")).unwrap()
    }

    fn paths(reader: &FileReader) -> Vec<String> {
        reader.files.iter().map(|file| file.path.clone()).collect()
    }

    #[test]
    fn reads_instructions_and_skills_below_the_home_folder() {
        let home = home();
        let mut reader = FileReader::new(Some(home.path()));
        reader.read_instructions("AGENTS.md").unwrap();
        reader.read_skills(&snapshot(
            r#"{"key":"acme/review","runtimeName":"review","state":"configured","sourcePath":"skills/review"},
               {"key":"acme/other","runtimeName":"other","state":"available","sourcePath":"skills/other"}"#,
        ))
        .unwrap();
        assert_eq!(
            paths(&reader),
            ["agent-instructions.md", "skills/review/SKILL.md", "skills/review/more/a.md"]
        );
        assert_eq!(reader.files[0].content, "Be kind.");
        assert_eq!(reader.warnings, Vec::<String>::new());
    }

    #[test]
    fn follows_links_but_no_cycles_and_leaves_out_what_is_not_text() {
        let home = home();
        let review = home.path().join("skills/review");
        std::os::unix::fs::symlink("..", review.join("more/up")).unwrap();
        std::os::unix::fs::symlink("SKILL.md", review.join("again.md")).unwrap();
        std::os::unix::fs::symlink("nowhere", review.join("broken")).unwrap();
        fs::write(review.join("picture.png"), [0x89, 0xff]).unwrap();
        let mut reader = FileReader::new(Some(home.path()));
        reader
            .read_skills(&snapshot(r#"{"key":"r","state":"configured","sourcePath":"skills/review"}"#))
            .unwrap();
        let read = paths(&reader);
        assert!(read.contains(&"skills/r/again.md".to_owned()), "{read:?}");
        assert_eq!(read.len(), 3, "{read:?}");
        assert_eq!(reader.warnings.len(), 3, "{:?}", reader.warnings);
    }

    #[test]
    fn an_unreadable_file_is_a_warning_with_the_reason() {
        let home = home();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let outside = outside.path().to_str().unwrap();
        let warned = |home: Option<&Path>, act: &dyn Fn(&mut FileReader)| {
            let mut reader = FileReader::new(home);
            act(&mut reader);
            assert!(reader.files.is_empty());
            reader.warnings.join("\n")
        };
        let skill = |json: &str| {
            let snapshot = snapshot(json);
            warned(Some(home.path()), &|reader| reader.read_skills(&snapshot).unwrap())
        };
        for (warning, says) in [
            (warned(None, &|reader| reader.read_instructions("AGENTS.md").unwrap()), "--paperclip-home"),
            (
                warned(Some(home.path()), &|reader| reader.read_instructions("missing.md").unwrap()),
                "No such file",
            ),
            (
                warned(Some(home.path()), &|reader| reader.read_instructions(outside).unwrap()),
                "Paperclip's home folder",
            ),
            (
                warned(Some(home.path()), &|reader| reader.read_instructions("skills").unwrap()),
                "it is not a file",
            ),
            (skill(r#"{"key":"k","state":"missing","detail":"Removed."}"#), "skill k: Removed."),
            (skill(r#"{"key":"k","state":"configured"}"#), "no folder"),
            (
                skill(
                    r#"{"key":"k","runtimeName":"../x","state":"configured","sourcePath":"skills/review"}"#,
                ),
                "name of a folder",
            ),
        ] {
            assert!(warning.contains(says), "{warning}");
        }
    }

    #[test]
    fn a_link_in_a_skill_reads_nothing_outside_the_home_folder() {
        let home = home();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "secret").unwrap();
        let review = home.path().join("skills/review");
        std::os::unix::fs::symlink("/etc/passwd", review.join("environ")).unwrap();
        std::os::unix::fs::symlink(outside.path(), review.join("folder")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), review.join("more/deep")).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(review.join("pipe")).status().unwrap();
        assert!(fifo.success());
        let mut reader = FileReader::new(Some(home.path()));
        let skill = r#"{"key":"r","state":"configured","sourcePath":"skills/review"}"#;
        reader.read_skills(&snapshot(skill)).unwrap();
        assert_eq!(paths(&reader), ["skills/r/SKILL.md", "skills/r/more/a.md"]);
        let warnings = reader.warnings.join("\n");
        for name in ["environ", "folder", "more/deep", "pipe"] {
            assert!(warnings.contains(&format!("skill r: skills/r/{name}: ")), "{warnings}");
        }
        assert_eq!(reader.warnings.len(), 4, "{warnings}");
    }

    #[test]
    fn files_beyond_the_budget_refuse_the_run_by_the_name_of_their_skill() {
        let home = home();
        let more = home.path().join("skills/review/more");
        for name in ["b", "c"] {
            // Sparse files: they cost nothing but their size.
            fs::File::create(more.join(name)).unwrap().set_len(FILES_MAX_BYTES as u64 / 2 + 1).unwrap();
        }
        let mut reader = FileReader::new(Some(home.path()));
        let skill = r#"{"key":"acme/r","runtimeName":"r","state":"configured","sourcePath":"skills/review"}"#;
        let error = reader.read_skills(&snapshot(skill)).unwrap_err().to_string();
        assert!(error.contains("skill acme/r") && error.contains("skills/r/more/c"), "{error}");
        fs::File::create(home.path().join("big.md")).unwrap().set_len(1 << 40).unwrap();
        let error = FileReader::new(Some(home.path())).read_instructions("big.md").unwrap_err().to_string();
        assert!(error.contains("instructions") && error.contains("big.md"), "{error}");
    }
}
