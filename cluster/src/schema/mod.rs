//! The shapes of the objects: fields, types and how lists are merged.
//!
//! They come from k8s-openapi, which is generated from the API's own definition. The API's OpenAPI document, strict
//! decoding and the strategic merge patch all read them here.

mod decode;
mod merge_keys;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::{authentication::v1 as authentication, authorization::v1 as authorization};
use k8s_openapi::api::{batch::v1 as batch, coordination::v1 as coordination};
use k8s_openapi::api::{core::v1 as core, policy::v1 as policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value};

pub(crate) use decode::decode;
pub(crate) use merge_keys::ListMerge;

/// One type of field.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Shape {
    /// A structure with the fields of a named definition.
    Struct(String),
    List(Box<Shape>),
    Map(Box<Shape>),
    Text,
    /// Base64 text.
    Bytes,
    Time,
    Integer {
        bits: u8,
    },
    Number,
    Boolean,
    Quantity,
    IntOrText,
    /// Anything: free JSON.
    Any,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Field {
    pub(crate) shape: Shape,
    pub(crate) merge: Option<ListMerge>,
}

/// The fields of a structure by name.
pub(crate) type Fields = BTreeMap<String, Field>;

static DOCUMENT: LazyLock<Map<String, Value>> = LazyLock::new(document);
static STRUCTS: LazyLock<BTreeMap<String, Fields>> =
    LazyLock::new(|| DOCUMENT.iter().map(|(name, schema)| (name.clone(), fields_of(name, schema))).collect());

/// The definitions as OpenAPI v3 has them under `components.schemas`, by full name (`io.k8s.api.batch.v1.Job`).
pub(crate) fn definitions() -> &'static Map<String, Value> {
    &DOCUMENT
}

/// The fields of a definition; `None` for a name that is not one.
pub(crate) fn fields(definition: &str) -> Option<&'static Fields> {
    STRUCTS.get(definition)
}

/// The full name of the definition of a kind, such as `batch/v1` `Job`.
pub(crate) fn definition_of(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let group = group.split('.').next().unwrap_or(group);
    ["io.k8s.api", "io.k8s.apimachinery.pkg.apis"]
        .into_iter()
        .map(|root| format!("{root}.{group}.{version}.{kind}"))
        .chain([format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")])
        .find(|name| DOCUMENT.contains_key(name))
}

/// `JobSpec` of `io.k8s.api.batch.v1.JobSpec`.
pub(crate) fn short_name(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}

fn document() -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let g: &mut SchemaGenerator = &mut generator;
    g.subschema_for::<core::Namespace>();
    g.subschema_for::<core::Pod>();
    g.subschema_for::<core::Secret>();
    g.subschema_for::<core::ConfigMap>();
    g.subschema_for::<core::Event>();
    g.subschema_for::<core::PersistentVolumeClaim>();
    g.subschema_for::<core::ServiceAccount>();
    g.subschema_for::<core::Node>();
    g.subschema_for::<batch::Job>();
    g.subschema_for::<coordination::Lease>();
    g.subschema_for::<policy::Eviction>();
    g.subschema_for::<authentication::SelfSubjectReview>();
    g.subschema_for::<authorization::LocalSubjectAccessReview>();
    g.subschema_for::<authorization::SelfSubjectAccessReview>();
    g.subschema_for::<authorization::SelfSubjectRulesReview>();
    g.subschema_for::<authorization::SubjectAccessReview>();
    g.subschema_for::<meta::Status>();
    g.subschema_for::<meta::DeleteOptions>();
    let mut definitions = generator.take_definitions(true);
    for (name, schema) in &mut definitions {
        merge_keys::annotate(short_name(name), schema);
    }
    definitions
}

fn fields_of(definition: &str, schema: &Value) -> Fields {
    let Some(properties) = schema["properties"].as_object() else { return Fields::new() };
    properties
        .iter()
        .map(|(name, schema)| {
            let merge = merge_keys::find(short_name(definition), name);
            (name.clone(), Field { shape: shape_of(schema), merge })
        })
        .collect()
}

fn shape_of(schema: &Value) -> Shape {
    if let Some(reference) = reference(schema) {
        return match reference.rsplit('/').next().unwrap_or(reference) {
            "io.k8s.apimachinery.pkg.api.resource.Quantity" => Shape::Quantity,
            "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Shape::IntOrText,
            "io.k8s.apimachinery.pkg.apis.meta.v1.Time"
            | "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Shape::Time,
            "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => Shape::Any,
            structure => Shape::Struct(structure.to_owned()),
        };
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("array"), _) => Shape::List(Box::new(shape_of(&schema["items"]))),
        (Some("object"), _) => match schema.get("additionalProperties") {
            Some(values) => Shape::Map(Box::new(shape_of(values))),
            None => Shape::Any,
        },
        (Some("string"), Some("byte")) => Shape::Bytes,
        (Some("string"), Some("date-time")) => Shape::Time,
        (Some("string"), _) => Shape::Text,
        (Some("integer"), Some("int64")) => Shape::Integer { bits: 64 },
        (Some("integer"), _) => Shape::Integer { bits: 32 },
        (Some("number"), _) => Shape::Number,
        (Some("boolean"), _) => Shape::Boolean,
        (Some(_) | None, _) => Shape::Any,
    }
}

/// OpenAPI 3.0 wraps a reference that has a description into `allOf`.
fn reference(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str())
}

#[cfg(test)]
mod tests {
    use super::{ListMerge, Shape, definition_of, fields};

    #[test]
    fn the_fields_of_a_job_are_known_with_their_types() {
        let job = fields(&definition_of("batch/v1", "Job").unwrap()).unwrap();
        assert_eq!(job["spec"].shape, Shape::Struct("io.k8s.api.batch.v1.JobSpec".to_owned()));
        let spec = fields("io.k8s.api.batch.v1.JobSpec").unwrap();
        assert_eq!(spec["parallelism"].shape, Shape::Integer { bits: 32 });
        assert_eq!(spec["suspend"].shape, Shape::Boolean);
        let pod = fields("io.k8s.api.core.v1.PodSpec").unwrap();
        assert_eq!(pod["containers"].merge, Some(ListMerge::ByKey("name")));
        assert_eq!(pod["tolerations"].merge, None);
        let resources = fields("io.k8s.api.core.v1.ResourceRequirements").unwrap();
        assert_eq!(resources["limits"].shape, Shape::Map(Box::new(Shape::Quantity)));
        let secret = fields("io.k8s.api.core.v1.Secret").unwrap();
        assert_eq!(secret["data"].shape, Shape::Map(Box::new(Shape::Bytes)));
    }

    #[test]
    fn every_reference_leads_to_a_definition() {
        for resource in crate::Resource::ALL {
            assert!(definition_of(&resource.api_version(), resource.kind()).is_some(), "{resource:?}");
        }
        for (name, definition) in super::definitions() {
            for (field, it) in fields(name).unwrap() {
                if let Shape::Struct(target) = &it.shape {
                    assert!(fields(target).is_some(), "{name}.{field} of {definition}");
                }
            }
        }
    }
}
