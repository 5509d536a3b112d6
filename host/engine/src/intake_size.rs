//! How many values a JSON text has, counted before any tree of it is built.
//!
//! A tree is many times as large as its text: 14 MiB of `[0,0,…]` become more than a gigabyte.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::intake::{IntakeError, MAX_VALUES};

/// The documents of an execution context that a tenant writes.
const DOCUMENTS: [&str; 3] = ["config", "context", "runtime"];

/// Returns how many values a JSON text has, nested ones included.
///
/// ```
/// use paperclip_engine::intake::count_values_of_text;
///
/// assert_eq!(count_values_of_text(br#"{"a": [1, "2, 3"], "b": {}}"#), 5);
/// ```
pub fn count_values_of_text(json: &[u8]) -> usize {
    let mut count = 1;
    let (mut is_in_string, mut is_escaped, mut is_opened) = (false, false, false);
    for byte in json {
        if is_in_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_in_string = false,
                _ => {}
            }
            continue;
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        // A container that is not empty has one value more than commas.
        if is_opened && !matches!(byte, b']' | b'}') {
            count += 1;
        }
        is_opened = matches!(byte, b'[' | b'{');
        match byte {
            b'"' => is_in_string = true,
            b',' => count += 1,
            _ => {}
        }
    }
    count
}

/// Refuses the text of an execution context of which a document has too many values, and names its largest member.
pub(crate) fn check_text(context: &str) -> Result<(), IntakeError> {
    if count_values_of_text(context.as_bytes()) <= MAX_VALUES {
        return Ok(());
    }
    let Some(documents) = members(context) else { return Ok(()) };
    for key in DOCUMENTS {
        let Some(document) = documents.get(key) else { continue };
        if count_values_of_text(document.get().as_bytes()) - 1 <= MAX_VALUES {
            continue;
        }
        let members = members(document.get()).unwrap_or_default();
        let counted =
            members.iter().map(|(name, value)| (count_values_of_text(value.get().as_bytes()), name));
        let (values, field) = match counted.max() {
            Some((values, name)) => (values, format!("{key}.{name}")),
            None => (count_values_of_text(document.get().as_bytes()), key.to_owned()),
        };
        return Err(IntakeError::TooManyValues { field, values });
    }
    let values = count_values_of_text(context.as_bytes());
    if values > (DOCUMENTS.len() + 1) * MAX_VALUES {
        return Err(IntakeError::TooManyValues { field: "the context".to_owned(), values });
    }
    Ok(())
}

/// Returns the members of an object as text; none if it is not an object.
fn members(json: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn count(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
            Value::Object(members) => 1 + members.values().map(count).sum::<usize>(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(|number| json!(number)),
            "[a,\\\\\"{}\\[\\]: ]{0,8}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                prop::collection::btree_map("[a,\"\\\\\\[]{0,4}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn counts_in_the_text_what_the_tree_has(value in value()) {
            let compact = value.to_string();
            prop_assert_eq!(count_values_of_text(compact.as_bytes()), count(&value), "{}", compact);
            let pretty = serde_json::to_string_pretty(&value).expect("text");
            prop_assert_eq!(count_values_of_text(pretty.as_bytes()), count(&value), "{}", pretty);
        }
    }

    #[test]
    fn a_context_of_too_many_values_is_refused_by_the_name_of_the_member_before_it_is_a_tree() {
        let zeros = format!("[{}0]", "0,".repeat(1 << 20));
        for (context, says) in [
            (
                format!(r#"{{"runId":"r","config":{{"a":1,"large":{zeros}}}}}"#),
                "config.large consists of 1048578 values",
            ),
            (format!(r#"{{"context":{{"large":{zeros}}}}}"#), "context.large consists of 1048578 values"),
            (format!(r#"{{"runtime":{zeros}}}"#), "runtime consists of 1048578 values"),
            (format!(r#"{{"unknown":{zeros}}}"#), "the context consists of 1048579 values"),
        ] {
            let error = check_text(&context).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
        let text = format!(r#"{{"runId":"r","config":{{"prompt":"{}"}}}}"#, "[0,".repeat(1 << 20));
        assert_eq!(check_text(&text), Ok(()), "a long text is one value");
    }
}
