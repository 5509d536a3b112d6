//! What the operator gives to all agents of a host.

use std::borrow::Cow;
use std::collections::BTreeMap;

use paperclip_kubernetes::paperclip_pod::{DATA_DIR, container_index};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::paperclip_pod::API_URL;

/// The name of the volume of [`Agents::volume_claim`] in the pod that agents inherit from.
const DATA_VOLUME: &str = "paperclip-data";

/// What the operator gives to all agents of a host. An agent's own config overrides it; it overrides what agents inherit from
/// Paperclip's pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agents {
    /// Image of agents whose config names none.
    pub image: Option<String>,
    /// Secrets with credentials of image registries.
    pub image_pull_secrets: Vec<String>,
    /// Service account of agents whose config names none.
    pub service_account: Option<String>,
    /// Claim of Paperclip's data volume, which agents mount at `/paperclip`.
    pub volume_claim: Option<String>,
    /// What agents get of the data volume whose config does not say it. With `shared` their grant allows all of it.
    pub data_mount: Option<DataMount>,
    /// Whether the init program is process 1 of agents' containers and counts what they print.
    pub count_output: bool,
    /// URL at which agents reach Paperclip's API.
    pub api_url: Option<String>,
    /// Variables that are no secrets, as in `config.env`.
    pub env: BTreeMap<String, String>,
    /// Whole Secrets and ConfigMaps, as in a container's `envFrom`.
    pub env_from: Vec<EnvFrom>,
}

/// What an agent gets of Paperclip's data volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataMount {
    /// Its own home and its workspace.
    Isolated,
    /// All of it.
    Shared,
}

impl DataMount {
    const fn name(self) -> &'static str {
        match self {
            DataMount::Isolated => "isolated",
            DataMount::Shared => "shared",
        }
    }
}

/// A Secret or a ConfigMap whose keys become variables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvFrom {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<Reference>,
}

/// The object of an [`EnvFrom`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

impl Agents {
    /// Returns what is wrong, with the field.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let is_ambiguous = |source: &&EnvFrom| source.secret_ref.is_some() == source.config_map_ref.is_some();
        self.env_from
            .iter()
            .find(is_ambiguous)
            .map(|_| ("agents.env_from", "an entry has either secretRef or configMapRef".to_owned()))
    }

    /// Adds to an execution context what its config leaves open.
    pub(crate) fn complete<'a>(&self, context: &'a Value) -> Cow<'a, Value> {
        let fields = [
            ("image", self.image.as_deref()),
            ("serviceAccountName", self.service_account.as_deref()),
            ("dataMount", self.data_mount.map(DataMount::name)),
        ];
        if self.env.is_empty() && fields.iter().all(|(_, value)| value.is_none()) {
            return Cow::Borrowed(context);
        }
        let mut completed = context.clone();
        if completed["config"].is_null() && completed.is_object() {
            completed["config"] = json!({});
        }
        let Some(config) = completed.get_mut("config").and_then(Value::as_object_mut) else {
            return Cow::Borrowed(context);
        };
        for (field, value) in fields {
            let is_open = config.get(field).is_none_or(is_blank);
            if let Some(value) = value.filter(|_| is_open) {
                config.insert(field.to_owned(), Value::from(value));
            }
        }
        let env = config.entry("env").or_insert(Value::Null);
        if env.is_null() {
            *env = json!({});
        }
        if let Some(env) = env.as_object_mut() {
            for (name, value) in &self.env {
                env.entry(name.as_str()).or_insert_with(|| Value::from(value.as_str()));
            }
        }
        Cow::Owned(completed)
    }

    /// Adds to the pod that agents inherit from what no field of a config can say. Without a pod, and with something to add, returns a
    /// pod that has nothing else.
    pub(crate) fn overlay(&self, pod: Option<Value>) -> Option<Value> {
        let has_nothing = self.image_pull_secrets.is_empty() && self.env_from.is_empty();
        if has_nothing && self.volume_claim.is_none() && self.api_url.is_none() {
            return pod;
        }
        let mut pod = pod.unwrap_or_else(|| json!({"spec": {"containers": [{"name": "paperclip"}]}}));
        // A pod in which Paperclip's container is not known is refused with the run.
        let Ok(index) = container_index(&pod) else { return Some(pod) };
        let spec = &mut pod["spec"];
        for name in &self.image_pull_secrets {
            push(&mut spec["imagePullSecrets"], json!({"name": name}));
        }
        if let Some(claim) = &self.volume_claim {
            push(
                &mut spec["volumes"],
                json!({"name": DATA_VOLUME, "persistentVolumeClaim": {"claimName": claim}}),
            );
            let mounts = &mut spec["containers"][index]["volumeMounts"];
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.retain(|mount| mount["mountPath"] != DATA_DIR);
            }
            push(mounts, json!({"name": DATA_VOLUME, "mountPath": DATA_DIR}));
        }
        let container = &mut spec["containers"][index];
        for source in &self.env_from {
            push(&mut container["envFrom"], json!(source));
        }
        if let Some(url) = &self.api_url {
            let env = &mut container["env"];
            if let Some(env) = env.as_array_mut() {
                env.retain(|variable| variable["name"] != API_URL);
            }
            push(env, json!({"name": API_URL, "value": url}));
        }
        Some(pod)
    }
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// Appends to a list, which is made if there is none.
fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents() -> Agents {
        toml::from_str(
            r#"
            image = "acme/agent:1"
            image_pull_secrets = ["registry"]
            service_account = "agent"
            volume_claim = "shared"
            data_mount = "shared"
            api_url = "http://paperclip.prod:3100"
            env = { HTTP_PROXY = "http://proxy:3128", LANG = "C" }
            env_from = [{ secretRef = { name = "keys" } }]
            "#,
        )
        .expect("valid")
    }

    #[test]
    fn a_config_gets_what_it_leaves_open() {
        let context = json!({"runId": "r", "config": {"image": " ", "env": {"LANG": "de"}, "model": "m"}});
        assert_eq!(
            *agents().complete(&context),
            json!({"runId": "r", "config": {
                "image": "acme/agent:1", "serviceAccountName": "agent", "dataMount": "shared", "model": "m",
                "env": {"HTTP_PROXY": "http://proxy:3128", "LANG": "de"},
            }})
        );
        let named = json!({"config": {"image": "own", "serviceAccountName": "own", "env": null}});
        let completed = agents().complete(&named).into_owned();
        assert_eq!(
            (&completed["config"]["image"], &completed["config"]["serviceAccountName"]),
            (&json!("own"), &json!("own"))
        );
        assert_eq!(completed["config"]["env"]["LANG"], "C");
        assert_eq!(agents().complete(&json!({}))["config"]["image"], "acme/agent:1");
        for wrong in [json!("x"), json!({"config": 3})] {
            assert_eq!(*agents().complete(&wrong), wrong, "intake refuses it");
        }
        assert!(matches!(Agents::default().complete(&context), Cow::Borrowed(_)));
    }

    #[test]
    fn agents_inherit_the_operators_objects_in_place_of_those_of_the_pod() {
        let pod = json!({"spec": {
            "containers": [{"name": "istio-proxy"}, {
                "name": "server", "image": "paperclip:1",
                "env": [{"name": API_URL, "value": "http://localhost:3100"}, {"name": "A", "value": "a"}],
                "volumeMounts": [{"name": "d", "mountPath": "/paperclip"}, {"name": "s", "mountPath": "/s"}],
            }],
            "imagePullSecrets": [{"name": "own"}],
        }});
        let pod = agents().overlay(Some(pod)).expect("a pod");
        assert_eq!(
            pod["spec"]["containers"][1],
            json!({
                "name": "server", "image": "paperclip:1",
                "env": [{"name": "A", "value": "a"}, {"name": API_URL, "value": "http://paperclip.prod:3100"}],
                "envFrom": [{"secretRef": {"name": "keys"}}],
                "volumeMounts": [{"name": "s", "mountPath": "/s"}, {"name": "paperclip-data", "mountPath": "/paperclip"}],
            })
        );
        assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "own"}, {"name": "registry"}]));
        assert_eq!(
            pod["spec"]["volumes"],
            json!([{"name": "paperclip-data", "persistentVolumeClaim": {"claimName": "shared"}}])
        );
        assert_eq!(Agents::default().overlay(None), None);
        let alone = agents().overlay(None).expect("a pod");
        assert_eq!(alone["spec"]["containers"][0]["image"], Value::Null);
        assert_eq!(alone["spec"]["containers"][0]["env"][0]["name"], API_URL);
        let ambiguous = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        assert_eq!(agents().overlay(Some(ambiguous.clone())), Some(ambiguous));
    }

    #[test]
    fn an_entry_of_env_from_names_one_object() {
        assert_eq!(agents().problem(), None);
        for entry in ["{}", r#"{ secretRef = { name = "a" }, configMapRef = { name = "b" } }"#] {
            let agents: Agents = toml::from_str(&format!("env_from = [{entry}]")).expect("parsed");
            assert_eq!(agents.problem().map(|(field, _)| field), Some("agents.env_from"), "{entry}");
        }
    }
}
