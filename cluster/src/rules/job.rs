//! The rules of a Job.

use k8s_openapi::api::batch::v1::{Job, JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::field::{Errors, Path};
use super::{metadata, pod};

const INDEXED: &str = "Indexed";
const RULES_MAX: usize = 20;

pub(super) fn check(job: &Job, errors: &mut Errors) {
    let spec = job.spec.clone().unwrap_or_default();
    let path = Path::new("spec");
    errors.not_negative(&path.field("parallelism"), spec.parallelism);
    errors.not_negative(&path.field("completions"), spec.completions);
    errors.not_negative(&path.field("activeDeadlineSeconds"), spec.active_deadline_seconds);
    errors.not_negative(&path.field("backoffLimit"), spec.backoff_limit);
    errors.not_negative(&path.field("ttlSecondsAfterFinished"), spec.ttl_seconds_after_finished);
    errors.not_negative(&path.field("backoffLimitPerIndex"), spec.backoff_limit_per_index);
    errors.not_negative(&path.field("maxFailedIndexes"), spec.max_failed_indexes);
    check_modes(&spec, &path, errors);
    check_selector(job, &spec, &path, errors);
    check_failure_policy(&spec, &path.field("podFailurePolicy"), errors);
    pod::check_template(&spec.template, &path.field("template"), errors);
    check_restart_policy(&spec, &path, errors);
}

/// The mutable fields of a Job: parallelism, suspension, limits; of a suspended one also the placement of its Pods.
pub(super) fn check_change(old: &Job, new: &Job, errors: &mut Errors) {
    let (Some(old_spec), Some(new_spec)) = (&old.spec, &new.spec) else { return };
    let path = Path::new("spec");
    let is_elastic =
        new_spec.completion_mode.as_deref() == Some(INDEXED) && new_spec.completions == new_spec.parallelism;
    if !is_elastic {
        errors.unchanged(&path.field("completions"), &old_spec.completions, &new_spec.completions);
    }
    errors.unchanged(&path.field("selector"), &old_spec.selector, &new_spec.selector);
    let is_unstarted = old_spec.suspend == Some(true)
        && old.status.as_ref().is_none_or(|status| status.start_time.is_none());
    let expected = if is_unstarted {
        with_scheduling_of(&old_spec.template, &new_spec.template)
    } else {
        old_spec.template.clone()
    };
    errors.unchanged(&path.field("template"), &expected, &new_spec.template);
    errors.unchanged(&path.field("completionMode"), &old_spec.completion_mode, &new_spec.completion_mode);
    errors.unchanged(
        &path.field("podFailurePolicy"),
        &old_spec.pod_failure_policy,
        &new_spec.pod_failure_policy,
    );
    errors.unchanged(
        &path.field("backoffLimitPerIndex"),
        &old_spec.backoff_limit_per_index,
        &new_spec.backoff_limit_per_index,
    );
    errors.unchanged(&path.field("managedBy"), &old_spec.managed_by, &new_spec.managed_by);
    errors.unchanged(&path.field("successPolicy"), &old_spec.success_policy, &new_spec.success_policy);
}

fn with_scheduling_of(old: &PodTemplateSpec, new: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = old.clone();
    template.metadata.clone_from(&new.metadata);
    if let (Some(to), Some(from)) = (&mut template.spec, &new.spec) {
        to.node_selector.clone_from(&from.node_selector);
        to.affinity.clone_from(&from.affinity);
        to.tolerations.clone_from(&from.tolerations);
        to.scheduling_gates.clone_from(&from.scheduling_gates);
        for (to, from) in to.containers.iter_mut().zip(&from.containers) {
            to.resources.clone_from(&from.resources);
        }
    }
    template
}

fn check_modes(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    if let Some(mode) = spec.completion_mode.as_deref() {
        errors.one_of(&path.field("completionMode"), mode, &["NonIndexed", INDEXED]);
        if mode == INDEXED && spec.completions.is_none() {
            errors.required(&path.field("completions"), "when completion mode is Indexed");
        }
    }
    if spec.completion_mode.as_deref() != Some(INDEXED) && spec.backoff_limit_per_index.is_some() {
        errors.invalid(
            &path.field("backoffLimitPerIndex"),
            spec.backoff_limit_per_index,
            "requires indexed completion mode",
        );
    }
    if let Some(policy) = spec.pod_replacement_policy.as_deref() {
        let supported: &[&str] = match spec.pod_failure_policy {
            Some(_) => &["Failed"],
            None => &["Failed", "TerminatingOrFailed"],
        };
        errors.one_of(&path.field("podReplacementPolicy"), policy, supported);
    }
}

fn check_selector(job: &Job, spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    let Some(selector) = &spec.selector else {
        errors.required(&path.field("selector"), "");
        return;
    };
    let match_labels = selector.match_labels.clone().unwrap_or_default();
    metadata::check_labels(&match_labels, &path.field("selector").field("matchLabels"), errors);
    if match_labels.is_empty() && selector.match_expressions.as_ref().is_none_or(Vec::is_empty) {
        errors.invalid(&path.field("selector"), selector, "empty selector is invalid for job");
    }
    if match_labels.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        errors.invalid(
            &path.field("template").field("metadata").field("labels"),
            &labels,
            "`selector` does not match template `labels`",
        );
    }
    let uid = job.metadata.uid.as_deref();
    let is_generated = match_labels.values().any(|value| Some(value.as_str()) == uid);
    if spec.manual_selector != Some(true) && !is_generated {
        errors.invalid(&path.field("selector"), selector, "`selector` not auto-generated");
    }
}

fn check_restart_policy(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let path = path.field("template").field("spec").field("restartPolicy");
    let policy = spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    if policy == Some("Always") {
        errors.required(&path, "valid values: \"OnFailure\", \"Never\"");
    }
    if policy == Some("OnFailure") && spec.pod_failure_policy.is_some() {
        errors.invalid(&path, policy, "only \"Never\" is supported when podFailurePolicy is specified");
    }
}

fn check_failure_policy(spec: &JobSpec, path: &Path, errors: &mut Errors) {
    let Some(policy) = &spec.pod_failure_policy else { return };
    if policy.rules.len() > RULES_MAX {
        errors.invalid(
            &path.field("rules"),
            policy.rules.len(),
            format!("must have at most {RULES_MAX} items"),
        );
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        check_rule(rule, &path.field("rules").index(index), errors);
    }
}

fn check_rule(rule: &PodFailurePolicyRule, path: &Path, errors: &mut Errors) {
    errors.one_of(&path.field("action"), &rule.action, &["Count", "FailIndex", "FailJob", "Ignore"]);
    let has_conditions = rule.on_pod_conditions.as_ref().is_some_and(|list| !list.is_empty());
    match (&rule.on_exit_codes, has_conditions) {
        (Some(_), true) => {
            errors.invalid(path, rule, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (None, false) => {
            errors.invalid(path, rule, "specifying one of OnExitCodes and OnPodConditions is required");
        }
        (Some(codes), false) => {
            let path = path.field("onExitCodes");
            errors.one_of(&path.field("operator"), &codes.operator, &["In", "NotIn"]);
            if codes.values.is_empty() {
                errors.invalid(&path.field("values"), &codes.values, "at least one value is required");
            }
        }
        (None, true) => {}
    }
}
