//! Tolerations: which taints of a node a Pod tolerates.

use serde::{Deserialize, Serialize};

use super::label;

/// A toleration; an empty text counts as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// The invalid field of a toleration, and what it has to be.
pub type Fault = (&'static str, String);

/// Checks a toleration by Kubernetes' rules.
///
/// # Errors
/// The first field that Kubernetes would refuse, and what it has to be.
pub fn check(toleration: &Toleration) -> Result<(), Fault> {
    let given = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let (key, operator, value, effect) = (
        given(&toleration.key),
        given(&toleration.operator),
        given(&toleration.value),
        given(&toleration.effect),
    );
    if let Some(key) = &key {
        label::key(key).map_err(|rule| ("key", format!("`{key}` {rule}")))?;
    }
    match operator.as_deref() {
        Some("Exists") if value.is_some() => {
            return Err(("value", "must be left out if the operator is `Exists`".into()));
        }
        Some("Exists") => {}
        None | Some("Equal") if key.is_none() => {
            return Err(("operator", "must be `Exists` if there is no key".into()));
        }
        None | Some("Equal") => {
            let value = value.unwrap_or_default();
            label::value(&value).map_err(|rule| ("value", format!("`{value}` {rule}")))?;
        }
        Some(other) => return Err(("operator", format!("`{other}` must be `Exists` or `Equal`"))),
    }
    match effect.as_deref() {
        None | Some("NoSchedule" | "PreferNoSchedule" | "NoExecute") => {}
        Some(other) => {
            let message = format!("`{other}` must be `NoSchedule`, `PreferNoSchedule` or `NoExecute`");
            return Err(("effect", message));
        }
    }
    if toleration.toleration_seconds.is_some() && effect.as_deref() != Some("NoExecute") {
        return Err(("effect", "must be `NoExecute` if tolerationSeconds is set".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fault(toleration: Value) -> Option<&'static str> {
        check(&serde_json::from_value(toleration).unwrap()).err().map(|(field, _)| field)
    }

    #[test]
    fn follows_the_rules_of_kubernetes() {
        for (toleration, expected) in [
            (json!({"key": "gpu", "operator": "Exists"}), None),
            (json!({"operator": "Exists"}), None),
            (json!({"key": "a/b", "value": "c", "effect": "NoSchedule"}), None),
            (json!({"key": "a", "operator": "", "value": "", "effect": ""}), None),
            (json!({"key": "a", "effect": "NoExecute", "tolerationSeconds": 60}), None),
            (json!({"key": "a b"}), Some("key")),
            (json!({}), Some("operator")),
            (json!({"operator": "Equal", "value": "x"}), Some("operator")),
            (json!({"key": "a", "operator": "exists"}), Some("operator")),
            (json!({"key": "a", "operator": "Exists", "value": "x"}), Some("value")),
            (json!({"key": "a", "value": "x y"}), Some("value")),
            (json!({"key": "a", "effect": "noSchedule"}), Some("effect")),
            (json!({"key": "a", "tolerationSeconds": 60}), Some("effect")),
        ] {
            assert_eq!(fault(toleration.clone()), expected, "{toleration}");
        }
    }
}
