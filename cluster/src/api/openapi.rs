//! The API's own description, as OpenAPI v3: what `kubectl explain` shows and `kubectl apply` merges by.
//!
//! OpenAPI v2 is not served; clients that ask for it fall back to v3 or to what they have built in.

use std::collections::BTreeSet;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::discovery::groups;
use super::media::answer;
use super::review::Review;
use crate::resource::Resource;
use crate::schema;

/// Returns the response to an OpenAPI path; `None` for another path.
pub(super) fn find(segments: &[&str]) -> Option<Response> {
    let document = match segments {
        ["openapi", "v3"] => index(),
        ["openapi", "v3", "api", "v1"] => document("v1"),
        ["openapi", "v3", "apis", group, "v1"] => {
            groups().into_iter().find(|known| known == group)?;
            document(&format!("{group}/v1"))
        }
        _ => return None,
    };
    Some(answer(StatusCode::OK, &document))
}

fn index() -> Value {
    let named = groups().into_iter().map(|group| format!("apis/{group}/v1"));
    let paths: Map<String, Value> = std::iter::once("api/v1".to_owned())
        .chain(named)
        .map(|path| {
            let url = format!("/openapi/v3/{path}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

fn document(group_version: &str) -> Value {
    let mut paths = Map::new();
    let mut kinds = Vec::new();
    for resource in Resource::ALL.into_iter().filter(|resource| resource.api_version() == group_version) {
        kinds.push(resource.kind());
        let root = root(group_version);
        let collection = match resource.is_namespaced() {
            true => format!("{root}/namespaces/{{namespace}}/{}", resource.plural()),
            false => format!("{root}/{}", resource.plural()),
        };
        paths.insert(format!("{collection}/{{name}}"), object_path(resource));
        paths.insert(collection, collection_path(resource));
    }
    for review in Review::ALL.into_iter().filter(|review| review.api_version() == group_version) {
        kinds.push(review.kind());
        let operation = operation("post", &kind_of(group_version, review.kind()), &[], review.kind());
        paths.insert(format!("{}/{}", root(group_version), review.plural()), json!({"post": operation}));
    }
    let roots = kinds.iter().map(|kind| (*kind).to_owned());
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Paperclip local cluster", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas(group_version, roots)},
    })
}

fn root(group_version: &str) -> String {
    if group_version.contains('/') {
        format!("/apis/{group_version}")
    } else {
        format!("/api/{group_version}")
    }
}

fn kind_of(group_version: &str, kind: &str) -> Value {
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    json!({"group": group, "version": version, "kind": kind})
}

fn object_path(resource: Resource) -> Value {
    let kind = kind_of(&resource.api_version(), resource.kind());
    let writing = ["dryRun", "fieldManager", "fieldValidation"];
    json!({
        "get": operation("get", &kind, &[], resource.kind()),
        "put": operation("put", &kind, &writing, resource.kind()),
        "patch": operation("patch", &kind, &writing, resource.kind()),
        "delete": operation("delete", &kind, &["dryRun", "gracePeriodSeconds", "propagationPolicy"], resource.kind()),
    })
}

fn collection_path(resource: Resource) -> Value {
    let kind = kind_of(&resource.api_version(), resource.kind());
    let listing = ["labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "watch"];
    json!({
        "get": operation("list", &kind, &listing, resource.kind()),
        "post": operation("post", &kind, &["dryRun", "fieldManager", "fieldValidation"], resource.kind()),
        "delete": operation("deletecollection", &kind, &listing, resource.kind()),
    })
}

fn operation(action: &str, kind: &Value, parameters: &[&str], name: &str) -> Value {
    let parameters = parameters.iter().map(|parameter| {
        json!({"name": parameter, "in": "query", "schema": {"type": "string", "uniqueItems": true}})
    });
    let mut operation = json!({
        "description": format!("{action} {name}"),
        "parameters": parameters.collect::<Vec<_>>(),
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind,
    });
    if action == "patch" {
        let body = json!({"schema": {"type": "object"}});
        operation["requestBody"] = json!({"content": {
            "application/json-patch+json": body,
            "application/merge-patch+json": body,
            "application/strategic-merge-patch+json": body,
        }});
    }
    operation
}

/// The definitions of some kinds and everything that they refer to.
fn schemas(group_version: &str, roots: impl Iterator<Item = String>) -> Map<String, Value> {
    let roots: BTreeSet<String> = roots.collect();
    let mut found = Map::new();
    let mut open: Vec<String> = roots.iter().cloned().collect();
    while let Some(name) = open.pop() {
        if found.contains_key(&name) {
            continue;
        }
        let Some(mut definition) = schema::openapi(&name) else { continue };
        references(&definition, &mut open);
        if roots.contains(&name) {
            let kind = kind_of(group_version, &name);
            definition["x-kubernetes-group-version-kind"] = json!([kind]);
        }
        found.insert(name, definition);
    }
    found
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value.as_str()) {
                    ("$ref", Some(target)) => {
                        found.extend(target.rsplit('/').next().map(str::to_owned));
                    }
                    (_, _) => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
