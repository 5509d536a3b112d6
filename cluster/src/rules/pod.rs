//! The rules of a Pod and of the template that a Job makes Pods from.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec, Toleration};
use paperclip_kubernetes::validation;

use super::container::{self, PodScope};
use super::field::{Errors, Path};
use super::{metadata, volume};

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const TAINT_EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const IMMUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(pod: &Pod, errors: &mut Errors) {
    let spec = pod.spec.clone().unwrap_or_default();
    check_spec(&spec, &Path::new("spec"), errors);
}

/// Only a few fields of a Pod may change once it exists; scheduling gates may go.
pub(super) fn check_change(old: &Pod, new: &Pod, errors: &mut Errors) {
    let (Some(old), Some(new)) = (&old.spec, &new.spec) else { return };
    let path = Path::new("spec");
    let kept = |toleration: &Toleration| new.tolerations.iter().flatten().any(|t| t == toleration);
    if !old.tolerations.iter().flatten().all(kept) {
        errors.forbidden(
            &path.field("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
        return;
    }
    let mut expected = old.clone();
    expected.active_deadline_seconds = new.active_deadline_seconds;
    expected.tolerations.clone_from(&new.tolerations);
    let gates = new.scheduling_gates.clone().unwrap_or_default();
    if gates.iter().all(|gate| old.scheduling_gates.iter().flatten().any(|known| known == gate)) {
        expected.scheduling_gates.clone_from(&new.scheduling_gates);
    }
    let images = |from: &[k8s_openapi::api::core::v1::Container],
                  to: &mut [k8s_openapi::api::core::v1::Container]| {
        for (from, to) in from.iter().zip(to) {
            to.image.clone_from(&from.image);
        }
    };
    images(&new.containers, &mut expected.containers);
    images(
        new.init_containers.as_deref().unwrap_or_default(),
        expected.init_containers.as_deref_mut().unwrap_or_default(),
    );
    if expected != *new {
        errors.forbidden(&path, IMMUTABLE);
    }
}

pub(super) fn check_template(template: &PodTemplateSpec, path: &Path, errors: &mut Errors) {
    if let Some(found) = &template.metadata {
        metadata::check_labels(
            found.labels.iter().flatten(),
            &path.field("metadata").field("labels"),
            errors,
        );
        metadata::check_annotations(found, &path.field("metadata").field("annotations"), errors);
    }
    check_spec(&template.spec.clone().unwrap_or_default(), &path.field("spec"), errors);
}

fn check_spec(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let volumes = volume::check(spec.volumes.as_deref().unwrap_or_default(), &path.field("volumes"), errors);
    let mut scope = PodScope { volumes, names: BTreeSet::new() };
    if spec.containers.is_empty() {
        errors.required(&path.field("containers"), "");
    }
    for (index, it) in spec.containers.iter().enumerate() {
        container::check(it, &mut scope, &path.field("containers").index(index), errors);
    }
    for (index, it) in spec.init_containers.iter().flatten().enumerate() {
        let path = path.field("initContainers").index(index);
        container::check(it, &mut scope, &path, errors);
        container::check_init(it, &path, errors);
    }
    let restart = spec.restart_policy.as_deref().unwrap_or_default();
    errors.one_of(&path.field("restartPolicy"), restart, &RESTART_POLICIES);
    let dns = spec.dns_policy.as_deref().unwrap_or_default();
    errors.one_of(&path.field("dnsPolicy"), dns, &DNS_POLICIES);
    errors.not_negative(&path.field("terminationGracePeriodSeconds"), spec.termination_grace_period_seconds);
    if let Some(seconds) = spec.active_deadline_seconds.filter(|seconds| *seconds < 1) {
        let why = "must be between 1 and 2147483647, inclusive";
        errors.invalid(&path.field("activeDeadlineSeconds"), seconds, why);
    }
    metadata::check_labels(spec.node_selector.iter().flatten(), &path.field("nodeSelector"), errors);
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        check_toleration(toleration, &path.field("tolerations").index(index), errors);
    }
    check_names(spec, path, errors);
}

fn check_names(spec: &PodSpec, path: &Path, errors: &mut Errors) {
    let names = [
        (
            "serviceAccountName",
            &spec.service_account_name,
            validation::dns_subdomain as fn(&str) -> Vec<String>,
        ),
        ("nodeName", &spec.node_name, validation::dns_subdomain),
        ("priorityClassName", &spec.priority_class_name, validation::dns_subdomain),
        ("runtimeClassName", &spec.runtime_class_name, validation::dns_subdomain),
        ("hostname", &spec.hostname, validation::dns_label),
        ("subdomain", &spec.subdomain, validation::dns_label),
    ];
    for (field, name, rule) in names {
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            errors.invalid_each(&path.field(field), name, rule(name));
        }
    }
    let mut gates = BTreeSet::new();
    for (index, gate) in spec.scheduling_gates.iter().flatten().enumerate() {
        let path = path.field("schedulingGates").index(index);
        errors.invalid_each(&path, &gate.name, validation::label_key(&gate.name));
        if !gates.insert(&gate.name) {
            errors.duplicate(&path, &gate.name);
        }
    }
}

fn check_toleration(toleration: &Toleration, path: &Path, errors: &mut Errors) {
    let key = toleration.key.as_deref().unwrap_or_default();
    let operator = toleration.operator.as_deref().unwrap_or_default();
    if !key.is_empty() {
        errors.invalid_each(&path.field("key"), key, validation::label_key(key));
    } else if operator != "Exists" {
        errors.invalid(
            &path.field("operator"),
            operator,
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        );
    }
    if toleration.toleration_seconds.is_some() && toleration.effect.as_deref() != Some("NoExecute") {
        errors.invalid(
            &path.field("effect"),
            toleration.effect.as_deref().unwrap_or_default(),
            "effect must be 'NoExecute' when `tolerationSeconds` is set",
        );
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    match operator {
        "" | "Equal" => errors.invalid_each(&path.field("operator"), value, validation::label_value(value)),
        "Exists" if !value.is_empty() => {
            let why = "value must be empty when `operator` is 'Exists'";
            errors.invalid(&path.field("operator"), toleration, why);
        }
        "Exists" => {}
        other => errors.one_of(&path.field("operator"), other, &["Equal", "Exists"]),
    }
    if let Some(effect) = toleration.effect.as_deref().filter(|effect| !effect.is_empty()) {
        errors.one_of(&path.field("effect"), effect, &TAINT_EFFECTS);
    }
}
