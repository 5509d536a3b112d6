//! Fields of a config that nothing reads: typing errors, and fields of Kubernetes that a config does not have.

use serde_json::{Map, Value};

/// Fields that are read elsewhere than by [`super::fields::Fields`], `logFormat` by the adapter packages.
const READ_ELSEWHERE: [&str; 5] =
    ["env", "promptTemplate", "bootstrapPromptTemplate", "secretRef", "logFormat"];
/// Prefixes of the fields of Paperclip's server.
const OF_SERVER: [&str; 3] = ["paperclip", "instructions", "workspace"];
/// Most fields that a warning lists, and the characters of each.
const LISTED_MAX: usize = 10;
const NAME_MAX_CHARS: usize = 40;

/// Returns a warning that lists the fields that are not in `read`, each with the most similar one that is. A key in `read` that ends with
/// a dot is a prefix.
pub fn warning(config: &Map<String, Value>, read: &[String]) -> Option<String> {
    let is_read = |key: &str| {
        READ_ELSEWHERE.contains(&key)
            || OF_SERVER.iter().any(|prefix| key.starts_with(prefix))
            || read
                .iter()
                .any(|known| key == known || known.ends_with('.') && key.starts_with(known.as_str()))
    };
    let mut unused = config.iter().filter(|(key, value)| !value.is_null() && !is_read(key));
    let mut listed = Vec::new();
    for (key, _) in unused.by_ref().take(LISTED_MAX) {
        let mut text: String = key.chars().take(NAME_MAX_CHARS).collect();
        if let Some(similar) = most_similar(&text, read) {
            text.push_str(" (did you mean ");
            text.push_str(similar);
            text.push_str("?)");
        }
        listed.push(text);
    }
    if listed.is_empty() {
        return None;
    }
    if unused.next().is_some() {
        listed.push("…".into());
    }
    Some(["config fields that have no effect for this agent type: ", &listed.join(", ")].concat())
}

/// Returns the name that differs least, if it differs in at most a third of the characters.
fn most_similar<'n>(key: &str, names: &'n [String]) -> Option<&'n str> {
    let nearest = names.iter().map(|name| (distance(key, name), name)).min_by_key(|(distance, _)| *distance);
    nearest.filter(|(distance, _)| distance * 3 <= key.len()).map(|(_, name)| name.as_str())
}

/// Returns how many bytes are inserted, removed or replaced between two texts of the same or of different cases.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, byte) in one.bytes().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for (column, of_other) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(!byte.eq_ignore_ascii_case(&of_other));
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn warning_of(config: &Value) -> Option<String> {
        let read = ["timeoutSec", "nodeSelector", "namespace", "resources."].map(str::to_owned);
        warning(config.as_object().unwrap(), &read)
    }

    #[test]
    fn lists_fields_that_have_no_effect_with_the_nearest_known_name() {
        let config = json!({
            "timeoutSec": 1, "timoutSec": 2, "nodeselector": {}, "hostNetwork": true, "volumes": [], "nothing": null,
            "env": {}, "paperclipSkillSync": {}, "instructionsFilePath": "/a", "resources.limits.cpu": "1",
            "workspaceStrategy": {},
        });
        assert_eq!(
            warning_of(&config).unwrap(),
            "config fields that have no effect for this agent type: timoutSec (did you mean timeoutSec?), nodeselector (did you mean nodeSelector?), hostNetwork, volumes"
        );
        assert_eq!(warning_of(&json!({"timeoutSec": 1})), None);
    }

    #[test]
    fn a_warning_is_short_whatever_a_tenant_writes() {
        let config: Map<String, Value> =
            (0..50_000).map(|index| (format!("{index}{}", "é".repeat(500)), json!(1))).collect();
        let warning = warning_of(&Value::Object(config)).unwrap();
        assert!(warning.len() < 1_000 && warning.ends_with(", …"), "{warning}");
    }

    #[test]
    fn counts_what_differs() {
        for (one, other, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("timoutSec", "timeoutSec", 1),
            ("AB", "ab", 0),
            ("abc", "xbd", 2),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
