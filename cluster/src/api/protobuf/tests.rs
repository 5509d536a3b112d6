use serde_json::json;

use super::{Kind, MESSAGES, decode};

/// A field with bytes, short enough for a length of one byte.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&[number << 3 | 2, length], bytes].concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &type_meta), field(2, raw)].concat()
}

#[test]
fn an_object_is_what_its_json_would_be() {
    let metadata = field(1, &[field(1, b"s"), field(3, b"")].concat());
    let data = field(2, &[field(1, b"key"), field(2, b"hi")].concat());
    let immutable = [5 << 3, 0];
    let body = envelope("v1", "Secret", &[metadata, data, field(3, b"Opaque"), immutable.to_vec()].concat());
    let expected = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "data": {"key": "aGk="}, "type": "Opaque", "immutable": false,
    });
    assert_eq!(decode(&body), Ok(expected));
}

#[test]
fn fields_of_an_embedded_message_stand_in_the_outer_one() {
    let volume = [field(1, b"v"), field(2, &field(2, b""))].concat();
    let resources = field(1, &[field(1, b"cpu"), field(2, &field(1, b"500m"))].concat());
    let container = [field(1, b"main"), field(3, b"run"), field(8, &resources)].concat();
    let spec = [field(1, &volume), field(2, &container), vec![4 << 3, 30]].concat();
    let pod = decode(&envelope("v1", "Pod", &field(2, &spec))).unwrap();
    let expected = json!({
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "main", "command": ["run"], "resources": {"limits": {"cpu": "500m"}}}],
        "terminationGracePeriodSeconds": 30,
    });
    assert_eq!(pod["spec"], expected);
}

#[test]
fn what_is_broken_is_refused() {
    let good = envelope("v1", "Secret", &field(3, b"Opaque"));
    assert!(decode(&good).is_ok());
    assert!(decode(&good[..good.len() - 1]).unwrap_err().contains("cut off"));
    assert!(decode(b"{}").unwrap_err().contains("k8s"));
    assert!(decode(&envelope("v1", "Gizmo", b"")).unwrap_err().contains("Gizmo"));
}

#[test]
fn every_message_that_is_named_is_known() {
    fn target(kind: &Kind) -> Option<&'static str> {
        match kind {
            Kind::Message(name) => Some(name),
            Kind::List(inner) | Kind::Map(inner) => target(inner),
            _ => None,
        }
    }
    assert!(MESSAGES.len() > 100);
    for (name, message) in MESSAGES.iter() {
        for field in message.values() {
            if let Some(target) = target(&field.kind) {
                assert!(MESSAGES.contains_key(target), "{name}.{} is a {target}", field.name);
            }
        }
    }
}
