//! Finds the program of a container, or reports in runc's words why there is none.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The program's file: by its path if the name has a slash, else the first executable of that name on `search_path`.
///
/// # Errors
/// A message as runc has it.
pub(super) fn find(name: &str, search_path: &str, working_dir: &Path) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = working_dir.join(name);
        return match fs::metadata(&path) {
            Err(error) => Err(format!("exec: \"{name}\": stat {name}: {}", reason(&error))),
            Ok(file) if file.is_dir() => Err(format!("exec: \"{name}\": is a directory")),
            Ok(file) if file.permissions().mode() & 0o111 == 0 => {
                Err(format!("exec: \"{name}\": permission denied"))
            }
            Ok(_) => Ok(path),
        };
    }
    search_path
        .split(':')
        .map(|folder| working_dir.join(folder).join(name))
        .find(|path| {
            fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
        .ok_or_else(|| format!("exec: \"{name}\": executable file not found in $PATH"))
}

/// The system's word for an error, without its number.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::ArgumentListTooLong => "argument list too long".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_programs_or_reports_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32| {
            let path = folder.path().join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        file("tool", 0o755);
        file("text", 0o644);
        fs::create_dir(folder.path().join("folder")).unwrap();
        let search = format!("/nowhere:{}", folder.path().display());
        for (name, expected) in [
            ("tool", Ok("tool")),
            ("./tool", Ok("tool")),
            ("text", Err("exec: \"text\": executable file not found in $PATH")),
            ("folder", Err("exec: \"folder\": executable file not found in $PATH")),
            ("./text", Err("exec: \"./text\": permission denied")),
            ("./folder", Err("exec: \"./folder\": is a directory")),
            ("/nowhere/x", Err("exec: \"/nowhere/x\": stat /nowhere/x: no such file or directory")),
        ] {
            let found = find(name, &search, folder.path());
            let expected = expected.map(|file| folder.path().join(file)).map_err(str::to_owned);
            let found = found.map(|path| path.components().collect::<PathBuf>());
            assert_eq!(found, expected, "{name}");
        }
    }
}
