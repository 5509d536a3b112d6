//! Resources of containers, by the rules of `k8s.io/kubernetes/pkg/apis/core/validation`.

use super::{label, quantity};

/// How Kubernetes treats a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Can be a fraction.
    Cpu,
    /// Memory and ephemeral storage.
    Bytes,
    /// Memory in pages of one size.
    HugePages,
    /// Devices that a plugin of the node counts, such as `nvidia.com/gpu`.
    Extended,
}

impl Kind {
    /// Whether a request can be less than the limit, and have none.
    pub fn may_overcommit(self) -> bool {
        match self {
            Kind::Cpu | Kind::Bytes => true,
            Kind::HugePages | Kind::Extended => false,
        }
    }
}

/// Returns the kind of a resource by its name.
///
/// # Errors
/// No container can have a resource of this name.
///
/// ```
/// use paperclip_kit::kubernetes::resource::{Kind, kind};
///
/// assert_eq!(kind("nvidia.com/gpu"), Ok(Kind::Extended));
/// assert!(kind("gpu").is_err());
/// ```
pub fn kind(name: &str) -> Result<Kind, String> {
    let found = match name {
        "cpu" => Some(Kind::Cpu),
        "memory" | "ephemeral-storage" => Some(Kind::Bytes),
        _ => match name.strip_prefix("hugepages-") {
            Some(page) => quantity::parse(page).is_ok().then_some(Kind::HugePages),
            // A quota counts `requests.<name>`, which must not be ambiguous.
            None => (name.contains('/') && !name.starts_with("requests.") && label::key(name).is_ok())
                .then_some(Kind::Extended),
        },
    };
    found.ok_or_else(|| {
        "is not a resource of a container: there are `cpu`, `memory`, `ephemeral-storage`, `hugepages-SIZE` and extended resources such as `nvidia.com/gpu`".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_names() {
        for (name, expected) in [
            ("cpu", Some(Kind::Cpu)),
            ("memory", Some(Kind::Bytes)),
            ("ephemeral-storage", Some(Kind::Bytes)),
            ("hugepages-1Gi", Some(Kind::HugePages)),
            ("hugepages-big", None),
            ("nvidia.com/gpu", Some(Kind::Extended)),
            ("requests.nvidia.com/gpu", None),
            ("gpu", None),
            ("pods", None),
            ("", None),
            ("/gpu", None),
        ] {
            assert_eq!(kind(name).ok(), expected, "{name}");
        }
    }
}
