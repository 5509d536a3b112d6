//! API discovery: versions, groups and resources.
//!
//! The aggregated form is not served; clients that request it use the one for each group instead.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::media::answer;
use super::review::Review;
use crate::resource::Resource;

/// The release whose API this follows.
const VERSION: &str = "v1.37.0";
const MAJOR: &str = "1";
const MINOR: &str = "37";

/// Returns the response to a discovery path; `None` for another path.
pub(super) fn find(segments: &[&str]) -> Option<Response> {
    let document = match segments {
        ["version"] => version(),
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        ["apis"] => {
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups().iter().map(|g| group(g)).collect::<Vec<_>>()})
        }
        ["api", "v1"] => resource_list("v1"),
        ["apis", name] => {
            let mut found = group(groups().into_iter().find(|group| group == name)?);
            found["kind"] = json!("APIGroup");
            found["apiVersion"] = json!("v1");
            found
        }
        ["apis", group, version] => {
            groups().into_iter().find(|known| known == group).filter(|_| *version == "v1")?;
            resource_list(&format!("{group}/{version}"))
        }
        _ => return None,
    };
    Some(answer(StatusCode::OK, &document))
}

/// The named groups: all but the core one.
pub(super) fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = Resource::ALL.iter().map(|resource| resource.group()).collect();
    groups.extend(Review::ALL.iter().filter_map(|review| review.api_version().split('/').next()));
    groups.retain(|group| !group.is_empty());
    groups.sort_unstable();
    groups.dedup();
    groups
}

fn version() -> Value {
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": format!("{VERSION}+paperclip-local"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn group(name: &str) -> Value {
    let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
    json!({"name": name, "versions": [version], "preferredVersion": version})
}

/// A row of discovery: a resource, a part of one, or a review.
struct Entry {
    plural: String,
    singular: &'static str,
    kind: &'static str,
    /// Of the kind, where it is not the resource's own.
    foreign_group: Option<(&'static str, &'static str)>,
    is_namespaced: bool,
    verbs: &'static [&'static str],
    short: &'static [&'static str],
    categories: &'static [&'static str],
}

const OBJECT_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const NAMESPACE_VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

fn entries(group_version: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for resource in Resource::ALL.into_iter().filter(|resource| resource.api_version() == group_version) {
        let whole = Entry {
            plural: resource.plural().to_owned(),
            singular: resource.singular(),
            kind: resource.kind(),
            foreign_group: None,
            is_namespaced: resource.is_namespaced(),
            verbs: if resource == Resource::Namespaces { NAMESPACE_VERBS } else { OBJECT_VERBS },
            short: resource.short_names(),
            categories: resource.categories(),
        };
        let part = |name: &str, verbs, kind, foreign_group| Entry {
            plural: format!("{}/{name}", resource.plural()),
            singular: "",
            kind,
            foreign_group,
            verbs,
            short: &[],
            categories: &[],
            is_namespaced: resource.is_namespaced(),
        };
        let mut parts = Vec::new();
        if resource == Resource::Pods {
            parts.push(part("eviction", &["create"], "Eviction", Some(("policy", "v1"))));
            parts.push(part("log", &["get"], resource.kind(), None));
        }
        if resource.has_status() {
            parts.push(part("status", STATUS_VERBS, resource.kind(), None));
        }
        entries.push(whole);
        entries.extend(parts);
    }
    for review in Review::ALL.into_iter().filter(|review| review.api_version() == group_version) {
        entries.push(Entry {
            plural: review.plural().to_owned(),
            singular: "",
            kind: review.kind(),
            foreign_group: None,
            is_namespaced: false,
            verbs: &["create"],
            short: &[],
            categories: &[],
        });
    }
    entries
}

fn resource_list(group_version: &str) -> Value {
    let resources = entries(group_version).into_iter().map(|entry| {
        let mut row = json!({
            "name": entry.plural,
            "singularName": entry.singular,
            "namespaced": entry.is_namespaced,
            "kind": entry.kind,
            "verbs": entry.verbs,
        });
        if let Some((group, version)) = entry.foreign_group {
            row["group"] = json!(group);
            row["version"] = json!(version);
        }
        if !entry.short.is_empty() {
            row["shortNames"] = json!(entry.short);
        }
        if !entry.categories.is_empty() {
            row["categories"] = json!(entry.categories);
        }
        row
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources.collect::<Vec<_>>(),
    })
}
