//! The resources that the local cluster serves, and how the API names each of them.

/// A kind of object, in the one version in which it is served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Resource {
    Namespaces,
    Pods,
    Secrets,
    ConfigMaps,
    Events,
    PersistentVolumeClaims,
    ServiceAccounts,
    Nodes,
    Jobs,
    Leases,
}

/// The names of one resource, in the terms of API discovery.
struct Names {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    is_namespaced: bool,
    has_status: bool,
    has_generation: bool,
}

const CORE: Names = Names {
    group: "",
    version: "v1",
    plural: "",
    singular: "",
    kind: "",
    short: &[],
    categories: &[],
    is_namespaced: true,
    has_status: false,
    has_generation: false,
};

const NAMESPACES: Names = Names {
    plural: "namespaces",
    singular: "namespace",
    kind: "Namespace",
    short: &["ns"],
    is_namespaced: false,
    has_status: true,
    ..CORE
};
const PODS: Names = Names {
    plural: "pods",
    singular: "pod",
    kind: "Pod",
    short: &["po"],
    categories: &["all"],
    has_status: true,
    has_generation: true,
    ..CORE
};
const SECRETS: Names = Names { plural: "secrets", singular: "secret", kind: "Secret", ..CORE };
const CONFIG_MAPS: Names =
    Names { plural: "configmaps", singular: "configmap", kind: "ConfigMap", short: &["cm"], ..CORE };
const EVENTS: Names = Names { plural: "events", singular: "event", kind: "Event", short: &["ev"], ..CORE };
const CLAIMS: Names = Names {
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    kind: "PersistentVolumeClaim",
    short: &["pvc"],
    has_status: true,
    ..CORE
};
const SERVICE_ACCOUNTS: Names = Names {
    plural: "serviceaccounts",
    singular: "serviceaccount",
    kind: "ServiceAccount",
    short: &["sa"],
    ..CORE
};
const NODES: Names = Names {
    plural: "nodes",
    singular: "node",
    kind: "Node",
    short: &["no"],
    is_namespaced: false,
    has_status: true,
    ..CORE
};
const JOBS: Names = Names {
    group: "batch",
    plural: "jobs",
    singular: "job",
    kind: "Job",
    categories: &["all"],
    has_status: true,
    has_generation: true,
    ..CORE
};
const LEASES: Names =
    Names { group: "coordination.k8s.io", plural: "leases", singular: "lease", kind: "Lease", ..CORE };

impl Resource {
    /// Every resource, in the order of declaration, so that `ALL[r as usize] == r`.
    pub const ALL: [Resource; 10] = [
        Resource::Namespaces,
        Resource::Pods,
        Resource::Secrets,
        Resource::ConfigMaps,
        Resource::Events,
        Resource::PersistentVolumeClaims,
        Resource::ServiceAccounts,
        Resource::Nodes,
        Resource::Jobs,
        Resource::Leases,
    ];

    const fn names(self) -> &'static Names {
        match self {
            Resource::Namespaces => &NAMESPACES,
            Resource::Pods => &PODS,
            Resource::Secrets => &SECRETS,
            Resource::ConfigMaps => &CONFIG_MAPS,
            Resource::Events => &EVENTS,
            Resource::PersistentVolumeClaims => &CLAIMS,
            Resource::ServiceAccounts => &SERVICE_ACCOUNTS,
            Resource::Nodes => &NODES,
            Resource::Jobs => &JOBS,
            Resource::Leases => &LEASES,
        }
    }

    /// The API group; empty for the core group.
    pub const fn group(self) -> &'static str {
        self.names().group
    }

    /// The version inside the group.
    pub const fn version(self) -> &'static str {
        self.names().version
    }

    /// `v1`, `batch/v1`: what an object's `apiVersion` says.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// `jobs`: the name in a path.
    pub const fn plural(self) -> &'static str {
        self.names().plural
    }

    /// `job`.
    pub const fn singular(self) -> &'static str {
        self.names().singular
    }

    /// `Job`: what an object's `kind` says.
    pub const fn kind(self) -> &'static str {
        self.names().kind
    }

    /// The abbreviations that `kubectl` accepts.
    pub const fn short_names(self) -> &'static [&'static str] {
        self.names().short
    }

    /// The groups of resources, such as `all`, that it belongs to.
    pub const fn categories(self) -> &'static [&'static str] {
        self.names().categories
    }

    /// Whether its objects live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        self.names().is_namespaced
    }

    /// Whether `status` is written through a subresource of its own.
    pub const fn has_status(self) -> bool {
        self.names().has_status
    }

    /// Whether `metadata.generation` counts the changes of its `spec`.
    pub const fn has_generation(self) -> bool {
        self.names().has_generation
    }

    /// `jobs.batch`, `pods`: the name in messages.
    pub fn qualified(self) -> String {
        match self.group() {
            "" => self.plural().to_owned(),
            group => format!("{}.{group}", self.plural()),
        }
    }

    /// The resource of a path's group, version and plural.
    pub fn find(group: &str, version: &str, plural: &str) -> Option<Resource> {
        Resource::ALL
            .into_iter()
            .find(|r| r.group() == group && r.version() == version && r.plural() == plural)
    }

    /// The resource of an object's `apiVersion` and `kind`.
    pub fn of_kind(api_version: &str, kind: &str) -> Option<Resource> {
        Resource::ALL.into_iter().find(|r| r.kind() == kind && r.api_version() == api_version)
    }
}

#[cfg(test)]
mod tests {
    use super::Resource;

    #[test]
    fn resources_stand_at_their_own_index() {
        for (index, resource) in Resource::ALL.into_iter().enumerate() {
            assert_eq!(resource as usize, index);
            assert_eq!(
                Resource::find(resource.group(), resource.version(), resource.plural()),
                Some(resource)
            );
            assert_eq!(Resource::of_kind(&resource.api_version(), resource.kind()), Some(resource));
        }
    }
}
