//! How much memory this process uses and may use.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

/// Memory that the start of a run was promised, given back when this is dropped.
pub(crate) type Reserved = Option<Arc<OwnedSemaphorePermit>>;

/// The file with the container's limit: bytes, or `max`.
const CGROUP_LIMIT: &str = "/sys/fs/cgroup/memory.max";
/// Share of a container's limit above which no new run starts, in percent.
const SHARE_PERCENT: u64 = 80;

/// Returns the memory above which new runs are refused, in bytes: as configured, else by the container's limit, else none.
pub(crate) fn limit_bytes(configured_mib: Option<u64>) -> Option<u64> {
    match configured_mib {
        Some(mib) => Some(mib << 20),
        None => cgroup_limit(&std::fs::read_to_string(CGROUP_LIMIT).ok()?),
    }
}

fn cgroup_limit(text: &str) -> Option<u64> {
    text.trim().parse::<u64>().ok().map(|bytes| bytes / 100 * SHARE_PERCENT)
}

/// Returns the resident memory of this process, in bytes; none where the system does not report it.
pub(crate) fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string(Path::new("/proc/self/statm")).ok()?)
}

/// The second field of `statm` counts pages.
fn resident(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_limits_as_the_kernel_writes_them() {
        assert_eq!(cgroup_limit("1000\n"), Some(800));
        assert_eq!(cgroup_limit("max\n"), None);
        assert_eq!(limit_bytes(Some(3)), Some(3 << 20));
        assert_eq!(resident("100 7 3 1 0 2 0\n"), Some(7 * rustix::param::page_size() as u64));
        assert_eq!(resident(""), None);
    }
}
