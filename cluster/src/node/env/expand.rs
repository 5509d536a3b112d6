//! `$(NAME)` in commands, arguments and env values, as Kubernetes expands it.

/// Replaces every `$(NAME)` for which `lookup` has a value. Unknown names stay as they are, and `$$` stands
/// for one `$`, so that `$$(NAME)` is the text `$(NAME)`.
pub(crate) fn expand<'a>(input: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    while let Some(dollar) = rest.find('$') {
        output.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        let reference = after.strip_prefix('(').and_then(|inner| Some((inner, inner.find(')')?)));
        if let Some(escaped) = after.strip_prefix('$') {
            output.push('$');
            rest = escaped;
        } else if let Some((inner, end)) = reference {
            match lookup(&inner[..end]) {
                Some(value) => output.push_str(value),
                None => output.push_str(&rest[dollar..dollar + "$(".len() + end + 1]),
            }
            rest = &inner[end + 1..];
        } else {
            output.push('$');
            rest = after;
        }
    }
    output.push_str(rest);
    output
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn references() {
        let lookup = |name: &str| match name {
            "A" => Some("a"),
            "EMPTY" => Some(""),
            "NESTED" => Some("$(A)"),
            _ => None,
        };
        for (input, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("x$(A)y$(A)", "xaya"),
            ("$(EMPTY)!", "!"),
            ("$(NESTED)", "$(A)"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$A ${A} $", "$A ${A} $"),
            ("$(A", "$(A"),
            ("$()", "$()"),
            ("é$(A)é", "éaé"),
        ] {
            assert_eq!(expand(input, lookup), expected, "{input}");
        }
    }
}
