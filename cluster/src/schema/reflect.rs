//! The shapes of k8s-openapi's types, found by deserializing them.
//!
//! A `Deserialize` implementation passes to its deserializer what it expects: the name and the fields of a structure, or the
//! type of a value. [`Probe`] records that, and supplies a value of the type, so that every field is visited. Nothing has
//! to be generated, checked in or compiled for it, and the shapes are those of the version of k8s-openapi that is used.

use std::collections::BTreeMap;

use serde::de::value::{Error, MapDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::Shape;

/// The structures by name, such as `JobSpec`.
#[derive(Default)]
pub(super) struct Structs {
    by_name: BTreeMap<&'static str, Struct>,
}

struct Struct {
    /// The names as the type declares them, to recognise it again.
    declared: &'static [&'static str],
    fields: BTreeMap<&'static str, Shape>,
}

impl Structs {
    /// Returns the fields of each structure, by the names of both.
    pub(super) fn into_fields(self) -> impl Iterator<Item = (&'static str, BTreeMap<&'static str, Shape>)> {
        self.by_name.into_iter().map(|(name, it)| (name, it.fields))
    }
}

/// Adds the structures that a type consists of.
///
/// # Errors
/// The type expects a value that no type of the API expects, or two structures have the same name.
pub(super) fn add<T: for<'de> Deserialize<'de>>(structs: &mut Structs) -> Result<(), Error> {
    T::deserialize(Probe { structs, shape: &mut Shape::Any }).map(|_| ())
}

/// Records the shape of the value that is deserialized from it.
struct Probe<'p> {
    structs: &'p mut Structs,
    shape: &'p mut Shape,
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let expectation = Error::invalid_type(Unexpected::Unit, &visitor);
        if !expectation.to_string().ends_with("expected IntOrString") {
            return Err(expectation);
        }
        *self.shape = Shape::IntOrText;
        visitor.visit_i64(0)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.shape = Shape::Struct(name.to_owned());
        match self.structs.by_name.get(name) {
            // Every field of the API's structures can be absent.
            Some(known) if known.declared == fields => {
                return visitor.visit_map(MapDeserializer::new(std::iter::empty::<((), ())>()));
            }
            Some(_) => return Err(Error::custom(format!("two structures are called {name}"))),
            None => {
                self.structs.by_name.insert(name, Struct { declared: fields, fields: BTreeMap::new() });
            }
        }
        visitor.visit_map(Fields { structs: self.structs, name, rest: fields })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match name {
            "Quantity" => {
                *self.shape = Shape::Quantity;
                visitor.visit_newtype_struct("0".into_deserializer())
            }
            "Time" | "MicroTime" => {
                *self.shape = Shape::Time;
                visitor.visit_newtype_struct("1970-01-01T00:00:00Z".into_deserializer())
            }
            // `FieldsV1` and structures without fields of their own.
            _ => {
                *self.shape = Shape::Any;
                visitor.visit_newtype_struct(().into_deserializer())
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut item = Shape::Any;
        let list = visitor.visit_seq(OneItem { structs: self.structs, shape: Some(&mut item) });
        *self.shape = Shape::List(Box::new(item));
        list
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut value = Shape::Any;
        let map = visitor.visit_map(OneEntry { structs: self.structs, shape: &mut value, is_read: false });
        *self.shape = Shape::Map(Box::new(value));
        map
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::Boolean;
        visitor.visit_bool(false)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::Integer { bits: 32 };
        visitor.visit_i32(0)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::Integer { bits: 64 };
        visitor.visit_i64(0)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::Number;
        visitor.visit_f64(0.0)
    }

    /// Only `ByteString` is deserialized from a borrowed text.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::Bytes;
        visitor.visit_str("")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.shape = Shape::Text;
        visitor.visit_str("")
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
        ignored_any
    }
}

/// The fields of a structure, each once.
struct Fields<'p> {
    structs: &'p mut Structs,
    name: &'static str,
    rest: &'static [&'static str],
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        // A kind accepts no other version and kind than its own.
        while let Some((field @ ("apiVersion" | "kind"), rest)) =
            self.rest.split_first().map(|(field, rest)| (*field, rest))
        {
            self.record(field, Shape::Text);
            self.rest = rest;
        }
        self.rest.first().map(|field| seed.deserialize((*field).into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (field, rest) = self.rest.split_first().ok_or_else(|| Error::custom("a value without a key"))?;
        let mut shape = Shape::Any;
        let value = seed.deserialize(Probe { structs: &mut *self.structs, shape: &mut shape })?;
        self.record(field, shape);
        self.rest = rest;
        Ok(value)
    }
}

impl Fields<'_> {
    fn record(&mut self, field: &'static str, shape: Shape) {
        if let Some(structure) = self.structs.by_name.get_mut(self.name) {
            structure.fields.insert(field, shape);
        }
    }
}

/// A list of one item.
struct OneItem<'p> {
    structs: &'p mut Structs,
    shape: Option<&'p mut Shape>,
}

impl<'de> SeqAccess<'de> for OneItem<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(shape) = self.shape.take() else { return Ok(None) };
        seed.deserialize(Probe { structs: &mut *self.structs, shape }).map(Some)
    }
}

/// A map of one entry.
struct OneEntry<'p> {
    structs: &'p mut Structs,
    shape: &'p mut Shape,
    is_read: bool,
}

impl<'de> MapAccess<'de> for OneEntry<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if std::mem::replace(&mut self.is_read, true) {
            return Ok(None);
        }
        seed.deserialize("key".into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Probe { structs: &mut *self.structs, shape: &mut *self.shape })
    }
}
