//! The bearer token of the daemon's API, as a file holds it.
//!
//! A file has one token, or two while it is replaced: a line each. Clients send the first, the daemon accepts both.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use paperclip_diagnostic::Diagnostic;

/// Length of the shortest token that is accepted, in bytes.
const MIN_TOKEN_BYTES: usize = 16;
/// Most tokens of a file: the current one, and the one that it replaces or that replaces it.
const MAX_TOKENS: usize = 2;
/// Random bytes of a generated token.
const GENERATED_BYTES: usize = 32;
/// A token's file is far smaller.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Reads the tokens of a file: at least one.
///
/// # Errors
/// The file cannot be read, is not a regular file, or does not hold a token.
pub fn read(path: &Path) -> Result<Vec<String>, Diagnostic> {
    let bad = |cause: String, hint: String| {
        Diagnostic::new("bad_token_file", format!("token file {}: {cause}", path.display())).with_hint(hint)
    };
    let unreadable =
        |error: io::Error| bad(error.to_string(), "name a readable file with the bearer token".to_owned());
    let bytes = paperclip_files::read(path, MAX_FILE_BYTES).map_err(unreadable)?;
    let text = String::from_utf8_lossy(&bytes);
    let tokens: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let is_token =
        |token: &String| token.len() >= MIN_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
    if tokens.is_empty() || tokens.len() > MAX_TOKENS || !tokens.iter().all(is_token) {
        return Err(bad(
            "it holds no token".to_owned(),
            format!(
                "give one line of {MIN_TOKEN_BYTES} characters or more without spaces, such as `openssl rand -hex 32` prints, or \
                 two lines while a token is replaced"
            ),
        ));
    }
    Ok(tokens)
}

/// Generates a token into a file that only this user may read, unless the file exists.
///
/// # Errors
/// The file cannot be written.
pub fn generate(path: &Path) -> Result<(), Diagnostic> {
    let failed = |error: io::Error| {
        Diagnostic::new("state_unwritable", format!("token file {}: {error}", path.display()))
            .with_hint("name a folder that this user may write with state (--state), or a token with token_file (--token-file)")
    };
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let mut random = [0; GENERATED_BYTES];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| failed(error.into()))?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    // Complete before it has its name: nobody reads half of it.
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(failed)?;
    writeln!(file, "{token}").and_then(|()| file.sync_all()).map_err(failed)?;
    let linked = fs::hard_link(&new, path);
    let _ = fs::remove_file(&new);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_generated_token_is_for_its_user_only_and_is_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        generate(&path).expect("generated");
        assert_eq!(path.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
        let tokens = read(&path).expect("a token");
        assert_eq!((tokens.len(), tokens[0].len()), (1, 64));
        generate(&path).expect("kept");
        assert_eq!(read(&path).expect("the same"), tokens);
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_without_a_token_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("token");
        let line = "0123456789abcdef\n";
        for text in ["", "short", "two words of some length", "0123456789abcdef\nshort", &line.repeat(3)] {
            fs::write(&path, text).expect("written");
            let error = read(&path).expect_err("refused").to_string();
            assert!(error.contains("it holds no token") && !error.contains("words"), "{error}");
        }
        fs::write(&path, line).expect("written");
        assert_eq!(read(&path).expect("a token"), ["0123456789abcdef"]);
        fs::write(&path, "0123456789abcdef\r\n\nfedcba9876543210").expect("written");
        assert_eq!(read(&path).expect("two tokens"), ["0123456789abcdef", "fedcba9876543210"]);
        assert!(read(&dir.path().join("none")).is_err());
        assert!(read(dir.path()).is_err(), "a folder");
    }
}
