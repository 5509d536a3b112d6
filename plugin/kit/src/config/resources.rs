//! CPU and memory of the agent's container.

use serde_json::Value;

use super::fields::Fields;
use crate::javascript::{number_text, trim};
use crate::kubernetes::quantity::Quantity;
use crate::refusal::Refusal;

/// Requests and limits, as the config has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    pub requests: Amounts,
    pub limits: Amounts,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amounts {
    pub cpu: String,
    pub memory: String,
}

/// Reads `resources.requests.cpu` and the other amounts, each a field of its own or a member of an object `resources`.
///
/// # Errors
/// An amount is not a quantity, or a request is above its limit.
pub fn read(fields: &mut Fields<'_>) -> Result<Resources, Refusal> {
    let requests = Amounts {
        cpu: amount(fields, "requests", "cpu", "1000m")?,
        memory: amount(fields, "requests", "memory", "2Gi")?,
    };
    let limits = Amounts {
        cpu: amount(fields, "limits", "cpu", "4000m")?,
        memory: amount(fields, "limits", "memory", "8Gi")?,
    };
    check_order("cpu", &requests.cpu, &limits.cpu)?;
    check_order("memory", &requests.memory, &limits.memory)?;
    Ok(Resources { requests, limits })
}

fn amount(fields: &mut Fields<'_>, kind: &str, resource: &str, default: &str) -> Result<String, Refusal> {
    let field = format!("resources.{kind}.{resource}");
    let nested =
        fields.value("resources").and_then(|all| all.get(kind)).and_then(|amounts| amounts.get(resource));
    let text = match fields.value(&field).or(nested).unwrap_or(&Value::Null) {
        Value::Null => return Ok(default.to_owned()),
        Value::String(text) if trim(text).is_empty() => return Ok(default.to_owned()),
        Value::String(text) => trim(text).to_owned(),
        Value::Number(number) => number_text(number),
        other => {
            return Err(Refusal::new(field, format!("{other} must be an amount such as `{default}`")));
        }
    };
    let quantity =
        Quantity::parse(&text).map_err(|rule| Refusal::new(field.as_str(), format!("`{text}` {rule}")))?;
    if resource == "memory" && !quantity.is_whole() {
        let message =
            format!("`{text}` is a fraction of a byte; for megabytes write `M` or `Mi`, as in `512Mi`");
        return Err(Refusal::new(field, message));
    }
    Ok(text)
}

fn check_order(resource: &str, request: &str, limit: &str) -> Result<(), Refusal> {
    match (Quantity::parse(request), Quantity::parse(limit)) {
        (Ok(requested), Ok(limited)) if requested > limited => Err(Refusal::new(
            format!("resources.requests.{resource}"),
            format!(
                "`{request}` is more than the limit `{limit}`; lower it or raise resources.limits.{resource}"
            ),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_from(config: &Value) -> Result<Resources, Refusal> {
        read(&mut Fields::new(config.as_object().unwrap()))
    }

    fn texts(config: &Value) -> [String; 4] {
        let resources = read_from(config).unwrap();
        [resources.requests.cpu, resources.requests.memory, resources.limits.cpu, resources.limits.memory]
    }

    #[test]
    fn flat_fields_precede_the_object_and_that_precedes_the_defaults() {
        assert_eq!(texts(&json!({})), ["1000m", "2Gi", "4000m", "8Gi"]);
        let config = json!({
            "resources.requests.cpu": " 250m ",
            "resources.limits.cpu": 2,
            "resources.limits.memory": "",
            "resources": {"requests": {"cpu": "3", "memory": "512Mi"}},
        });
        assert_eq!(texts(&config), ["250m", "512Mi", "2", "8Gi"]);
    }

    #[test]
    fn refuses_amounts_that_kubernetes_would_refuse() {
        for (config, field) in [
            (json!({"resources.requests.cpu": "lots"}), "resources.requests.cpu"),
            (json!({"resources.limits.memory": "4GB"}), "resources.limits.memory"),
            (json!({"resources.limits.memory": "500m"}), "resources.limits.memory"),
            (json!({"resources.requests.memory": "-1Gi"}), "resources.requests.memory"),
            (json!({"resources.requests.memory": "9Gi"}), "resources.requests.memory"),
            (json!({"resources.limits.cpu": "0.5"}), "resources.requests.cpu"),
            (json!({"resources.limits.cpu": ["1"]}), "resources.limits.cpu"),
        ] {
            assert_eq!(read_from(&config).unwrap_err().field, field, "{config}");
        }
    }
}
