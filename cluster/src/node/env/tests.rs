use serde_json::{Value, json};

use super::*;
use crate::resource::Resource;
use crate::store::{Store, StoreOptions};

fn objects() -> Objects {
    let store = Store::new(StoreOptions::default()).unwrap();
    let secret =
        json!({"metadata": {"name": "s", "namespace": "n"}, "data": {"token": "c2VjcmV0", "a=b": "eA=="}});
    store.create(Resource::Secrets, secret).unwrap();
    let map =
        json!({"metadata": {"name": "m", "namespace": "n"}, "data": {"token": "public", "colour": "red"}});
    store.create(Resource::ConfigMaps, map).unwrap();
    Objects::new(store, "n")
}

fn values(container: Value) -> Result<Vec<(String, String)>, String> {
    let mut container = container;
    container["name"] = json!("c");
    let container: Container = serde_json::from_value(container).unwrap();
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "x"}},
        "spec": {"serviceAccountName": "sa", "containers": []},
    }))
    .unwrap();
    pod.spec.as_mut().unwrap().containers.push(container.clone());
    Ok(declared(&container, &pod, &objects())?.into_iter().collect())
}

#[test]
fn environments() {
    let literal = |name: &str, value: &str| json!({"name": name, "value": value});
    let secret = |key: &str| json!({"name": "V", "valueFrom": {"secretKeyRef": {"name": "s", "key": key}}});
    let field = |path: &str| json!({"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let cases = [
        (json!({}), Ok(vec![])),
        (
            json!({"env": [literal("A", "1"), literal("B", "$(A)-$(C)-$$(A)"), literal("C", "3")]}),
            Ok(vec![("A", "1"), ("B", "1-$(C)-$(A)"), ("C", "3")]),
        ),
        (json!({"env": [literal("A", "1"), literal("A", "$(A)2")]}), Ok(vec![("A", "12")])),
        (json!({"env": [secret("token")]}), Ok(vec![("V", "secret")])),
        (json!({"env": [secret("none")]}), Err("couldn't find key none in Secret n/s")),
        (
            json!({"env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k"}}}]}),
            Err("secret \"x\" not found"),
        ),
        (
            json!({"env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k", "optional": true}}}]}),
            Ok(vec![]),
        ),
        (
            json!({"env": [{"name": "V", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "none"}}}]}),
            Err("couldn't find key none in ConfigMap n/m"),
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}, "prefix": "P_"}]}),
            Ok(vec![("P_token", "secret"), ("colour", "red"), ("token", "public")]),
        ),
        (
            json!({"envFrom": [{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "s"}}],
                   "env": [literal("colour", "blue"), literal("COPY", "$(token)")]}),
            Ok(vec![("COPY", "secret"), ("colour", "blue"), ("token", "secret")]),
        ),
        (json!({"envFrom": [{"secretRef": {"name": "x"}}]}), Err("secret \"x\" not found")),
        (json!({"envFrom": [{"configMapRef": {"name": "x", "optional": true}}]}), Ok(vec![])),
        (json!({"env": [field("metadata.name")]}), Ok(vec![("V", "p")])),
        (json!({"env": [field("metadata.uid")]}), Ok(vec![("V", "u")])),
        (json!({"env": [field("metadata.labels['app']")]}), Ok(vec![("V", "x")])),
        (json!({"env": [field("metadata.annotations['none']")]}), Ok(vec![("V", "")])),
        (json!({"env": [field("spec.serviceAccountName")]}), Ok(vec![("V", "sa")])),
        (json!({"env": [field("status.podIP")]}), Ok(vec![("V", "127.0.0.1")])),
        (json!({"env": [field("spec.other")]}), Err("unsupported fieldPath: spec.other")),
        (
            json!({"resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}, "env": [
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
            ]}),
            Ok(vec![("CPU", "2"), ("MEM", "64")]),
        ),
    ];
    for (container, expected) in cases {
        let expected = expected
            .map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect::<Vec<_>>())
            .map_err(str::to_owned);
        assert_eq!(values(container.clone()), expected, "{container}");
    }
}
