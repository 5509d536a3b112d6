//! The files that a context names, read for its agent: instructions and skills.
//!
//! They are read below Paperclip's home folder only: a run's config is no leave to read any file of this machine. What cannot
//! be read is left out with a warning; the agent can work without it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use paperclip_contract::types::ContextFile;
use serde::Deserialize;

/// The name under which the plugin finds an agent's instructions among the files of a request.
const INSTRUCTIONS_FILE: &str = "agent-instructions.md";
/// The folder below which each skill has one of its own.
const SKILLS_FOLDER: &str = ".claude/skills";
/// Most bytes of a file, and of all files together; the plugin has limits of its own, which are lower.
const MAX_BYTES: u64 = 8 << 20;
/// Most files of a skill.
const MAX_FILES: usize = 1_000;

/// A plugin's snapshot of skills, as far as files are concerned.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Snapshot {
    entries: Vec<Skill>,
}

/// A skill; one that the run is to have is `configured`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Skill {
    key: String,
    runtime_name: Option<String>,
    state: String,
    source_path: Option<String>,
    detail: Option<String>,
}

/// Reads files into the bundle of a run.
pub(crate) struct Reader<'a> {
    /// Paperclip's home folder, if it is known.
    home: Option<&'a Path>,
    pub(crate) files: Vec<ContextFile>,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(home: Option<&'a Path>) -> Reader<'a> {
        Reader { home, files: Vec::new(), warnings: Vec::new() }
    }

    /// The file of `instructionsFilePath`.
    pub(crate) fn read_instructions(&mut self, named: &str) {
        let read = self.locate(named).and_then(|path| read_text(&path));
        match read {
            Ok(content) => self.files.push(ContextFile { path: INSTRUCTIONS_FILE.to_owned(), content }),
            Err(why) => {
                self.warnings.push(format!("instructions {named}: {why}; the agent runs without them"));
            }
        }
    }

    /// The folders of the skills that the run is to have.
    pub(crate) fn read_skills(&mut self, skills: &Snapshot) {
        for skill in &skills.entries {
            let without = |why: &str| format!("skill {}: {why}; the agent runs without it", skill.key);
            match skill.state.as_str() {
                "configured" => {
                    if let Err(why) = self.read_skill(skill) {
                        self.warnings.push(without(&why));
                    }
                }
                "missing" => {
                    self.warnings.push(without(skill.detail.as_deref().unwrap_or("it is not there")));
                }
                _ => {}
            }
        }
    }

    fn read_skill(&mut self, skill: &Skill) -> Result<(), String> {
        let source = skill.source_path.as_deref().ok_or("Paperclip names no folder of it")?;
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

    /// Where something is that a context names, if that is inside Paperclip's home.
    fn locate(&self, named: &str) -> Result<PathBuf, String> {
        let home = self.home.ok_or("Paperclip's home folder is not known (--paperclip-home)")?;
        let path = home.join(named).canonicalize().map_err(|error| error.to_string())?;
        let home = home.canonicalize().map_err(|error| format!("{}: {error}", home.display()))?;
        if path.starts_with(&home) {
            Ok(path)
        } else {
            Err(format!("it is outside Paperclip's home folder {}", home.display()))
        }
    }
}

/// The files below a folder, in the order of their names.
struct Walk {
    files: Vec<ContextFile>,
    /// What was left out, and why.
    skipped: Vec<String>,
    /// The folders on the way down: a link that leads back to one of them would never end.
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
                Ok(found) if found.is_dir() && name == ".git" => {}
                Ok(found) if found.is_dir() => self.folder(&path, &as_path)?,
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
            Ok(content) => self.files.push(ContextFile { path: as_path, content }),
            Err(why) => self.skipped.push(format!("{as_path}: {why}")),
        }
        Ok(())
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let found = fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no file".to_owned());
    }
    if found.len() > MAX_BYTES {
        return Err(format!("the file is larger than {MAX_BYTES} bytes"));
    }
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "the file is no text in UTF-8".to_owned())
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

    fn snapshot(entries: &str) -> Snapshot {
        serde_json::from_str(&format!("{{\"entries\":[{entries}]}}")).unwrap()
    }

    fn paths(reader: &Reader<'_>) -> Vec<String> {
        reader.files.iter().map(|file| file.path.clone()).collect()
    }

    #[test]
    fn instructions_and_skills_are_read_below_the_home_folder() {
        let home = home();
        let mut reader = Reader::new(Some(home.path()));
        reader.read_instructions("AGENTS.md");
        reader.read_skills(&snapshot(
            r#"{"key":"acme/review","runtimeName":"review","state":"configured","sourcePath":"skills/review"},
               {"key":"acme/other","runtimeName":"other","state":"available","sourcePath":"skills/other"}"#,
        ));
        assert_eq!(
            paths(&reader),
            ["agent-instructions.md", ".claude/skills/review/SKILL.md", ".claude/skills/review/more/a.md"]
        );
        assert_eq!(reader.files[0].content, "Be kind.");
        assert_eq!(reader.warnings, Vec::<String>::new());
    }

    #[test]
    fn links_are_followed_but_not_in_circles_and_what_is_no_text_is_left_out() {
        let home = home();
        let review = home.path().join("skills/review");
        std::os::unix::fs::symlink("..", review.join("more/up")).unwrap();
        std::os::unix::fs::symlink("SKILL.md", review.join("again.md")).unwrap();
        std::os::unix::fs::symlink("nowhere", review.join("broken")).unwrap();
        fs::write(review.join("picture.png"), [0x89, 0xff]).unwrap();
        let mut reader = Reader::new(Some(home.path()));
        reader.read_skills(&snapshot(r#"{"key":"r","state":"configured","sourcePath":"skills/review"}"#));
        let read = paths(&reader);
        assert!(read.contains(&".claude/skills/r/again.md".to_owned()), "{read:?}");
        assert_eq!(read.len(), 3, "{read:?}");
        assert_eq!(reader.warnings.len(), 3, "{:?}", reader.warnings);
    }

    #[test]
    fn what_cannot_be_read_is_a_warning_that_says_why() {
        let home = home();
        let outside = tempfile::NamedTempFile::new().unwrap();
        let outside = outside.path().to_str().unwrap();
        let warned = |home: Option<&Path>, act: &dyn Fn(&mut Reader<'_>)| {
            let mut reader = Reader::new(home);
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
            (warned(Some(home.path()), &|reader| reader.read_instructions("gone.md")), "No such file"),
            (
                warned(Some(home.path()), &|reader| reader.read_instructions(outside)),
                "outside Paperclip's home",
            ),
            (warned(Some(home.path()), &|reader| reader.read_instructions("skills")), "it is no file"),
            (skill(r#"{"key":"k","state":"missing","detail":"Gone."}"#), "skill k: Gone."),
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
