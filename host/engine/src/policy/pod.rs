//! The rules for a Pod, by itself or in a Job's template.

use paperclip_kubernetes::image::with_registry;
use paperclip_kubernetes::shared;
use serde_json::Value;

use super::grant::milli;
use super::{Amount, Policy, Refused, Rule, matches, shown};

/// Kinds of volumes that give access only to data that the run may read anyway.
const VOLUME_KINDS: [&str; 6] =
    ["secret", "configMap", "emptyDir", "persistentVolumeClaim", "projected", "downwardAPI"];
/// Sources of a projected volume of which the same is true, besides tokens, which have a rule of their own.
const PROJECTED_KINDS: [&str; 3] = ["secret", "configMap", "downwardAPI"];
const TOKEN: &str = "serviceAccountToken";
const NO_GRANT: &str = "no grant allows it";

impl Policy {
    /// Checks the Pod of a Job of this name; the names of the Job's own Secrets start with it. The Pod of a dry run has no Job: its
    /// references are not checked, because it is never created.
    pub(super) fn pod(&self, job: &str, metadata: &Value, spec: &Value) -> Result<(), Refused> {
        let what = if job.is_empty() { "the Pod".to_owned() } else { format!("Job {job}") };
        if !spec["containers"].is_array() {
            return Err(Refused::new(
                Rule::Manifest,
                format!("{what} has no containers"),
                "give it a Pod template",
            ));
        }
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            if spec[field] == true {
                return Err(Refused::new(Rule::HostNamespaces, format!("{what} has {field}"), NO_GRANT));
            }
        }
        if !spec["nodeName"].is_null() {
            let found = format!("{what} has nodeName {}", spec["nodeName"]);
            return Err(Refused::new(Rule::NodeName, found, "use a nodeSelector: the scheduler places it"));
        }
        self.account(&what, spec)?;
        self.classes(&what, spec)?;
        pod_security(&what, metadata, &spec["securityContext"])?;
        for volume in items(&spec["volumes"]) {
            self.volume(&what, spec, volume)?;
        }
        if let Some(data) = &self.data {
            data.check(&what, spec, &self.grant)?;
        }
        for container in containers(spec) {
            let name = container["name"].as_str().unwrap_or_default();
            self.container(&format!("{what}, container {name}"), container)?;
        }
        if !job.is_empty() {
            self.references(job, spec)?;
        }
        let caps =
            [("cpu", &self.grant.max_cpu, "max_cpu"), ("memory", &self.grant.max_memory, "max_memory")];
        for (resource, cap, field) in caps {
            if let Some(cap) = cap {
                within(&what, spec, resource, cap, field)?;
            }
        }
        Ok(())
    }

    fn account(&self, what: &str, spec: &Value) -> Result<(), Refused> {
        let names =
            ["serviceAccountName", "serviceAccount"].map(|field| spec[field].as_str().unwrap_or_default());
        if let Some(own) = names.into_iter().find(|name| self.own_account.as_deref() == Some(*name)) {
            return Err(Refused::new(
                Rule::ServiceAccount,
                format!("{what} runs as service account {own:?}, which is this host's own"),
                "name an account of the agent's own: no grant allows the host's",
            ));
        }
        // The API takes the second if the first is missing, and refuses two that differ.
        let named = || names.into_iter().filter(|name| !name.is_empty());
        let refused = named().find(|name| !matches(&self.grant.service_accounts, name));
        match refused.or_else(|| named().next()) {
            Some(account) if refused.is_some() => Err(Refused::new(
                Rule::ServiceAccount,
                format!("{what} runs as service account {account:?}"),
                format!(
                    "the plugin is granted {}: add it to `service_accounts`",
                    shown(&self.grant.service_accounts)
                ),
            )),
            Some(_) => Ok(()),
            None if spec["automountServiceAccountToken"] != false => Err(Refused::new(
                Rule::ServiceAccount,
                format!("{what} mounts the token of the default service account"),
                "set automountServiceAccountToken: false, or a serviceAccountName",
            )),
            None => Ok(()),
        }
    }

    fn classes(&self, what: &str, spec: &Value) -> Result<(), Refused> {
        let classes = [
            ("priorityClassName", Rule::PriorityClass, &self.grant.priority_classes, "priority_classes"),
            ("runtimeClassName", Rule::RuntimeClass, &self.grant.runtime_classes, "runtime_classes"),
        ];
        for (field, rule, granted, grant_field) in classes {
            match &spec[field] {
                Value::Null => {}
                Value::String(name) if matches(granted, name) => {}
                other => {
                    let hint = format!("the plugin is granted {}: add it to `{grant_field}`", shown(granted));
                    return Err(Refused::new(rule, format!("{what} has {field} {other}"), hint));
                }
            }
        }
        if !spec["priority"].is_null() {
            let found = format!("{what} has priority {}", spec["priority"]);
            return Err(Refused::new(Rule::PriorityClass, found, "name a priorityClassName that is granted"));
        }
        Ok(())
    }

    /// Checks a source of a projected volume. A token of the Pod's account is the account: a granted one may have it, and Paperclip's pod
    /// shares what it has for others than the Kubernetes API.
    fn projected(&self, what: &str, spec: &Value, source: &Value) -> Result<(), Refused> {
        for kind in source.as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
            if kind == TOKEN {
                let has_account = ["serviceAccountName", "serviceAccount"]
                    .iter()
                    .any(|field| spec[*field].as_str().is_some_and(|name| !name.is_empty()));
                let audience = source[TOKEN]["audience"].as_str().unwrap_or_default();
                if !has_account && !self.inherited_audiences.contains(audience) {
                    return Err(Refused::new(
                        Rule::ServiceAccount,
                        format!("{what} gets a token of the default service account for {audience:?}"),
                        "name a granted serviceAccountName, or leave the token out",
                    ));
                }
            } else if !PROJECTED_KINDS.contains(&kind) {
                let hint = format!("use one of {}, {TOKEN}", PROJECTED_KINDS.join(", "));
                return Err(Refused::new(Rule::VolumeKind, format!("{what} projects a {kind}"), hint));
            }
        }
        Ok(())
    }

    fn volume(&self, what: &str, spec: &Value, volume: &Value) -> Result<(), Refused> {
        let name = volume["name"].as_str().unwrap_or_default();
        for kind in volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
            if kind == "hostPath" {
                let found = format!("{what}, volume {name}: hostPath {}", volume["hostPath"]["path"]);
                return Err(Refused::new(Rule::HostPath, found, NO_GRANT));
            }
            if kind != "name" && !VOLUME_KINDS.contains(&kind) {
                let hint = format!("use one of {}", VOLUME_KINDS.join(", "));
                return Err(Refused::new(
                    Rule::VolumeKind,
                    format!("{what}, volume {name} is a {kind}"),
                    hint,
                ));
            }
        }
        let what = format!("{what}, volume {name}");
        items(&volume["projected"]["sources"]).try_for_each(|source| self.projected(&what, spec, source))
    }

    fn container(&self, what: &str, container: &Value) -> Result<(), Refused> {
        let image = container["image"].as_str().unwrap_or_default();
        let images = &self.grant.images;
        if !matches(images, image) && !matches(images, &with_registry(image)) {
            return Err(Refused::new(
                Rule::Image,
                format!("{what} has image {image:?}"),
                format!("the plugin is granted {}: add it to `images`", shown(images)),
            ));
        }
        for port in items(&container["ports"]) {
            if port["hostPort"].as_u64().is_some_and(|port| port != 0) {
                let found = format!("{what} has hostPort {}", port["hostPort"]);
                return Err(Refused::new(Rule::HostPort, found, NO_GRANT));
            }
        }
        for (field, handler) in handlers(container) {
            for kind in ["httpGet", "tcpSocket"] {
                if handler[kind]["host"].as_str().is_some_and(|host| !host.is_empty()) {
                    let found =
                        format!("{what}, {field}: the node would connect to {}", handler[kind]["host"]);
                    return Err(Refused::new(
                        Rule::ProbeHost,
                        found,
                        "leave host out: the Pod itself is meant",
                    ));
                }
            }
        }
        let security = &container["securityContext"];
        if security["privileged"] == true || security["windowsOptions"]["hostProcess"] == true {
            return Err(Refused::new(Rule::Privileged, format!("{what} is privileged"), NO_GRANT));
        }
        if security["allowPrivilegeEscalation"] != false {
            let found = format!("{what} may gain privileges");
            return Err(Refused::new(Rule::Privileged, found, "set allowPrivilegeEscalation: false"));
        }
        if security["procMount"].as_str().is_some_and(|mount| mount != "Default") {
            let found = format!("{what} has procMount {}", security["procMount"]);
            return Err(Refused::new(Rule::Privileged, found, NO_GRANT));
        }
        for capability in items(&security["capabilities"]["add"]).filter_map(Value::as_str) {
            if !matches(&self.grant.capabilities, capability) {
                return Err(Refused::new(
                    Rule::Capabilities,
                    format!("{what} adds capability {capability}"),
                    format!(
                        "the plugin is granted {}: add it to `capabilities`",
                        shown(&self.grant.capabilities)
                    ),
                ));
            }
        }
        user_and_profiles(what, security)
    }

    /// Checks every Secret and claim that a Job refers to.
    fn references(&self, job: &str, spec: &Value) -> Result<(), Refused> {
        let is_own = |name: &str| name.strip_prefix(job).is_some_and(|rest| rest.starts_with('-'));
        let not_granted = |name: &String| !is_own(name) && !matches(&self.grant.secrets, name);
        let refused = |what: String, hint: &str| Err(Refused::new(Rule::Secret, what, hint));
        if let Some(name) = mounted_secrets(spec).into_iter().find(not_granted) {
            let hint =
                "it is not this run's: add it to `secrets` of the grant, also if Paperclip's pod mounts it";
            return refused(format!("Job {job} mounts Secret {name:?}"), hint);
        }
        let is_foreign = |name: &String| not_granted(name) && !self.inherited_secrets.contains(name);
        if let Some(name) = environment_secrets(spec).into_iter().find(is_foreign) {
            let hint = "it is neither this run's nor in the environment of Paperclip's pod: add it to `secrets` of the grant";
            return refused(format!("Job {job} refers to Secret {name:?}"), hint);
        }
        for name in config_maps(spec) {
            let is_inherited = self.inherited_config_maps.contains(&name);
            if !is_own(&name)
                && !shared::is_shared(&name)
                && !is_inherited
                && !matches(&self.grant.config_maps, &name)
            {
                return Err(Refused::new(
                    Rule::ConfigMap,
                    format!("Job {job} refers to ConfigMap {name:?}"),
                    "it is neither this run's nor used by Paperclip's pod: add it to `config_maps` of the grant",
                ));
            }
        }
        for name in claims(spec) {
            let is_data = self.data.as_ref().is_some_and(|data| data.claim == name);
            if !is_data && !matches(&self.grant.volume_claims, &name) {
                return Err(Refused::new(
                    Rule::VolumeClaim,
                    format!("Job {job} mounts PersistentVolumeClaim {name:?}"),
                    "it is not Paperclip's data volume: add it to `volume_claims` of the grant",
                ));
            }
        }
        Ok(())
    }
}

fn pod_security(what: &str, metadata: &Value, security: &Value) -> Result<(), Refused> {
    if items(&security["sysctls"]).next().is_some() {
        return Err(Refused::new(Rule::Sysctls, format!("{what} sets sysctls"), NO_GRANT));
    }
    if security["windowsOptions"]["hostProcess"] == true {
        return Err(Refused::new(Rule::Privileged, format!("{what} is a host process"), NO_GRANT));
    }
    // The annotations from before Kubernetes 1.30 still work.
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") && value == "unconfined" {
            return Err(Refused::new(Rule::Seccomp, format!("{what} is unconfined by AppArmor"), NO_GRANT));
        }
    }
    user_and_profiles(what, security)
}

/// Checks the fields that the security contexts of Pods and containers share.
fn user_and_profiles(what: &str, security: &Value) -> Result<(), Refused> {
    if security["runAsUser"] == 0 || security["runAsNonRoot"] == false {
        return Err(Refused::new(Rule::RootUser, format!("{what} runs as root"), "set runAsNonRoot: true"));
    }
    for profile in ["seccompProfile", "appArmorProfile"] {
        if security[profile]["type"] == "Unconfined" {
            let found = format!("{what} has {profile} Unconfined");
            return Err(Refused::new(Rule::Seccomp, found, "set RuntimeDefault"));
        }
    }
    Ok(())
}

/// Checks that the sum of the containers' limits is at most the cap. Init containers run one at a time, before the others.
fn within(what: &str, spec: &Value, resource: &str, cap: &Amount, field: &str) -> Result<(), Refused> {
    let over = |found: String| {
        Refused::new(
            Rule::Resources,
            found,
            format!("the plugin is granted {field} = {cap}: lower the limit"),
        )
    };
    let limit_milli = |container: &Value| -> Result<u128, Refused> {
        let name = container["name"].as_str().unwrap_or_default();
        let milli = match &container["resources"]["limits"][resource] {
            Value::String(text) => milli(text),
            Value::Number(number) => milli(&number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        milli.ok_or_else(|| over(format!("{what}, container {name} has no {resource} limit")))
    };
    let mut sum_milli: u128 = 0;
    for container in items(&spec["containers"]) {
        sum_milli = sum_milli.saturating_add(limit_milli(container)?);
    }
    for container in items(&spec["initContainers"]) {
        sum_milli = sum_milli.max(limit_milli(container)?);
    }
    if sum_milli > cap.milli() {
        let thousandths = sum_milli % 1_000;
        let found = if thousandths == 0 {
            (sum_milli / 1_000).to_string()
        } else {
            format!("{}.{thousandths:03}", sum_milli / 1_000)
        };
        return Err(over(format!("{what} has a {resource} limit of {found}")));
    }
    Ok(())
}

pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(super) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["containers", "initContainers", "ephemeralContainers"].into_iter().flat_map(|kind| items(&spec[kind]))
}

/// Returns the names of all Secrets that a Pod refers to: pull secrets, volumes, projected volumes, and environment.
pub fn secrets(spec: &Value) -> Vec<String> {
    [environment_secrets(spec), mounted_secrets(spec)].concat()
}

/// Returns the names of the Secrets that a Pod mounts.
fn mounted_secrets(spec: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: &Value| names.extend(name.as_str().map(str::to_owned));
    for volume in items(&spec["volumes"]) {
        add(&volume["secret"]["secretName"]);
        for source in items(&volume["projected"]["sources"]) {
            add(&source["secret"]["name"]);
        }
    }
    names
}

/// Returns the names of the Secrets with which a Pod pulls images, and of those in its environment.
pub(super) fn environment_secrets(spec: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: &Value| names.extend(name.as_str().map(str::to_owned));
    for pull in items(&spec["imagePullSecrets"]) {
        add(&pull["name"]);
    }
    for container in containers(spec) {
        for entry in items(&container["env"]) {
            add(&entry["valueFrom"]["secretKeyRef"]["name"]);
        }
        for source in items(&container["envFrom"]) {
            add(&source["secretRef"]["name"]);
        }
    }
    names
}

/// Returns the names of all ConfigMaps that a Pod refers to.
pub(super) fn config_maps(spec: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: &Value| names.extend(name.as_str().map(str::to_owned));
    for volume in items(&spec["volumes"]) {
        add(&volume["configMap"]["name"]);
        for source in items(&volume["projected"]["sources"]) {
            add(&source["configMap"]["name"]);
        }
    }
    for container in containers(spec) {
        for entry in items(&container["env"]) {
            add(&entry["valueFrom"]["configMapKeyRef"]["name"]);
        }
        for source in items(&container["envFrom"]) {
            add(&source["configMapRef"]["name"]);
        }
    }
    names
}

/// Returns the audiences of the tokens that a Pod gets; a token without one is for the Kubernetes API.
pub(super) fn audiences(spec: &Value) -> impl Iterator<Item = &str> {
    let sources = items(&spec["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
    sources.filter_map(|source| source[TOKEN]["audience"].as_str()).filter(|audience| !audience.is_empty())
}

/// What the node calls in or for a container.
fn handlers(container: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|field| (field, &container[field]));
    let hooks = ["postStart", "preStop"].map(|field| (field, &container["lifecycle"][field]));
    probes.into_iter().chain(hooks)
}

/// Returns the names of all PersistentVolumeClaims that a Pod mounts.
fn claims(spec: &Value) -> Vec<String> {
    items(&spec["volumes"])
        .filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned))
        .collect()
}
