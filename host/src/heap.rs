//! Settings of the C library's allocator.

/// Most arenas of the allocator. By default it makes up to eight per core, one per thread, and each keeps what its threads have freed:
/// 28 MiB for 300 runs, whose journals are written by many threads in turn.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Limits the number of arenas. Must be called before the first thread is started.
#[cfg(target_env = "gnu")]
pub(crate) fn limit_arenas() {
    // If the allocator refuses, the process works and uses more memory.
    // SAFETY: mallopt changes a setting of the allocator, and no other thread exists yet.
    #[expect(unsafe_code, reason = "the setting can only be reached from C")]
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

/// Other C libraries have one arena.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn limit_arenas() {}
