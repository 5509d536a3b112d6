//! Objects in Kubernetes' protobuf encoding.
//!
//! `kubectl` and other clients made with client-go write the built-in kinds so, whatever the server prefers. It is only
//! read here: every client reads JSON. An object comes in an envelope that names its kind; the
//! fields of its message are in a table that is generated from the Go types.

mod wire;

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use wire::{Fields, Payload};

pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The first bytes of every such body.
const MAGIC: &[u8] = b"k8s\0";
/// Deeper than any object of the API; a message that refers to itself ends here.
const DEPTH_MAX: usize = 64;

static MESSAGES: LazyLock<HashMap<&'static str, Message>> =
    LazyLock::new(|| read_table(include_str!("../../../protobuf/messages.txt")));

type Message = HashMap<u64, Field>;

#[derive(Debug, PartialEq)]
struct Field {
    name: &'static str,
    kind: Kind,
    /// Written only if it is set. Other fields are always written, and their zero means that they are not set.
    is_optional: bool,
}

#[derive(Debug, PartialEq)]
enum Kind {
    Text,
    Bytes,
    Boolean,
    Integer,
    Quantity,
    IntOrText,
    Time,
    Message(&'static str),
    List(Box<Kind>),
    Map(Box<Kind>),
}

/// The object in a body, as JSON has it.
///
/// # Errors
/// What is wrong with the encoding.
pub(super) fn decode(body: &[u8]) -> Result<Value, String> {
    let envelope = body.strip_prefix(MAGIC).ok_or("the body does not start with the bytes k8s\\0")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields::of(envelope) {
        match field? {
            (1, Payload::Bytes(type_meta)) => {
                for field in Fields::of(type_meta) {
                    match field? {
                        (1, Payload::Bytes(text)) => api_version = utf8(text)?,
                        (2, Payload::Bytes(text)) => kind = utf8(text)?,
                        (_, _) => {}
                    }
                }
            }
            (2, Payload::Bytes(bytes)) => raw = bytes,
            (_, _) => {}
        }
    }
    let message = MESSAGES.get(kind.as_str()).ok_or_else(|| format!("the kind \"{kind}\" is not known"))?;
    let mut object = decode_message(message, raw, 0)?;
    object.insert("apiVersion".to_owned(), Value::String(api_version));
    object.insert("kind".to_owned(), Value::String(kind));
    Ok(Value::Object(object))
}

fn decode_message(message: &Message, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, String> {
    if depth > DEPTH_MAX {
        return Err("the messages are nested too deeply".to_owned());
    }
    let mut object = Map::new();
    for field in Fields::of(bytes) {
        let (number, payload) = field?;
        let Some(field) = message.get(&number) else { continue };
        match &field.kind {
            Kind::List(items) => {
                let list = object.entry(field.name).or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    match (items.as_ref(), payload) {
                        (Kind::Integer, Payload::Bytes(packed)) => {
                            list.extend(wire::packed(packed)?.into_iter().map(Value::from));
                        }
                        (items, payload) => list.push(value(items, payload, depth)?),
                    }
                }
            }
            Kind::Map(values) => {
                let (key, entry) = map_entry(values, payload, depth)?;
                object.entry(field.name).or_insert_with(|| json!({}))[key] = entry;
            }
            kind => {
                let value = value(kind, payload, depth)?;
                match value {
                    Value::Object(inner) if field.name == "." => object.extend(inner),
                    value if !field.is_optional && is_zero(&value) => {}
                    value => {
                        object.insert(field.name.to_owned(), value);
                    }
                }
            }
        }
    }
    Ok(object)
}

fn map_entry(values: &Kind, payload: Payload<'_>, depth: usize) -> Result<(String, Value), String> {
    let Payload::Bytes(entry) = payload else { return Err("a map entry is no message".to_owned()) };
    let (mut key, mut found) = (String::new(), None);
    for field in Fields::of(entry) {
        match field? {
            (1, Payload::Bytes(text)) => key = utf8(text)?,
            (2, payload) => found = Some(value(values, payload, depth)?),
            (_, _) => {}
        }
    }
    Ok((key, found.unwrap_or_else(|| json!(""))))
}

fn value(kind: &Kind, payload: Payload<'_>, depth: usize) -> Result<Value, String> {
    match (kind, payload) {
        (Kind::Text, Payload::Bytes(text)) => utf8(text).map(Value::String),
        (Kind::Bytes, Payload::Bytes(bytes)) => Ok(Value::String(STANDARD.encode(bytes))),
        (Kind::Boolean, Payload::Integer(number)) => Ok(Value::Bool(number != 0)),
        (Kind::Integer, Payload::Integer(number)) => Ok(Value::from(number)),
        (Kind::Quantity, Payload::Bytes(bytes)) => quantity(bytes),
        (Kind::IntOrText, Payload::Bytes(bytes)) => int_or_text(bytes),
        (Kind::Time, Payload::Bytes(bytes)) => time(bytes),
        (Kind::Message(name), Payload::Bytes(bytes)) => {
            let message = MESSAGES.get(name).ok_or_else(|| format!("the message {name} is not known"))?;
            decode_message(message, bytes, depth + 1).map(Value::Object)
        }
        (Kind::List(_) | Kind::Map(_), _) => Err("a list in a list".to_owned()),
        (_, _) => Err("a field is not of its type".to_owned()),
    }
}

fn quantity(bytes: &[u8]) -> Result<Value, String> {
    for field in Fields::of(bytes) {
        if let (1, Payload::Bytes(text)) = field? {
            return utf8(text).map(Value::String);
        }
    }
    Ok(json!("0"))
}

fn int_or_text(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields::of(bytes) {
        match field? {
            (1, Payload::Integer(kind)) => is_text = kind == 1,
            (2, Payload::Integer(found)) => number = found,
            (3, Payload::Bytes(found)) => text = utf8(found)?,
            (_, _) => {}
        }
    }
    Ok(if is_text { Value::String(text) } else { Value::from(number) })
}

/// Decodes a time; zero is no time.
fn time(bytes: &[u8]) -> Result<Value, String> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::of(bytes) {
        match field? {
            (1, Payload::Integer(found)) => seconds = found,
            (2, Payload::Integer(found)) => nanos = found,
            (_, _) => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|_| "a time has too many nanoseconds".to_owned())?;
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|e| e.to_string())?;
    Ok(Value::String(if nanos == 0 { format!("{time:.0}") } else { format!("{time:.6}") }))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8".to_owned())
}

/// Reads the table: a message's name on a line of its own, then a field a line: number, name in JSON, type.
fn read_table(table: &'static str) -> HashMap<&'static str, Message> {
    let mut messages: HashMap<&'static str, Message> = HashMap::new();
    let mut current = "";
    for line in table.lines() {
        let mut words = line.split_whitespace();
        match (line.starts_with(' '), words.next(), words.next(), words.next()) {
            (false, Some(name), None, None) => {
                current = name;
                messages.insert(name, Message::new());
            }
            (true, Some(number), Some(name), Some(kind)) => {
                let field = Field {
                    name,
                    kind: Kind::parse(kind.trim_end_matches('?')),
                    is_optional: kind.ends_with('?'),
                };
                if let (Ok(number), Some(message)) = (number.parse(), messages.get_mut(current)) {
                    message.insert(number, field);
                }
            }
            (_, _, _, _) => {}
        }
    }
    messages
}

impl Kind {
    fn parse(text: &'static str) -> Kind {
        if let Some(items) = text.strip_prefix("[]") {
            return Kind::List(Box::new(Kind::parse(items)));
        }
        if let Some(values) = text.strip_prefix("{}") {
            return Kind::Map(Box::new(Kind::parse(values)));
        }
        match text {
            "text" => Kind::Text,
            "bytes" => Kind::Bytes,
            "bool" => Kind::Boolean,
            "int" => Kind::Integer,
            "quantity" => Kind::Quantity,
            "int-or-text" => Kind::IntOrText,
            "time" => Kind::Time,
            message => Kind::Message(message),
        }
    }
}

#[cfg(test)]
mod tests;
