//! Strict decoding: every field known, every value of its type, worded as the API server's decoder.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paperclip_kubernetes::Quantity;
use serde_json::{Map, Value};

use super::{Shape, fields};

/// A decoded object.
#[derive(Debug, PartialEq)]
pub(crate) struct Decoded {
    /// The value without unknown fields, nulls and empty lists and maps.
    pub(crate) value: Value,
    /// The paths of the unknown fields, such as `spec.template.spec.containers[0].imgae`.
    pub(crate) unknown: Vec<String>,
}

/// Decodes a value as a definition.
///
/// # Errors
/// The message of a value that is not of its field's type.
pub(crate) fn decode(definition: &str, value: Value) -> Result<Decoded, String> {
    let mut decoder = Decoder { unknown: Vec::new() };
    let place = Place { path: String::new(), structure: definition.to_owned(), go: String::new() };
    let value = decoder.structure(definition, value, &place)?.unwrap_or_default();
    Ok(Decoded { value, unknown: decoder.unknown })
}

struct Decoder {
    unknown: Vec<String>,
}

/// The position of the decoder in the object.
struct Place {
    /// With indices: `spec.containers[0].name`.
    path: String,
    /// The structure that holds the field, by its short name.
    structure: String,
    /// As Go's decoder names it, without indices: `spec.containers.name`.
    go: String,
}

impl Place {
    fn field(&self, structure: &str, name: &str) -> Place {
        let join = |base: &str| if base.is_empty() { name.to_owned() } else { format!("{base}.{name}") };
        Place { path: join(&self.path), structure: structure.to_owned(), go: join(&self.go) }
    }

    fn item(&self, index: usize) -> Place {
        Place {
            path: format!("{}[{index}]", self.path),
            structure: self.structure.clone(),
            go: self.go.clone(),
        }
    }

    fn mismatch(&self, found: &Value, shape: &Shape) -> String {
        let found = match found {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(n) if matches!(shape, Shape::Integer { .. }) => format!("number {n}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let (structure, field, expected) = (&self.structure, &self.go, go_type(shape));
        if field.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {expected}");
        }
        format!("json: cannot unmarshal {found} into Go struct field {structure}.{field} of type {expected}")
    }
}

impl Decoder {
    fn structure(&mut self, definition: &str, value: Value, place: &Place) -> Result<Option<Value>, String> {
        let object = match value {
            Value::Object(object) => object,
            Value::Null => return Ok(None),
            other => return Err(place.mismatch(&other, &Shape::Struct(definition.to_owned()))),
        };
        let Some(known) = fields(definition) else { return Ok(Some(Value::Object(object))) };
        let mut kept = Map::new();
        for (name, value) in object {
            let place = place.field(definition, &name);
            match known.get(name.as_str()) {
                None => self.unknown.push(place.path),
                Some(field) => {
                    if let Some(value) = self.value(&field.shape, value, &place)? {
                        kept.insert(name, value);
                    }
                }
            }
        }
        Ok(Some(Value::Object(kept)))
    }

    /// The decoded value; `None` if it is one that is left out when the object is written again.
    fn value(&mut self, shape: &Shape, value: Value, place: &Place) -> Result<Option<Value>, String> {
        if value.is_null() {
            return Ok(None);
        }
        match (shape, value) {
            (Shape::Struct(definition), value) => self.structure(definition, value, place),
            (Shape::List(items), Value::Array(list)) => self.list(items, list, place),
            (Shape::Map(values), Value::Object(map)) => self.map(values, map, place),
            (Shape::Any, value) => Ok(Some(value)),
            (leaf, value) => check_leaf(leaf, &value, place).map(|()| Some(value)),
        }
    }

    fn list(&mut self, items: &Shape, list: Vec<Value>, place: &Place) -> Result<Option<Value>, String> {
        let mut kept = Vec::with_capacity(list.len());
        for (index, item) in list.into_iter().enumerate() {
            let item = self.value(items, item, &place.item(index))?;
            kept.push(item.unwrap_or_else(|| zero(items)));
        }
        Ok((!kept.is_empty()).then_some(Value::Array(kept)))
    }

    fn map(
        &mut self,
        values: &Shape,
        map: Map<String, Value>,
        place: &Place,
    ) -> Result<Option<Value>, String> {
        let mut kept = Map::new();
        for (key, value) in map {
            let value = self.value(values, value, place)?;
            kept.insert(key, value.unwrap_or_else(|| zero(values)));
        }
        Ok((!kept.is_empty()).then_some(Value::Object(kept)))
    }
}

fn check_leaf(shape: &Shape, value: &Value, place: &Place) -> Result<(), String> {
    let fits = match (shape, value) {
        (Shape::Text, Value::String(_))
        | (Shape::Boolean, Value::Bool(_))
        | (Shape::Number, Value::Number(_))
        | (Shape::IntOrText, Value::String(_)) => true,
        (Shape::Integer { bits: 32 } | Shape::IntOrText, Value::Number(n)) => {
            n.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
        }
        (Shape::Integer { .. }, Value::Number(n)) => n.as_i64().is_some(),
        (Shape::Bytes, Value::String(text)) => return check_base64(text),
        (Shape::Time, Value::String(text)) => return check_time(text),
        (Shape::Quantity, Value::String(text)) => return check_quantity(text),
        (Shape::Quantity, Value::Number(number)) => return check_quantity(&number.to_string()),
        (_, _) => false,
    };
    if fits { Ok(()) } else { Err(place.mismatch(value, shape)) }
}

fn check_quantity(text: &str) -> Result<(), String> {
    Quantity::parse(text).map(|_| ()).map_err(|error| error.to_string())
}

fn check_base64(text: &str) -> Result<(), String> {
    let compact: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    match STANDARD.decode(&compact) {
        Ok(_) => Ok(()),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding) => {
            Err(format!("illegal base64 data at input byte {}", compact.len()))
        }
    }
}

fn check_time(text: &str) -> Result<(), String> {
    let parsed = text.parse::<jiff::Timestamp>();
    parsed.map(|_| ()).map_err(|_| {
        format!(
            "parsing time \"{text}\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"{text}\" as \"2006\""
        )
    })
}

/// The value to which Go decodes a null inside a list or map.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Struct(_) | Shape::Map(_) | Shape::Any => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Text | Shape::Bytes => Value::String(String::new()),
        Shape::Time => Value::Null,
        Shape::Integer { .. } | Shape::Number | Shape::IntOrText => Value::from(0),
        Shape::Boolean => Value::Bool(false),
        Shape::Quantity => Value::from("0"),
    }
}

fn go_type(shape: &Shape) -> String {
    match shape {
        // The last part of the Go package, which is the version: every structure here is of a `v1`.
        Shape::Struct(name) => format!("v1.{name}"),
        Shape::List(items) => format!("[]{}", go_type(items)),
        Shape::Map(values) => format!("map[string]{}", go_type(values)),
        Shape::Text => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Time => "string".to_owned(),
        Shape::Integer { bits } => format!("int{bits}"),
        Shape::Number => "float64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::IntOrText => "intstr.IntOrString".to_owned(),
        Shape::Any => "interface {}".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::decode;

    fn job(value: Value) -> Result<super::Decoded, String> {
        decode("Job", value)
    }

    #[test]
    fn unknown_fields_are_named_by_their_path_and_left_out() {
        let container = json!({"name": "a", "imgae": "x", "args": []});
        let decoded = job(json!({"spec": {
            "foo": 1, "suspend": null, "template": {"spec": {"containers": [container]}},
        }}))
        .unwrap();
        assert_eq!(decoded.unknown, ["spec.foo", "spec.template.spec.containers[0].imgae"]);
        let clean = json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}});
        assert_eq!(decoded.value, clean);
    }

    #[test]
    fn a_wrong_type_is_named_as_go_names_it() {
        let cases = [
            (
                json!({"spec": {"parallelism": "2"}}),
                "json: cannot unmarshal string into Go struct field JobSpec.spec.parallelism of type int32",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": [{"name": 1}]}}}}),
                "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type string",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": {}}}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
        ];
        for (value, message) in cases {
            assert_eq!(job(value).unwrap_err(), message);
        }
        let secret = decode("Secret", json!({"data": {"a": "no base64!"}}));
        assert_eq!(secret.unwrap_err(), "illegal base64 data at input byte 2");
    }
}
