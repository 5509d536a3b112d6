//! Image references, by the grammar of `github.com/distribution/reference`. A Pod with an image that the kubelet cannot parse
//! fails at once.

/// The longest repository name, registry included.
const NAME_MAX_BYTES: usize = 255;
const TAG_MAX_BYTES: usize = 128;

/// Checks that a text is `[registry[:port]/]path[:tag][@algorithm:hex]`.
///
/// # Errors
/// What has to be different, as a phrase that follows the text.
pub fn reference(image: &str) -> Result<(), String> {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    // A colon after the last slash starts the tag; one before it is of the registry's port.
    let last_slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = rest[last_slash..]
        .find(':')
        .map_or((rest, None), |at| (&rest[..last_slash + at], Some(&rest[last_slash + at + 1..])));
    if image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must not contain white space".into());
    }
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !is_name(name) {
        return Err("must be an image reference such as `registry.example.com/team/agent:1.2`: the name in lower-case letters, digits, `.`, `_`, `-` and `/`".into());
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(format!("its tag must be 1 to {TAG_MAX_BYTES} letters, digits, `_`, `.` and `-`"));
    }
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("its digest must read `sha256:` and 64 hexadecimal digits".into());
    }
    Ok(())
}

/// Returns an image with the registry that container runtimes complete it by: `img:1` → `docker.io/library/img:1`.
///
/// ```
/// use paperclip_kubernetes::image::with_registry;
///
/// assert_eq!(with_registry("acme/agent:1"), "docker.io/acme/agent:1");
/// assert_eq!(with_registry("ghcr.io/acme/agent:1"), "ghcr.io/acme/agent:1");
/// ```
pub fn with_registry(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if is_registry_like(first) => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
        None => format!("docker.io/library/{image}"),
    }
}

fn is_name(name: &str) -> bool {
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry_like(first) => (Some(first), path),
        _ => (None, name),
    };
    registry.is_none_or(is_registry) && path.split('/').all(is_path_component)
}

/// Whether the first part is the name of a registry, rather than of a folder on the default one.
fn is_registry_like(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
    let is_host_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(is_host_part)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(is_alphanumeric)
        && component.ends_with(is_alphanumeric)
        && component.split(is_alphanumeric).all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= TAG_MAX_BYTES
        && tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    let hex_digits =
        |hex: &str, count| hex.len() == count && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match digest.split_once(':') {
        Some(("sha256", hex)) => hex_digits(hex, 64),
        Some(("sha384", hex)) => hex_digits(hex, 96),
        Some(("sha512", hex)) => hex_digits(hex, 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_references() {
        let by_digest = format!("reg.io:5000/a/b:1@sha256:{}", "0af".repeat(22).split_at(64).0);
        for good in [
            "custom:2",
            "busybox",
            "ghcr.io/acme/paperclip:1.2.3",
            "localhost/x",
            "localhost:5000/x:y",
            "Registry.example.com/a",
            "a/b/c__d/e--f.g_h:V1_2-3.x",
            &by_digest,
        ] {
            assert_eq!(reference(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn refuses_texts_that_are_not_references() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = "a".repeat(256);
        for bad in [
            "",
            " a",
            "a b",
            "a\n",
            "A",
            "acme/Paperclip",
            "a:",
            "a:-x",
            "a:b:c",
            "a@sha256:abc",
            "a@",
            ":1",
            "/a",
            "a/",
            "a//b",
            "a/-b",
            "a/b.",
            "a/b..c",
            "a___b",
            "reg.io:x/a",
            "-reg.io/a",
            "http://reg.io/a",
            &long_tag,
            &long_name,
        ] {
            assert!(reference(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn completes_the_registry() {
        for (image, expected) in [
            ("img:1", "docker.io/library/img:1"),
            ("acme/img", "docker.io/acme/img"),
            ("localhost/img", "localhost/img"),
            ("reg:5000/img", "reg:5000/img"),
            ("Registry/img", "Registry/img"),
        ] {
            assert_eq!(with_registry(image), expected, "{image}");
        }
    }
}
