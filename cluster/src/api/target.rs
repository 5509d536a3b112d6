//! Parses the path of a request.

use crate::resource::Resource;
use crate::store::Key;

/// A part of an object with a path of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subresource {
    Status,
    Log,
    Eviction,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// All objects of a resource, in one namespace or in all.
    Collection {
        resource: Resource,
        namespace: Option<String>,
    },
    Object(Key),
    Part(Key, Subresource),
}

impl Target {
    /// Reads the segments of a path below the root; `None` if nothing is there.
    pub(super) fn parse(segments: &[&str]) -> Option<Target> {
        let (group, version, rest) = match segments {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let find = |plural: &str| Resource::find(group, version, plural);
        let (resource, namespace, rest) = match rest {
            // A namespace's own parts look like a resource inside it.
            ["namespaces", name, "status"] => {
                return Some(Target::Part(Key::new(find("namespaces")?, "", *name), Subresource::Status));
            }
            ["namespaces", namespace, plural, rest @ ..] => {
                let resource = find(plural).filter(|resource| resource.is_namespaced())?;
                (resource, Some((*namespace).to_owned()), rest)
            }
            [plural, rest @ ..] => (find(plural)?, None, rest),
            [] => return None,
        };
        let key = |name: &str| match (resource.is_namespaced(), &namespace) {
            (true, None) => None,
            (true, Some(namespace)) => Some(Key::new(resource, namespace.clone(), name)),
            (false, _) => Some(Key::new(resource, "", name)),
        };
        match rest {
            [] => Some(Target::Collection { resource, namespace }),
            [name] => key(name).map(Target::Object),
            [name, part] => Some(Target::Part(key(name)?, subresource(resource, part)?)),
            _ => None,
        }
    }
}

fn subresource(resource: Resource, name: &str) -> Option<Subresource> {
    match (resource, name) {
        (resource, "status") if resource.has_status() => Some(Subresource::Status),
        (Resource::Pods, "log") => Some(Subresource::Log),
        (Resource::Pods, "eviction") => Some(Subresource::Eviction),
        (_, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Subresource, Target};
    use crate::resource::Resource;
    use crate::store::Key;

    fn parse(path: &str) -> Option<Target> {
        Target::parse(&path.split('/').collect::<Vec<_>>())
    }

    #[test]
    fn paths_name_collections_objects_and_parts() {
        let jobs = Target::Collection { resource: Resource::Jobs, namespace: None };
        assert_eq!(parse("apis/batch/v1/jobs"), Some(jobs));
        let job = Key::new(Resource::Jobs, "ns", "j");
        assert_eq!(parse("apis/batch/v1/namespaces/ns/jobs/j"), Some(Target::Object(job.clone())));
        assert_eq!(
            parse("apis/batch/v1/namespaces/ns/jobs/j/status"),
            Some(Target::Part(job, Subresource::Status))
        );
        let namespace = Key::new(Resource::Namespaces, "", "ns");
        assert_eq!(parse("api/v1/namespaces/ns"), Some(Target::Object(namespace)));
        let pod = Key::new(Resource::Pods, "ns", "p");
        assert_eq!(parse("api/v1/namespaces/ns/pods/p/log"), Some(Target::Part(pod, Subresource::Log)));
    }

    #[test]
    fn other_paths_name_nothing() {
        for path in [
            "api/v1/jobs",
            "api/v2/pods",
            "apis/batch/v1/jobs/j",
            "api/v1/namespaces/ns/nodes",
            "api/v1/namespaces/ns/secrets/s/log",
            "metrics",
        ] {
            assert_eq!(parse(path), None, "{path}");
        }
    }
}
