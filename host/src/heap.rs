//! How this process's memory is given out.

/// Arenas of the C library's allocator. Left alone it makes up to eight for each core, one a thread, and each keeps what its threads
/// have freed: 28 MiB of 300 runs, whose journals are written by many threads in turn.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Has the allocator keep to few arenas. To be called before there are threads.
#[cfg(target_env = "gnu")]
pub(crate) fn limit_arenas() {
    // Where it is refused, the process takes more memory and works as well.
    // SAFETY: mallopt changes a setting of the allocator, and there is no other thread yet.
    #[expect(unsafe_code, reason = "the setting can be reached from C alone")]
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

/// Other C libraries have one arena.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn limit_arenas() {}
