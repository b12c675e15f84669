//! The C library's allocator, told to keep what is freed.

/// A step of training allocates and frees gigabytes in large pieces. By default glibc gives them back to the system at
/// once, and the pages have to be cleared again for the next step: a sixth of the time, and more with two threads, which
/// have to be stopped for it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code)]
pub fn keep_memory() {
    // SAFETY: mallopt takes two integers and only changes what later calls of malloc and free do; it is called before
    // there are other threads. A refusal (0) leaves the default, which is slower and as right.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 256 << 20);
    }
}

/// Other C libraries have no such switch.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_memory() {}
