//! The shapes of the objects: fields, types and how lists are merged.
//!
//! They are those of k8s-openapi's types, which are generated from the API's own definition. The API's OpenAPI document,
//! strict decoding and the strategic merge patch all use them.

mod decode;
mod merge_keys;
mod reflect;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::{authentication::v1 as authentication, authorization::v1 as authorization};
use k8s_openapi::api::{batch::v1 as batch, coordination::v1 as coordination};
use k8s_openapi::api::{core::v1 as core, policy::v1 as policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::{Map, Value, json};

pub(crate) use decode::decode;
pub(crate) use merge_keys::ListMerge;

/// One type of field.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Shape {
    /// A structure, by its name.
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
    /// Any JSON.
    Any,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Field {
    pub(crate) shape: Shape,
    pub(crate) merge: Option<ListMerge>,
}

/// The fields of a structure by name.
pub(crate) type Fields = BTreeMap<&'static str, Field>;

static STRUCTS: LazyLock<BTreeMap<&'static str, Fields>> = LazyLock::new(|| {
    let structs = structs().expect("the types of k8s-openapi have known shapes and different names");
    structs.into_fields().map(|(name, shapes)| (name, with_merges(name, shapes))).collect()
});

/// The fields of a structure, such as `JobSpec` or `Job`; `None` for an unknown name.
pub(crate) fn fields(structure: &str) -> Option<&'static Fields> {
    STRUCTS.get(structure)
}

/// The structure as an OpenAPI v3 schema; `None` for an unknown name.
pub(crate) fn openapi(structure: &str) -> Option<Value> {
    let properties: Map<String, Value> = fields(structure)?
        .iter()
        .map(|(name, field)| {
            let mut property = openapi_of(&field.shape);
            if let Some(merge) = field.merge {
                merge.annotate(&mut property);
            }
            ((*name).to_owned(), property)
        })
        .collect();
    Some(json!({"type": "object", "properties": properties}))
}

fn structs() -> Result<reflect::Structs, serde::de::value::Error> {
    let mut structs = reflect::Structs::default();
    let s = &mut structs;
    reflect::add::<core::Namespace>(s)?;
    reflect::add::<core::Pod>(s)?;
    reflect::add::<core::Secret>(s)?;
    reflect::add::<core::ConfigMap>(s)?;
    reflect::add::<core::Event>(s)?;
    reflect::add::<core::PersistentVolumeClaim>(s)?;
    reflect::add::<core::ServiceAccount>(s)?;
    reflect::add::<core::Node>(s)?;
    reflect::add::<batch::Job>(s)?;
    reflect::add::<coordination::Lease>(s)?;
    reflect::add::<policy::Eviction>(s)?;
    reflect::add::<authentication::SelfSubjectReview>(s)?;
    reflect::add::<authorization::SelfSubjectAccessReview>(s)?;
    reflect::add::<meta::Status>(s)?;
    reflect::add::<meta::DeleteOptions>(s)?;
    Ok(structs)
}

fn with_merges(structure: &str, shapes: BTreeMap<&'static str, Shape>) -> Fields {
    let field = |name, shape| Field { shape, merge: merge_keys::find(structure, name) };
    shapes.into_iter().map(|(name, shape)| (name, field(name, shape))).collect()
}

fn openapi_of(shape: &Shape) -> Value {
    match shape {
        Shape::Struct(name) => json!({"$ref": format!("#/components/schemas/{name}")}),
        Shape::List(items) => json!({"type": "array", "items": openapi_of(items)}),
        Shape::Map(values) => json!({"type": "object", "additionalProperties": openapi_of(values)}),
        Shape::Text | Shape::Quantity => json!({"type": "string"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Time => json!({"type": "string", "format": "date-time"}),
        Shape::Integer { bits } => json!({"type": "integer", "format": format!("int{bits}")}),
        Shape::Number => json!({"type": "number", "format": "double"}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::IntOrText => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        Shape::Any => json!({"type": "object"}),
    }
}

#[cfg(test)]
mod tests {
    use super::{ListMerge, STRUCTS, Shape, fields};

    #[test]
    fn fields_of_job_have_their_types() {
        let job = fields("Job").unwrap();
        assert_eq!(job["spec"].shape, Shape::Struct("JobSpec".to_owned()));
        assert_eq!(job["kind"].shape, Shape::Text);
        let spec = fields("JobSpec").unwrap();
        assert_eq!(spec["parallelism"].shape, Shape::Integer { bits: 32 });
        assert_eq!(spec["activeDeadlineSeconds"].shape, Shape::Integer { bits: 64 });
        assert_eq!(spec["suspend"].shape, Shape::Boolean);
        let pod = fields("PodSpec").unwrap();
        assert_eq!(pod["containers"].shape, Shape::List(Box::new(Shape::Struct("Container".to_owned()))));
        assert_eq!(pod["containers"].merge, Some(ListMerge::ByKey("name")));
        assert_eq!(pod["tolerations"].merge, None);
        let resources = fields("ResourceRequirements").unwrap();
        assert_eq!(resources["limits"].shape, Shape::Map(Box::new(Shape::Quantity)));
        let secret = fields("Secret").unwrap();
        assert_eq!(secret["data"].shape, Shape::Map(Box::new(Shape::Bytes)));
        assert_eq!(secret["stringData"].shape, Shape::Map(Box::new(Shape::Text)));
        assert_eq!(fields("LeaseSpec").unwrap()["renewTime"].shape, Shape::Time);
        assert_eq!(fields("HTTPGetAction").unwrap()["port"].shape, Shape::IntOrText);
        assert_eq!(fields("ManagedFieldsEntry").unwrap()["fieldsV1"].shape, Shape::Any);
    }

    #[test]
    fn every_reference_leads_to_a_structure() {
        fn target(shape: &Shape) -> Option<&str> {
            match shape {
                Shape::Struct(name) => Some(name),
                Shape::List(inner) | Shape::Map(inner) => target(inner),
                _ => None,
            }
        }
        for resource in crate::Resource::ALL {
            assert!(fields(resource.kind()).is_some(), "{resource:?}");
        }
        assert!(STRUCTS.len() > 150, "{}", STRUCTS.len());
        for (name, structure) in STRUCTS.iter() {
            assert!(!structure.is_empty(), "{name}");
            for (field, it) in structure {
                if let Some(target) = target(&it.shape) {
                    assert!(fields(target).is_some(), "{name}.{field}");
                }
            }
        }
    }
}
