//! Variables of Paperclip's pod that name files of its data volume, which agents with a home of their own do not have.

use std::borrow::Cow;

use super::paperclip_pod::DATA_DIR;

/// Returns what an agent inherits of a value: `None` if it names a file or folder below [`DATA_DIR`] that the agent's container does not
/// mount. Of a list of paths, such as `PATH`, the others are inherited.
///
/// `folders` is what the container mounts, as [`super::data_volume::folders`] returns it.
pub fn inherited<'a>(value: &'a str, folders: &[String]) -> Option<Cow<'a, str>> {
    if !names_missing_file(value, folders) {
        return Some(Cow::Borrowed(value));
    }
    let paths: Vec<&str> = value.split(':').collect();
    let is_list = paths.iter().all(|path| path.is_empty() || path.starts_with('/'));
    let rest: Vec<&str> = paths.into_iter().filter(|path| !names_missing_file(path, folders)).collect();
    let has_path = rest.iter().any(|path| !path.is_empty());
    (is_list && has_path).then(|| Cow::Owned(rest.join(":")))
}

fn names_missing_file(text: &str, folders: &[String]) -> bool {
    let is_between = |c: char| c.is_whitespace() || ":;,=\"'".contains(c);
    text.split(is_between).any(|word| is_missing(word, folders))
}

/// Whether a word is a path below [`DATA_DIR`], or such a path of a `file:` URL after its scheme, and no folder that is mounted has it.
/// [`DATA_DIR`] itself is the agent's home.
fn is_missing(word: &str, folders: &[String]) -> bool {
    let path = word.strip_prefix("//").unwrap_or(word);
    let Some(below) = path.strip_prefix(DATA_DIR).and_then(|path| path.strip_prefix('/')) else {
        return false;
    };
    let below = below.trim_matches('/');
    let is_at_or_below = |folder: &String| {
        below.strip_prefix(folder.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // The first folder is the home. It is mounted at `DATA_DIR`, not where it is in the volume.
    !below.is_empty() && !folders.iter().skip(1).any(is_at_or_below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_files_of_the_server_is_not_inherited() {
        let folders = ["agent-homes/acme/nova", "instances/default/workspaces/nova"].map(str::to_owned);
        for (value, expected) in [
            ("", Some("")),
            ("Europe/Berlin", Some("Europe/Berlin")),
            ("/paperclip", Some("/paperclip")),
            ("/paperclip/", Some("/paperclip/")),
            ("/paperclips/a", Some("/paperclips/a")),
            ("/srv/paperclip/a", Some("/srv/paperclip/a")),
            ("http://paperclip/api", Some("http://paperclip/api")),
            ("https://example.com/paperclip/api", Some("https://example.com/paperclip/api")),
            ("/paperclip/instances/default/config.json", None),
            ("/paperclip/agent-homes/acme/nova/x", None),
            ("/paperclip/agent-homes/acme/other", None),
            (
                "/paperclip/instances/default/workspaces/nova/src",
                Some("/paperclip/instances/default/workspaces/nova/src"),
            ),
            ("/paperclip/instances/default/workspaces/nova2", None),
            ("file:///paperclip/ca.pem", None),
            ("--max-old-space-size=4096 --require=/paperclip/hook.js", None),
            ("{\"path\":\"/paperclip/x\"}", None),
            ("/paperclip/bin:/usr/bin:/bin", Some("/usr/bin:/bin")),
            ("/paperclip/bin:/paperclip/lib", None),
            ("/paperclip/bin:", None),
        ] {
            assert_eq!(inherited(value, &folders).as_deref(), expected, "{value}");
        }
    }
}
