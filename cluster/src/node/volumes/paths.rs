//! Maps paths inside a container to paths on this machine.
//!
//! A container here has no file system of its own, so a mount path in its command, arguments, env values and
//! working directory is replaced by the folder that is mounted there. Only whole path components match:
//! with a mount at `/tmp/prompt`, neither `/tmp/prompts` nor `/tmp/prompt.txt` nor `/var/tmp/prompt` changes.

use std::path::{Path, PathBuf};

/// The mounts of one container, the longest path first.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathMap {
    mounts: Vec<(String, PathBuf)>,
}

impl PathMap {
    /// Pairs of a mount path and the folder or file behind it. A later mount of the same path wins.
    /// A mount at `/` cannot be distinguished from any other absolute path, so it maps nothing.
    pub(crate) fn new(mounts: impl IntoIterator<Item = (String, PathBuf)>) -> Self {
        let mut kept: Vec<(String, PathBuf)> = Vec::new();
        for (path, folder) in mounts {
            let path = path.trim_end_matches('/').to_owned();
            if !path.is_empty() {
                kept.retain(|(other, _)| *other != path);
                kept.push((path, folder));
            }
        }
        kept.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        PathMap { mounts: kept }
    }

    /// Every mount path in a text, replaced.
    pub(crate) fn apply(&self, text: &str) -> String {
        let mut output = String::with_capacity(text.len());
        let mut at = 0;
        while let Some(slash) = text[at..].find('/').map(|offset| at + offset) {
            output.push_str(&text[at..slash]);
            at = match self.mounts.iter().find(|(path, _)| is_mount_at(text, slash, path)) {
                Some((path, folder)) => {
                    output.push_str(&folder.to_string_lossy());
                    slash + path.len()
                }
                None => {
                    output.push('/');
                    slash + 1
                }
            };
        }
        output.push_str(&text[at..]);
        output
    }

    /// Replaces a text that is known to be a path; the flag says whether it is in a mount.
    pub(crate) fn resolve(&self, path: &str) -> (PathBuf, bool) {
        for (mount, folder) in &self.mounts {
            if let Ok(rest) = Path::new(path).strip_prefix(mount) {
                let inside = if rest.as_os_str().is_empty() { folder.clone() } else { folder.join(rest) };
                return (inside, true);
            }
        }
        (PathBuf::from(path), false)
    }
}

/// Whether `path` starts at the slash and ends with a whole component.
fn is_mount_at(text: &str, slash: usize, path: &str) -> bool {
    let before = &text[..slash];
    let is_start = before.ends_with("file://") || !before.chars().next_back().is_some_and(leads_into_a_path);
    is_start
        && text[slash..].starts_with(path)
        && !text[slash + path.len()..].chars().next().is_some_and(continues_a_component)
}

/// A character before the slash that makes the path longer than it looks: a name, another slash, the end of a
/// shell expansion, a home folder, a pattern.
fn leads_into_a_path(c: char) -> bool {
    continues_a_component(c) && !matches!(c, '@' | '+' | '%' | '$') || matches!(c, '/' | '}' | ')')
}

/// A character after the last component that makes it another name.
fn continues_a_component(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '~' | '+' | '@' | '%' | '$' | '*' | '?' | '[' | ']')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> PathMap {
        PathMap::new([
            ("/tmp/prompt".to_owned(), PathBuf::from("/v/prompt")),
            ("/tmp/prompt/deep/".to_owned(), PathBuf::from("/v/deep")),
            ("/paperclip".to_owned(), PathBuf::from("/v/data")),
            ("/dev/termination-log".to_owned(), PathBuf::from("/v/message")),
            ("/".to_owned(), PathBuf::from("/v/root")),
        ])
    }

    #[test]
    fn whole_components_are_replaced() {
        for (text, expected) in [
            ("/tmp/prompt", "/v/prompt"),
            ("/tmp/prompt/", "/v/prompt/"),
            ("/tmp/prompt/prompt.txt", "/v/prompt/prompt.txt"),
            ("cat /tmp/prompt/* | sh", "cat /v/prompt/* | sh"),
            ("/tmp/prompt/deep/x", "/v/deep/x"),
            ("/tmp/prompt/deeper", "/v/prompt/deeper"),
            ("A=/tmp/prompt:/paperclip:/bin", "A=/v/prompt:/v/data:/bin"),
            ("'/tmp/prompt'\"/paperclip\"", "'/v/prompt'\"/v/data\""),
            (r#"{\"dir\":\"/paperclip\"}"#, r#"{\"dir\":\"/v/data\"}"#),
            ("echo x >/dev/termination-log;", "echo x >/v/message;"),
            ("tee $(/paperclip/bin/x)", "tee $(/v/data/bin/x)"),
            ("file:///tmp/prompt/a", "file:///v/prompt/a"),
            ("@/tmp/prompt", "@/v/prompt"),
            ("é /tmp/prompt é", "é /v/prompt é"),
        ] {
            assert_eq!(map().apply(text), expected, "{text}");
        }
    }

    #[test]
    fn other_paths_stay() {
        for text in [
            "",
            "/",
            "/tmp",
            "/tmp/prompts",
            "/tmp/prompt.txt",
            "/tmp/prompt-2",
            "/tmp/prompt*",
            "/tmp/prompt$N",
            "/tmp/prompté",
            "/var/tmp/prompt",
            "//tmp/prompt",
            "./tmp/prompt",
            "~/tmp/prompt",
            "${HOME}/tmp/prompt",
            "$HOME/tmp/prompt",
            "$(pwd)/tmp/prompt",
            "*/tmp/prompt",
            "https://host/tmp/prompt",
            "tmp/prompt",
        ] {
            assert_eq!(map().apply(text), text);
        }
    }

    #[test]
    fn a_path_by_itself_is_resolved() {
        assert_eq!(map().resolve("/paperclip/work"), (PathBuf::from("/v/data/work"), true));
        assert_eq!(map().resolve("/paperclip"), (PathBuf::from("/v/data"), true));
        assert_eq!(map().resolve("/tmp/prompts"), (PathBuf::from("/tmp/prompts"), false));
    }

    #[test]
    fn replaced_mount_is_not_replaced_again() {
        let map =
            PathMap::new([("/a".to_owned(), PathBuf::from("/b")), ("/b".to_owned(), PathBuf::from("/a"))]);
        assert_eq!(map.apply("/a /b /a/b"), "/b /a /b/b");
    }
}
