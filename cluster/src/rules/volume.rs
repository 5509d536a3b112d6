//! Volumes of a Pod and where containers mount them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{KeyToPath, ProjectedVolumeSource, Volume, VolumeMount};
use paperclip_kubernetes::{Quantity, validation};

use super::env::check_object_name;
use super::field::{Errors, Path};

const MODE_MAX: i32 = 0o777;

/// Checks the volumes; gives the names that a container may mount.
pub(super) fn check(volumes: &[Volume], path: &Path, errors: &mut Errors) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        match volume.name.as_str() {
            "" => errors.required(&path.field("name"), ""),
            name if known.contains(name) => errors.duplicate(&path.field("name"), name),
            name => errors.invalid_each(&path.field("name"), name, validation::dns_label(name)),
        }
        check_source(volume, &path, errors);
        known.insert(volume.name.clone());
    }
    known
}

pub(super) fn check_mounts(
    mounts: &[VolumeMount],
    volumes: &BTreeSet<String>,
    path: &Path,
    errors: &mut Errors,
) {
    let mut taken = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = path.index(index);
        if mount.name.is_empty() {
            errors.required(&path.field("name"), "");
        } else if !volumes.contains(&mount.name) {
            errors.not_found(&path.field("name"), &mount.name);
        }
        if mount.mount_path.is_empty() {
            errors.required(&path.field("mountPath"), "");
        }
        if !taken.insert(&mount.mount_path) {
            errors.invalid(&path.field("mountPath"), &mount.mount_path, "must be unique");
        }
        for (field, sub_path) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            check_inner_path(sub_path.as_deref().unwrap_or_default(), &path.field(field), errors);
        }
        let has = |path: &Option<String>| path.as_ref().is_some_and(|path| !path.is_empty());
        if has(&mount.sub_path) && has(&mount.sub_path_expr) {
            let given = mount.sub_path_expr.as_deref();
            errors.invalid(
                &path.field("subPathExpr"),
                given,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
    }
}

fn check_source(volume: &Volume, path: &Path, errors: &mut Errors) {
    let mut given = 0;
    if let Some(source) = &volume.empty_dir {
        given += 1;
        let size = source.size_limit.as_ref().and_then(|size| Quantity::parse(&size.0).ok());
        if size.is_some_and(|size| size < Quantity::ZERO) {
            errors.forbidden(
                &path.field("emptyDir").field("sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            );
        }
    }
    if let Some(source) = &volume.secret {
        given += 1;
        let path = path.field("secret");
        if source.secret_name.as_deref().unwrap_or_default().is_empty() {
            errors.required(&path.field("secretName"), "");
        }
        check_mode(source.default_mode, &path.field("defaultMode"), errors);
        check_items(source.items.as_deref(), &path.field("items"), errors);
    }
    if let Some(source) = &volume.config_map {
        given += 1;
        let path = path.field("configMap");
        if source.name.is_empty() {
            errors.required(&path.field("name"), "");
        }
        check_mode(source.default_mode, &path.field("defaultMode"), errors);
        check_items(source.items.as_deref(), &path.field("items"), errors);
    }
    if let Some(source) = &volume.persistent_volume_claim {
        given += 1;
        if source.claim_name.is_empty() {
            errors.required(&path.field("persistentVolumeClaim").field("claimName"), "");
        }
    }
    if let Some(source) = &volume.projected {
        given += 1;
        check_projected(source, &path.field("projected"), errors);
    }
    if let Some(source) = &volume.host_path {
        given += 1;
        let path = path.field("hostPath").field("path");
        match source.path.as_str() {
            "" => errors.required(&path, ""),
            host if host.split('/').any(|part| part == "..") => {
                errors.invalid(&path, host, "must not contain '..'");
            }
            _ => {}
        }
    }
    given += count_others(volume);
    match given {
        0 => errors.required(path, "must specify a volume type"),
        1 => {}
        _ => errors.forbidden(path, "may not specify more than 1 volume type"),
    }
}

/// The sources whose fields are not looked into: nothing here can mount them.
fn count_others(volume: &Volume) -> usize {
    let others = [
        volume.downward_api.is_some(),
        volume.nfs.is_some(),
        volume.csi.is_some(),
        volume.ephemeral.is_some(),
        volume.image.is_some(),
        volume.iscsi.is_some(),
        volume.fc.is_some(),
        volume.aws_elastic_block_store.is_some(),
        volume.gce_persistent_disk.is_some(),
        volume.azure_disk.is_some(),
        volume.azure_file.is_some(),
        volume.cephfs.is_some(),
        volume.cinder.is_some(),
        volume.rbd.is_some(),
        volume.vsphere_volume.is_some(),
    ];
    others.into_iter().filter(|is_given| *is_given).count()
}

fn check_projected(source: &ProjectedVolumeSource, path: &Path, errors: &mut Errors) {
    check_mode(source.default_mode, &path.field("defaultMode"), errors);
    for (index, part) in source.sources.iter().flatten().enumerate() {
        let path = path.field("sources").index(index);
        if let Some(secret) = &part.secret {
            check_object_name(&secret.name, &path.field("secret").field("name"), errors);
            check_items(secret.items.as_deref(), &path.field("secret").field("items"), errors);
        }
        if let Some(config_map) = &part.config_map {
            check_object_name(&config_map.name, &path.field("configMap").field("name"), errors);
            check_items(config_map.items.as_deref(), &path.field("configMap").field("items"), errors);
        }
        if let Some(token) = &part.service_account_token
            && token.path.is_empty()
        {
            errors.required(&path.field("serviceAccountToken").field("path"), "");
        }
    }
}

fn check_items(items: Option<&[KeyToPath]>, path: &Path, errors: &mut Errors) {
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        if item.key.is_empty() {
            errors.required(&path.field("key"), "");
        }
        if item.path.is_empty() {
            errors.required(&path.field("path"), "");
        }
        check_inner_path(&item.path, &path.field("path"), errors);
        check_mode(item.mode, &path.field("mode"), errors);
    }
}

/// Checks that a path inside a volume does not lead out of it.
fn check_inner_path(inner: &str, path: &Path, errors: &mut Errors) {
    if inner.starts_with('/') {
        errors.invalid(path, inner, "must be a relative path");
    }
    if inner.split('/').any(|part| part == "..") {
        errors.invalid(path, inner, "must not contain '..'");
    }
}

fn check_mode(mode: Option<i32>, path: &Path, errors: &mut Errors) {
    if let Some(mode) = mode.filter(|mode| !(0..=MODE_MAX).contains(mode)) {
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}
