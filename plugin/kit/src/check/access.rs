//! The permissions that runs need in the cluster, and the effect of each missing one.

/// A permission that a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The check's code, and the probe's id.
    pub code: &'static str,
    pub group: &'static str,
    pub resource: &'static str,
    pub subresource: &'static str,
    pub verb: &'static str,
    /// Whether runs fail without it.
    pub is_needed: bool,
    /// The effect of its absence, after the words "Without it".
    pub without: &'static str,
}

const fn needed(
    code: &'static str,
    (group, resource): (&'static str, &'static str),
    verb: &'static str,
    without: &'static str,
) -> Access {
    Access { code, group, resource, subresource: "", verb, is_needed: true, without }
}

const fn useful(
    code: &'static str,
    kind: (&'static str, &'static str),
    verb: &'static str,
    without: &'static str,
) -> Access {
    Access { is_needed: false, ..needed(code, kind, verb, without) }
}

const JOBS: (&str, &str) = ("batch", "jobs");
const PODS: (&str, &str) = ("", "pods");
const SECRETS: (&str, &str) = ("", "secrets");
const CONFIG_MAPS: (&str, &str) = ("", "configmaps");
const LEASES: (&str, &str) = ("coordination.k8s.io", "leases");
const EVENTS: (&str, &str) = ("", "events");
const CLAIMS: (&str, &str) = ("", "persistentvolumeclaims");

/// All permissions, in the order of the report.
pub const ACCESS: [Access; 26] = [
    needed("k8s_rbac_job_create", JOBS, "create", "no run starts"),
    needed("k8s_rbac_job_get", JOBS, "get", "a vanished Job cannot be verified"),
    needed("k8s_rbac_job_list", JOBS, "list", "other runs of the same agent are not found"),
    needed("k8s_rbac_job_watch", JOBS, "watch", "the end of a run is not noticed"),
    needed("k8s_rbac_job_patch", JOBS, "patch", "a created Job is never unsuspended, and no Job is adopted"),
    needed("k8s_rbac_job_delete", JOBS, "delete", "runs cannot be cancelled or cleaned up"),
    needed("k8s_rbac_pod_get", PODS, "get", "the cause of a failure stays unknown"),
    needed("k8s_rbac_pod_list", PODS, "list", "a run's pod is not found"),
    needed("k8s_rbac_pod_watch", PODS, "watch", "the state of a run's pod is not known"),
    useful(
        "k8s_rbac_pod_create",
        PODS,
        "create",
        "a pod that an admission rule refuses is reported late (only a dry run is made)",
    ),
    Access {
        subresource: "log",
        ..needed("k8s_rbac_pod_log", PODS, "get", "the agent's output cannot be read")
    },
    needed("k8s_rbac_secret_create", SECRETS, "create", "agents get neither prompt nor credentials"),
    needed("k8s_rbac_secret_get", SECRETS, "get", "a run cannot be resumed after a restart"),
    needed("k8s_rbac_configmap_create", CONFIG_MAPS, "create", "agents get neither instructions nor skills"),
    needed(
        "k8s_rbac_configmap_get",
        CONFIG_MAPS,
        "get",
        "agents do not get skills that another run has as well",
    ),
    needed(
        "k8s_rbac_configmap_patch",
        CONFIG_MAPS,
        "patch",
        "agents do not get skills that another run has as well",
    ),
    useful("k8s_rbac_configmap_list", CONFIG_MAPS, "list", "results of ended runs are kept for too long"),
    useful("k8s_rbac_configmap_delete", CONFIG_MAPS, "delete", "results of ended runs are kept for too long"),
    needed("k8s_rbac_lease_get", LEASES, "get", "two runs of an agent may start at once"),
    needed("k8s_rbac_lease_create", LEASES, "create", "two runs of an agent may start at once"),
    useful("k8s_rbac_lease_list", LEASES, "list", "runs that another host leaves behind are not adopted"),
    useful("k8s_rbac_lease_watch", LEASES, "watch", "runs that another host leaves behind are not adopted"),
    needed(
        "k8s_rbac_lease_update",
        LEASES,
        "update",
        "a host cannot show that it lives, and changes nothing",
    ),
    needed(
        "k8s_rbac_lease_delete",
        LEASES,
        "delete",
        "the next run of an agent has to wait until the lease is free",
    ),
    useful("k8s_rbac_event_list", EVENTS, "list", "why a pod does not start stays unknown"),
    useful("k8s_rbac_pvc_get", CLAIMS, "get", "whether the volume can be shared is not checked"),
];

impl Access {
    /// Returns the permission with this code.
    pub fn of(code: &str) -> Option<&'static Access> {
        ACCESS.iter().find(|access| access.code == code)
    }

    /// Returns resource and subresource, such as `jobs` or `pods/log`.
    pub fn target(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }

    /// Returns the hint for an operator: the effect, and what to add to a Role.
    pub fn hint(&self, namespace: &str) -> String {
        let target = self.target();
        let group = if self.group.is_empty() { "\"\"" } else { self.group };
        format!(
            "Without it {}. Add the verb `{}` on `{target}` (apiGroups: {group}) to the Role of Paperclip's service account in namespace {namespace}.",
            self.without, self.verb
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique() {
        for (index, access) in ACCESS.iter().enumerate() {
            assert!(ACCESS[..index].iter().all(|other| other.code != access.code), "{}", access.code);
        }
    }

    #[test]
    fn a_hint_names_verb_resource_group_and_namespace() {
        assert_eq!(
            Access::of("k8s_rbac_pod_log").unwrap().hint("agents"),
            "Without it the agent's output cannot be read. Add the verb `get` on `pods/log` (apiGroups: \"\") to the Role of Paperclip's service account in namespace agents."
        );
    }
}
