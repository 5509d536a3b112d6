//! Reads Paperclip's pod: what agents inherit from the pod that Paperclip itself runs in.

use paperclip_kubernetes::paperclip_pod::{self, UnknownContainer};
use serde_json::{Map, Value, json};

use crate::refusal::Refusal;
use crate::request::Request;

pub use paperclip_pod::DATA_DIR;

/// The object at fault in a refusal, as a person knows it.
const FIELD: &str = "Paperclip's pod";

/// The mount path of the token for the cluster's API, in every pod.
const CLUSTER_TOKEN_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const INSTRUMENTATION_PREFIX: &str = "instrumentation.opentelemetry.io/inject-";
const INSTRUMENTATION_CONTAINER: &str = "opentelemetry-auto-instrumentation";

/// The parts of Paperclip's pod that matter to a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PaperclipPod {
    pub namespace: Option<String>,
    pub image: Option<String>,
    pub variables: Vec<PodVariable>,
    pub env_from: Vec<Value>,
    pub image_pull_secrets: Vec<Value>,
    pub dns_config: Option<Value>,
    pub data_claim: Option<DataClaim>,
    pub secret_volumes: Vec<SecretVolume>,
    /// Everything that the container mounts.
    pub mounts: Vec<Mount>,
    /// Whether OpenTelemetry's operator has instrumented the pod.
    pub is_instrumented: bool,
    /// Whether the container mounts a token of a service account for others than the cluster's API.
    pub has_projected_token: bool,
}

/// A mount of Paperclip's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Without a slash at the end.
    pub path: String,
    /// Whether agents get the volume, too.
    pub is_inherited: bool,
}

/// A variable of Paperclip's container.
#[derive(Debug, Clone, PartialEq)]
pub struct PodVariable {
    pub name: String,
    pub value: PodValue,
}

#[derive(Debug, Clone, PartialEq)]
pub enum PodValue {
    /// A literal that the plugin may see.
    Shown(String),
    /// A literal that the host keeps.
    Hidden,
    /// `valueFrom`: a reference into a Secret, a ConfigMap or the Pod itself.
    Reference(Value),
}

/// The volume claim behind [`DATA_DIR`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataClaim {
    pub claim_name: String,
    pub sub_path: Option<String>,
}

/// A Secret that is mounted as a volume.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretVolume {
    pub name: String,
    /// The volume's `secret`.
    pub source: Map<String, Value>,
    pub mounts: Vec<SecretMount>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    pub path: String,
    pub sub_path: Option<String>,
}

impl PaperclipPod {
    /// Returns the pod of a request; without one, a pod that has nothing.
    ///
    /// # Errors
    /// It has several containers, and which one is Paperclip's is not known.
    pub fn of(request: &Request) -> Result<PaperclipPod, Refusal> {
        let Some(pod) = &request.paperclip_pod else { return Ok(PaperclipPod::default()) };
        PaperclipPod::read(pod)
            .map_err(|error| Refusal::new(FIELD, format!("{error}; {}", UnknownContainer::HINT)))
    }

    /// Reads a core/v1 Pod; parts that are missing or malformed are left out.
    ///
    /// # Errors
    /// Which of its containers is Paperclip's is not known.
    pub fn read(pod: &Value) -> Result<PaperclipPod, UnknownContainer> {
        let spec = &pod["spec"];
        let container = paperclip_pod::container(pod)?;
        let mounts = list(&container["volumeMounts"]);
        let volumes = list(&spec["volumes"]);
        let data_claim = data_claim(volumes, mounts);
        let secret_volumes: Vec<_> =
            volumes.iter().filter_map(|volume| secret_volume(volume, mounts)).collect();
        Ok(PaperclipPod {
            namespace: text(&pod["metadata"]["namespace"]),
            image: text(&container["image"]),
            variables: list(&container["env"]).iter().filter_map(variable).collect(),
            env_from: list(&container["envFrom"]).to_vec(),
            image_pull_secrets: list(&spec["imagePullSecrets"])
                .iter()
                .filter_map(|secret| Some(json!({"name": text(&secret["name"])?})))
                .collect(),
            dns_config: Some(&spec["dnsConfig"]).filter(|dns| dns.is_object()).cloned(),
            mounts: mounts
                .iter()
                .filter_map(|mount| {
                    let path = mount["mountPath"].as_str()?;
                    let is_data = path == DATA_DIR && data_claim.is_some();
                    let is_secret = secret_volumes.iter().any(|volume| mount["name"] == volume.name.as_str());
                    let path = path.trim_end_matches('/').to_owned();
                    Some(Mount { path, is_inherited: is_data || is_secret })
                })
                .collect(),
            is_instrumented: is_instrumented(pod),
            has_projected_token: mounts.iter().any(|mount| is_projected_token(mount, volumes)),
            data_claim,
            secret_volumes,
        })
    }

    /// Returns the value of a variable: the last of its name wins.
    pub fn variable(&self, name: &str) -> Option<&PodValue> {
        self.variables.iter().rev().find(|variable| variable.name == name).map(|variable| &variable.value)
    }

    /// Whether a text is the path of a mount, or of a file below one, that agents do not get.
    pub fn is_missing_path(&self, path: &str) -> bool {
        if path.contains(|c: char| c == ':' || c.is_whitespace()) {
            return false;
        }
        let is_at_or_below = |mount: &&Mount| {
            path.strip_prefix(mount.path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let nearest = self.mounts.iter().filter(is_at_or_below).max_by_key(|mount| mount.path.len());
        nearest.is_some_and(|mount| !mount.is_inherited)
    }

    /// Returns the objects of its namespace that an agent's Pod refers to: in another namespace they must exist too.
    pub fn references(&self) -> Vec<String> {
        let claim = self.data_claim.iter().map(|claim| format!("volume claim {}", claim.claim_name));
        let pull = self.image_pull_secrets.iter().filter_map(|secret| text(&secret["name"]));
        let volumes = self.secret_volumes.iter().filter_map(|volume| text(volume.source.get("secretName")?));
        claim.chain(pull.chain(volumes).map(|name| format!("Secret {name}"))).collect()
    }
}

fn variable(entry: &Value) -> Option<PodVariable> {
    let value = match (&entry["value"], &entry["valueFrom"]) {
        (Value::String(value), _) => PodValue::Shown(value.clone()),
        (_, Value::Object(source)) => PodValue::Reference(Value::Object(source.clone())),
        _ => PodValue::Hidden,
    };
    Some(PodVariable { name: text(&entry["name"])?, value })
}

fn data_claim(volumes: &[Value], mounts: &[Value]) -> Option<DataClaim> {
    mounts.iter().filter(|mount| mount["mountPath"] == DATA_DIR).find_map(|mount| {
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"])?;
        let claim_name = text(&volume["persistentVolumeClaim"]["claimName"])?;
        Some(DataClaim { claim_name, sub_path: text(&mount["subPath"]) })
    })
}

fn secret_volume(volume: &Value, mounts: &[Value]) -> Option<SecretVolume> {
    let source = volume["secret"].as_object()?;
    text(source.get("secretName")?)?;
    let mounts: Vec<_> = mounts
        .iter()
        .filter(|mount| mount["name"] == volume["name"])
        .filter_map(|mount| {
            Some(SecretMount { path: text(&mount["mountPath"])?, sub_path: text(&mount["subPath"]) })
        })
        .collect();
    (!mounts.is_empty()).then_some(SecretVolume {
        name: text(&volume["name"])?,
        source: source.clone(),
        mounts,
    })
}

/// Whether an annotation or an init container is that of OpenTelemetry's operator.
fn is_instrumented(pod: &Value) -> bool {
    let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let mut requests = annotations.filter(|(key, _)| key.starts_with(INSTRUMENTATION_PREFIX));
    let init_containers = list(&pod["spec"]["initContainers"]);
    requests.any(|(_, value)| value != "false")
        || init_containers.iter().any(|container| {
            container["name"].as_str().is_some_and(|name| name.starts_with(INSTRUMENTATION_CONTAINER))
        })
}

fn is_projected_token(mount: &Value, volumes: &[Value]) -> bool {
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap_or(&Value::Null);
    let sources = list(&volume["projected"]["sources"]);
    mount["mountPath"] != CLUSTER_TOKEN_DIR
        && sources.iter().any(|source| source["serviceAccountToken"].is_object())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pod: &Value) -> PaperclipPod {
        PaperclipPod::read(pod).expect("a pod of one container")
    }

    #[test]
    fn reads_paperclips_container_and_refuses_a_pod_in_which_it_is_unknown() {
        let request = |first: &str, second: &str| Request {
            paperclip_pod: Some(json!({"spec": {"containers": [
                {"name": first, "image": "first"}, {"name": second, "image": "second"},
            ]}})),
            ..Request::default()
        };
        let pod = PaperclipPod::of(&request("istio-proxy", "server")).expect("one is no sidecar");
        assert_eq!(pod.image.as_deref(), Some("second"));
        let refusal = PaperclipPod::of(&request("web", "worker")).expect_err("both could be Paperclip's");
        assert_eq!(
            refusal.to_string(),
            "Paperclip's pod: which of its containers is Paperclip's is not known: web, worker; name Paperclip's container `paperclip`, or name it in the pod's annotation kubectl.kubernetes.io/default-container"
        );
        assert_eq!(PaperclipPod::of(&Request::default()), Ok(PaperclipPod::default()));
    }

    #[test]
    fn reads_shown_hidden_and_referenced_variables() {
        let pod = read(&json!({"spec": {"containers": [{"env": [
            {"name": "PATH", "value": "/bin"},
            {"name": "KEY"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"value": "nameless"},
        ]}]}}));
        let values: Vec<_> = pod.variables.iter().map(|variable| &variable.value).collect();
        let node = PodValue::Reference(json!({"fieldRef": {"fieldPath": "spec.nodeName"}}));
        assert_eq!(values, [&PodValue::Shown("/bin".into()), &PodValue::Hidden, &node]);
    }

    #[test]
    fn the_nearest_mount_decides_whether_agents_get_a_path() {
        let pod = read(&json!({"spec": {
            "containers": [{"volumeMounts": [
                {"name": "state", "mountPath": "/paperclip"}, {"name": "cache", "mountPath": "/paperclip/cache/"},
            ]}],
            "volumes": [{"name": "state", "persistentVolumeClaim": {"claimName": "rwx"}}, {"name": "cache", "emptyDir": {}}],
        }}));
        assert!(pod.is_missing_path("/paperclip/cache/x") && pod.is_missing_path("/paperclip/cache"));
        assert!(!pod.is_missing_path("/paperclip/cached") && !pod.is_missing_path("/paperclip"));
    }

    #[test]
    fn reads_the_data_claim_and_mounted_secrets() {
        let pod = read(&json!({"spec": {
            "containers": [{"volumeMounts": [
                {"name": "state", "mountPath": "/paperclip", "subPath": "home"},
                {"name": "ssh", "mountPath": "/ssh"}, {"name": "ssh", "mountPath": "/ssh/known", "subPath": "k"},
            ]}],
            "volumes": [
                {"name": "state", "persistentVolumeClaim": {"claimName": "rwx"}},
                {"name": "ssh", "secret": {"secretName": "keys"}},
                {"name": "unused", "secret": {"secretName": "other"}},
            ],
        }}));
        assert_eq!(
            pod.data_claim,
            Some(DataClaim { claim_name: "rwx".into(), sub_path: Some("home".into()) })
        );
        assert_eq!(pod.secret_volumes.len(), 1);
        assert_eq!(pod.secret_volumes[0].mounts.len(), 2);
        assert_eq!(pod.references(), ["volume claim rwx", "Secret keys"]);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a-z/]{0,4}".prop_map(Value::from)
        ];
        let key = prop::sample::select(vec![
            "spec",
            "containers",
            "env",
            "name",
            "value",
            "valueFrom",
            "volumeMounts",
            "volumes",
            "secret",
            "secretName",
        ]);
        leaf.prop_recursive(5, 40, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..4).prop_map(|entries| entries
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_any_document(pod in json_value()) {
            let _ = PaperclipPod::read(&pod);
        }
    }
}
