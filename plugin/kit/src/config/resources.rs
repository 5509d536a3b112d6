//! Reads the resources of the agent's container.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::Fields;
use crate::javascript::{number_text, trim};
use crate::kubernetes::quantity;
use crate::kubernetes::resource::{self, Kind};
use crate::refusal::Refusal;

/// Resources that every agent has: name, default request and default limit.
const DEFAULTS: [(&str, &str, &str); 2] = [("cpu", "1000m", "4000m"), ("memory", "2Gi", "8Gi")];

/// Amounts by the name of the resource, as the config has them.
pub type Amounts = BTreeMap<String, String>;

/// Requests and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    pub requests: Amounts,
    pub limits: Amounts,
}

/// Reads `resources.requests.cpu` and the other amounts, each a field of its own or a member of an object `resources`.
///
/// A resource that has only a limit requests the same amount, as in Kubernetes. CPU and memory have defaults.
///
/// # Errors
/// A container cannot have the resource, an amount is not a quantity, or a request does not fit its limit.
pub fn read(fields: &mut Fields<'_>) -> Result<Resources, Refusal> {
    let mut requests = Amounts::new();
    let mut limits = Amounts::new();
    for (path, value) in configured(fields) {
        let field = format!("resources.{path}");
        let (amounts, name) = match path.split_once('.') {
            Some(("requests", name)) => (&mut requests, name),
            Some(("limits", name)) => (&mut limits, name),
            Some(_) | None => {
                let message = "is not supported; write `resources.requests.NAME` or `resources.limits.NAME`";
                return Err(Refusal::new(field, message));
            }
        };
        if let Some(amount) = amount(&field, name, value)? {
            amounts.insert(name.to_owned(), amount);
        }
    }
    for (name, limit) in &limits {
        requests.entry(name.clone()).or_insert_with(|| limit.clone());
    }
    for (name, request, limit) in DEFAULTS {
        requests.entry(name.to_owned()).or_insert_with(|| request.to_owned());
        limits.entry(name.to_owned()).or_insert_with(|| limit.to_owned());
    }
    for (name, request) in &requests {
        check_request(name, request, limits.get(name).map(String::as_str))?;
    }
    Ok(Resources { requests, limits })
}

/// Returns every value below `resources` by its path, such as `limits.memory`. A field of its own precedes a member.
fn configured<'a>(fields: &mut Fields<'a>) -> BTreeMap<String, &'a Value> {
    let mut values = BTreeMap::new();
    for (kind, members) in fields.object("resources").into_iter().flatten() {
        match members {
            Value::Object(members) => {
                let members = members.iter().filter(|(_, value)| !value.is_null());
                values.extend(members.map(|(name, value)| (format!("{kind}.{name}"), value)));
            }
            Value::Null => {}
            other => {
                values.insert(kind.clone(), other);
            }
        }
    }
    values.extend(fields.with_prefix("resources.").map(|(path, value)| (path.to_owned(), value)));
    values
}

/// Reads an amount; blank text counts as absent.
fn amount(field: &str, name: &str, value: &Value) -> Result<Option<String>, Refusal> {
    let kind = resource::kind(name).map_err(|rule| Refusal::new(field, format!("`{name}` {rule}")))?;
    let text = match value {
        Value::String(text) if trim(text).is_empty() => return Ok(None),
        Value::String(text) => trim(text).to_owned(),
        Value::Number(number) => number_text(number),
        other => {
            return Err(Refusal::new(field, format!("{other} must be an amount such as `2` or `512Mi`")));
        }
    };
    let amount = quantity::parse(&text).map_err(|rule| Refusal::new(field, format!("`{text}` {rule}")))?;
    let is_legal = amount.is_whole()
        || match kind {
            Kind::Cpu => true,
            Kind::Bytes | Kind::HugePages | Kind::Extended => false,
        };
    if is_legal {
        return Ok(Some(text));
    }
    let message = match kind {
        Kind::Extended => format!("`{text}` must be a whole number of {name}"),
        Kind::Cpu | Kind::Bytes | Kind::HugePages => {
            format!("`{text}` is a fraction of a byte; for megabytes write `M` or `Mi`, as in `512Mi`")
        }
    };
    Err(Refusal::new(field, message))
}

fn check_request(name: &str, request: &str, limit: Option<&str>) -> Result<(), Refusal> {
    let may_overcommit = resource::kind(name).is_ok_and(Kind::may_overcommit);
    let Some(limit) = limit else {
        if may_overcommit {
            return Ok(());
        }
        let message = format!(
            "must be set, to the `{request}` that are requested: {name} has no request without a limit"
        );
        return Err(Refusal::new(format!("resources.limits.{name}"), message));
    };
    let (Ok(requested), Ok(limited)) = (quantity::parse(request), quantity::parse(limit)) else {
        return Ok(());
    };
    let message = if requested > limited {
        format!("`{request}` is more than the limit `{limit}`; lower it or raise resources.limits.{name}")
    } else if requested < limited && !may_overcommit {
        format!("`{request}` must be equal to the limit `{limit}`: a node does not overcommit {name}")
    } else {
        return Ok(());
    };
    Err(Refusal::new(format!("resources.requests.{name}"), message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_from(config: &Value) -> Result<Resources, Refusal> {
        read(&mut Fields::new(config.as_object().unwrap()))
    }

    fn amounts(amounts: &[(&str, &str)]) -> Amounts {
        amounts.iter().map(|(name, amount)| ((*name).to_owned(), (*amount).to_owned())).collect()
    }

    #[test]
    fn flat_fields_precede_the_object_and_that_precedes_the_defaults() {
        let defaults = read_from(&json!({})).unwrap();
        assert_eq!(defaults.requests, amounts(&[("cpu", "1000m"), ("memory", "2Gi")]));
        assert_eq!(defaults.limits, amounts(&[("cpu", "4000m"), ("memory", "8Gi")]));
        let resources = read_from(&json!({
            "resources.requests.cpu": " 250m ",
            "resources.limits.cpu": 2,
            "resources.limits.memory": "",
            "resources": {"requests": {"cpu": "3", "memory": "512Mi"}},
        }))
        .unwrap();
        assert_eq!(resources.requests, amounts(&[("cpu", "250m"), ("memory", "512Mi")]));
        assert_eq!(resources.limits, amounts(&[("cpu", "2"), ("memory", "8Gi")]));
    }

    #[test]
    fn a_resource_with_only_a_limit_requests_as_much() {
        for (config, request) in [
            (json!({"resources.limits.cpu": "0.5"}), ("cpu", "0.5")),
            (json!({"resources": {"limits": {"memory": "16Gi"}}}), ("memory", "16Gi")),
            (json!({"resources.limits.ephemeral-storage": "1Gi"}), ("ephemeral-storage", "1Gi")),
            (json!({"resources.limits.nvidia.com/gpu": 1}), ("nvidia.com/gpu", "1")),
            (json!({"resources.limits.hugepages-2Mi": "64Mi"}), ("hugepages-2Mi", "64Mi")),
        ] {
            let resources = read_from(&config).unwrap();
            assert_eq!(resources.requests[request.0], request.1, "{config}");
            assert_eq!(resources.limits[request.0], request.1, "{config}");
        }
    }

    #[test]
    fn resources_of_any_name_are_passed_on() {
        let resources = read_from(&json!({
            "resources.requests.ephemeral-storage": "10Gi",
            "resources": {
                "requests": {"example.com/fpga": "2", "cpu": null},
                "limits": {"example.com/fpga": 2},
            },
        }))
        .unwrap();
        let requests = amounts(&[
            ("cpu", "1000m"),
            ("memory", "2Gi"),
            ("ephemeral-storage", "10Gi"),
            ("example.com/fpga", "2"),
        ]);
        assert_eq!(resources.requests, requests);
        let limits = amounts(&[("cpu", "4000m"), ("memory", "8Gi"), ("example.com/fpga", "2")]);
        assert_eq!(resources.limits, limits, "ephemeral storage needs no limit");
    }

    #[test]
    fn refuses_amounts_that_kubernetes_would_refuse() {
        for (config, field) in [
            (json!({"resources.requests.cpu": "lots"}), "resources.requests.cpu"),
            (json!({"resources.limits.memory": "4GB"}), "resources.limits.memory"),
            (json!({"resources.limits.memory": "500m"}), "resources.limits.memory"),
            (json!({"resources.requests.memory": "-1Gi"}), "resources.requests.memory"),
            (json!({"resources.requests.memory": "9Gi"}), "resources.requests.memory"),
            (json!({"resources.requests.cpu": "1", "resources.limits.cpu": "0.5"}), "resources.requests.cpu"),
            (json!({"resources.limits.cpu": ["1"]}), "resources.limits.cpu"),
            (json!({"resources.limits.ephemeral-storage": "1500m"}), "resources.limits.ephemeral-storage"),
            (json!({"resources.limits.nvidia.com/gpu": "0.5"}), "resources.limits.nvidia.com/gpu"),
            (json!({"resources.requests.nvidia.com/gpu": "1"}), "resources.limits.nvidia.com/gpu"),
            (json!({"resources.requests.hugepages-2Mi": "2Mi"}), "resources.limits.hugepages-2Mi"),
            (
                json!({"resources": {"requests": {"nvidia.com/gpu": 1}, "limits": {"nvidia.com/gpu": 2}}}),
                "resources.requests.nvidia.com/gpu",
            ),
        ] {
            assert_eq!(read_from(&config).unwrap_err().field, field, "{config}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_resource_by_its_name() {
        for (config, field) in [
            (json!({"resources.limits.gpu": 1}), "resources.limits.gpu"),
            (json!({"resources": {"limits": {"gpus": ""}}}), "resources.limits.gpus"),
            (json!({"resources.limits.hugepages-": "2Mi"}), "resources.limits.hugepages-"),
            (json!({"resources.limits.nvidia.com/": 1}), "resources.limits.nvidia.com/"),
            (json!({"resources.limits.": 1}), "resources.limits."),
            (json!({"resources.limit.cpu": 1}), "resources.limit.cpu"),
            (json!({"resources.cpu": 1}), "resources.cpu"),
            (json!({"resources": {"claims": [{"name": "gpu"}]}}), "resources.claims"),
            (json!({"resources": {"limits": "4Gi"}}), "resources.limits"),
        ] {
            assert_eq!(read_from(&config).unwrap_err().field, field, "{config}");
        }
    }
}
