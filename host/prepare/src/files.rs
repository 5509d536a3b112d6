//! The files that a context names: instructions and skills.
//!
//! Only files below Paperclip's home folder are read: a run's config must not give access to any file of this machine. A file that
//! cannot be read is a warning; the agent can work without it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use paperclip_contract::types::ContextFile;
use serde::Deserialize;

/// The name under which the plugin finds an agent's instructions among the files of a request.
pub(crate) const INSTRUCTIONS_FILE: &str = "agent-instructions.md";
/// The folder that has a folder for each skill.
const SKILLS_FOLDER: &str = "skills";
/// Most bytes of a file, and of all files together; the plugin has limits of its own, which are lower.
const MAX_BYTES: u64 = 8 << 20;
/// Most files of a skill.
const MAX_FILES: usize = 1_000;

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

/// Reads the files of one run.
pub(crate) struct FileReader<'a> {
    /// Paperclip's home folder, if it is known.
    home: Option<&'a Path>,
    pub(crate) files: Vec<ContextFile>,
    pub(crate) warnings: Vec<String>,
}

impl<'a> FileReader<'a> {
    pub(crate) fn new(home: Option<&'a Path>) -> FileReader<'a> {
        FileReader { home, files: Vec::new(), warnings: Vec::new() }
    }

    /// Reads the file of `instructionsFilePath`.
    pub(crate) fn read_instructions(&mut self, path: &str) {
        let read = self.locate(path).and_then(|path| read_text(&path));
        match read {
            Ok(content) => self.files.push(ContextFile::text(INSTRUCTIONS_FILE, content)),
            Err(why) => {
                self.warnings.push(format!("instructions {path}: {why}; the agent runs without them"));
            }
        }
    }

    /// Reads the folders of the skills that the run gets.
    pub(crate) fn read_skills(&mut self, skills: &SkillSnapshot) {
        for skill in &skills.entries {
            let without = |why: &str| format!("skill {}: {why}; the agent runs without it", skill.key);
            match skill.state.as_str() {
                "configured" => {
                    if let Err(why) = self.read_skill(skill) {
                        self.warnings.push(without(&why));
                    }
                }
                "missing" => {
                    self.warnings.push(without(skill.detail.as_deref().unwrap_or("it does not exist")));
                }
                _ => {}
            }
        }
    }

    fn read_skill(&mut self, skill: &Skill) -> Result<(), String> {
        let source = skill.source_path.as_deref().ok_or("Paperclip names no folder for it")?;
        let name = skill.runtime_name.as_deref().unwrap_or(&skill.key);
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            return Err(format!("{name:?} cannot be the name of a folder"));
        }
        let folder = self.locate(source)?;
        let mut walk = Walk { files: Vec::new(), skipped: Vec::new(), above: BTreeSet::new() };
        walk.folder(&folder, &format!("{SKILLS_FOLDER}/{name}"))?;
        if walk.files.is_empty() {
            return Err(format!("{} holds no file", folder.display()));
        }
        for skipped in walk.skipped {
            self.warnings.push(format!("skill {}: {skipped}; it is left out", skill.key));
        }
        self.files.extend(walk.files);
        Ok(())
    }

    /// Returns the path of a file that a context names, if it is inside Paperclip's home.
    fn locate(&self, path: &str) -> Result<PathBuf, String> {
        let home = self.home.ok_or("Paperclip's home folder is not known (--paperclip-home)")?;
        let path = home.join(path).canonicalize().map_err(|error| error.to_string())?;
        let home = home.canonicalize().map_err(|error| format!("{}: {error}", home.display()))?;
        if path.starts_with(&home) {
            Ok(path)
        } else {
            Err(format!("it is outside Paperclip's home folder {}", home.display()))
        }
    }
}

/// A walk over the files below a folder, in the order of their names.
struct Walk {
    files: Vec<ContextFile>,
    /// What is left out, and why.
    skipped: Vec<String>,
    /// The folders above the current one: following a link back to one of them would never end.
    above: BTreeSet<PathBuf>,
}

impl Walk {
    fn folder(&mut self, folder: &Path, as_path: &str) -> Result<(), String> {
        let real = folder.canonicalize().map_err(|error| error.to_string())?;
        if !self.above.insert(real.clone()) {
            self.skipped.push(format!("{as_path} leads back to a folder above it"));
            return Ok(());
        }
        let entries = fs::read_dir(&real).map_err(|error| error.to_string())?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let as_path = format!("{as_path}/{name}");
            // Links are followed: Paperclip keeps versions of skills behind them.
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && name == ".git" => {}
                Ok(metadata) if metadata.is_dir() => self.folder(&path, &as_path)?,
                Ok(_) => self.file(&path, as_path)?,
                Err(error) => self.skipped.push(format!("{as_path}: {error}")),
            }
        }
        self.above.remove(&real);
        Ok(())
    }

    fn file(&mut self, path: &Path, as_path: String) -> Result<(), String> {
        if self.files.len() == MAX_FILES {
            return Err(format!("it has more than {MAX_FILES} files"));
        }
        match read_text(path) {
            Ok(content) => self.files.push(ContextFile::text(as_path, content)),
            Err(why) => self.skipped.push(format!("{as_path}: {why}")),
        }
        Ok(())
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.len() > MAX_BYTES {
        return Err(format!("the file is larger than {MAX_BYTES} bytes"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())
}

#[cfg(test)]
mod tests {
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

    fn paths(reader: &FileReader<'_>) -> Vec<String> {
        reader.files.iter().map(|file| file.path.clone()).collect()
    }

    #[test]
    fn reads_instructions_and_skills_below_the_home_folder() {
        let home = home();
        let mut reader = FileReader::new(Some(home.path()));
        reader.read_instructions("AGENTS.md");
        reader.read_skills(&snapshot(
            r#"{"key":"acme/review","runtimeName":"review","state":"configured","sourcePath":"skills/review"},
               {"key":"acme/other","runtimeName":"other","state":"available","sourcePath":"skills/other"}"#,
        ));
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
        reader.read_skills(&snapshot(r#"{"key":"r","state":"configured","sourcePath":"skills/review"}"#));
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
        let warned = |home: Option<&Path>, act: &dyn Fn(&mut FileReader<'_>)| {
            let mut reader = FileReader::new(home);
            act(&mut reader);
            assert!(reader.files.is_empty());
            reader.warnings.join("\n")
        };
        let skill = |json: &str| {
            let snapshot = snapshot(json);
            warned(Some(home.path()), &|reader| reader.read_skills(&snapshot))
        };
        for (warning, says) in [
            (warned(None, &|reader| reader.read_instructions("AGENTS.md")), "--paperclip-home"),
            (warned(Some(home.path()), &|reader| reader.read_instructions("missing.md")), "No such file"),
            (
                warned(Some(home.path()), &|reader| reader.read_instructions(outside)),
                "outside Paperclip's home",
            ),
            (warned(Some(home.path()), &|reader| reader.read_instructions("skills")), "it is not a file"),
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
}
