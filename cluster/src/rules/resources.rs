//! Requests and limits.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use paperclip_kubernetes::{Quantity, validation};

use super::field::{Errors, Path};

type Amounts = BTreeMap<String, Amount>;

/// The resources that a container may ask for without a domain in front.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";

pub(super) fn check(resources: &ResourceRequirements, path: &Path, errors: &mut Errors) {
    let limits = resources.limits.as_ref();
    let requests = resources.requests.as_ref();
    for (field, amounts) in [("limits", limits), ("requests", requests)] {
        for (name, amount) in amounts.into_iter().flatten() {
            let path = path.field(field);
            check_name(name, &path, errors);
            if amount_of(amount) < Quantity::ZERO {
                errors.invalid(&path.key(name), &amount.0, "must be greater than or equal to 0");
            }
        }
    }
    check_order(limits, requests, &path.field("requests"), errors);
}

fn check_name(name: &str, path: &Path, errors: &mut Errors) {
    let messages = validation::label_key(name);
    if !messages.is_empty() {
        errors.invalid_each(path, name, messages);
    } else if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with(HUGE_PAGES) {
        errors.invalid(&path.key(name), name, "must be a standard resource type or fully qualified");
    }
}

fn check_order(limits: Option<&Amounts>, requests: Option<&Amounts>, path: &Path, errors: &mut Errors) {
    for (name, request) in requests.into_iter().flatten() {
        let Some(limit) = limits.and_then(|limits| limits.get(name)) else { continue };
        if amount_of(request) > amount_of(limit) {
            errors.invalid(
                path,
                &request.0,
                format!("must be less than or equal to {name} limit of {}", limit.0),
            );
        }
    }
}

fn amount_of(amount: &Amount) -> Quantity {
    // Decoding has already refused other texts.
    Quantity::parse(&amount.0).unwrap_or(Quantity::ZERO)
}
