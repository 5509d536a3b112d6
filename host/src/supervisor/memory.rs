//! How much memory this process has and may have.

use std::path::Path;

/// Where a container's limit stands, in bytes or `max`.
const CGROUP_LIMIT: &str = "/sys/fs/cgroup/memory.max";
/// Share of a container's limit above which no new run begins, in percent.
const SHARE_PERCENT: u64 = 80;

/// The memory above which new runs are refused, in bytes: as configured, else by the container's limit, else there is none.
pub(crate) fn limit_bytes(configured_mib: Option<u64>) -> Option<u64> {
    match configured_mib {
        Some(mib) => Some(mib << 20),
        None => cgroup_limit(&std::fs::read_to_string(CGROUP_LIMIT).ok()?),
    }
}

fn cgroup_limit(text: &str) -> Option<u64> {
    text.trim().parse::<u64>().ok().map(|bytes| bytes / 100 * SHARE_PERCENT)
}

/// Memory of this process that is resident now, in bytes; none where the system does not tell.
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
    fn limits_are_read_as_the_kernel_writes_them() {
        assert_eq!(cgroup_limit("1000\n"), Some(800));
        assert_eq!(cgroup_limit("max\n"), None);
        assert_eq!(limit_bytes(Some(3)), Some(3 << 20));
        assert_eq!(resident("100 7 3 1 0 2 0\n"), Some(7 * rustix::param::page_size() as u64));
        assert_eq!(resident(""), None);
    }
}
