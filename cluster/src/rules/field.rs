//! Broken rules and where in the object they were broken, worded as apimachinery's `field.Error`.

use std::fmt::Display;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde::Serialize;

/// The path of a field: `spec.containers[0].name`.
#[derive(Clone, Debug)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn new(root: &str) -> Path {
        Path(root.to_owned())
    }

    pub(super) fn field(&self, name: &str) -> Path {
        Path(format!("{}.{name}", self.0))
    }

    pub(super) fn index(&self, index: usize) -> Path {
        Path(format!("{}[{index}]", self.0))
    }

    pub(super) fn key(&self, key: &str) -> Path {
        Path(format!("{}[{key}]", self.0))
    }
}

/// The rules that an object breaks, in the order in which they were found.
#[derive(Default, Debug)]
pub(super) struct Errors(Vec<StatusCause>);

impl Errors {
    pub(super) fn into_causes(self) -> Vec<StatusCause> {
        self.0
    }

    pub(super) fn required(&mut self, path: &Path, detail: &str) {
        let message = match detail {
            "" => "Required value".to_owned(),
            detail => format!("Required value: {detail}"),
        };
        self.push("FieldValueRequired", path, message);
    }

    pub(super) fn invalid(&mut self, path: &Path, value: impl Serialize, detail: impl Display) {
        let value = shown(&value);
        self.push("FieldValueInvalid", path, format!("Invalid value: {value}: {detail}"));
    }

    /// `invalid` for a number that is zero because nobody gave it, as Go prints it.
    pub(super) fn unset(&mut self, path: &Path, detail: &str) {
        self.push("FieldValueInvalid", path, format!("Invalid value: 0x0: {detail}"));
    }

    /// One `invalid` for each message that a check gave.
    pub(super) fn invalid_each(&mut self, path: &Path, value: &str, messages: Vec<String>) {
        for message in messages {
            self.invalid(path, value, message);
        }
    }

    pub(super) fn duplicate(&mut self, path: &Path, value: impl Serialize) {
        self.push("FieldValueDuplicate", path, format!("Duplicate value: {}", shown(&value)));
    }

    pub(super) fn not_found(&mut self, path: &Path, value: &str) {
        self.push("FieldValueNotFound", path, format!("Not found: {}", shown(value)));
    }

    pub(super) fn forbidden(&mut self, path: &Path, detail: &str) {
        self.push("FieldValueForbidden", path, format!("Forbidden: {detail}"));
    }

    pub(super) fn too_long(&mut self, path: &Path, max_bytes: usize) {
        self.push("FieldValueTooLong", path, format!("Too long: may not be more than {max_bytes} bytes"));
    }

    /// The value has to be one of a few; an empty one is missing.
    pub(super) fn one_of(&mut self, path: &Path, value: &str, supported: &[&str]) {
        if value.is_empty() {
            self.required(path, "");
        } else if !supported.contains(&value) {
            let mut sorted = supported.to_vec();
            sorted.sort_unstable();
            let names: Vec<String> = sorted.iter().map(shown).collect();
            let message =
                format!("Unsupported value: {}: supported values: {}", shown(value), names.join(", "));
            self.push("FieldValueNotSupported", path, message);
        }
    }

    pub(super) fn not_negative(&mut self, path: &Path, value: Option<impl Into<i64>>) {
        if let Some(value) = value.map(Into::into).filter(|value| *value < 0) {
            self.invalid(path, value, "must be greater than or equal to 0");
        }
    }

    pub(super) fn unchanged<T: Serialize + PartialEq>(&mut self, path: &Path, old: &T, new: &T) {
        if old != new {
            self.invalid(path, new, "field is immutable");
        }
    }

    fn push(&mut self, reason: &str, path: &Path, message: String) {
        self.0.push(StatusCause {
            field: Some(path.0.clone()),
            message: Some(message),
            reason: Some(reason.to_owned()),
        });
    }
}

fn shown(value: impl Serialize) -> String {
    serde_json::to_string(&value).unwrap_or_else(|_| "\"\"".to_owned())
}
