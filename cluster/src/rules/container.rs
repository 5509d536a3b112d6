//! The rules of one container.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Probe};
use paperclip_kubernetes::validation;

use super::field::{Errors, Path};
use super::{env, resources, volume};

/// The scope that the containers of a Pod share.
pub(super) struct PodScope {
    pub(super) volumes: BTreeSet<String>,
    /// Names already taken, by init containers or by others.
    pub(super) names: BTreeSet<String>,
}

pub(super) fn check(container: &Container, pod: &mut PodScope, path: &Path, errors: &mut Errors) {
    match container.name.as_str() {
        "" => errors.required(&path.field("name"), ""),
        name => {
            errors.invalid_each(&path.field("name"), name, validation::dns_label(name));
            if !pod.names.insert(name.to_owned()) {
                errors.duplicate(&path.field("name"), name);
            }
        }
    }
    check_image(container, path, errors);
    env::check(container.env.as_deref().unwrap_or_default(), &path.field("env"), errors);
    env::check_from(container.env_from.as_deref().unwrap_or_default(), &path.field("envFrom"), errors);
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    volume::check_mounts(mounts, &pod.volumes, &path.field("volumeMounts"), errors);
    check_ports(container.ports.as_deref().unwrap_or_default(), &path.field("ports"), errors);
    if let Some(requirements) = &container.resources {
        resources::check(requirements, &path.field("resources"), errors);
    }
    if let Some(policy) = container.termination_message_policy.as_deref() {
        let supported = ["File", "FallbackToLogsOnError"];
        errors.one_of(&path.field("terminationMessagePolicy"), policy, &supported);
    }
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    for (field, probe) in probes {
        if let Some(probe) = probe {
            check_probe(probe, &path.field(field), errors);
        }
    }
    check_security(container, &path.field("securityContext"), errors);
}

/// A sidecar is an init container that restarts; no other value is for init containers.
pub(super) fn check_init(container: &Container, path: &Path, errors: &mut Errors) {
    if let Some(policy) = container.restart_policy.as_deref() {
        errors.one_of(&path.field("restartPolicy"), policy, &["Always", "OnFailure", "Never"]);
    }
    if container.restart_policy.as_deref() != Some("Always") {
        let probes = [
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
        ];
        for (field, is_given) in probes {
            if is_given {
                errors.forbidden(
                    &path.field(field),
                    "may not be set for init containers without restartPolicy=Always",
                );
            }
        }
    }
}

fn check_image(container: &Container, path: &Path, errors: &mut Errors) {
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        errors.required(&path.field("image"), "");
    } else if image.trim() != image {
        errors.invalid(&path.field("image"), image, "must not have leading or trailing whitespace");
    }
    if let Some(policy) = container.image_pull_policy.as_deref() {
        errors.one_of(&path.field("imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"]);
    }
}

fn check_ports(ports: &[ContainerPort], path: &Path, errors: &mut Errors) {
    let in_range = |port: i32| (1..=65535).contains(&port);
    let range = "must be between 1 and 65535, inclusive";
    let mut taken = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            errors.invalid_each(&path.field("name"), name, validation::port_name(name));
            if !taken.insert(name) {
                errors.duplicate(&path.field("name"), name);
            }
        }
        match port.container_port {
            0 => errors.required(&path.field("containerPort"), ""),
            number if !in_range(number) => errors.invalid(&path.field("containerPort"), number, range),
            _ => {}
        }
        if let Some(host) = port.host_port.filter(|host| *host != 0 && !in_range(*host)) {
            errors.invalid(&path.field("hostPort"), host, range);
        }
        if let Some(protocol) = port.protocol.as_deref() {
            errors.one_of(&path.field("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
        }
    }
}

fn check_probe(probe: &Probe, path: &Path, errors: &mut Errors) {
    let handlers =
        [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some(), probe.grpc.is_some()];
    match handlers.into_iter().filter(|is_given| *is_given).count() {
        0 => errors.required(path, "must specify a handler type"),
        1 => {}
        _ => errors.forbidden(path, "may not specify more than 1 handler type"),
    }
    errors.not_negative(&path.field("initialDelaySeconds"), probe.initial_delay_seconds);
    errors.not_negative(&path.field("timeoutSeconds"), probe.timeout_seconds);
    errors.not_negative(&path.field("periodSeconds"), probe.period_seconds);
    errors.not_negative(&path.field("successThreshold"), probe.success_threshold);
    errors.not_negative(&path.field("failureThreshold"), probe.failure_threshold);
}

fn check_security(container: &Container, path: &Path, errors: &mut Errors) {
    let Some(context) = &container.security_context else { return };
    errors.not_negative(&path.field("runAsUser"), context.run_as_user);
    errors.not_negative(&path.field("runAsGroup"), context.run_as_group);
    if context.privileged == Some(true) && context.allow_privilege_escalation == Some(false) {
        errors.invalid(
            path,
            context,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
}
