//! Label and field selectors.

use paperclip_kubernetes::validation;

use crate::error::ApiError;
use crate::resource::Resource;
use crate::store::Object;

/// Requirements on labels, all of which have to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Above(i64),
    Below(i64),
}

impl LabelSelector {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let parts = split_outside_parentheses(text);
        parts
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(requirement)
            .collect::<Result<_, _>>()
            .map(LabelSelector)
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        let labels = &object["metadata"]["labels"];
        self.0.iter().all(|requirement| requirement.holds(labels[&requirement.key].as_str()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.iter().any(|v| v == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|v| v != value)),
            Test::Above(limit) => number().is_some_and(|number| number > *limit),
            Test::Below(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

fn requirement(text: &str) -> Result<Requirement, ApiError> {
    let misread =
        |why: &str| ApiError::bad_request(format!("unable to parse requirement: {why} in \"{text}\""));
    let (key, test) = if let Some(key) = text.strip_prefix('!') {
        (key, Test::Absent)
    } else if let Some(open) = text.find('(') {
        let values = text[open + 1..].strip_suffix(')').ok_or_else(|| misread("expected: ')'"))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        match text[..open].trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => (key, Test::In(values)),
            Some((key, "notin")) => (key, Test::NotIn(values)),
            Some(_) | None => return Err(misread("expected: 'in' or 'notin'")),
        }
    } else if let Some((key, value)) = text.split_once("!=") {
        (key, Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (key, Test::In(vec![value.trim().to_owned()]))
    } else if let Some((key, limit)) = text.split_once('>') {
        (key, Test::Above(limit.trim().parse().map_err(|_| misread("expected an integer"))?))
    } else if let Some((key, limit)) = text.split_once('<') {
        (key, Test::Below(limit.trim().parse().map_err(|_| misread("expected an integer"))?))
    } else {
        (text, Test::Exists)
    };
    let key = key.trim();
    if let Some(why) = validation::label_key(key).first() {
        return Err(misread(&format!("key: Invalid value: \"{key}\": {why}")));
    }
    if let Test::In(values) | Test::NotIn(values) = &test
        && let Some(why) = values.iter().flat_map(|value| validation::label_value(value)).next()
    {
        return Err(misread(&format!("values: Invalid value: {why}")));
    }
    Ok(Requirement { key: key.to_owned(), test })
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth <= 0
    })
    .collect()
}

/// Requirements on fields, all of which have to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FieldSelector(Vec<FieldTest>);

#[derive(Clone, Debug, PartialEq)]
struct FieldTest {
    /// As a JSON pointer.
    pointer: String,
    value: String,
    is_equal: bool,
}

impl FieldSelector {
    /// Reads `metadata.name=a,status.phase!=Running`, with the fields that the resource can be selected by.
    pub(super) fn parse(resource: Resource, text: &str) -> Result<Self, ApiError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| field_test(resource, part)).collect::<Result<_, _>>().map(FieldSelector)
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        self.0.iter().all(|test| {
            let found = object.pointer(&test.pointer);
            let text = match found {
                None | Some(serde_json::Value::Null) => String::new(),
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            (text == test.value) == test.is_equal
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn field_test(resource: Resource, text: &str) -> Result<FieldTest, ApiError> {
    let (field, value, is_equal) = if let Some((field, value)) = text.split_once("!=") {
        (field, value, false)
    } else if let Some((field, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        (field, value, true)
    } else {
        return Err(ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{text}'")));
    };
    let is_known =
        ["metadata.name", "metadata.namespace"].contains(&field) || selectable(resource).contains(&field);
    if !is_known {
        return Err(ApiError::bad_request(format!("field label not supported: {field}")));
    }
    Ok(FieldTest { pointer: format!("/{}", field.replace('.', "/")), value: value.to_owned(), is_equal })
}

fn selectable(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::Pods => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Resource::Events => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source.component",
            "type",
        ],
        Resource::Jobs => &["status.successful"],
        Resource::Secrets => &["type"],
        Resource::Namespaces => &["status.phase"],
        Resource::Nodes => &["spec.unschedulable"],
        Resource::ConfigMaps
        | Resource::PersistentVolumeClaims
        | Resource::ServiceAccounts
        | Resource::Leases => &[],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{FieldSelector, LabelSelector};
    use crate::resource::Resource;

    #[test]
    fn label_selectors_hold_or_not() {
        let object = json!({"metadata": {"labels": {"app": "x", "example.com/n": "5"}}});
        let cases = [
            ("", true),
            ("app=x", true),
            ("app==x,example.com/n>4", true),
            ("app!=x", false),
            ("other!=x", true),
            ("app in (x, y),!absent", true),
            ("app notin (x,y)", false),
            ("other notin (x)", true),
            ("app", true),
            ("absent", false),
            ("example.com/n<5", false),
        ];
        for (text, expected) in cases {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&object), expected, "{text}");
        }
        for text in ["a b", "a in x", "a in (x", "a=b c", "=x", "a>b"] {
            assert_eq!(LabelSelector::parse(text).unwrap_err().code, 400, "{text}");
        }
    }

    #[test]
    fn field_selectors_know_the_fields_of_their_resource() {
        let pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}});
        let select = |text| FieldSelector::parse(Resource::Pods, text);
        assert!(select("status.phase=Running,metadata.name=p").unwrap().matches(&pod));
        assert!(!select("status.phase!=Running").unwrap().matches(&pod));
        assert!(select("spec.nodeName=").unwrap().matches(&pod));
        assert_eq!(select("spec.foo=1").unwrap_err().message, "field label not supported: spec.foo");
    }
}
