//! Strategic merge: a merge patch that knows by which key the items of a list are the same.
//!
//! Directives: `$patch: replace | delete | merge` in an object or a list, `$deleteFromPrimitiveList/FIELD`,
//! `$setElementOrder/FIELD`, `$retainKeys`. As in apimachinery's `strategicpatch`.

use serde_json::{Map, Value};

use crate::schema::{ListMerge, Shape, fields};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Merges `patch` into `target`, an object of a definition.
pub(super) fn merge(definition: &str, target: &mut Value, patch: &Value) -> Result<(), String> {
    merge_struct(Some(definition), target, patch)
}

fn merge_struct(definition: Option<&str>, target: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get(PATCH).and_then(Value::as_str) {
        Some("replace") => {
            *target = Value::Object(without_directives(patch));
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(format!("unknown patch type found: {other}")),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(target) = target.as_object_mut() else { return Ok(()) };
    for (name, change) in patch {
        if !name.starts_with('$') {
            merge_field(definition, target, name, change)?;
        } else if let Some(list) = name.strip_prefix(DELETE_FROM) {
            delete_values(target, list, change);
        }
    }
    if let Some(keys) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
        target.retain(|name, _| keys.iter().any(|key| key == name));
    }
    for (name, order) in patch {
        if let Some(list) = name.strip_prefix(ELEMENT_ORDER) {
            set_order(merge_of(definition, list), target, list, order);
        }
    }
    Ok(())
}

fn merge_field(
    definition: Option<&str>,
    target: &mut Map<String, Value>,
    name: &str,
    change: &Value,
) -> Result<(), String> {
    if change.is_null() {
        target.remove(name);
        return Ok(());
    }
    let shape = definition.and_then(fields).and_then(|fields| fields.get(name)).map(|field| &field.shape);
    match (change, merge_of(definition, name)) {
        (Value::Object(_), _) => {
            let inner = match shape {
                Some(Shape::Struct(inner)) => Some(inner.as_str()),
                Some(_) | None => None,
            };
            merge_struct(inner, target.entry(name).or_insert(Value::Null), change)
        }
        (Value::Array(items), Some(merge)) => {
            let list = target.entry(name).or_insert(Value::Null);
            let mut merged = list.as_array().cloned().unwrap_or_default();
            match merge {
                ListMerge::Union => add_values(&mut merged, items),
                ListMerge::ByKey(key) => merge_items(item_definition(shape), key, &mut merged, items)?,
            }
            *list = Value::Array(merged);
            Ok(())
        }
        (_, _) => {
            target.insert(name.to_owned(), change.clone());
            Ok(())
        }
    }
}

fn merge_items(
    definition: Option<&str>,
    key: &str,
    list: &mut Vec<Value>,
    changes: &[Value],
) -> Result<(), String> {
    let directive = |item: &Value| item[PATCH].as_str().map(str::to_owned);
    if changes.iter().any(|item| directive(item).as_deref() == Some("replace") && item.get(key).is_none()) {
        let replacing = changes.iter().filter(|item| directive(item).is_none());
        *list = replacing.cloned().collect();
        return Ok(());
    }
    for change in changes {
        let identity = change
            .get(key)
            .ok_or_else(|| format!("map: {change} does not contain declared merge key: {key}"))?;
        if directive(change).as_deref() == Some("delete") {
            list.retain(|item| item.get(key) != Some(identity));
            continue;
        }
        match list.iter_mut().find(|item| item.get(key) == Some(identity)) {
            Some(item) => merge_struct(definition, item, change)?,
            None => {
                let mut item = Value::Null;
                merge_struct(definition, &mut item, change)?;
                list.push(item);
            }
        }
    }
    Ok(())
}

fn add_values(list: &mut Vec<Value>, values: &[Value]) {
    for value in values {
        if !list.contains(value) {
            list.push(value.clone());
        }
    }
}

fn delete_values(target: &mut Map<String, Value>, list: &str, values: &Value) {
    let Some(items) = target.get_mut(list).and_then(Value::as_array_mut) else { return };
    items.retain(|item| !values.as_array().is_some_and(|values| values.contains(item)));
    if items.is_empty() {
        target.remove(list);
    }
}

/// Items that the order names come in that order, each of the others keeps its place behind its predecessor.
fn set_order(merge: Option<ListMerge>, target: &mut Map<String, Value>, list: &str, order: &Value) {
    let (Some(items), Some(order)) = (target.get_mut(list).and_then(Value::as_array_mut), order.as_array())
    else {
        return;
    };
    let place = |item: &Value| {
        order.iter().position(|listed| match merge {
            Some(ListMerge::ByKey(key)) => listed.get(key).is_some() && listed.get(key) == item.get(key),
            Some(ListMerge::Union) | None => listed == item,
        })
    };
    let mut last = 0;
    let mut placed: Vec<(usize, Value)> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        last = place(&item).unwrap_or(last);
        placed.push((last, item));
    }
    placed.sort_by_key(|(place, _)| *place);
    items.extend(placed.into_iter().map(|(_, item)| item));
}

fn merge_of(definition: Option<&str>, field: &str) -> Option<ListMerge> {
    definition.and_then(fields).and_then(|fields| fields.get(field)).and_then(|field| field.merge)
}

fn item_definition(shape: Option<&Shape>) -> Option<&str> {
    match shape {
        Some(Shape::List(items)) => match items.as_ref() {
            Shape::Struct(definition) => Some(definition),
            _ => None,
        },
        Some(_) | None => None,
    }
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    patch.iter().filter(|(name, _)| !name.starts_with('$')).map(|(n, v)| (n.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::merge;

    fn merged(target: &Value, patch: &Value) -> Value {
        let mut target = target.clone();
        merge("Pod", &mut target, patch).unwrap();
        target
    }

    fn pod() -> Value {
        json!({
            "metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x/a", "x/b"]},
            "spec": {
                "containers": [
                    {"name": "main", "image": "old", "env": [{"name": "A", "value": "1"}], "args": ["1", "2"]},
                    {"name": "side", "image": "side"},
                ],
                "tolerations": [{"key": "a"}],
            },
        })
    }

    #[test]
    fn items_are_merged_by_key_and_other_lists_replaced() {
        let after = merged(
            &pod(),
            &json!({"spec": {
                "containers": [
                    {"name": "main", "image": "new", "env": [{"name": "B", "value": "2"}], "args": ["3"]},
                    {"name": "more", "image": "more"},
                ],
                "tolerations": [{"key": "b"}],
            }}),
        );
        let containers = &after["spec"]["containers"];
        assert_eq!(containers[0]["image"], "new");
        assert_eq!(containers[0]["env"], json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]));
        assert_eq!(containers[0]["args"], json!(["3"]));
        assert_eq!(containers[2]["name"], "more");
        assert_eq!(after["spec"]["tolerations"], json!([{"key": "b"}]));
    }

    #[test]
    fn directives_delete_replace_order_and_retain() {
        let deleted = merged(
            &pod(),
            &json!({
                "metadata": {"labels": {"a": null}, "$deleteFromPrimitiveList/finalizers": ["x/a"]},
                "spec": {"containers": [{"name": "side", "$patch": "delete"}]},
            }),
        );
        assert_eq!(deleted["metadata"], json!({"labels": {"b": "2"}, "finalizers": ["x/b"]}));
        assert_eq!(deleted["spec"]["containers"].as_array().unwrap().len(), 1);
        let replaced = merged(
            &pod(),
            &json!({
                "metadata": {"labels": {"$patch": "replace", "c": "3"}},
                "spec": {"containers": [{"$patch": "replace"}, {"name": "only"}]},
            }),
        );
        assert_eq!(replaced["metadata"]["labels"], json!({"c": "3"}));
        assert_eq!(replaced["spec"]["containers"], json!([{"name": "only"}]));
        let ordered = merged(
            &pod(),
            &json!({"spec": {
                "$setElementOrder/containers": [{"name": "side"}, {"name": "main"}],
                "$retainKeys": ["containers"],
            }}),
        );
        assert_eq!(ordered["spec"]["containers"][0]["name"], "side");
        assert!(ordered["spec"].get("tolerations").is_none());
    }

    #[test]
    fn finalizers_are_a_set() {
        let after = merged(&pod(), &json!({"metadata": {"finalizers": ["x/b", "x/c"]}}));
        assert_eq!(after["metadata"]["finalizers"], json!(["x/a", "x/b", "x/c"]));
    }

    #[test]
    fn an_item_without_its_key_is_refused() {
        let mut pod = pod();
        let patch = json!({"spec": {"containers": [{"image": "x"}]}});
        assert!(merge("Pod", &mut pod, &patch).unwrap_err().contains("merge key: name"));
    }
}
