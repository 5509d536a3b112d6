//! Reads the config field `tolerations`: a list from the API, JSON, YAML, or taints in the notation of `kubectl taint`, one a line.

use serde_json::Value;

use super::document::{self, Node, NodeValue};
use crate::kubernetes::toleration::{Toleration, check};
use crate::refusal::Refusal;

const FIELD: &str = "tolerations";
const EXPECTED: &str = "write a list of tolerations in YAML or JSON, or one taint `key=value:Effect` a line";

/// Reads and checks the tolerations.
///
/// # Errors
/// The value is not a list of tolerations, or Kubernetes would refuse one of them.
///
/// ```
/// use paperclip_kit::config::tolerations::read;
/// use serde_json::json;
///
/// let tolerations = read(&json!("gpu=yes:NoSchedule")).unwrap();
/// assert_eq!(tolerations[0].key.as_deref(), Some("gpu"));
/// ```
pub fn read(value: &Value) -> Result<Vec<Toleration>, Refusal> {
    let tolerations = match value {
        Value::String(text) => match taints(text) {
            Some(tolerations) => tolerations,
            None => from_node(document::parse(text).map_err(|error| {
                Refusal::on_line(FIELD, error.line, format!("{}; {EXPECTED}", error.message))
            })?)?,
        },
        other => from_node(document::from_json(other))?,
    };
    for (index, (toleration, line)) in tolerations.iter().enumerate() {
        check(toleration)
            .map_err(|(key, message)| Refusal::on_line(format!("{FIELD}[{index}].{key}"), *line, message))?;
    }
    Ok(tolerations.into_iter().map(|(toleration, _)| toleration).collect())
}

type Placed = (Toleration, Option<usize>);

fn from_node(node: Node) -> Result<Vec<Placed>, Refusal> {
    match node.value {
        NodeValue::Null => Ok(Vec::new()),
        NodeValue::Map(entries) if entries.is_empty() => Ok(Vec::new()),
        NodeValue::Map(entries) => Ok(vec![(one(0, entries)?, node.line)]),
        NodeValue::List(items) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| match item.value {
                NodeValue::Map(entries) => Ok((one(index, entries)?, item.line)),
                other => {
                    let message = format!(
                        "must be a toleration such as `{{key: gpu, operator: Exists}}`, not {}",
                        other.kind()
                    );
                    Err(Refusal::on_line(format!("{FIELD}[{index}]"), item.line, message))
                }
            })
            .collect(),
        other => Err(Refusal::new(FIELD, format!("{} was given; {EXPECTED}", other.kind()))),
    }
}

fn one(index: usize, entries: Vec<(String, Node)>) -> Result<Toleration, Refusal> {
    let mut toleration = Toleration::default();
    for (key, node) in entries {
        let line = node.line;
        let refused = |message: String| Refusal::on_line(format!("{FIELD}[{index}].{key}"), line, message);
        let slot = match key.as_str() {
            "key" => &mut toleration.key,
            "operator" => &mut toleration.operator,
            "value" => &mut toleration.value,
            "effect" => &mut toleration.effect,
            "tolerationSeconds" => {
                toleration.toleration_seconds = seconds(&node.value).map_err(refused)?;
                continue;
            }
            _ => {
                return Err(refused("is not a field of a toleration; the fields are key, operator, value, effect and tolerationSeconds".into()));
            }
        };
        *slot = match node.value {
            NodeValue::Null => None,
            NodeValue::Text(text) => Some(text),
            NodeValue::Bool(flag) => {
                return Err(refused(format!("must be text: put it in quotes, \"{flag}\"")));
            }
            NodeValue::Number(number) => {
                return Err(refused(format!("must be text: put it in quotes, \"{number}\"")));
            }
            other => return Err(refused(format!("must be text, not {}", other.kind()))),
        };
    }
    Ok(toleration)
}

fn seconds(value: &NodeValue) -> Result<Option<i64>, String> {
    match value {
        NodeValue::Null => Ok(None),
        NodeValue::Number(number) => {
            number.as_i64().map(Some).ok_or_else(|| format!("{number} must be a whole number of seconds"))
        }
        other => Err(format!("must be a whole number of seconds, not {}", other.kind())),
    }
}

/// Reads taints, one a line: `key=value:Effect`, `key:Effect`, `key=value`. `None` if a line is something else.
fn taints(text: &str) -> Option<Vec<Placed>> {
    let tolerations: Vec<Placed> = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| taint(line).map(|toleration| (toleration, Some(number))))
        .collect::<Option<_>>()?;
    (!tolerations.is_empty()).then_some(tolerations)
}

fn taint(line: &str) -> Option<Toleration> {
    let is_word = !line.contains(|c: char| c.is_whitespace() || matches!(c, '{' | '[' | '"' | '\'' | ','));
    let (rest, effect) = line.split_once(':').map_or((line, None), |(rest, effect)| (rest, Some(effect)));
    let (key, value) = rest.split_once('=').map_or((rest, None), |(key, value)| (key, Some(value)));
    if !is_word || key.is_empty() || effect == Some("") || value.is_none() && effect.is_none() {
        return None;
    }
    Some(Toleration {
        key: Some(key.to_owned()),
        operator: Some(if value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: value.map(str::to_owned),
        effect: effect.map(str::to_owned),
        toleration_seconds: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_every_notation_of_tolerations() {
        let expected = json!([{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]);
        for text in [
            "- key: gpu\n  operator: Equal\n  value: \"yes\"\n  effect: NoSchedule\n",
            "[{\"key\":\"gpu\",\"operator\":\"Equal\",\"value\":\"yes\",\"effect\":\"NoSchedule\"}]",
            "key: gpu\noperator: Equal\nvalue: yes\neffect: NoSchedule",
            "# cards\ngpu=yes:NoSchedule\n",
        ] {
            let tolerations = serde_json::to_value(read(&json!(text)).unwrap()).unwrap();
            assert_eq!(tolerations, expected, "{text}");
        }
        assert_eq!(serde_json::to_value(read(&expected).unwrap()).unwrap(), expected);
    }

    #[test]
    fn reads_seconds_and_taints_without_a_value() {
        let read = |value| serde_json::to_value(read(&value).unwrap()).unwrap();
        assert_eq!(
            read(json!("spot:NoExecute\na=b")),
            json!([
                {"key": "spot", "operator": "Exists", "effect": "NoExecute"},
                {"key": "a", "operator": "Equal", "value": "b"}
            ])
        );
        let timed =
            json!([{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}]);
        assert_eq!(read(timed.clone()), timed);
        for empty in [json!(""), json!([]), json!({}), json!("# none")] {
            assert_eq!(read(empty), json!([]));
        }
    }

    #[test]
    fn refusals_name_toleration_field_and_correction() {
        for (value, field, message) in [
            (
                json!([{"key": "a"}, {"effect": "No"}]),
                "tolerations[1].operator",
                "must be `Exists` if there is no key",
            ),
            (json!("- key: a\n- key: b c\n"), "tolerations[1].key", "line 2: `b c` must be a name"),
            (json!("- key: a\n  kye: x\n"), "tolerations[0].kye", "line 2: is not a field of a toleration"),
            (
                json!("- key: a\n  value: true\n"),
                "tolerations[0].value",
                "line 2: must be text: put it in quotes, \"true\"",
            ),
            (
                json!([{"key": "a", "tolerationSeconds": "60"}]),
                "tolerations[0].tolerationSeconds",
                "must be a whole number",
            ),
            (json!([3]), "tolerations[0]", "must be a toleration such as"),
            (json!("gpu"), "tolerations", "text was given; write a list"),
            (json!(true), "tolerations", "true or false was given; write a list"),
            (json!("gpu=a:Sometimes"), "tolerations[0].effect", "line 1: `Sometimes` must be"),
        ] {
            let refusal = read(&value).unwrap_err();
            assert_eq!(refusal.field, field, "{value}");
            assert!(refusal.message.starts_with(message), "{value}: {refusal}");
        }
    }
}
