//! Keeps the C library's allocator from hoarding: what a burst of work used goes back to the system.
//!
//! May import: nothing of this crate. Must never: fail for it; a daemon with more memory is still a daemon.
#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "mallopt has no safe wrapper"))]

/// Gives back what is free in the middle of the heap too, which a burst of work leaves behind in holes. It takes some
/// tens of milliseconds for a hundred mebibytes, in which other threads wait for memory.
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, locks the allocator itself, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Two arenas for all threads, and free memory above 64 KiB given back. Left to itself, glibc makes eight arenas for
/// each processor and lets the thresholds grow with the largest block ever freed: a hundred thousand parked
/// executions then cost twice the memory, most of it freed long ago. Threads started earlier keep their arenas.
pub(super) fn keep_small() {
    #[cfg(target_env = "gnu")]
    for (option, value) in
        [(libc::M_ARENA_MAX, 2), (libc::M_TRIM_THRESHOLD, 64 << 10), (libc::M_MMAP_THRESHOLD, 128 << 10)]
    {
        // SAFETY: it takes two numbers, locks the allocator itself, and may be called at any time.
        let accepted = unsafe { libc::mallopt(option, value) };
        if accepted == 0 {
            tracing::warn!(option, value, "the allocator does not take this setting");
        }
    }
}
