//! The parameters of a request.

use axum::extract::Query;
use http::Uri;

use super::selector::{FieldSelector, LabelSelector};
use crate::error::ApiError;
use crate::resource::Resource;

/// The query of a request, in the order in which it was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

/// The handling of fields that a kind does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Which objects of a collection are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) labels: LabelSelector,
    pub(super) fields: FieldSelector,
}

impl Params {
    pub(super) fn of(uri: &Uri) -> Result<Params, ApiError> {
        let Query(pairs) = Query::try_from_uri(uri).map_err(|e| ApiError::bad_request(e.body_text()))?;
        Ok(Params(pairs))
    }

    /// A parameter's value; one that is empty counts as not given.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The same parameters, one of them with another value.
    pub(super) fn with(&self, name: &str, value: &str) -> Params {
        let others = self.0.iter().filter(|(key, _)| key != name).cloned();
        Params(others.chain([(name.to_owned(), value.to_owned())]).collect())
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        Ok(self.optional_flag(name)?.unwrap_or(false))
    }

    pub(super) fn optional_flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some("true" | "1" | "True" | "TRUE" | "t" | "T") => Ok(Some(true)),
            Some("false" | "0" | "False" | "FALSE" | "f" | "F") => Ok(Some(false)),
            Some(other) => Err(unreadable(name, other)),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.get(name).map(|text| text.parse().map_err(|_| unreadable(name, text))).transpose()
    }

    /// A resourceVersion: a number, or nothing.
    pub(super) fn version(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                ApiError::bad_request(format!("invalid resource version \"{text}\": must be a number"))
            })
        };
        self.get(name).map(parse).transpose()
    }

    pub(super) fn is_dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!(
                "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
            ))),
        }
    }

    pub(super) fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => Err(ApiError::bad_request(format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }

    pub(super) fn selection(&self, resource: Resource) -> Result<Selection, ApiError> {
        Ok(Selection {
            labels: LabelSelector::parse(self.get("labelSelector").unwrap_or_default())?,
            fields: FieldSelector::parse(resource, self.get("fieldSelector").unwrap_or_default())?,
        })
    }
}

impl Selection {
    pub(super) fn matches(&self, object: &crate::store::Object) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }

    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }
}

fn unreadable(name: &str, value: &str) -> ApiError {
    ApiError::bad_request(format!("the query parameter {name} has a value that can't be read: \"{value}\""))
}
