//! Paths inside a container and inside a volume.

/// The longest path of Linux.
const PATH_MAX_BYTES: usize = 4095;
const COMPONENT_MAX_BYTES: usize = 255;

/// Checks a working directory: container runtimes refuse a relative one.
///
/// # Errors
/// What the path has to be.
pub fn absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') && path.len() <= PATH_MAX_BYTES && !path.contains('\0') {
        return Ok(());
    }
    Err("must be an absolute path inside the container, such as `/paperclip/workspace`".into())
}

/// Checks the path of a file inside a projected volume.
///
/// # Errors
/// What the path has to be.
pub fn inside_volume(path: &str) -> Result<(), String> {
    let is_component = |part: &str| {
        !matches!(part, "" | ".")
            && !part.starts_with("..")
            && part.len() <= COMPONENT_MAX_BYTES
            && !part.contains('\0')
    };
    if path.len() <= PATH_MAX_BYTES && path.split('/').all(is_component) {
        return Ok(());
    }
    Err("must be a relative path without `..`, such as `skills/review/SKILL.md`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_absolute_paths_and_paths_inside_a_volume() {
        assert!(absolute("/").is_ok() && absolute("/a b/é").is_ok());
        assert!(absolute("").is_err() && absolute("a").is_err() && absolute("/a\0").is_err());
        assert!(absolute(&"/a".repeat(3000)).is_err());
        assert!(inside_volume("a").is_ok() && inside_volume(".claude/skills/x/SKILL.md").is_ok());
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/..b", "a/./b", "a\0b"] {
            assert!(inside_volume(bad).is_err(), "{bad}");
        }
    }
}
